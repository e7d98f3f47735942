// Converts the model to what is on the screen.
import type { Call, Process, Drop } from "./api";
import { words } from "./format";
import type { AcceptLine, Body, AccountLine, CallLine, Common, DeedLine, Detail, DeviceLine, DurationLine, Line, LossLine, PortLine, ProcessLine, Query, QueueLine, Range, Whose } from "./frames";
import type { Account, Device, Loss, Model, Port, Proc, Row } from "./model";
import type { Series } from "./slots";

export function slotsIn(model: Model, range: Range): number {
  return range === "5m" ? Math.min(30, model.slots.count) : model.slots.count;
}

// Lines makes the lines of one moment.
export class Lines {
  private readonly n: number;
  private readonly covered: Float64Array;
  private readonly last: number;
  private readonly from: number; // ms since 1970

  constructor(
    private readonly model: Model,
    private readonly query: Query,
  ) {
    this.n = slotsIn(model, query.range);
    this.covered = model.slots.coverage(this.n);
    this.last = model.slots.last;
    this.from = (this.last - this.n + 1) * model.slots.stepMS;
  }

  body(): Body {
    switch (this.query.view) {
      case "overview":
        return this.overview();
      case "processes":
        return this.processes();
      case "interfaces":
        return { devices: this.devices(), ...this.selectedDevice() };
      case "drops":
        return this.drops();
      case "accepts":
        return {
          ports: this.ports(), accepts: this.accepts(kept), acceptsLeftOut: this.model.acceptsLeftOut,
          ...this.events(), deeds: this.deeds(), queues: this.queues(), durations: this.durations("round_trip"),
        };
      case "calls":
        return this.calls();
      case "health":
        return {};
    }
  }

  common(): Omit<Common, "phase" | "why" | "since" | "filter"> {
    const m = this.model;
    const lost = new Float64Array(this.n);
    let lostRecent = 0;
    let lostPackets = 0;
    let benignPackets = 0;
    for (const loss of m.losses.values()) {
      const packets = loss.series.read(this.last, this.n);
      const sum = packets.reduce((a, b) => a + b, 0);
      if (loss.about.class === "benign") {
        benignPackets += sum;
        continue;
      }
      lostPackets += sum;
      lostRecent += loss.recent.sum(m.beat, 0);
      for (let i = 0; i < this.n; i++) lost[i]! += packets[i]!;
    }
    let [sentRate, receivedRate] = [0, 0];
    for (const p of m.processes.values()) {
      for (const r of p.rows.values()) {
        sentRate += m.rate(r, 0);
        receivedRate += m.rate(r, 1);
      }
    }
    let unexpected = 0;
    for (const p of m.ports.values()) unexpected += p.about.unexpected;
    const calls = this.within(m.calls);
    const step = m.slots.stepMS / 1000;
    return {
      at: m.at,
      instance: m.state.instance,
      host: m.state.host.name ?? "",
      receiver: m.state.receiver,
      startedMS: m.state.started_ms,
      traceURL: m.state.trace_url,
      stepS: step,
      times: Array.from({ length: this.n }, (_, i) => this.from / 1000 + i * step),
      sent: this.line(m.sent),
      received: this.line(m.received),
      sentRate,
      receivedRate,
      lost: this.rates(lost),
      lostPackets: Math.round(lostPackets),
      lostRate: lostRecent / (m.nowSeconds || 1),
      benignPackets: Math.round(benignPackets),
      came: this.line(m.accepted),
      cameCount: Math.round(m.accepted.sum(this.last, this.n)),
      unexpected,
      slow: calls.filter((c) => c.kept === "slow").length,
      failed: calls.filter((c) => c.kept === "failed").length,
      processes: m.processes.size,
      health: m.health,
    };
  }

  // rates converts amounts in slots to amounts per second; null in slots that were not observed.
  private rates(amounts: Float64Array): Line {
    const least = Math.min(1, this.model.slots.stepMS / 4000);
    return Array.from(amounts, (amount, i) => (this.covered[i]! >= least ? amount / this.covered[i]! : null));
  }

  private line(series: Series): Line {
    return this.rates(series.read(this.last, this.n));
  }

