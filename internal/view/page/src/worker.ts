// The worker follows the server and keeps the model, so that the page only has to handle
// what is on the screen.
import type { Ask, Common, Frame, Query } from "./frames";
import { Lines } from "./lines";
import { Model } from "./model";
import { Stream, type Phase } from "./stream";

let model: Model | undefined;
let query: Query | undefined;
let phase: Phase = "connecting";
let why: string | undefined;
let since = Date.now();
let filter = ""; // the filter that is requested
let shown = ""; // the filter of the model
let paused = false;

const stream = new Stream({
  snapshot(state) {
    model = new Model(state);
    shown = filter;
    if (paused) enter("paused");
    tell();
  },
  increment(increment) {
    if (!model?.add(increment)) return false;
    tell();
    return true;
  },
  phase(next, reason) {
    enter(next, reason);
    tell();
  },
});

function enter(next: Phase, reason?: string): void {
  if (next !== phase) since = Date.now();
  phase = next;
  why = reason;
}

const none: Omit<Common, "phase" | "why" | "since" | "filter"> = {
  at: 0, instance: "", host: "", receiver: "", startedMS: 0, stepS: 10, times: [], sent: [], received: [], sentRate: 0, receivedRate: 0,
  lost: [], lostPackets: 0, lostRate: 0, benignPackets: 0, came: [], cameCount: 0, unexpected: 0, slow: 0, failed: 0, processes: 0,
  health: { instruments: [], watchers: 0, cost: { cpu_percent: 0, memory_bytes: 0 }, view: { memory_bytes: 0, read_ms: 0, dropped: {} }, not_seen: [] },
};

function tell(): void {
  if (!query) return;
  const began = performance.now();
  const lines = model && new Lines(model, query);
  const frame: Frame = {
    view: query.view,
    common: { ...(lines?.common() ?? none), phase, why, since, filter: shown },
    body: lines?.body() ?? {},
    took: 0,
  };
  frame.took = performance.now() - began;
  postMessage(frame);
}

onmessage = ({ data }: MessageEvent<Ask>) => {
  if (data.type === "query") {
    query = data.query;
    tell();
    return;
  }
  const same = data.filter === filter && data.range === range && model;
  ({ filter, paused } = data);
  range = data.range;
  const parameters = new URLSearchParams({ range: range === "1m" ? "1m" : "15m" });
  if (filter) parameters.set("filter", filter);
  if (!paused) {
    stream.follow(parameters.toString());
  } else if (same) {
    stream.stop();
    enter("paused");
    tell();
  } else {
    stream.ask(parameters.toString());
  }
};

let range = "15m";
