import type { ComponentChildren, JSX } from "preact";
import type { Process } from "./api";
import { clock, short, type Amount } from "./format";
import type { Line } from "./frames";
import { keyOf, nameOf } from "./lines";
import { format, type Place } from "./place";

// Go changes the state of the page.
export type Go = (change: Partial<Place>) => void;

export function Figure({ of, class: name = "" }: { of: Amount; class?: string }) {
  return (
    <span class={`figure ${name}`}>
      {of[0]}
      <span class="unit">{of[1]}</span>
    </span>
  );
}

// path returns an SVG path for amounts, with gaps in slots that were not observed. It is closed outside of
// the picture, so that it can also be filled: one path takes half the time of two to lay out.
function path(line: Line, width: number, height: number, most: number): string {
  let d = "";
  let begun = -1;
  if (line.at(-1) === null) line = line.slice(0, -1); // the current slot has just begun
  const step = width / Math.max(1, line.length - 1);
  const y = (n: number) => (height - (most > 0 ? (n / most) * (height - 1.5) : 0) - 0.5).toFixed(1);
  const close = (atEnd: boolean) => {
    if (begun >= 0) d += `${atEnd ? `H${width + 9}` : ""}V${height + 9}H${begun ? (begun * step).toFixed(1) : -9}Z`;
    begun = -1;
  };
  for (let i = 0; i < line.length; i++) {
    const n = line[i];
    if (n === null || n === undefined) {
      close(false);
      continue;
    }
    if (begun < 0) {
      d += i === 0 ? `M-9 ${y(n)}L0 ${y(n)}` : `M${(i * step).toFixed(1)} ${height + 9}V${y(n)}`;
      begun = i;
    } else {
      d += `L${(i * step).toFixed(1)} ${y(n)}`;
    }
  }
  close(true);
  return d;
}

export function mostOf(...lines: Line[]): number {
  let most = 0;
  for (const line of lines) for (const n of line) if (n !== null && n > most) most = n;
  return most;
}

// Spark is a small graph without axes. The numbers are next to it.
export function Spark({ line, kind, most, large = false }: { line: Line; kind: string; most?: number; large?: boolean }) {
  const [width, height] = large ? [240, 44] : [96, 22];
  const up = most ?? mostOf(line);
  return (
    <svg class={`spark ${kind} ${large ? "large" : ""}`} viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true">
      <path d={path(line, width, height, up)} vector-effect={large ? "non-scaling-stroke" : undefined} />
    </svg>
  );
}

// Moment is a time of day. On a narrow screen there is no room for its milliseconds.
export function Moment({ at }: { at: number }) {
  const [seconds, rest] = clock(at, true).split(".");
  return (
    <>
      {seconds}
      <span class="narrow-no">.{rest}</span>
    </>
  );
}

// Who shows a process by its name, which the process may have chosen, as text.
export function Who({ of, place, plain = false }: { of: Process; place: Place; plain?: boolean }) {
  const where = of.service || (of.container && short(of.container));
  const inside = (
    <>
      <span class={`name ${of.ended_ms ? "ended" : ""}`}>{nameOf(of)}</span>
      {of.pid ? <span class="pid">{of.pid}</span> : null}
      {where ? <span class="where">{where}</span> : null}
    </>
  );
  if (plain || (!of.pid && of.id !== "0")) return <span class="who">{inside}</span>;
  return (
    <a class="who" href={format({ ...place, view: "processes", sort: "now", descending: true, group: "none", selected: keyOf(of) })}>
      {inside}
    </a>
  );
}

/** The head of a table in a card, whose columns are a text and perhaps a class each. */
export function Heads({ of: columns }: { of: [text: string, name?: string][] }) {
  return (
    <thead class="quiet">
      <tr>
        {columns.map(([text, name]) => (
          <th key={text} scope="col" class={name}>
            {text}
          </th>
        ))}
      </tr>
    </thead>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

export function Card({ title, note, link, children, class: name = "" }: { title: string; note?: ComponentChildren; link?: string; children: ComponentChildren; class?: string }) {
  return (
    <section class={`card ${name}`} aria-label={title}>
      <header>
        <h2>{link ? <a href={link}>{title}</a> : title}</h2>
        {note ? <span class="note">{note}</span> : null}
      </header>
      {children}
    </section>
  );
}

// Head is the title of a column, which sorts the rows by it.
export function Head({ name, label, place, go, right, class: more = "", title }: { name: string; label: string; place: Place; go: Go; right?: boolean; class?: string; title?: string }) {
  const sorted = place.sort === name;
  const first = !["name", "pid", "user", "where", "interface"].includes(name); // numbers are sorted from the largest
  return (
    <th scope="col" class={`${right ? "right" : ""} ${more}`} aria-sort={sorted ? (place.descending ? "descending" : "ascending") : "none"}>
      <button type="button" class="sort" title={title} onClick={() => go({ sort: name, descending: sorted ? !place.descending : first })}>
        {label}
        <span class="arrow" aria-hidden="true">
          {sorted ? (place.descending ? "▾" : "▴") : ""}
        </span>
      </button>
    </th>
  );
}

export function Choice<T extends string>({ label, all, value, set, names }: { label: string; all: readonly T[]; value: T; set: (value: T) => void; names?: Partial<Record<T, string>> }) {
  return (
    <div class="choice" role="group" aria-label={label}>
      {all.map((one) => (
        <button type="button" key={one} aria-pressed={one === value} onClick={() => set(one)}>
          {names?.[one] ?? one}
        </button>
      ))}
    </div>
  );
}

// percent returns a width as a style property, because the Content-Security-Policy forbids styles in markup.
export function percent(part: number, whole: number): JSX.CSSProperties {
  return { width: `${whole > 0 ? Math.max(0, Math.min(100, (100 * part) / whole)).toFixed(2) : 0}%` };
}

// TraceLink links to a trace in the configured tracing backend. The
// server accepts only URLs of http and https.
export function TraceLink({ url, id, label = "trace" }: { url?: string; id?: string; label?: string }) {
  if (!url || !id || !/^[0-9a-f]{32}$/.test(id) || !/^https?:\/\//.test(url)) return null;
  return (
    <a class="trace" href={url.replaceAll("{trace_id}", id)} target="_blank" rel="noreferrer noopener">
      {label} ↗
    </a>
  );
}