  private overview(): Body {
    const all: { proc: Proc; rate: number; sum: number }[] = [];
    for (const proc of this.model.processes.values()) {
      let rate = 0;
      let sum = 0;
      for (const row of proc.rows.values()) {
        rate += this.model.rate(row, 0) + this.model.rate(row, 1);
        sum += row.totals[0] + row.totals[1];
      }
      if (rate > 0 || sum > 0) all.push({ proc, rate, sum });
    }
    const most = top(all, 8, (a, b) => b.rate - a.rate || b.sum - a.sum);
    return {
      rows: most.map(({ proc }) => this.processLine(proc)),
      total: this.model.processes.size,
      losses: byReason(this.losses().filter((l) => l.about.class !== "benign")).slice(0, 7),
      ports: this.ports().slice(0, 7),
      refused: this.within(this.model.notices).find((n) => n.event === "refused"),
      calls: this.alike().slice(0, 7),
      devices: this.devices(),
    };
  }

  private processes(): Body {
    const { query } = this;
    const lines: ProcessLine[] = [];
    let processes = 0;
    const order = (a: ProcessLine, b: ProcessLine) => this.compare(a, b);
    if (query.group === "none") {
      for (const proc of this.model.processes.values()) lines.push(this.processLine(proc, undefined, true));
      processes = lines.length;
      lines.sort(order);
    } else {
      const groups = new Map<string, ProcessLine[]>();
      for (const proc of this.model.processes.values()) {
        processes++;
        const parts = query.group === "interface" ? Array.from(proc.rows.values(), (row) => [row.name || "not known", row] as const) : [[groupOf(query.group, proc.about), undefined] as const];
        for (const [name, row] of parts) {
          const line = this.processLine(proc, row, true);
          const group = groups.get(name);
          if (group) group.push(line);
          else groups.set(name, [line]);
        }
      }
      const heads = Array.from(groups, ([name, members]) => this.sumUp(name, members)).sort(order);
      for (const head of heads) {
        lines.push(head);
        if (query.open.includes(head.key)) lines.push(...groups.get(head.key)!.sort(order));
      }
    }
    const from = Math.max(0, Math.min(query.from, lines.length - 1));
    const rows = lines.slice(from, query.to).map((line) => this.withLines(line));
    return { rows, from, total: lines.length, processes, detail: query.selected ? this.detail(query.selected) : undefined };
  }

  private sources = new Map<ProcessLine, Row[]>();

  // withLines adds the graphs, which only rows on the screen need.
  private withLines(line: ProcessLine): ProcessLine {
    const rows = this.sources.get(line);
    if (!rows) return line;
    const tx = new Float64Array(this.n);
    const rx = new Float64Array(this.n);
    for (const row of rows) {
      const [t, r] = [row.tx.read(this.last, this.n), row.rx.read(this.last, this.n)];
      for (let i = 0; i < this.n; i++) {
        tx[i]! += t[i]!;
        rx[i]! += r[i]!;
      }
    }
    line.tx = this.rates(tx);
    line.rx = this.rates(rx);
    return line;
  }

  private sumUp(name: string, members: ProcessLine[]): ProcessLine {
    const head: ProcessLine = { ...nothing, kind: "group", key: name, about: { id: "", comm: name }, members: members.length, interfaces: [] };
    const rows: Row[] = [];
    const interfaces = new Set<string>();
    for (const m of members) {
      head.txRate += m.txRate;
      head.rxRate += m.rxRate;
      head.txBytes += m.txBytes;
      head.rxBytes += m.rxBytes;
      head.txPackets += m.txPackets;
      head.rxPackets += m.rxPackets;
      m.interfaces.forEach((i) => interfaces.add(i));
      rows.push(...this.sources.get(m)!);
    }
    head.interfaces = [...interfaces].sort();
    this.sources.set(head, rows);
    return head;
  }

  processLine(proc: Proc, only?: Row, later = false): ProcessLine {
    const line: ProcessLine = { ...nothing, kind: "process", key: keyOf(proc.about), about: proc.about, members: 1, interfaces: [] };
    const rows = only ? [only] : [...proc.rows.values()];
    for (const row of rows) {
      line.interfaces.push(row.name);
      line.txRate += this.model.rate(row, 0);
      line.rxRate += this.model.rate(row, 1);
      line.txBytes += row.tx.sum(this.last, this.n);
      line.rxBytes += row.rx.sum(this.last, this.n);
      line.txPackets += row.totals[2];
      line.rxPackets += row.totals[3];
    }
    this.sources.set(line, rows);
    return later ? line : this.withLines(line);
  }

