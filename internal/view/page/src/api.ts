// The types of the server's answers. docs/view.md says what each field means. All strings may contain
// text that a process chose, so they must only become text nodes.

export type Amounts = (number | null)[];

export interface State {
  version: number;
  instance: string;
  seq: number;
  at_ms: number;
  started_ms: number;
  receiver: string;
  host: { name?: string; id?: string };
  trace_url?: string;
  command_lines: boolean;
  slots: { first_ms: number; step_s: number; count: number; last_s: number };
  processes: Process[];
  processes_left_out: number;
  interfaces: Interface[];
  drops: Drop[];
  losses: Drop[]; // the drops of processes
  listeners: Listener[];
  accepts: Accept[];
  accepts_left_out: number;
  notices: Notice[];
  notices_left_out: number;
  calls: Call[];
  calls_left_out: number;
  resets: Drop[]; // of TCP connections
  unseen: Drop[]; // by counter of the kernel
  deeds: Drop[]; // connects by error as the reason, and retransmits, as the symbol says
  queues: Queue[];
  durations: Duration[];
  packets: Notice[];
  packets_left_out: number;
  health: Health;
}

export interface Process {
  id: string;
  pid?: number;
  started_ms?: number;
  comm?: string;
  executable?: string;
  uid?: number;
  euid?: number;
  container?: string;
  pod?: string;
  service?: string;
  command_line?: string;
  ended_ms?: number;
  interfaces?: ProcessInterface[];
}

export interface ProcessInterface {
  interface?: string;
  tx_bytes: number;
  rx_bytes: number;
  tx_packets: number;
  rx_packets: number;
  series?: { tx_bytes?: Amounts; rx_bytes?: Amounts; tx_packets?: Amounts; rx_packets?: Amounts };
}

export interface Interface {
  id: string;
  name?: string;
  netns?: number;
  stacked: boolean;
  ended_ms?: number;
  tx?: { bytes: AccountTotals; packets: AccountTotals };
  rx?: { bytes: AccountTotals; packets: AccountTotals };
}

export interface AccountTotals {
  accounts: Record<string, number>;
  unobserved?: number;
  total: number;
  series?: Record<string, Amounts>;
}

export interface Drop {
  id: string;
  symbol?: string;
  reason?: string;
  class?: string;
  why?: string;
  advice?: string;
  interface?: string;
  transport?: string;
  type?: string;
  process?: string; // the id of the process that lost the packets, with direction and victim; absent in drops, which are all packets
  direction?: string;
  victim?: string;
  packets: number;
  series?: { packets: Amounts };
}

export interface Listener {
  id: string;
  process: string;
  address?: string;
  port: number;
  connections: number;
  unexpected: number;
  series?: { connections: Amounts };
}

export interface End {
  address?: string;
  port?: number;
}

export interface Accept {
  id: string;
  at_ms: number;
  process: string;
  thread?: number;
  local: End;
  peer: End;
  transport?: string;
  type?: string;
  queue_ms?: number;
  queue_length?: number;
  queue_limit?: number;
  verdict?: string;
  trace_id?: string;
}

// The accept queue of a listener.
export interface Queue {
  process: string;
  local: End;
  socket: number;
  length: number;
  limit: number;
}

// A distribution of the round trips of a process's connections, or of its waits.
export interface Duration {
  process: string;
  kind: "round_trip" | "wait";
  part?: string; // client or server; peer or local
  local: End;
  peer: End;
  count: number;
  mean_ms: number;
  p99_ms?: number; // a bound below which 99 % are
}

// Another event of a connection or a listener, or a single dropped packet.
export interface Notice {
  id: string;
  at_ms: number;
  event: string;
  process?: string;
  local: End;
  peer: End;
  text: string;
}

export interface Call {
  id: string;
  at_ms: number;
  duration_ms: number;
  name: string;
  syscall?: string;
  fd?: number;
  process: string;
  thread?: number;
  thread_name?: string;
  kept?: string;
  error?: string;
  cpu_ms: number;
  runnable_ms: number;
  blocked_ms: number;
  idle_ms: number;
  blocked_on?: string;
  wait?: { kind: string; peer_ms: number; local_ms: number };
  bytes?: number;
  local?: End;
  peer?: End;
  transport?: string;
  type?: string;
  trace_id?: string;
  span_id?: string;
  functions: number;
  lost_functions?: number;
  nodes?: Node[];
}

export interface Node {
  parent: number;
  name: string;
  start_us: number;
  duration_us: number;
  error?: string;
  errno?: string;
  blocked_on?: string;
  exit_missed?: boolean;
  events?: { name: string; at_us: number }[];
}

export interface Increment {
  seq: number;
  at_ms: number;
  span_s: number;
  processes?: Process[];
  interfaces?: Interface[];
  drops?: Drop[];
  losses?: Drop[];
  resets?: Drop[];
  unseen?: Drop[];
  deeds?: Drop[];
  listeners?: Listener[];
  queues?: Queue[]; // all of them, as durations are
  durations?: Duration[];
  moved?: [string, string, number, number, number, number][];
  booked?: [string, "tx" | "rx", string, number, number][];
  dropped?: [string, number][];
  lost?: [string, number][];
  reset?: [string, number][];
  overlooked?: [string, number][];
  done?: [string, number][];
  accepted?: [string, number, number][];
  accepts?: Accept[];
  accepts_left_out?: number;
  notices?: Notice[];
  notices_left_out?: number;
  packets?: Notice[];
  packets_left_out?: number;
  calls?: Call[];
  calls_left_out?: number;
  gone?: { processes?: string[]; interfaces?: string[]; drops?: string[]; losses?: string[]; resets?: string[]; unseen?: string[]; deeds?: string[]; listeners?: string[] };
  health: Health;
}

export interface Health {
  instruments: Instrument[] | null;
  watchers: number;
  cost: { cpu_percent: number; memory_bytes: number };
  limit?: { max_percent: number; programs_percent: number; loops_percent: number; step: string; exceeded?: boolean; why?: string };
  view: { memory_bytes: number; read_ms: number; dropped: Record<string, number> };
  not_seen: string[] | null;
}

export interface Instrument {
  name: string;
  signal?: string;
  state: string;
  for?: string;
  why?: string;
  error?: string;
  interval_s?: number;
  read_ms?: number;
  hooks?: { job: string; name: string; not_seen?: string; unproven?: string; refused?: string[] }[];
  seen: number;
  exported: number;
  aggregated: number;
  sampled_out: number;
  rate_limited?: Record<string, number>;
  lost?: Record<string, number>;
  missed_runs: number;
  copies: number;
  without_process: number;
  unmeasured: number;
  maps?: Record<string, { entries: number; limit: number }>;
}
