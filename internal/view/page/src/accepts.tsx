import { Chart } from "./chart";
import { count, end, milliseconds, perSecond, text } from "./format";
import { Deeds, Durations, Notices, Queues } from "./connections";
import type { AcceptLine, Body, Common } from "./frames";
import { Card, Empty, Heads, Moment, Spark, TraceLink, Who } from "./parts";
import type { Place } from "./place";
import { whyNothing } from "./reasons";

export function Accepts({ common, body, place, theme }: { common: Common; body: Body; place: Place; theme: string }) {
  const ports = body.ports ?? [];
  const accepts = body.accepts ?? [];
  const notices = body.notices ?? [];
  const nothing = whyNothing(common, "accepts", "No connection was accepted in this time.");
  return (
    <>
      <div class="pair">
        <Card title="Connections a second" note={`${count(common.cameCount)} in this time`}>
          <Chart label="connections a second" times={common.times} shown={[{ name: "accepted", color: "--came", line: common.came }]} theme={theme} value={(n) => `${perSecond(n)}/s`} height={160} />
        </Card>
        <Card title="Listeners" note={count(ports.length)}>
          {ports.length === 0 ? (
            <Empty>{nothing}</Empty>
          ) : (
            <div class="scroll" tabIndex={0} role="region" aria-label="Table of listeners">
              <table class="list">
                <Heads of={[["Process"], ["port"], ["now", "right"], ["connections", "right"], ["over time", "sparks"]]} />
                <tbody>
                  {ports.map((p) => (
                    <tr key={p.about.id} class={p.about.unexpected ? "alarm" : ""}>
                      <td class="grow">
                        <Who of={p.process} place={place} />
                      </td>
                      <td class="figures">{p.about.port}</td>
                      <td class="right figures">{perSecond(p.rate)}/s</td>
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
            </div>
          )}
        </Card>
      </div>
      {body.queues?.length || body.deeds?.length || body.durations?.length ? (
        <div class="cards">
          {body.deeds?.length ? <Deeds of={body.deeds} place={place} /> : null}
          {body.queues?.length ? <Queues of={body.queues} place={place} /> : null}
          {body.durations?.length ? <Durations kind="round_trip" of={body.durations} place={place} /> : null}
        </div>
      ) : null}
      {notices.length ? <Notices title="Refused and closed connections, and who listens" of={notices} leftOut={body.noticesLeftOut} /> : null}
      <Card
        title="Accepted connections"
        note={body.acceptsLeftOut ? `the newest ${count(accepts.length)}; ${count(Math.max(0, common.cameCount - accepts.length))} more are counted, not listed` : "newest first"}
      >
        {accepts.length === 0 ? <Empty>{nothing}</Empty> : <AcceptRows accepts={accepts} common={common} place={place} />}
      </Card>
    </>
  );
}

export function AcceptRows({ accepts, common, place, brief = false }: { accepts: AcceptLine[]; common: Common; place: Place; brief?: boolean }) {
  const policy = accepts.some((a) => a.about.verdict);
  return (
    <table class="rows accepts">
      <thead>
        <tr>
          <th scope="col">Time</th>
          {brief ? null : <th scope="col">Process</th>}
          <th scope="col">Peer</th>
          <th scope="col" class="narrow-no">
            Local
          </th>
          <th scope="col" class="right narrow-no">
            Waited
          </th>
          <th scope="col" class="right narrow-no" title="connections that waited when it was taken, of how many may">
            Queue
          </th>
          {policy ? <th scope="col">Policy</th> : null}
          {common.traceURL ? (
            <th scope="col" class="narrow-no">
              <span class="hidden">Trace</span>
            </th>
          ) : null}
        </tr>
      </thead>
      <tbody>
        {accepts.map(({ about: a, process }) => (
          <tr key={a.id} class={a.verdict === "unexpected" ? "alarm" : ""}>
            <td class="figures nowrap"><Moment at={a.at_ms} /></td>
            {brief ? null : (
              <td class="grow">
                <Who of={process} place={place} />
              </td>
            )}
            <td class="mono nowrap peer">{end(a.peer)}</td>
            <td class="mono nowrap narrow-no">{end(a.local)}</td>
            <td class="right figures nowrap narrow-no">{a.queue_ms === undefined ? "" : text(milliseconds(a.queue_ms))}</td>
            <td class="right figures nowrap narrow-no">{a.queue_length === undefined ? "" : `${a.queue_length} of ${a.queue_limit ?? "?"}`}</td>
            {policy ? <td>{a.verdict === "unexpected" ? <span class="badge loss">unexpected</span> : (a.verdict ?? "")}</td> : null}
            {common.traceURL ? (
              <td class="narrow-no">
                <TraceLink url={common.traceURL} id={a.trace_id} />
              </td>
            ) : null}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
