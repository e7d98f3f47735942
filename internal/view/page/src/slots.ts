// Time is divided into slots, which are numbered since 1970. A series keeps the last slots.

export class Slots {
  // for each slot, how many of its seconds were observed
  private covered: Series;

  constructor(
    readonly stepMS: number,
    readonly count: number,
    public last: number, // the current slot
  ) {
    this.covered = new Series(count);
  }

  get first(): number {
    return this.last - this.count + 1;
  }

  cover(slot: number, seconds: number): void {
    this.last = Math.max(this.last, slot);
    this.covered.add(slot, seconds);
  }

  // share calls each for every slot that a span of time touches, with the share of the span that is in the slot.
  share(untilMS: number, seconds: number, each: (slot: number, part: number) => void): void {
    const from = untilMS - seconds * 1000;
    const last = Math.floor((untilMS - 1) / this.stepMS);
    for (let slot = Math.floor(from / this.stepMS); slot <= last; slot++) {
      const lies = Math.min(untilMS, (slot + 1) * this.stepMS) - Math.max(from, slot * this.stepMS);
      if (lies > 0 && slot > last - this.count) each(slot, lies / (untilMS - from));
    }
  }

  // coverage returns how many seconds of each of the last n slots were observed.
  coverage(n: number): Float64Array {
    return this.covered.read(this.last, n);
  }
}

// Series has an amount for each slot. Amounts before its beginning are 0.
export class Series {
  private amounts: Float64Array | undefined;
  private last = 0;

  constructor(private readonly count: number) {}

  add(slot: number, amount: number): void {
    if (amount === 0) return;
    if (!this.amounts) {
      this.amounts = new Float64Array(this.count);
      this.last = slot;
    }
    for (let empty = Math.max(this.last + 1, slot - this.count + 1); empty <= slot; empty++) this.amounts[empty % this.count] = 0;
    this.last = Math.max(this.last, slot);
    if (slot > this.last - this.count) this.amounts[slot % this.count]! += amount;
  }

  // fill sets the amounts that the server has sent, beginning with the slot first.
  fill(first: number, amounts: (number | null)[] | undefined): void {
    amounts?.forEach((amount, i) => this.add(first + i, amount ?? 0));
  }

  // read returns the amounts of n slots, of which last is the last.
  read(last: number, n: number): Float64Array {
    const all = new Float64Array(n);
    if (this.amounts) {
      const newest = Math.min(last, this.last);
      for (let slot = Math.max(last - n + 1, this.last - this.count + 1); slot <= newest; slot++) all[slot - last + n - 1] = this.amounts[slot % this.count]!;
    }
    return all;
  }

  sum(last: number, n: number): number {
    if (!this.amounts) return 0;
    let sum = 0;
    const newest = Math.min(last, this.last);
    for (let slot = Math.max(last - n + 1, this.last - this.count + 1); slot <= newest; slot++) sum += this.amounts[slot % this.count]!;
    return sum;
  }
}

// lately is how many increments count as "now": several seconds, so that the numbers can be read.
const lately = 5;

// Recent has two amounts of the last few increments.
export class Recent {
  private readonly amounts = new Float64Array(2 * lately);
  private readonly at = new Float64Array(lately);

  constructor() {
    this.at.fill(-1);
  }

  add(beat: number, one: number, other = 0): void {
    const i = beat % lately;
    if (this.at[i] !== beat) {
      this.at[i] = beat;
      this.amounts[2 * i] = this.amounts[2 * i + 1] = 0;
    }
    this.amounts[2 * i]! += one;
    this.amounts[2 * i + 1]! += other;
  }

  sum(beat: number, which: 0 | 1): number {
    let sum = 0;
    for (let i = 0; i < lately; i++) if (this.at[i]! > beat - lately) sum += this.amounts[2 * i + which]!;
    return sum;
  }
}
