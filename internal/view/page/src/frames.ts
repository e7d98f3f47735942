// The messages between the page and the worker. They contain only what is on the screen.
import type { Accept, Call, Drop, Duration, Health, Interface, Listener, Notice, Process, Queue } from "./api";
import type { Phase } from "./stream";

export type View = "overview" | "processes" | "interfaces" | "drops" | "accepts" | "calls" | "health";
export type Range = "1m" | "5m" | "15m";
export type Grouping = "none" | "container" | "service" | "name" | "interface";
export type Unit = "bytes" | "packets";

export interface Query {
  view: View;
  range: Range;
  sort: string;
  descending: boolean;
  group: Grouping;
  open: string[]; // groups whose members are shown
  from: number; // the first row on the screen
  to: number;
  selected: string; // the element whose details are shown
  unit: Unit;
  classes: string[]; // classes of drops that are shown
}

export type Line = (number | null)[];

export interface ProcessLine {
  kind: "process" | "group";
  key: string;
  about: Process; // for a group, only the fields in which all members agree
  members: number;
  interfaces: string[];
  txRate: number;
  rxRate: number;
  txBytes: number; // in the range
  rxBytes: number;
  txPackets: number; // since the view began
  rxPackets: number;
  tx: Line;
  rx: Line;
}

export interface AccountLine {
  name: string;
  amount: number;
}

export interface DeviceLine {
  about: Interface;
  key: string;
  tx: AccountLine[];
  rx: AccountLine[];
  txTotal: number;
  rxTotal: number;
  txCounted: boolean; // whether the interface's own counter is known
  rxCounted: boolean;
  txLine: Line;
  rxLine: Line;
}

export interface LossLine {
  about: Drop;
  key: string;
  packets: number; // in the range
  rate: number;
  line: Line;
  whose: Whose[]; // sorted by packets; not every packet belongs to a process
}

// Whose is the packets that a process has lost, the resets of its connections, or what a counter of
// the kernel has beyond the drops.
export interface Whose {
  about: Drop;
  process: Process;
  packets: number; // or segments, in the range
}

// DeedLine is what a process did with its TCP connections.
export interface DeedLine {
  process: Process;
  connects: number; // in the range, as failed and retransmits
  failed: number;
  errors: [name: string, count: number][];
  retransmits: number;
  line: Line; // of failures
}

export interface QueueLine {
  about: Queue;
  process: Process;
}

export interface DurationLine {
  about: Duration;
  process: Process;
}

export interface PortLine {
  about: Listener;
  process: Process;
  connections: number; // in the range
  rate: number;
  line: Line;
  last?: Accept;
}

export interface AcceptLine {
  about: Accept;
  process: Process;
}

export interface CallLine {
  about: Call;
  key: string;
  process: Process;
  alike: number; // how many calls the line stands for
}

export interface Stacked {
  name: string;
  kind: string;
  line: Line;
}

export interface Common {
  phase: Phase;
  why?: string; // why the server refused
  since: number; // when the phase began, in ms since 1970
  at: number; // the time of what is shown; 0 before there is anything
  instance: string;
  host: string;
  receiver: string;
  startedMS: number;
  traceURL?: string;
  filter: string; // the filter of what is shown
  stepS: number;
  times: number[]; // of the slots, in s since 1970
  sent: Line;
  received: Line;
  sentRate: number;
  receivedRate: number;
  lost: Line; // packets, of classes other than benign
  lostPackets: number;
  lostRate: number;
  benignPackets: number;
  came: Line;
  cameCount: number;
  unexpected: number;
  slow: number;
  failed: number;
  processes: number;
  health: Health;
}

export interface Body {
  rows?: ProcessLine[];
  from?: number;
  total?: number; // how many rows there are
  processes?: number; // how many processes are in them
  detail?: Detail | null; // null: the selected element is gone
  devices?: DeviceLine[];
  stacked?: Stacked[];
  losses?: LossLine[];
  resets?: Whose[]; // sorted by packets, as unseen is
  unseen?: Whose[];
  ports?: PortLine[];
  accepts?: AcceptLine[];
  acceptsLeftOut?: number;
  notices?: Notice[];
  noticesLeftOut?: number;
  refused?: Notice; // the last one
  packets?: Notice[];
  packetsLeftOut?: number;
  deeds?: DeedLine[]; // sorted by failures
  queues?: QueueLine[]; // the fullest first
  durations?: DurationLine[]; // the longest first
  calls?: CallLine[];
  callsLeftOut?: number;
}

export interface Detail {
  process: ProcessLine;
  interfaces: { name: string; line: ProcessLine }[];
  ports: PortLine[];
  accepts: AcceptLine[];
  calls: CallLine[];
  lost: Whose[];
  deeds?: DeedLine;
  queues: QueueLine[];
  durations: DurationLine[];
}

export interface Frame {
  view: View;
  common: Common;
  body: Body;
  took: number; // ms that the worker needed for it
}

export type Ask = { type: "query"; query: Query } | { type: "stream"; range: Range; filter: string; paused: boolean };
