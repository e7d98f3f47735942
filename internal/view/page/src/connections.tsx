// What the accepts and calls tabs show beside single connections and calls: events, and the measures
// of processes that are off by default.
import type { Duration, Notice } from "./api";
import { count, end, milliseconds, text, words } from "./format";
import type { DeedLine, DurationLine, QueueLine } from "./frames";
import { Card, Heads, Moment, percent, Spark, Who } from "./parts";
import type { Place } from "./place";

// Notices are events in a table of limited height, since there may be many.
export function Notices({ title, of: notices, leftOut, alike = false }: { title: string; of: Notice[]; leftOut?: number; alike?: boolean }) {
  return (
    <Card title={title} note={leftOut ? `the newest ${count(notices.length)}` : "newest first"}>
      <div class="scroll" tabIndex={0} role="region" aria-label={`Table: ${title}`}>
        <table class="list notices">
          <Heads of={alike ? [["Time"], ["What"]] : [["Time"], ["Event"], ["What"]]} />
          <tbody>
            {notices.map((n) => (
              <tr key={n.id} class={n.event === "refused" ? "alarm" : ""}>
                <td class="figures nowrap"><Moment at={n.at_ms} /></td>
                {alike ? null : <td class="nowrap">{n.event === "refused" ? <span class="badge loss">refused</span> : n.event.replace("_", " ")}</td>}
                <td class="said">{n.text}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}

// Queues shows how full accept queues are.
export function Queues({ of: queues, place }: { of: QueueLine[]; place: Place }) {
  return (
    <Card title="Accept queues" note="connections that wait now, of how many can">
      <div class="scroll" tabIndex={0} role="region" aria-label="Table of accept queues">
        <table class="list queues">
          <Heads of={[["Process"], ["on"], ["waiting", "right"], ["full", "fill"]]} />
          <tbody>
            {queues.map(({ about: q, process }) => {
              const full = q.length >= 0.8 * q.limit;
              return (
                <tr key={`${q.socket} ${q.local.port}`} class={full ? "alarm" : ""}>
                  <td class="grow">
                    <Who of={process} place={place} />
                  </td>
                  <td class="mono nowrap">{end(q.local)}</td>
                  <td class="right figures nowrap">
                    {count(q.length)} of {count(q.limit)}
                  </td>
                  <td class="fill">
                    <span class="split" aria-hidden="true">
                      <i class={`state ${full ? "loss" : "process"}`} style={percent(q.length, q.limit)} />
                    </span>
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </Card>
  );
}

// Deeds shows what processes do with TCP connections, in numbers.
export function Deeds({ of: deeds, place }: { of: DeedLine[]; place: Place }) {
  return (
    <Card title="TCP connections of processes" note="those with most failures first">
      <div class="scroll" tabIndex={0} role="region" aria-label="Table of TCP connections by process">
        <table class="list deeds">
          <Heads of={[["Process"], ["connects", "right"], ["failed", "right"], ["sent again", "right nowrap"], ["failures", "sparks"]]} />
          <tbody>
            {deeds.map((d) => (
              <tr key={d.process.id}>
                <td class="grow">
                  <Who of={d.process} place={place} />
                </td>
                <td class="right figures">{count(d.connects)}</td>
                <td class="right nowrap">
                  <Failures of={d} /> <span class="figures">{count(d.failed)}</span>
                </td>
                <td class="right figures">{count(d.retransmits)}</td>
                <td class="sparks">
                  <Spark line={d.line} kind="loss" />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}

function Failures({ of: d }: { of: DeedLine }) {
  return (
    <>
      {d.errors.slice(0, 2).map(([name, n]) => (
        <span key={name} class="badge loss" title={`${count(n)} failed with ${name}`}>
          {words(name)}
        </span>
      ))}
    </>
  );
}

// deedsInWords returns what a process did with its connections as a sentence.
export function deedsInWords(d: DeedLine): string {
  const failed = d.errors.map(([name, n]) => `${count(n)} ${words(name)}`).join(", ");
  return `${count(d.connects)} established, ${count(d.failed)} failed${failed ? ` (${failed})` : ""}, ${count(d.retransmits)} segments sent again`;
}

const kinds = {
  round_trip: { title: "Round trips of connections", note: "smoothed, when they ended; since nettap began", parts: { client: "as client", server: "as server" } as Record<string, string> },
  wait: { title: "How long waits took", note: "of programs that do not block; since nettap began", parts: { peer: "for the peer", local: "the program was late" } as Record<string, string> },
};

// partOf returns what a distribution is of, in words.
function partOf(d: Duration): string {
  return kinds[d.kind].parts[d.part ?? ""] ?? "of connections older than nettap";
}

// durationInWords returns a distribution as a sentence.
export function durationInWords(d: Duration): string {
  const port = d.peer.port || d.local.port;
  return `${d.kind === "wait" ? "Waits" : "Round trips"}, ${partOf(d)}${port ? `, port ${port}` : ""}: ${text(milliseconds(d.mean_ms))} on average of ${count(d.count)}`;
}

// Durations shows distributions.
export function Durations({ kind, of: durations, place }: { kind: keyof typeof kinds; of: DurationLine[]; place: Place }) {
  const { title, note } = kinds[kind];
  const ports = kind === "wait"; // round trips are of all ports
  return (
    <Card title={title} note={note}>
      <div class="scroll" tabIndex={0} role="region" aria-label={`Table: ${title}`}>
        <table class="list durations">
          <Heads of={[["Process"], ["what"], ...(ports ? [["port", "right"] as [string, string]] : []), ["how many", "right nowrap narrow-no"], ["mean", "right"], ["99 % below", "right"]]} />
          <tbody>
            {durations.map(({ about: d, process }) => (
              <tr key={[d.process, d.part, d.local.port, d.peer.port].join(" ")}>
                <td class="grow">
                  <Who of={process} place={place} />
                </td>
                <td>{partOf(d)}</td>
                {ports ? <td class="right figures">{d.local.port || d.peer.port || ""}</td> : null}
                <td class="right figures narrow-no">{count(d.count)}</td>
                <td class="right figures nowrap">{text(milliseconds(d.mean_ms))}</td>
                <td class="right figures nowrap">{d.p99_ms === undefined ? "not known" : text(milliseconds(d.p99_ms))}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}
