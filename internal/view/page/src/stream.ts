import type { Increment, State } from "./api";

export type Phase = "connecting" | "live" | "lost" | "refused" | "paused";

export interface Listener {
  snapshot(state: State): void;
  increment(increment: Increment): boolean; // false: an increment is missing, so a new snapshot is needed
  phase(phase: Phase, why?: string): void;
}

// silence is after how long without a message the server is considered gone, in ms. It sends one
// every second.
const silence = 10_000;

// Stream follows the server's events. It does not use EventSource, which does not give the
// text of a refusal.
export class Stream {
  private abort: AbortController | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private wanted = 0; // changes with each start
  private failures = 0;

  constructor(private readonly listener: Listener) {}

  // follow starts again with other parameters.
  follow(query: string): void {
    this.stop();
    this.failures = 0;
    this.listener.phase("connecting");
    void this.run(query, ++this.wanted);
  }

  // ask requests the state once, without following events.
  ask(query: string): void {
    this.stop();
    const mine = ++this.wanted;
    this.abort = new AbortController();
    fetch(`/api/v1/state?${query}`, { signal: this.abort.signal })
      .then(async (answer) => {
        if (!answer.ok) throw new Refusal(answer.status, await sentence(answer));
        const state = (await answer.json()) as State;
        if (mine === this.wanted) this.listener.snapshot(state);
      })
      .catch((error: unknown) => {
        if (mine === this.wanted) this.listener.phase(error instanceof Refusal ? "refused" : "lost", error instanceof Refusal ? error.message : undefined);
      });
  }

  stop(): void {
    this.wanted++;
    this.abort?.abort();
    clearTimeout(this.timer);
  }

  private async run(query: string, mine: number): Promise<void> {
    const current = () => mine === this.wanted;
    this.abort = new AbortController();
    const abort = this.abort;
    let refusal: Refusal | undefined;
    try {
      const answer = await fetch(`/api/v1/events?${query}`, { signal: abort.signal, cache: "no-store" });
      if (!answer.ok || !answer.body) throw new Refusal(answer.status, await sentence(answer));
      await this.read(answer.body, abort, current);
    } catch (error) {
      if (error instanceof Refusal) refusal = error; // otherwise the connection has ended
    }
    abort.abort();
    if (!current()) return;
    this.listener.phase(refusal ? "refused" : "lost", refusal?.message);
    if (refusal?.status === 400) return; // asking again would change nothing
    this.timer = setTimeout(() => void this.run(query, mine), Math.min(5000, 500 * 2 ** Math.min(this.failures++, 4)));
  }

  private async read(body: ReadableStream<Uint8Array>, abort: AbortController, current: () => boolean): Promise<void> {
    const reader = body.pipeThrough(new TextDecoderStream() as unknown as ReadableWritablePair<string, Uint8Array>).getReader();
    let parts: string[] = []; // the parts of an event that is not complete
    let held = ""; // a line break at the end of a chunk; with one at the start of the next chunk it ends the event
    let watchdog = setTimeout(() => abort.abort(), silence);
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done || !current()) return;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => abort.abort(), silence);
        let rest = held + value;
        for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
          const event = parts.join("") + rest.slice(0, end);
          parts = [];
          rest = rest.slice(end + 2);
          if (!this.take(event)) return;
        }
        held = rest.endsWith("\n") ? "\n" : "";
        parts.push(held ? rest.slice(0, -1) : rest);
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  // take handles an event, and returns whether to continue.
  private take(event: string): boolean {
    const name = /^event: (\w+)\n/.exec(event)?.[1];
    if (!name) return true; // retry, or a comment
    const data = event.slice(event.indexOf("\ndata: ") + 7);
    switch (name) {
      case "snapshot":
        this.failures = 0;
        this.listener.snapshot(JSON.parse(data) as State);
        this.listener.phase("live");
        return true;
      case "increment":
        return this.listener.increment(JSON.parse(data) as Increment);
      case "bye":
        return false;
      default:
        return true;
    }
  }
}

class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

// sentence returns the server's explanation of a refusal.
async function sentence(answer: Response): Promise<string> {
  try {
    const body = (await answer.json()) as { error?: string };
    if (body.error) return body.error;
  } catch {
    // It is not JSON, so a proxy has answered and not the server.
  }
  return `the server answers ${answer.status}`;
}
