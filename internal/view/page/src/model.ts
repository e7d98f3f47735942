import type { Accept, Amounts, Call, Drop, Duration, Health, Increment, Interface, Listener, Notice, Process, Queue, State } from "./api";
import { Recent, Series, Slots } from "./slots";

// kept is how many accepts and calls are listed.
export const kept = 500;

export interface Row {
  name: string;
  tx: Series;
  rx: Series;
  totals: [number, number, number, number]; // bytes and packets, sent and received
  recent: Recent;
  seed: [number, number]; // bytes a second before the first increment
}

export interface Proc {
  about: Process;
  rows: Map<string, Row>;
}

export interface Account {
  series: [Series, Series]; // bytes, packets
  total: [number, number];
}

export interface Device {
  about: Interface;
  tx: Map<string, Account>;
  rx: Map<string, Account>;
}

export interface Loss {
  about: Drop;
  series: Series;
  recent: Recent;
}

export interface Port {
  about: Listener;
  series: Series;
  recent: Recent;
}

// Model has what the server has sent: a snapshot, and the increments after it.
export class Model {
  readonly slots: Slots;
  readonly processes = new Map<string, Proc>();
  readonly devices = new Map<string, Device>();
  readonly losses = new Map<string, Loss>();
  readonly victims = new Map<string, Loss>(); // the losses of processes
  readonly resets = new Map<string, Loss>();
  readonly unseen = new Map<string, Loss>(); // what counters of the kernel have beyond the losses
  readonly deeds = new Map<string, Loss>(); // what processes did with their connections
  readonly ports = new Map<string, Port>();
  readonly sent: Series;
  readonly received: Series;
  readonly accepted: Series;
  accepts: Accept[];
  notices: Notice[];
  packets: Notice[];
  queues: Queue[];
  durations: Duration[];
  calls: Call[];
  acceptsLeftOut: number;
  noticesLeftOut: number;
  packetsLeftOut: number;
  callsLeftOut: number;
  seq: number;
  at: number;
  health: Health;
  beat = 0; // increments since the snapshot
  private spans = new Float64Array(5);

  constructor(readonly state: State) {
    const { first_ms, step_s, count, last_s } = state.slots;
    const step = step_s * 1000;
    const first = Math.round(first_ms / step);
    this.slots = new Slots(step, count, first + count - 1);
    this.sent = new Series(count);
    this.received = new Series(count);
    this.accepted = new Series(count);
    this.seq = state.seq;
    this.at = state.at_ms;
    this.health = state.health;
    this.accepts = state.accepts;
    this.notices = state.notices;
    this.noticesLeftOut = state.notices_left_out;
    this.packets = state.packets;
    this.packetsLeftOut = state.packets_left_out;
    this.queues = state.queues;
    this.durations = state.durations;
    this.acceptsLeftOut = state.accepts_left_out;
    this.calls = state.calls;
    this.callsLeftOut = state.calls_left_out;
    const looked = new Array<boolean>(count).fill(true);
    const unlooked = (series?: Amounts) => series?.forEach((amount, i) => amount === null && (looked[i] = false));

    for (const p of state.processes) {
      const proc = this.meet(p);
      for (const i of p.interfaces ?? []) {
        const row = this.row(proc, i.interface ?? "");
        row.totals = [i.tx_bytes, i.rx_bytes, i.tx_packets, i.rx_packets];
        row.tx.fill(first, i.series?.tx_bytes);
        row.rx.fill(first, i.series?.rx_bytes);
        this.sent.fill(first, i.series?.tx_bytes);
        this.received.fill(first, i.series?.rx_bytes);
        unlooked(i.series?.tx_bytes ?? i.series?.rx_bytes);
      }
      proc.about = { ...p, interfaces: undefined };
    }
    for (const i of state.interfaces) {
      const device = this.device(i);
      for (const way of ["tx", "rx"] as const) {
        for (const [unit, name] of (["bytes", "packets"] as const).entries()) {
          const totals = i[way]?.[name];
          for (const [account, total] of Object.entries(totals?.accounts ?? {})) this.account(device[way], account).total[unit] = total;
          if (totals?.unobserved !== undefined) this.account(device[way], "unobserved").total[unit] = totals.unobserved;
          for (const [account, amounts] of Object.entries(totals?.series ?? {})) {
            this.account(device[way], account).series[unit]!.fill(first, amounts);
            unlooked(amounts);
          }
        }
      }
      device.about = { ...i, tx: undefined, rx: undefined };
    }
    for (const d of state.losses) this.loss(this.victims, d).series.fill(first, d.series?.packets);
    for (const d of state.resets) this.loss(this.resets, d).series.fill(first, d.series?.packets);
    for (const d of state.unseen) this.loss(this.unseen, d).series.fill(first, d.series?.packets);
    for (const d of state.deeds) this.loss(this.deeds, d).series.fill(first, d.series?.packets);
    for (const d of state.drops) {
      this.loss(this.losses, d).series.fill(first, d.series?.packets);
      unlooked(d.series?.packets);
    }
    for (const l of state.listeners) {
      const port = this.port(l);
      port.series.fill(first, l.series?.connections);
      this.accepted.fill(first, l.series?.connections);
    }
    looked.forEach((was, i) => {
      const until = (first + i + 1) * step;
      const seconds = i === count - 1 ? last_s : Math.min(step, until - state.started_ms) / 1000;
      if (was && seconds > 0) this.slots.cover(first + i, seconds);
    });
    const seconds = this.slots.coverage(2).reduce((sum, s) => sum + s, 0);
    if (seconds > 0) {
      for (const p of this.processes.values()) {
        for (const r of p.rows.values()) r.seed = [r.tx.sum(this.slots.last, 2) / seconds, r.rx.sum(this.slots.last, 2) / seconds];
      }
    }
  }

