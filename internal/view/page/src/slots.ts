// Time is cut into slots, numbered since 1970. A series keeps the last of them.

export class Slots {
  // seconds of a slot in which somebody looked, by its number
  private covered: Series;

  constructor(
    readonly stepMS: number,
    readonly count: number,
    public last: number, // the slot that now is in
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

  // share calls for each slot that a time lies in, with the part of it that does.
  share(untilMS: number, seconds: number, each: (slot: number, part: number) => void): void {
    const from = untilMS - seconds * 1000;
    const last = Math.floor((untilMS - 1) / this.stepMS);
    for (let slot = Math.floor(from / this.stepMS); slot <= last; slot++) {
      const lies = Math.min(untilMS, (slot + 1) * this.stepMS) - Math.max(from, slot * this.stepMS);
      if (lies > 0 && slot > last - this.count) each(slot, lies / (untilMS - from));
    }
  }

  // coverage is in seconds, of the last n slots.
  coverage(n: number): Float64Array {
    return this.covered.read(this.last, n);
  }
}

// Series is an amount in each slot. What is before it was begun is 0.
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

  // fill takes over what the server has, from slot first on.
  fill(first: number, amounts: (number | null)[] | undefined): void {
    amounts?.forEach((amount, i) => this.add(first + i, amount ?? 0));
  }

  // read returns the n slots until last.
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

// lately is how many increments "now" is: some seconds, so that it can be read.
const lately = 5;

// Recent is what came with the last few increments, of two amounts.
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
