import { Chart } from "./chart";
import { count, perSecond, words } from "./format";
import { Notices } from "./connections";
import type { Body, Common, LossLine, Whose } from "./frames";
import { Card, Empty, Heads, Spark, Who, type Go } from "./parts";
import { allClasses, type Place } from "./place";
import { whyNothing } from "./reasons";

export const classesInWords: Record<string, string> = {
  loss: "something that was sent for a reason did not get there",
  unknown: "the kernel's reason covers losses and harmless drops, or says nothing",
  benign: "nothing was lost: a second copy, a packet for others, or what was left when its reader closed",
};

export function Drops({ common, body, place, go, theme }: { common: Common; body: Body; place: Place; go: Go; theme: string }) {
  const losses = body.losses ?? [];
  const seen: Record<string, number> = {};
  const shown = (body.stacked ?? []).map((s) => {
    const nth = (seen[s.kind] = (seen[s.kind] ?? -1) + 1);
    return { name: words(s.name), color: `--${s.kind}-${Math.min(3, nth)}`, line: s.line };
  });
  const toggle = (name: string) => {
    const classes = place.classes.includes(name) ? place.classes.filter((c) => c !== name) : [...place.classes, name];
    go({ classes: classes.length ? allClasses.filter((c) => classes.includes(c)) : allClasses });
  };
  return (
    <>
      <div class="tools">
        <div class="choice" role="group" aria-label="Classes of drops">
          {allClasses.map((name) => (
            <button type="button" key={name} aria-pressed={place.classes.includes(name)} title={classesInWords[name]} onClick={() => toggle(name)}>
              <i class={`dot ${name}`} aria-hidden="true" /> {name}
            </button>
          ))}
        </div>
        <span class="note">
          {count(losses.reduce((sum, l) => sum + l.packets, 0))} packets at {count(losses.length)} places
          {place.filter ? ". Of a filter only interface and text apply to places; by process it applies to whose the packets are." : ""}
        </span>
      </div>
      <Card title="Packets dropped a second" note="by reason; the colour is the class">
        {shown.length ? <Chart label="packets a second" times={common.times} shown={shown} stacked theme={theme} value={(n) => `${perSecond(n)}/s`} height={200} /> : <Empty>{whyNothing(common, "drops", "Nothing was dropped in this time.")}</Empty>}
      </Card>
      {place.selected && !losses.some((l) => l.key === place.selected) ? <Empty>The drop that this link shows has not happened in this time.</Empty> : null}
      {losses.length ? (
        <Card title="Places">
          <table class="rows drops">
            <thead>
              <tr>
                <th scope="col">Reason</th>
                <th scope="col" class="narrow-no">
                  Function
                </th>
                <th scope="col" class="narrow-no">
                  Interface
                </th>
                <th scope="col" class="narrow-no">
                  Protocol
                </th>
                <th scope="col" class="right">
                  Now
                </th>
                <th scope="col" class="right">
                  Packets
                </th>
                <th scope="col" class="sparks">
                  Over time
                </th>
              </tr>
            </thead>
            <tbody>
              {losses.map((l) => (
                <Place key={l.key} of={l} open={l.key === place.selected} go={go} place={place} />
              ))}
            </tbody>
          </table>
        </Card>
      ) : null}
      {body.packets?.length ? <Notices title="Single packets" alike of={body.packets} leftOut={body.packetsLeftOut} /> : null}
      {body.resets?.length ? <Resets of={body.resets} place={place} /> : null}
      {body.unseen?.length ? <Unseen of={body.unseen} /> : null}
    </>
  );
}

function Resets({ of: resets, place }: { of: Whose[]; place: Place }) {
  return (
    <Card title="TCP resets" note="of each process, those with most first">
      <table class="rows">
        <Heads of={[["Process"], ["Way"], ["Reason"], ["Resets", "right"]]} />
        <tbody>
          {resets.map((r) => (
            <tr key={r.about.id}>
              <td class="grow">
                <Who of={r.process} place={place} />
              </td>
              <td class="nowrap">{r.about.direction === "transmit" ? "sent" : "received"}</td>
              <td>{words(r.about.reason ?? "")}</td>
              <td class="right figures">{count(r.packets)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

function Unseen({ of: unseen }: { of: Whose[] }) {
  return (
    <Card title="Lost unseen" note="what counters of the kernel have beyond the drops above; counters overlap, so never add them">
      <table class="rows">
        <Heads of={[["Counter"], ["Packets", "right"]]} />
        <tbody>
          {unseen.map((u) => (
            <tr key={u.about.id}>
              <td class="grow mono">{u.about.symbol ?? ""}</td>
              <td class="right figures">{count(u.packets)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

function Place({ of: l, open, go, place }: { of: LossLine; open: boolean; go: Go; place: Place }) {
  const kind = l.about.class ?? "unknown";
  return (
    <>
      <tr class={open ? "selected" : ""}>
        <td class="grow">
          <button type="button" class="who" aria-expanded={open} onClick={() => go({ selected: open ? "" : l.key })}>
            <i class={`dot ${kind}`} aria-hidden="true" />
            <span class="name">{words(l.about.reason ?? "not known")}</span>
            <span class={`badge ${kind}`}>{kind}</span>
          </button>
        </td>
        <td class="narrow-no mono">{l.about.symbol ?? ""}</td>
        <td class="narrow-no">{l.about.interface ?? ""}</td>
        <td class="narrow-no">{[l.about.transport, l.about.type].filter(Boolean).join(" ")}</td>
        <td class="right figures">{l.rate > 0 ? `${perSecond(l.rate)}/s` : ""}</td>
        <td class="right figures">{count(l.packets)}</td>
        <td class="sparks">
          <Spark line={l.line} kind={kind} />
        </td>
      </tr>
      {open ? (
        <tr class="explained">
          <td colSpan={7}>
            <p>{l.about.why ? sentence(l.about.why) : "There is no explanation for this one beyond its name."}</p>
            {l.about.advice ? <p>{l.about.advice}</p> : null}
            <dl>
              <dt>class</dt>
              <dd>
                {kind}: {classesInWords[kind] ?? ""}
              </dd>
              <dt>reason</dt>
              <dd class="mono">{l.about.reason ?? "the kernel gives none"}</dd>
              <dt>function</dt>
              <dd class="mono">{l.about.symbol ?? "no kernel function drops it"}</dd>
              <dt>where</dt>
              <dd>{[l.about.interface && `on ${l.about.interface}`, l.about.transport, l.about.type].filter(Boolean).join(", ") || "not known"}</dd>
              <dt>whose</dt>
              <dd class="whose">
                {l.whose.length ? (
                  l.whose.slice(0, 12).map((w) => (
                    <div key={w.about.id}>
                      <Who of={w.process} place={place} /> {lossInWords(w)}
                    </div>
                  ))
                ) : (
                  "not known: it was on its way to no socket, or that of no process"
                )}
                {l.whose.length > 12 ? <div>and {count(l.whose.length - 12)} more</div> : null}
              </dd>
              <dt>packets</dt>
              <dd>{count(l.about.packets)} since the view began</dd>
            </dl>
          </td>
        </tr>
      ) : null}
    </>
  );
}

// lossInWords returns a text with what a process has lost, and how that is known.
export function lossInWords(w: Whose): string {
  const way = w.about.direction === "transmit" ? "that it sent" : "on the way to it";
  return `${count(w.packets)} packets ${way}${w.about.victim === "last_listener" ? ", which was the last to have the port" : ""}`;
}

function sentence(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");
}