  // add applies an increment. It returns false if an increment before it is missing.
  add(i: Increment): boolean {
    if (i.seq !== this.seq + 1) return false;
    this.seq = i.seq;
    this.at = i.at_ms;
    this.health = i.health;
    this.beat++;
    this.spans[this.beat % 5] = i.span_s;
    const parts: [slot: number, part: number][] = [];
    this.slots.share(i.at_ms, i.span_s, (slot, part) => {
      parts.push([slot, part]);
      this.slots.cover(slot, part * i.span_s);
    });
    const enter = (series: Series, amount: number) => parts.forEach(([slot, part]) => series.add(slot, amount * part));

    for (const p of i.processes ?? []) this.meet(p).about = p;
    for (const d of i.interfaces ?? []) this.device(d).about = d;
    for (const d of i.drops ?? []) this.loss(this.losses, d);
    for (const d of i.losses ?? []) this.loss(this.victims, d);
    for (const d of i.resets ?? []) this.loss(this.resets, d);
    for (const d of i.unseen ?? []) this.loss(this.unseen, d);
    for (const d of i.deeds ?? []) this.loss(this.deeds, d);
    this.queues = i.queues ?? this.queues;
    this.durations = i.durations ?? this.durations;
    for (const l of i.listeners ?? []) this.port(l);
    for (const [id, name, ...amounts] of i.moved ?? []) {
      const proc = this.processes.get(id);
      if (!proc) continue;
      const row = this.row(proc, name);
      amounts.forEach((amount, at) => (row.totals[at]! += amount));
      row.recent.add(this.beat, amounts[0], amounts[1]);
      enter(row.tx, amounts[0]);
      enter(row.rx, amounts[1]);
      enter(this.sent, amounts[0]);
      enter(this.received, amounts[1]);
    }
    for (const [id, way, name, bytes, packets] of i.booked ?? []) {
      const device = this.devices.get(id);
      if (!device) continue;
      const account = this.account(device[way], name);
      account.total[0] += bytes;
      account.total[1] += packets;
      enter(account.series[0], bytes);
      enter(account.series[1], packets);
    }
    const lose = (of: Map<string, Loss>, [id, packets]: [string, number]) => {
      const loss = of.get(id);
      if (!loss) return;
      loss.about.packets += packets;
      loss.recent.add(this.beat, packets);
      enter(loss.series, packets);
    };
    for (const dropped of i.dropped ?? []) lose(this.losses, dropped);
    for (const lost of i.lost ?? []) lose(this.victims, lost);
    for (const reset of i.reset ?? []) lose(this.resets, reset);
    for (const overlooked of i.overlooked ?? []) lose(this.unseen, overlooked);
    for (const done of i.done ?? []) lose(this.deeds, done);
    for (const [id, connections, unexpected] of i.accepted ?? []) {
      const port = this.ports.get(id);
      if (!port) continue;
      port.about.connections += connections;
      port.about.unexpected += unexpected;
      port.recent.add(this.beat, connections);
      enter(port.series, connections);
      enter(this.accepted, connections);
    }
    this.acceptsLeftOut += i.accepts_left_out ?? 0;
    this.callsLeftOut += i.calls_left_out ?? 0;
    this.noticesLeftOut += i.notices_left_out ?? 0;
    this.notices = newest(i.notices, this.notices, (n) => (this.noticesLeftOut += n));
    this.packetsLeftOut += i.packets_left_out ?? 0;
    this.packets = newest(i.packets, this.packets, (n) => (this.packetsLeftOut += n));
    this.accepts = newest(i.accepts, this.accepts, (n) => (this.acceptsLeftOut += n));
    this.calls = newest(i.calls, this.calls, (n) => (this.callsLeftOut += n));
    for (const id of i.gone?.processes ?? []) this.processes.delete(id);
    for (const id of i.gone?.interfaces ?? []) this.devices.delete(id);
    for (const id of i.gone?.drops ?? []) this.losses.delete(id);
    for (const id of i.gone?.losses ?? []) this.victims.delete(id);
    for (const id of i.gone?.resets ?? []) this.resets.delete(id);
    for (const id of i.gone?.unseen ?? []) this.unseen.delete(id);
    for (const id of i.gone?.deeds ?? []) this.deeds.delete(id);
    for (const id of i.gone?.listeners ?? []) this.ports.delete(id);
    return true;
  }

