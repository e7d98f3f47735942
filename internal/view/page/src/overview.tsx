import { AccountBars } from "./interfaces";
import { brief, clock, count, end, milliseconds, perSecond, rate, text, words } from "./format";
import type { Body, Common, Whose } from "./frames";
import { waitedFor } from "./lines";
import { Card, Empty, Figure, Heads, mostOf, percent, Spark, Who } from "./parts";
import { beside, format, type Place } from "./place";
import { whyNothing } from "./reasons";

// Overview shows the processes with the most traffic, lost packets and their processes, newly accepted
// connections, and slow calls.
export function Overview({ common, body, place }: { common: Common; body: Body; place: Place }) {
  const to = (view: Place["view"], more: Partial<Place> = {}) => format(beside(place, view, more));
  const rows = body.rows ?? [];
  const most = Math.max(1, ...rows.map((r) => r.txRate + r.rxRate));
  const peak = mostOf(...rows.flatMap((r) => [r.tx, r.rx]));
  const within = { "1m": "the last minute", "5m": "the last 5 minutes", "15m": "the last 15 minutes" }[place.range];
  return (
    <>
      <div class="tiles">
        <Tile label="Sent" link={to("processes", { sort: "tx" })} figure={<Figure of={rate(common.sentRate)} />} note="by processes, now" line={common.sent} kind="tx" />
        <Tile label="Received" link={to("processes", { sort: "rx" })} figure={<Figure of={rate(common.receivedRate)} />} note="by processes, now" line={common.received} kind="rx" />
        <Tile
          label="Lost"
          link={to("drops")}
          alarm={common.lostRate > 0}
          figure={<Figure of={[brief(common.lostPackets), "packets"]} />}
          note={`${perSecond(common.lostRate)}/s now, and ${brief(common.benignPackets)} harmless`}
          line={common.lost}
          kind="loss"
        />
        <Tile
          label="Came in"
          link={to("accepts")}
          alarm={common.unexpected > 0}
          figure={<Figure of={[brief(common.cameCount), "connections"]} />}
          note={common.unexpected > 0 ? `${count(common.unexpected)} unexpected in all` : `accepted in ${within}`}
          line={common.came}
          kind="came"
        />
        <Tile
          label="Slow or failed"
          link={to("calls")}
          alarm={common.failed > 0}
          figure={<Figure of={[brief(common.slow + common.failed), "calls"]} />}
          note={`${count(common.failed)} failed, ${count(common.slow)} slow`}
          kind="slow"
        />
      </div>
      <div class="cards">
        <Card title="Who talks most now" link={to("processes")} note={`${count(body.total ?? 0)} processes`}>
          {rows.length === 0 ? (
            <Empty>{whyNothing(common, "traffic", "No process has sent or received anything yet.")}</Empty>
          ) : (
            <table class="list talk">
              <Heads of={[["Process"], ["sent", "right"], ["received", "right"], ["over time", "sparks"]]} />
              <tbody>
                {rows.map((r) => (
                  <tr key={r.key}>
                    <td>
                      <Who of={r.about} place={place} />
                      <span class="bar" aria-hidden="true">
                        <i class="tx" style={percent(r.txRate, most)} />
                        <i class="rx" style={percent(r.rxRate, most)} />
                      </span>
                    </td>
                    <td class="right">
                      <Figure of={rate(r.txRate)} class="tx" />
                    </td>
                    <td class="right">
                      <Figure of={rate(r.rxRate)} class="rx" />
                    </td>
                    <td class="sparks">
                      <span class="overlaid">
                        <Spark line={r.tx} kind="tx" most={peak > 0 ? mostOf(r.tx, r.rx) : 1} />
                        <Spark line={r.rx} kind="rx" most={peak > 0 ? mostOf(r.tx, r.rx) : 1} />
                      </span>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </Card>

        <Card title="What is lost, and whose" link={to("drops")} note={within}>
          {!body.losses?.length ? (
            <Empty>{whyNothing(common, "drops", `Nothing was lost in ${within}${common.benignPackets ? `; ${count(common.benignPackets)} packets were dropped harmlessly` : ""}.`)}</Empty>
          ) : (
            <table class="list">
              <Heads of={[["Reason"], ["whose"], ["on", "narrow-no"], ["packets", "right"], ["over time", "sparks"]]} />
              <tbody>
                {body.losses.map((l) => (
                  <tr key={l.key}>
                    <td class="grow">
                      <a href={to("drops", { selected: l.key })} class="who">
                        <i class={`dot ${l.about.class ?? "unknown"}`} aria-hidden="true" />
                        <span class="name">{words(l.about.reason ?? "reason not known")}</span>
                        <span class="where">{l.about.class === "unknown" ? "may be a loss" : (l.about.why ?? l.about.symbol)}</span>
                      </a>
                    </td>
                    <td class="whose">
                      <WhoseOf of={l.whose} place={place} />
                    </td>
                    <td class="narrow-no nowrap">{[l.about.interface, l.about.transport].filter(Boolean).join(" ")}</td>
                    <td class="right figures">{count(l.packets)}</td>
                    <td class="sparks">
                      <Spark line={l.line} kind={l.about.class ?? "unknown"} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </Card>

        <Card title="Who came in" link={to("accepts")} note={within}>
          {!body.ports?.length ? (
            <Empty>{whyNothing(common, "accepts", `No connection was accepted in ${within}.`)}</Empty>
          ) : (
            <table class="list">
              <Heads of={[["Process"], ["port"], ["last peer", "narrow-no"], ["connections", "right"], ["over time", "sparks"]]} />
              <tbody>
                {body.ports.map((p) => (
                  <tr key={p.about.id} class={p.about.unexpected ? "alarm" : ""}>
                    <td class="grow">
                      <Who of={p.process} place={place} />
                    </td>
                    <td class="figures">{p.about.port}</td>
                    <td class="narrow-no mono">{p.last?.peer.address ?? ""}</td>
                    <td class="right figures nowrap">
                      {p.about.unexpected ? <span class="badge loss">unexpected</span> : null} {count(p.connections)}
                    </td>
                    <td class="sparks">
                      <Spark line={p.line} kind="came" />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
          {body.refused ? (
            <p class="note last">
              <a href={to("accepts")}>
                <span class="badge loss">refused</span> {clock(body.refused.at_ms)} {body.refused.text}
              </a>
            </p>
          ) : null}
        </Card>

        <Card title="What is slow, or failed" link={to("calls")} note={within}>
          {!body.calls?.length ? (
            <Empty>{whyNothing(common, "calls", `No socket call was slow or failed in ${within}.`)}</Empty>
          ) : (
            <table class="list">
              <Heads of={[["Process and call"], ["with", "narrow-no"], ["longest", "right"], ["calls", "right"]]} />
              <tbody>
                {body.calls.map((c) => (
                  <tr key={c.key}>
                    <td class="grow">
                      <a class="who" href={to("calls", { selected: c.key })}>
                        <Who of={c.process} place={place} plain />
                        <span class="where">
                          {c.about.syscall ?? c.about.name}
                          {waitedFor(c.about) ? `, waited for ${waitedFor(c.about)}` : ""}
                        </span>
                      </a>
                    </td>
                    <td class="narrow-no mono">{end(c.about.peer)}</td>
                    <td class="right nowrap">
                      {c.about.error ? <span class="badge loss">{c.about.error}</span> : null} <span class="figures">{text(milliseconds(c.about.duration_ms))}</span>
                    </td>
                    <td class="right figures">{count(c.alike)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          )}
        </Card>

        <Card title="Do the accounts add up" link={to("interfaces")} note="all that each interface counted, by whose it is" class="broad">
          {!body.devices?.length ? <Empty>{whyNothing(common, "traffic", "No interface has been read yet.")}</Empty> : <AccountBars devices={body.devices.slice(0, 6)} place={place} unit={place.unit} small />}
        </Card>
      </div>
    </>
  );
}

function WhoseOf({ of, place }: { of: Whose[]; place: Place }) {
  const [first] = of;
  if (!first) return <span class="muted">not known</span>;
  const others = new Set(of.map((w) => w.process.id)).size - 1;
  return (
    <span class="first">
      <Who of={first.process} place={place} />
      {others > 0 ? <span class="badge" title={`and ${count(others)} other processes`}>+{count(others)}</span> : null}
    </span>
  );
}

function Tile({ label, figure, note, line, kind, link, alarm }: { label: string; figure: preact.ComponentChildren; note: string; line?: Common["sent"]; kind: string; link: string; alarm?: boolean }) {
  return (
    <a class={`tile ${kind} ${alarm ? "alarm" : ""}`} href={link}>
      <span class="label">{label}</span>
      <span class="big">{figure}</span>
      <span class="note">{note}</span>
      {line ? <Spark line={line} kind={kind} large /> : null}
    </a>
  );
}
