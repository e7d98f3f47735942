import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { AcceptRows } from "./accepts";
import { CallRows } from "./calls";
import { Chart } from "./chart";
import { deedsInWords, durationInWords } from "./connections";
import { lossInWords } from "./drops";
import { bytes, clock, count, end, perSecond, rate, short, text, words } from "./format";
import type { Body, Common, Detail, Grouping, ProcessLine } from "./frames";
import { CloseLink } from "./interfaces";
import { keyOf, nameOf } from "./lines";
import { Card, Choice, Empty, Figure, Head, Heads, mostOf, Spark, type Go } from "./parts";
import { beside, format, groupings, type Place } from "./place";
import { whyNothing } from "./reasons";

// rowHeight is the height of a row in the style sheet, in pixels. Rows off the screen are replaced by empty space.
export const rowHeight = 31;

export interface Window {
  from: number;
  to: number;
}

export function Processes({ common, body, place, go, theme, window: seen, setWindow, open, toggle }: { common: Common; body: Body; place: Place; go: Go; theme: string; window: Window; setWindow: (w: Window) => void; open: string[]; toggle: (group: string) => void }) {
  const rows = body.rows ?? [];
  const total = body.total ?? 0;
  const from = body.from ?? 0;
  const table = useRef<HTMLTableSectionElement>(null);

  // Only rows on the screen, and some around them, are requested and drawn.
  useEffect(() => {
    const look = () => {
      const top = table.current?.getBoundingClientRect().top ?? 0;
      const first = Math.max(0, Math.floor(-top / rowHeight) - 4);
      const last = Math.ceil((globalThis.innerHeight - top) / rowHeight) + 4;
      if (Math.abs(first - seen.from) > 2 || Math.abs(last - seen.to) > 2) setWindow({ from: first, to: last });
    };
    look();
    addEventListener("scroll", look, { passive: true });
    addEventListener("resize", look);
    return () => {
      removeEventListener("scroll", look);
      removeEventListener("resize", look);
    };
  });

  return (
    <>
      <div class="tools">
        <Choice label="Group by" all={groupings} value={place.group} set={(group: Grouping) => go({ group })} names={{ none: "no groups", name: "by name", container: "by container", service: "by service", interface: "by interface" }} />
        <span class="note" role="status">
          {count(body.processes ?? 0)} process{body.processes === 1 ? "" : "es"}{place.group === "none" ? "" : ` in ${count(rows.length ? groupsOf(body) : 0)} groups`}
          {common.filter ? (body.processes === 1 ? " that matches" : " that match") : ""}
        </span>
      </div>
      {body.detail ? <One detail={body.detail} common={common} place={place} go={go} theme={theme} /> : null}
      {body.detail === null ? (
        <Empty>
          The process that this link shows is not there (any more).{" "}
          <button type="button" class="quiet" onClick={() => go({ selected: "" })}>
            Show all
          </button>
        </Empty>
      ) : null}
      <Card title="Processes">
        {total === 0 ? (
          <Empty>{whyNothing(common, "traffic", "No process has sent or received anything yet.")}</Empty>
        ) : (
          <table class="rows processes" aria-rowcount={total + 1}>
            <thead>
              <tr aria-rowindex={1}>
                <Head name="name" label={place.group === "none" || place.group === "name" ? "Process" : "Group"} place={place} go={go} class="c-name" />
                <Head name="pid" label="PID" place={place} go={go} right class="c-pid wide" />
                <Head name="user" label="User" place={place} go={go} right class="c-user wide" />
                <Head name="where" label="Service or container" place={place} go={go} class="c-where wide" />
                <Head name="interface" label="Interface" place={place} go={go} class="c-interface wide" />
                <Head name="tx" label="Sends" place={place} go={go} right class="c-rate" title="now: on average of the last seconds" />
                <th scope="col" class="c-spark narrow-no">
                  <span class="hidden">Sent over time</span>
                </th>
                <Head name="rx" label="Receives" place={place} go={go} right class="c-rate" title="now: on average of the last seconds" />
                <th scope="col" class="c-spark narrow-no">
                  <span class="hidden">Received over time</span>
                </th>
                <Head name="now" label="Both" place={place} go={go} right class="c-both wide" title="sends and receives now" />
                <Head name="sent" label="Sent" place={place} go={go} right class="c-sum narrow-no" title="in the time that is shown" />
                <Head name="received" label="Received" place={place} go={go} right class="c-sum narrow-no" title="in the time that is shown" />
              </tr>
            </thead>
            <tbody ref={table}>
              <Filler rows={from} />
              {rows.map((r, i) => (
                <Line key={`${r.kind} ${r.key} ${r.kind === "process" && place.group === "interface" ? r.interfaces.join() : ""}`} of={r} index={from + i} place={place} open={open.includes(r.key)} toggle={toggle} />
              ))}
              <Filler rows={total - from - rows.length} />
            </tbody>
          </table>
        )}
      </Card>
    </>
  );
}