  // nowSeconds is the time in seconds that the recent amounts cover; 0 before the first increment.
  get nowSeconds(): number {
    return this.spans.reduce((sum, s) => sum + s, 0);
  }

  // rate returns what a row sends or receives now, in bytes per second.
  rate(row: Row, which: 0 | 1): number {
    const seconds = this.nowSeconds;
    return seconds > 0 ? row.recent.sum(this.beat, which) / seconds : row.seed[which];
  }

  private meet(p: Process): Proc {
    let proc = this.processes.get(p.id);
    if (!proc) this.processes.set(p.id, (proc = { about: p, rows: new Map() }));
    return proc;
  }

  private row(proc: Proc, name: string): Row {
    let row = proc.rows.get(name);
    if (!row) {
      const n = this.slots.count;
      proc.rows.set(name, (row = { name, tx: new Series(n), rx: new Series(n), totals: [0, 0, 0, 0], recent: new Recent(), seed: [0, 0] }));
    }
    return row;
  }

  private device(i: Interface): Device {
    let device = this.devices.get(i.id);
    if (!device) this.devices.set(i.id, (device = { about: i, tx: new Map(), rx: new Map() }));
    return device;
  }

  private account(of: Map<string, Account>, name: string): Account {
    let account = of.get(name);
    if (!account) of.set(name, (account = { series: [new Series(this.slots.count), new Series(this.slots.count)], total: [0, 0] }));
    return account;
  }

  private loss(of: Map<string, Loss>, d: Drop): Loss {
    let loss = of.get(d.id);
    if (!loss) of.set(d.id, (loss = { about: { ...d, series: undefined }, series: new Series(this.slots.count), recent: new Recent() }));
    return loss;
  }

  private port(l: Listener): Port {
    let port = this.ports.get(l.id);
    if (!port) {
      const series = new Series(this.slots.count);
      this.ports.set(l.id, (port = { about: { ...l, series: undefined }, series, recent: new Recent() }));
    }
    return port;
  }
}

// newest puts new elements before the old ones, and passes the number of those that find no room to leaveOut.
function newest<T>(came: T[] | undefined, there: T[], leaveOut: (n: number) => void): T[] {
  if (!came?.length) return there;
  const all = came.concat(there);
  if (all.length > kept) leaveOut(all.length - kept);
  return all.slice(0, kept);
}
