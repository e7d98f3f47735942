// The texts that say why there is nothing to show: nothing happened, or nothing is observed.
import type { Common } from "./frames";

export function whyNothing(common: Common, instrument: string, nothing: string): string {
  if (common.at === 0) return "Waiting for the first reading.";
  const i = common.health.instruments?.find((one) => one.name === instrument);
  if (i && i.state !== "running") return `Not seen here: ${instrument} ${i.state === "off" ? "is off" : "has failed"}${i.why ? `, since ${i.why}` : ""}.`;
  if (i?.error) return `The last reading of ${instrument} was incomplete: ${i.error}.`;
  if (common.filter) return "Nothing matches the filter.";
  return nothing;
}

// accountsInWords describes the accounts of docs/accounts.md.
export const accountsInWords: Record<string, string> = {
  process: "owned by a process",
  carried: "a process's too, which has it on an interface above",
  forwarded: "came in on one interface and left by another",
  request: "handshakes of a listener whose owner is not known",
  time_wait: "answers for connections that their process has closed",
  kernel: "sockets of the kernel itself",
  no_socket: "sent without a socket, or for a port on which nobody is",
  unclaimed: "reached no socket",
  unowned: "a socket whose process is not known",
  overflow: "processes beyond max_processes",
  unobserved: "counted by the interface, and on no account",
};