function groupsOf(body: Body): number {
  const rows = body.rows ?? [];
  return body.from === 0 && rows.length === body.total ? rows.filter((r) => r.kind === "group").length : (body.total ?? 0);
}

function Filler({ rows }: { rows: number }) {
  return rows > 0 ? <tr aria-hidden="true" class="filler" style={{ height: `${rows * rowHeight}px` }} /> : null;
}

function Line({ of: r, index, place, open, toggle }: { of: ProcessLine; index: number; place: Place; open: boolean; toggle: (group: string) => void }) {
  const most = mostOf(r.tx, r.rx);
  const p = r.about;
  const selected = r.kind === "process" && place.selected === r.key;
  return (
    <tr aria-rowindex={index + 2} class={`${r.kind} ${selected ? "selected" : ""} ${place.group !== "none" && r.kind === "process" ? "member" : ""}`} data-row={r.key}>
      <td class="c-name">
        {r.kind === "group" ? (
          <button type="button" class="who" aria-expanded={open} onClick={() => toggle(r.key)}>
            <span class="arrow" aria-hidden="true">
              {open ? "▾" : "▸"}
            </span>
            <span class="name">{/^[0-9a-f]{32,}$/.test(r.key) ? short(r.key) : r.key}</span>
            <span class="badge">{count(r.members)}</span>
          </button>
        ) : (
          <a class="who" href={format({ ...place, selected: selected ? "" : r.key })}>
            <span class={`name ${p.ended_ms ? "ended" : ""}`}>{nameOf(p)}</span>
            {p.ended_ms ? <span class="badge">ended</span> : null}
            <span class="pid narrow-only">{p.pid ?? ""}</span>
          </a>
        )}
      </td>
      <td class="c-pid wide right figures">{p.pid ?? ""}</td>
      <td class="c-user wide right figures">{p.uid ?? ""}</td>
      <td class="c-where wide" title={p.container ?? ""}>
        {p.service ? <span class="name">{p.service}</span> : null}
        {p.container ? <span class="mono muted"> {short(p.container)}</span> : null}
      </td>
      <td class="c-interface wide">{r.interfaces.length > 2 ? `${r.interfaces.length} interfaces` : r.interfaces.map((i) => i || "not known").join(", ")}</td>
      <td class="c-rate right">
        <Figure of={rate(r.txRate)} class={`tx ${r.txRate ? "" : "zero"}`} />
      </td>
      <td class="c-spark narrow-no">
        <Spark line={r.tx} kind="tx" most={most} />
      </td>
      <td class="c-rate right">
        <Figure of={rate(r.rxRate)} class={`rx ${r.rxRate ? "" : "zero"}`} />
      </td>
      <td class="c-spark narrow-no">
        <Spark line={r.rx} kind="rx" most={most} />
      </td>
      <td class="c-both wide right">
        <Figure of={rate(r.txRate + r.rxRate)} class={r.txRate + r.rxRate ? "" : "zero"} />
      </td>
      <td class="c-sum narrow-no right">
        <Figure of={bytes(r.txBytes)} class={r.txBytes ? "" : "zero"} />
      </td>
      <td class="c-sum narrow-no right">
        <Figure of={bytes(r.rxBytes)} class={r.rxBytes ? "" : "zero"} />
      </td>
    </tr>
  );
}