  private compare(a: ProcessLine, b: ProcessLine): number {
    const sign = this.query.descending ? -1 : 1;
    const text = (x?: string, y?: string) => (x ? (y ? x.localeCompare(y) : -sign) : y ? sign : 0); // unknown values are last
    let by = 0;
    switch (this.query.sort) {
      case "name":
        by = text(nameOf(a.about), nameOf(b.about));
        break;
      case "pid":
        by = (a.about.pid ?? 0) - (b.about.pid ?? 0);
        break;
      case "user":
        by = (a.about.uid ?? -1) - (b.about.uid ?? -1);
        break;
      case "where":
        by = text(whereOf(a.about), whereOf(b.about));
        break;
      case "interface":
        by = text(a.interfaces[0], b.interfaces[0]);
        break;
      case "tx":
        by = a.txRate - b.txRate;
        break;
      case "rx":
        by = a.rxRate - b.rxRate;
        break;
      case "sent":
        by = a.txBytes - b.txBytes;
        break;
      case "received":
        by = a.rxBytes - b.rxBytes;
        break;
      default:
        by = a.txRate + a.rxRate - b.txRate - b.rxRate;
    }
    return sign * by || b.txBytes + b.rxBytes - a.txBytes - a.rxBytes || (a.about.pid ?? 0) - (b.about.pid ?? 0);
  }

  private detail(key: string): Detail | null {
    const proc = find(this.model, key);
    if (!proc) return null;
    const { id } = proc.about;
    return {
      process: this.processLine(proc),
      interfaces: Array.from(proc.rows.values(), (row) => ({ name: row.name, line: this.processLine(proc, row) })),
      ports: this.ports().filter((p) => p.about.process === id),
      accepts: this.accepts(12, (a) => a.process === id),
      calls: this.callLines(this.model.calls.filter((c) => c.process === id).slice(0, 12)),
      lost: [...this.whose().values()].flat().filter((w) => w.about.process === id).sort((a, b) => classRank(a.about.class) - classRank(b.about.class) || b.packets - a.packets),
      deeds: this.deeds(id)[0],
      queues: this.queues().filter((q) => q.about.process === id),
      durations: this.durations().filter((d) => d.about.process === id),
    };
  }

  // within returns the events that are in the range, the newest of which comes first.
  private within<T extends { at_ms: number }>(events: T[]): T[] {
    return events.filter((e) => e.at_ms >= this.from);
  }

  private events(): Body {
    const notices = this.within(this.model.notices);
    return { notices: notices.slice(0, kept), noticesLeftOut: this.model.noticesLeftOut + Math.max(0, notices.length - kept) };
  }

  // deeds returns what processes, or one of them, did with their connections.
  private deeds(only?: string): DeedLine[] {
    const all = new Map<string, DeedLine & { failures: Float64Array }>();
    for (const { about, series } of this.model.deeds.values()) {
      const id = about.process ?? "";
      if (only !== undefined && id !== only) continue;
      const amounts = series.read(this.last, this.n);
      const n = Math.round(amounts.reduce((a, b) => a + b, 0));
      if (n === 0) continue;
      let line = all.get(id);
      if (!line) all.set(id, (line = { process: this.process(id), connects: 0, failed: 0, errors: [], retransmits: 0, line: [], failures: new Float64Array(this.n) }));
      if (about.symbol === "retransmit") line.retransmits += n;
      else if (!about.reason) line.connects += n;
      else {
        line.failed += n;
        line.errors.push([about.reason, n]);
        for (let i = 0; i < this.n; i++) line.failures[i]! += amounts[i]!;
      }
    }
    const sorted = [...all.values()].sort((a, b) => b.failed - a.failed || b.retransmits - a.retransmits || b.connects - a.connects || (a.process.pid ?? 0) - (b.process.pid ?? 0));
    return sorted.slice(0, 100).map(({ failures, ...line }) => ({ ...line, errors: line.errors.sort((a, b) => b[1] - a[1]), line: this.rates(failures) }));
  }

  private queues(): QueueLine[] {
    const fill = ({ about: q }: QueueLine) => q.length / Math.max(1, q.limit);
    const lines = this.model.queues.map((about) => ({ about, process: this.process(about.process) }));
    return lines.sort((a, b) => fill(b) - fill(a) || (a.about.local.port ?? 0) - (b.about.local.port ?? 0) || a.about.socket - b.about.socket).slice(0, 100);
  }

