import type { Health, Instrument } from "./api";
import { ago, brief, bytes, clock, count, text, words } from "./format";
import type { Common } from "./frames";
import { Card, Empty, percent } from "./parts";

export function lostOf(i: Instrument): number {
  return Object.values(i.lost ?? {}).reduce((sum, n) => sum + n, 0);
}

const jobs: Record<string, string> = {
  traffic: "bytes and packets by process and interface",
  drops: "packets the kernel discarded",
  accepts: "accepted TCP connections",
  calls: "socket calls that were slow, failed or sampled",
  drop_records: "single packets the kernel discarded",
  listeners: "how full accept queues are",
  connections: "connects, retransmits and round trips of each process",
  wait_durations: "how long programs waited for something to read",
  cgroups: "containers that begin and end",
  trace_context: "to which trace calls and connections belong",
};

export function HealthView({ common, took }: { common: Common; took: number }) {
  const { health } = common;
  const instruments = health.instruments ?? [];
  if (common.at === 0) return <Empty>Waiting for the first reading.</Empty>;
  const leftOut = Object.entries(health.view.dropped);
  return (
    <>
      <div class="tiles">
        <Number label="CPU" value={`${health.cost.cpu_percent.toFixed(1)} %`} note="of one core, the whole Collector" />
        <Number label="Memory" value={text(bytes(health.cost.memory_bytes))} note="resident, the whole Collector" />
        {health.limit ? <Limit of={health.limit} /> : null}
        <Number label="A reading" value={`${health.view.read_ms.toFixed(1)} ms`} note="each second while it is watched" />
        <Number label="The view holds" value={text(bytes(health.view.memory_bytes))} note={`${count(health.watchers)} follow it now`} />
        <Number label="Lost" value={count(instruments.reduce((sum, i) => sum + lostOf(i), 0))} note="events that nettap itself lost" alarm={instruments.some((i) => lostOf(i) > 0)} />
      </div>
      <Card title="Not seen here" note={health.not_seen?.length ? count(health.not_seen.length) : ""}>
        {health.not_seen?.length ? (
          <ul class="sentences">
            {health.not_seen.map((s) => (
              <li key={s}>{s}</li>
            ))}
          </ul>
        ) : (
          <Empty>Everything that the instruments can see is seen.</Empty>
        )}
        {leftOut.length ? <p class="note">For want of room the view has left out {leftOut.map(([what, n]) => `${count(n)} ${what}`).join(", ")}.</p> : null}
      </Card>
      <div class="instruments">
        {instruments.map((i) => (
          <One key={i.name} of={i} />
        ))}
      </div>
      <p class="note">
        Receiver {common.receiver}, view since {new Date(common.startedMS).toLocaleString("sv-SE")} ({ago(common.at - common.startedMS)}). The last frame took {took.toFixed(1)} ms in the background.
      </p>
    </>
  );
}

function Limit({ of }: { of: NonNullable<Health["limit"]> }) {
  const taken = of.programs_percent + of.loops_percent;
  const step = of.step === "full" ? "nothing is left out" : `on step ${of.step}${of.exceeded ? ", and still above it" : ""}`;
  return (
    <Number
      label="nettap"
      value={of.why ? "unknown" : `${taken.toFixed(2)} %`}
      note={of.why ? `not limited: ${of.why}` : `of the machine; max_cpu is ${of.max_percent} %, ${step}`}
      alarm={of.step !== "full"}
    />
  );
}

function Number({ label, value, note, alarm }: { label: string; value: string; note: string; alarm?: boolean }) {
  return (
    <div class={`tile plain ${alarm ? "alarm" : ""}`}>
      <span class="label">{label}</span>
      <span class="big">{value}</span>
      <span class="note">{note}</span>
    </div>
  );
}

function One({ of: i }: { of: Instrument }) {
  const lost = lostOf(i);
  const parts: [string, number, string][] = [
    ["exported", i.exported, "ok"],
    ["added up", i.aggregated, "process"],
    ["not in the sample", i.sampled_out, "idle"],
    ["over the rate", Object.values(i.rate_limited ?? {}).reduce((sum, n) => sum + n, 0), "unknown"],
    ["lost", lost, "loss"],
  ];
  return (
    <Card
      title={words(i.name)}
      class={i.state === "running" ? "" : "off"}
      note={
        <>
          <span class={`badge ${i.state === "running" ? (i.error ? "unknown" : "ok") : i.state === "failed" ? "loss" : ""}`}>{i.state}</span>
          {i.for === "view" ? " for the view alone" : ""}
        </>
      }
    >
      <p class="muted">{jobs[i.name] ?? ""}</p>
      {i.why ? <p>{i.why}</p> : null}
      {i.error ? <p class="error">The last reading was incomplete: {i.error}</p> : null}
      {i.state === "running" && i.seen > 0 ? (
        <>
          <div class="balancehead">
            <span>
              <b class="figures">{brief(i.seen)}</b> events seen
            </span>
            <span class="muted">{i.interval_s ? `every ${i.interval_s} s` : ""}{i.read_ms ? `, last at ${clock(i.read_ms)}` : ""}</span>
          </div>
          <span class="split" role="img" aria-label={parts.map(([name, n]) => `${name} ${count(n)}`).join(", ")}>
            {parts.map(([name, n, kind]) => (
              <i key={name} class={`state ${kind}`} style={percent(n, i.seen)} />
            ))}
          </span>
          <div class="spent">
            {parts
              .filter(([, n]) => n > 0)
              .map(([name, n, kind]) => (
                <span key={name} class="key">
                  <i class={`swatch state ${kind}`} aria-hidden="true" />
                  {name} <b class="figures">{brief(n)}</b>
                </span>
              ))}
          </div>
        </>
      ) : null}
      {lost > 0 ? (
        <ul class="sentences">
          {Object.entries(i.lost ?? {})
            .filter(([, n]) => n > 0)
            .map(([cause, n]) => (
              <li key={cause}>
                <b class="figures">{count(n)}</b> lost: {words(cause)}
              </li>
            ))}
        </ul>
      ) : null}
      {i.missed_runs ? <p class="error">{count(i.missed_runs)} runs of its programs were missed.</p> : null}
      {Object.entries(i.maps ?? {}).map(([name, m]) => (
        <div key={name} class="meter">
          <span class="mono">{name}</span>
          <span class="split" role="img" aria-label={`${name}: ${m.entries} of ${m.limit}`}>
            <i class={`state ${m.entries > 0.9 * m.limit ? "loss" : "process"}`} style={percent(m.entries, m.limit)} />
          </span>
          <span class="figures muted">
            {brief(m.entries)} of {brief(m.limit)}
          </span>
        </div>
      ))}
      {i.hooks?.length ? (
        <dl class="hooks">
          {i.hooks.map((h) => (
            <div key={h.job + h.name}>
              <dt>{words(h.job)}</dt>
              <dd>
                <span class="mono">{h.name}</span>
                {h.unproven ? <p class="warn">Not seen to fire: {h.unproven}</p> : null}
                {h.not_seen ? <p class="muted">Does not see: {h.not_seen}</p> : null}
                {h.refused?.length ? (
                  <details>
                    <summary>{h.refused.length === 1 ? "a better one was not taken" : `${count(h.refused.length)} better ones were not taken`}</summary>
                    <ul>
                      {h.refused.map((r) => (
                        <li key={r}>{r}</li>
                      ))}
                    </ul>
                  </details>
                ) : null}
              </dd>
            </div>
          ))}
        </dl>
      ) : null}
    </Card>
  );
}