function One({ detail, common, place, go, theme }: { detail: Detail; common: Common; place: Place; go: Go; theme: string }) {
  const { process: line } = detail;
  const p = line.about;
  const region = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => region.current?.scrollIntoView({ block: "nearest" }), [keyOf(p)]);
  const facts: [string, string | undefined][] = [
    ["pid", p.pid?.toString()],
    ["executable", p.executable],
    ["user", p.uid === undefined ? undefined : p.euid !== undefined && p.euid !== p.uid ? `${p.uid}, acts as ${p.euid}` : `${p.uid}`],
    ["service", p.service],
    ["container", p.container],
    ["pod", p.pod],
    ["started", p.started_ms ? new Date(p.started_ms).toLocaleString("sv-SE") : undefined],
    ["ended", p.ended_ms ? clock(p.ended_ms) : undefined],
    ["command line", p.command_line],
  ];
  return (
    <div ref={region}>
      <Card title={nameOf(p)} note={<CloseLink go={go} />} class="detail">
        <dl class="facts">
          {facts.map(([name, value]) =>
            value ? (
              <div key={name}>
                <dt>{name}</dt>
                <dd class={name === "container" || name === "command line" || name === "pod" ? "mono" : ""}>{value}</dd>
              </div>
            ) : null,
          )}
        </dl>
        <Chart
          label="bytes a second"
          times={common.times}
          theme={theme}
          value={(n) => text(rate(n))}
          height={150}
          shown={[
            { name: "sent", color: "--tx", line: line.tx },
            { name: "received", color: "--rx", line: line.rx },
          ]}
        />
        <table class="list">
          <Heads of={[["Interface"], ["sends", "right"], ["receives", "right"], ["sent", "right"], ["received", "right"], ["packets sent", "right narrow-no"], ["received", "right narrow-no"]]} />
          <tbody>
            {detail.interfaces.map(({ name, line: i }) => (
              <tr key={name}>
                <td>{name || "not known"}</td>
                <td class="right">
                  <Figure of={rate(i.txRate)} class="tx" />
                </td>
                <td class="right">
                  <Figure of={rate(i.rxRate)} class="rx" />
                </td>
                <td class="right">
                  <Figure of={bytes(i.txBytes)} />
                </td>
                <td class="right">
                  <Figure of={bytes(i.rxBytes)} />
                </td>
                <td class="right figures narrow-no">{count(i.txPackets)}</td>
                <td class="right figures narrow-no">{count(i.rxPackets)}</td>
              </tr>
            ))}
          </tbody>
        </table>
        {detail.ports.length ? (
          <p class="note">
            Listens on{" "}
            {detail.ports.map((l, i) => (
              <span key={l.about.id}>
                {i ? ", " : ""}port {l.about.port} ({count(l.connections)} connections, {perSecond(l.rate)}/s now)
              </span>
            ))}
          </p>
        ) : null}
        {detail.queues.length ? <p class="note">Accept queues: {detail.queues.map(({ about: q }) => `${count(q.length)} of ${count(q.limit)} wait on ${end(q.local)}`).join(", ")}</p> : null}
        {detail.deeds ? <p class="note">TCP connections: {deedsInWords(detail.deeds)}</p> : null}
        {detail.durations.length ? (
          <ul class="note">
            {detail.durations.map(({ about: d }) => (
              <li key={[d.kind, d.part, d.local.port, d.peer.port].join(" ")}>{durationInWords(d)}</li>
            ))}
          </ul>
        ) : null}
        {detail.lost.length ? (
          <>
            <h3>Lost</h3>
            <ul class="lost">
              {detail.lost.map((w) => (
                <li key={w.about.id}>
                  <i class={`dot ${w.about.class ?? "unknown"}`} aria-hidden="true" /> {words(w.about.reason ?? "reason not known")}
                  {w.about.interface ? ` on ${w.about.interface}` : ""}: {lossInWords(w)}
                </li>
              ))}
            </ul>
          </>
        ) : null}
        {detail.accepts.length ? (
          <>
            <h3>Accepted last</h3>
            <AcceptRows accepts={detail.accepts} common={common} place={place} brief />
          </>
        ) : null}
        {detail.calls.length ? (
          <>
            <h3>Calls that were kept</h3>
            <CallRows calls={detail.calls} place={place} link={(key) => format(beside(place, "calls", { selected: key }))} brief />
          </>
        ) : null}
      </Card>
    </div>
  );
}