  private durations(kind?: string): DurationLine[] {
    const some = this.model.durations.filter((d) => !kind || d.kind === kind);
    return some.map((about) => ({ about, process: this.process(about.process) })).sort((a, b) => b.about.mean_ms - a.about.mean_ms).slice(0, 100);
  }

  private devices(): DeviceLine[] {
    const unit = this.query.unit === "packets" ? 1 : 0;
    const lines = Array.from(this.model.devices.values(), (d): DeviceLine => {
      const [tx, rx] = [this.accountLines(d.tx, unit), this.accountLines(d.rx, unit)];
      return {
        about: d.about,
        key: d.about.id,
        tx,
        rx,
        txTotal: sumOf(tx),
        rxTotal: sumOf(rx),
        txCounted: d.tx.has("unobserved"),
        rxCounted: d.rx.has("unobserved"),
        txLine: this.total(d.tx, unit),
        rxLine: this.total(d.rx, unit),
      };
    });
    return lines.sort((a, b) => b.txTotal + b.rxTotal - a.txTotal - a.rxTotal || (a.about.name ?? "").localeCompare(b.about.name ?? ""));
  }

  private accountLines(accounts: Map<string, Account>, unit: number): AccountLine[] {
    const lines = Array.from(accounts, ([name, a]) => ({ name, amount: Math.round(a.series[unit]!.sum(this.last, this.n)) }));
    return lines.filter((l) => l.amount !== 0 || l.name === "unobserved").sort((a, b) => rank(a.name) - rank(b.name));
  }

  private total(accounts: Map<string, Account>, unit: number): Line {
    const all = new Float64Array(this.n);
    for (const a of accounts.values()) a.series[unit]!.read(this.last, this.n).forEach((amount, i) => (all[i]! += amount));
    return this.rates(all);
  }

  private selectedDevice(): Body {
    const device: Device | undefined = this.model.devices.get(this.query.selected);
    if (!device) return {};
    const unit = this.query.unit === "packets" ? 1 : 0;
    const stacked = (["tx", "rx"] as const).flatMap((way) =>
      [...device[way]].map(([name, a]) => ({ name, kind: way, line: this.line(a.series[unit]!) })).filter((s) => s.line.some((n) => n)),
    );
    return { stacked: stacked.sort((a, b) => rank(a.name) - rank(b.name)) };
  }

  private losses(): LossLine[] {
    const whose = this.whose();
    const lines = Array.from(
      this.model.losses.values(),
      (l: Loss): LossLine => ({
        about: l.about,
        key: [l.about.reason, l.about.symbol, l.about.interface, l.about.transport, l.about.type, l.about.class].map((s) => s ?? "").join("~"),
        packets: Math.round(l.series.sum(this.last, this.n)),
        rate: l.recent.sum(this.model.beat, 0) / (this.model.nowSeconds || 1),
        line: this.line(l.series),
        whose: whose.get(reasonOf(l.about)) ?? [],
      }),
    );
    return lines.filter((l) => l.packets > 0).sort((a, b) => classRank(a.about.class) - classRank(b.about.class) || b.packets - a.packets || a.key.localeCompare(b.key));
  }

  // whose returns the losses of processes by reason and interface. The place of these losses
  // is not known.
  private whose(): Map<string, Whose[]> {
    const all = new Map<string, Whose[]>();
    for (const w of this.counted(this.model.victims)) all.set(reasonOf(w.about), [...(all.get(reasonOf(w.about)) ?? []), w]);
    return all;
  }

  // counted returns what had packets in the range, sorted by packets.
  private counted(of: Map<string, Loss>): Whose[] {
    const all = Array.from(of.values(), (l): Whose => {
      const process = this.model.processes.get(l.about.process ?? "")?.about ?? { id: "" };
      return { about: l.about, process, packets: Math.round(l.series.sum(this.last, this.n)) };
    });
    return all.filter((w) => w.packets > 0).sort((a, b) => b.packets - a.packets || (a.process.pid ?? 0) - (b.process.pid ?? 0));
  }

