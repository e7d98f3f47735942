import { useEffect, useState } from "preact/hooks";
import type { Call, Node } from "./api";
import { bytes, clock, count, end, milliseconds, text, words } from "./format";
import { Durations } from "./connections";
import type { Body, CallLine, Common } from "./frames";
import { CloseLink } from "./interfaces";
import { waited, waitedFor } from "./lines";
import { Card, Choice, Empty, Moment, percent, TraceLink, Who, type Go } from "./parts";
import { format, type Place } from "./place";
import { whyNothing } from "./reasons";

// The states in which a call spends its time.
const states = [
  { key: "cpu_ms", name: "ran", kind: "cpu" },
  { key: "runnable_ms", name: "could have run", kind: "runnable" },
  { key: "waited", name: "waited", kind: "blocked" },
  { key: "late", name: "was late", kind: "late" },
  { key: "idle_ms", name: "waited for work", kind: "idle" },
] as const;

function spent(c: Call, key: (typeof states)[number]["key"]): number {
  return Math.max(0, key === "waited" ? waited(c) : key === "late" ? (c.wait?.local_ms ?? 0) : c[key]);
}

export function Calls({ common, body, place, go }: { common: Common; body: Body; place: Place; go: Go }) {
  const calls = body.calls ?? [];
  const selected = calls.find((c) => c.key === place.selected);
  return (
    <>
      <div class="tools">
        <Choice
          label="Order"
          all={["time", "duration", "waited"] as const}
          value={place.sort === "duration" || place.sort === "waited" ? place.sort : "time"}
          set={(sort) => go({ sort, descending: true })}
          names={{ time: "newest first", duration: "longest first", waited: "by time waited" }}
        />
        <span class="note">
          {count(common.failed)} failed, {count(common.slow)} slow
          {body.callsLeftOut ? `; the newest ${count(calls.length)} are listed, ${count(body.callsLeftOut)} are not` : ""}
        </span>
        <span class="legend">
          {states.map((s) => (
            <span key={s.kind} class="key">
              <i class={`swatch state ${s.kind}`} aria-hidden="true" />
              {s.name}
            </span>
          ))}
        </span>
      </div>
      {place.selected ? selected ? <One key={selected.about.id} line={selected} common={common} place={place} go={go} /> : <Empty>The call that this link shows is not kept (any more).</Empty> : null}
      {body.durations?.length ? <Durations kind="wait" of={body.durations} place={place} /> : null}
      <Card title="Calls">
        {calls.length === 0 ? (
          <Empty>{whyNothing(common, "calls", "No socket call was slow, failed or sampled in this time.")}</Empty>
        ) : (
          <CallRows calls={calls.slice(0, 200)} place={place} link={(key) => format({ ...place, selected: key === place.selected ? "" : key })} />
        )}
        {calls.length > 200 ? <p class="note">{count(calls.length - 200)} more are not listed: a filter or a shorter time finds them.</p> : null}
      </Card>
    </>
  );
}