  private drops(): Body {
    const losses = this.losses().filter((l) => this.query.classes.includes(l.about.class ?? "unknown"));
    const byReason = new Map<string, { name: string; kind: string; amounts: Float64Array; packets: number }>();
    for (const l of losses) {
      const [name, kind] = [l.about.reason ?? "not known", l.about.class ?? "unknown"];
      const key = `${kind} ${name}`;
      let one = byReason.get(key);
      if (!one) byReason.set(key, (one = { name, kind, amounts: new Float64Array(this.n), packets: 0 }));
      one.packets += l.packets;
      for (let i = 0; i < this.n; i++) one.amounts[i]! += l.line[i] ?? 0;
    }
    const all = [...byReason.values()].sort((a, b) => b.packets - a.packets);
    const shown = all.slice(0, 8);
    for (const kind of ["loss", "unknown", "benign"]) {
      const rest = all.slice(8).filter((r) => r.kind === kind);
      if (!rest.length) continue;
      const amounts = new Float64Array(this.n);
      for (const r of rest) for (let i = 0; i < this.n; i++) amounts[i]! += r.amounts[i]!;
      shown.push({ name: `${rest.length} other reasons`, kind, amounts, packets: 0 });
    }
    shown.sort((a, b) => classRank(a.kind) - classRank(b.kind) || b.packets - a.packets);
    const none = this.rates(new Float64Array(this.n)); // null in slots that were not observed
    return {
      losses,
      stacked: shown.map(({ name, kind, amounts }) => ({ name, kind, line: Array.from(amounts, (a, i) => (none[i] === null ? null : a)) })),
      resets: this.counted(this.model.resets).slice(0, 100),
      unseen: this.counted(this.model.unseen).slice(0, 100),
      packets: this.within(this.model.packets).slice(0, kept),
      packetsLeftOut: this.model.packetsLeftOut,
    };
  }

  private ports(): PortLine[] {
    const last = new Map<string, (typeof this.model.accepts)[number]>();
    for (const a of this.model.accepts) {
      const key = `${a.process} ${a.local.port}`;
      if (!last.has(key)) last.set(key, a);
    }
    const lines = Array.from(
      this.model.ports.values(),
      (p: Port): PortLine => ({
        about: p.about,
        process: this.process(p.about.process),
        connections: Math.round(p.series.sum(this.last, this.n)),
        rate: p.recent.sum(this.model.beat, 0) / (this.model.nowSeconds || 1),
        line: [],
        last: last.get(`${p.about.process} ${p.about.port}`),
      }),
    )
      .filter((p) => p.connections > 0)
      .sort((a, b) => Number(b.about.unexpected > 0) - Number(a.about.unexpected > 0) || b.connections - a.connections || a.about.port - b.about.port)
      .slice(0, 100);
    for (const line of lines) line.line = this.line(this.model.ports.get(line.about.id)!.series);
    return lines;
  }

  private accepts(n: number, only: (a: { process: string }) => boolean = () => true): AcceptLine[] {
    const lines: AcceptLine[] = [];
    for (const a of this.model.accepts) {
      if (lines.length >= n) break;
      if (a.at_ms >= this.from && only(a)) lines.push({ about: a, process: this.process(a.process) });
    }
    return lines;
  }

  private calls(): Body {
    let calls = this.within(this.model.calls);
    const sign = this.query.descending ? -1 : 1;
    if (this.query.sort === "duration") calls = calls.toSorted((a, b) => sign * (a.duration_ms - b.duration_ms));
    else if (this.query.sort === "waited") calls = calls.toSorted((a, b) => sign * (waited(a) - waited(b)));
    return { calls: this.callLines(calls), callsLeftOut: this.model.callsLeftOut, durations: this.durations("wait") };
  }

  private callLines(calls: Call[]): CallLine[] {
    return calls.map((about) => ({ about, key: callKey(about), process: this.process(about.process), alike: 1 }));
  }

  // alike returns the calls that were slow or failed, the failed ones first, then the longest. Calls
  // of one process that are alike are one line.
  private alike(): CallLine[] {
    const by = new Map<string, CallLine>();
    for (const c of this.model.calls) {
      if (c.at_ms < this.from || c.kept === "sampled") continue;
      const process = this.process(c.process);
      const key = [nameOf(process), c.name, c.error, waitedFor(c), c.peer?.port].join(" ");
      const line = by.get(key);
      if (!line) by.set(key, { about: c, key: callKey(c), process, alike: 1 });
      else {
        line.alike++;
        if (c.duration_ms > line.about.duration_ms) Object.assign(line, { about: c, key: callKey(c), process });
      }
    }
    return [...by.values()].sort((a, b) => Number(b.about.kept === "failed") - Number(a.about.kept === "failed") || b.about.duration_ms - a.about.duration_ms);
  }

  private process(id: string): Process {
    return this.model.processes.get(id)?.about ?? { id };
  }
}

const kept = 100; // how many accepts are listed; more of them would take longer to draw than to come in

const nothing = { txRate: 0, rxRate: 0, txBytes: 0, rxBytes: 0, txPackets: 0, rxPackets: 0, tx: [] as Line, rx: [] as Line };

export const accountNames = ["process", "carried", "forwarded", "request", "time_wait", "kernel", "no_socket", "unclaimed", "unowned", "overflow", "unobserved"];

function rank(account: string): number {
  const at = accountNames.indexOf(account);
  return at < 0 ? accountNames.length - 1.5 : at;
}

function reasonOf(d: Drop): string {
  return [d.reason, d.class, d.interface].map((s) => s ?? "").join("~");
}

// byReason groups places with the same reason and interface under
// the place with the most packets.
function byReason(losses: LossLine[]): LossLine[] {
  const all = new Map<string, LossLine>();
  for (const l of losses) {
    const one = all.get(reasonOf(l.about));
    if (one) {
      one.packets += l.packets;
      one.rate += l.rate;
      one.line = one.line.map((n, i) => (n === null ? null : n + (l.line[i] ?? 0)));
    } else {
      all.set(reasonOf(l.about), { ...l });
    }
  }
  return [...all.values()].sort((a, b) => classRank(a.about.class) - classRank(b.about.class) || b.packets - a.packets);
}

function classRank(name?: string): number {
  return name === "loss" ? 0 : name === "benign" ? 2 : 1;
}

function sumOf(lines: AccountLine[]): number {
  return lines.reduce((sum, l) => sum + l.amount, 0);
}

// waited returns how long a call waited for something other than work, in ms. A wait of a program
// that does not block is no call: what is not the program's own delay was waited for.
export function waited(c: Call): number {
  return c.wait ? c.duration_ms - c.wait.local_ms : c.blocked_ms - c.idle_ms;
}

// waitedFor returns what a call or a wait waited for, in words, or "".
export function waitedFor(c: Call): string {
  if (!c.wait) return c.blocked_on ? words(c.blocked_on) : "";
  switch (c.wait.kind) {
    case "connect":
      return "handshake";
    case "send":
      return "room to send";
    default:
      return c.wait.local_ms > waited(c) ? "the program itself" : "its peer";
  }
}

export function nameOf(p: Process): string {
  return p.comm || p.executable || (p.id === "0" ? "no process" : "process not known");
}

export function whereOf(p: Process): string | undefined {
  return p.service || p.container || p.pod;
}

function groupOf(grouping: string, p: Process): string {
  switch (grouping) {
    case "container":
      return p.container ?? "not in a container";
    case "service":
      return p.service ?? "no service known";
    default:
      return nameOf(p);
  }
}

// keyOf returns the key of a process in a link, which stays valid after a restart of the receiver.
export function keyOf(p: Process): string {
  return p.pid ? `${p.pid}.${p.started_ms ?? 0}` : p.id;
}

// callKey returns the key of a call in a link.
export function callKey(c: Call): string {
  return c.span_id && c.span_id !== "0000000000000000" ? `${c.trace_id ?? ""}-${c.span_id}` : c.id;
}

// find returns the process with a key. The start time may differ a little between two runs of the receiver.
function find(model: Model, key: string): Proc | undefined {
  const [pid, started] = key.split(".").map(Number);
  let best: Proc | undefined;
  let off = 1000;
  for (const p of model.processes.values()) {
    if (keyOf(p.about) === key) return p;
    if (p.about.pid !== pid || started === undefined) continue;
    const differs = Math.abs((p.about.started_ms ?? 0) - started);
    if (differs < off) [best, off] = [p, differs];
  }
  return best;
}

function top<T>(all: T[], n: number, compare: (a: T, b: T) => number): T[] {
  const best: T[] = [];
  for (const one of all) {
    if (best.length === n && compare(one, best[n - 1]!) >= 0) continue;
    let at = best.length;
    while (at > 0 && compare(one, best[at - 1]!) < 0) at--;
    best.splice(at, 0, one);
    if (best.length > n) best.pop();
  }
  return best;
}