export function CallRows({ calls, place, link, brief = false }: { calls: CallLine[]; place: Place; link: (key: string) => string; brief?: boolean }) {
  return (
    <table class="rows calls">
      <thead>
        <tr>
          <th scope="col">Time</th>
          {brief ? null : <th scope="col">Process</th>}
          <th scope="col">Call</th>
          <th scope="col" class="narrow-no">
            With
          </th>
          <th scope="col" class="result">Result</th>
          <th scope="col" class="right">
            Took
          </th>
          <th scope="col" class="narrow-no">
            Of which
          </th>
          <th scope="col" class="narrow-no">
            Waited for
          </th>
        </tr>
      </thead>
      <tbody>
        {calls.map(({ about: c, process, key }) => (
          <tr key={c.id} class={key === place.selected ? "selected" : ""}>
            <td class="figures nowrap"><Moment at={c.at_ms} /></td>
            {brief ? null : (
              <td class="grow">
                <Who of={process} place={place} />
              </td>
            )}
            <td>
              <a class="who" href={link(key)}>
                <span class="name mono">{c.name}</span>
                {c.wait ? <span class="badge narrow-no">wait</span> : null}
              </a>
            </td>
            <td class="mono nowrap narrow-no">{end(c.peer)}</td>
            <td class="result">{c.error ? <span class="badge loss">{c.error}</span> : c.kept === "slow" ? <span class="badge unknown">slow</span> : <span class="badge">{c.kept ?? ""}</span>}</td>
            <td class="right figures nowrap">{text(milliseconds(c.duration_ms))}</td>
            <td class="narrow-no">
              <Split of={c} />
            </td>
            <td class="narrow-no">{waitedFor(c)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Split({ of: c }: { of: Call }) {
  const said = states.map((s) => `${s.name} ${text(milliseconds(spent(c, s.key)))}`).join(", ");
  return (
    <span class="split" role="img" aria-label={said} title={said}>
      {states.map((s) => (
        <i key={s.kind} class={`state ${s.kind}`} style={percent(spent(c, s.key), c.duration_ms)} />
      ))}
    </span>
  );
}

type Tree = { nodes: Node[] } | { error: string } | undefined;

const mostNodes = 400;

// One shows a call as a waterfall: the kernel functions that it went through and what it waited
// for, over time.
function One({ line, common, place, go }: { line: CallLine; common: Common; place: Place; go: Go }) {
  const c = line.about;
  const [tree, setTree] = useState<Tree>();
  const [all, setAll] = useState(false);
  useEffect(() => {
    const abort = new AbortController();
    fetch(`/api/v1/calls/${encodeURIComponent(c.id)}`, { signal: abort.signal })
      .then(async (answer) => {
        const body = (await answer.json()) as Call & { error?: string };
        setTree(answer.ok ? { nodes: body.nodes ?? [] } : { error: body.error ?? `the server answers ${answer.status}` });
      })
      .catch(() => abort.signal.aborted || setTree({ error: "the server does not answer" }));
    return () => abort.abort();
  }, [c.id]);

  const facts: [string, string | undefined][] = [
    ["began", clock(c.at_ms, true)],
    ["took", text(milliseconds(c.duration_ms))],
    ["system call", c.syscall],
    ["thread", c.thread ? `${c.thread} ${c.thread_name ?? ""}` : undefined],
    ["descriptor", c.fd?.toString()],
    ["local", end(c.local)],
    ["peer", end(c.peer)],
    ["bytes", c.bytes === undefined ? undefined : text(bytes(c.bytes))],
    ["waited for", waitedFor(c) || undefined],
  ];
  const nodes = tree && "nodes" in tree ? withWait(tree.nodes, c) : [];
  return (
    <Card title={c.name} note={<CloseLink go={go} />} class="detail">
      <p class="lead">
        <Who of={line.process} place={place} /> {c.error ? <span class="badge loss">failed: {c.error}</span> : <span class="badge unknown">{c.kept}</span>} <TraceLink url={common.traceURL} id={c.trace_id} label="open the trace" />
      </p>
      <dl class="facts">
        {facts.map(([name, value]) =>
          value ? (
            <div key={name}>
              <dt>{name}</dt>
              <dd class="figures">{value}</dd>
            </div>
          ) : null,
        )}
      </dl>
      <div class="spent">
        {states.filter((s) => spent(c, s.key) > 0).map((s) => (
          <span key={s.kind} class="key">
            <i class={`swatch state ${s.kind}`} aria-hidden="true" />
            {s.name} <b class="figures">{text(milliseconds(spent(c, s.key)))}</b>
          </span>
        ))}
      </div>
      <Split of={c} />
      {tree === undefined ? <Empty>Asking for its functions.</Empty> : "error" in tree ? <Empty>Its functions cannot be shown: {tree.error}.</Empty> : <Waterfall nodes={all ? nodes : nodes.slice(0, mostNodes)} whole={c.duration_ms * 1000} />}
      {!all && nodes.length > mostNodes ? (
        <button type="button" class="quiet" onClick={() => setAll(true)}>
          Show {count(nodes.length - mostNodes)} more functions
        </button>
      ) : null}
      {c.wait ? <p class="note">A wait of a program that does not block: it began in one call and ended in another.</p> : null}
      {nodes.length === 1 && !c.wait ? <p class="note">Only the call itself was recorded. Calls of the sample have the functions inside of them too.</p> : null}
      {c.lost_functions ? <p class="note">{count(c.lost_functions)} functions found no room in its record.</p> : null}
    </Card>
  );
}

// late is the name of the part of a wait in which there was something to read already.
const late = "the program was late";

// withWait returns the functions of a call. A wait has none, but parts.
function withWait(nodes: Node[], c: Call): Node[] {
  const [root] = nodes;
  if (!c.wait || !root || nodes.length > 1) return nodes;
  const for_us = 1000 * spent(c, "waited");
  const late_us = 1000 * spent(c, "late");
  const parts = [
    { parent: 0, name: "off_cpu", blocked_on: waitedFor({ ...c, wait: { ...c.wait, local_ms: 0 } }), start_us: 0, duration_us: for_us },
    { parent: 0, name: late, start_us: for_us, duration_us: late_us },
  ];
  return [root, ...parts.filter((p) => p.duration_us > 0)];
}

function Waterfall({ nodes, whole }: { nodes: Node[]; whole: number }) {
  const parents = new Set(nodes.map((n) => n.parent));
  const depths: number[] = [];
  for (const n of nodes) depths.push(n.parent < 0 ? 0 : (depths[n.parent] ?? 0) + 1);
  const longest = Math.max(whole, ...nodes.map((n) => n.start_us + n.duration_us), 0.001);
  const share = (us: number) => `${Math.max(0, Math.min(100, (100 * us) / longest)).toFixed(3)}%`;
  return (
    <div class="scroll tall" tabIndex={0} role="region" aria-label="Functions of the call">
      <table class="waterfall">
        <thead>
          <tr>
            <th scope="col">Function</th>
            <th scope="col" class="right narrow-no">
              from
            </th>
            <th scope="col" class="right">
              took
            </th>
            <th scope="col">
              <span class="scale">
                {[0, 0.25, 0.5, 0.75].map((part) => (
                  <span key={part}>{part ? text(milliseconds((longest * part) / 1000)) : "0"}</span>
                ))}
              </span>
            </th>
          </tr>
        </thead>
        <tbody>
          {nodes.map((n, i) => (
            <tr key={i}>
              <td style={{ paddingLeft: `${8 + 14 * Math.min(14, depths[i]!)}px` }}>
                <span class="mono name">{n.name === "off_cpu" ? (n.blocked_on ? `waited for ${words(n.blocked_on)}` : "not on the CPU") : n.name}</span>{" "}
                {n.error ? <span class="badge loss">{n.error}</span> : n.errno ? <span class="badge">{n.errno}</span> : null}
                {n.exit_missed ? <span class="badge unknown">its end was not seen</span> : null}
              </td>
              <td class="right figures nowrap narrow-no">{text(milliseconds(n.start_us / 1000))}</td>
              <td class="right figures nowrap">{text(milliseconds(n.duration_us / 1000))}</td>
              <td class="time">
                <span class="track">
                  <i class={`block ${n.name === "off_cpu" ? (n.blocked_on ? "blocked" : "runnable") : n.name === late ? "late" : n.error ? "failed" : "cpu"} ${parents.has(i) ? "parent" : ""}`} style={{ left: share(n.start_us), width: share(n.duration_us) }} />
                  {n.events?.map((e, at) => <i key={at} class="event" style={{ left: share(e.at_us) }} title={e.name} />)}
                </span>
                {n.events?.length ? <span class="events mono">{n.events.map((e) => e.name).join(", ")}</span> : null}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
