import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clock } from "./format";
import type { Line } from "./frames";

export interface Shown {
  name: string;
  color: string; // a custom property of the style sheet
  line: Line;
}

// css returns a colour of the style sheet in a form for the canvas, which does not support
// light-dark().
function css(name: string, opacity = 1): string {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return opacity === 1 ? color : color.replace(/^rgb\((.*)\)$/, `rgba($1, ${opacity})`);
}

// Chart draws lines over time, or stacks them as bars.
export function Chart({ label, times, shown, stacked = false, value, theme, height = 180 }: { label: string; times: number[]; shown: Shown[]; stacked?: boolean; value: (n: number) => string; theme: string; height?: number }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>();
  const [at, setAt] = useState<number | null>(null);
  const kind = [theme, stacked, height, ...shown.map((s) => s.name + s.color)].join(" ");
  const data = aligned(times, shown, stacked);

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const [muted, line, panel] = [css("--muted"), css("--line"), css("--panel")];
    const axis = { stroke: muted, font: "11px system-ui, sans-serif", grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const made = new uPlot(
      {
        width: Math.max(200, element.clientWidth),
        height,
        legend: { show: false },
        cursor: { y: false, points: { show: !stacked, size: 6 }, drag: { x: false, y: false } },
        scales: { x: { time: true }, y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.08 : 1] } },
        axes: [
          { ...axis, size: 24, space: 70, values: (_u, ticks) => ticks.map((t) => clock(t * 1000).slice(0, shownSeconds(times) ? 8 : 5)) },
          { ...axis, size: 66, space: 32, values: (_u, ticks) => ticks.map((t) => value(t)) },
        ],
        series: [
          {},
          ...order(shown, stacked).map((s): uPlot.Series => {
            const color = css(s.color);
            return stacked
              ? { stroke: panel, width: 0.5, fill: color, paths: uPlot.paths.bars!({ size: [0.86, 40], align: 1 }), points: { show: false } }
              : { stroke: color, width: 1.5, fill: css(s.color, 0.12), points: { show: false }, spanGaps: false };
          }),
        ],
        hooks: { setCursor: [(u) => setAt(u.cursor.idx ?? null)] },
      },
      data,
      element,
    );
    plot.current = made;
    const resize = new ResizeObserver(() => made.setSize({ width: Math.max(200, element.clientWidth), height }));
    resize.observe(element);
    return () => {
      resize.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [kind]);

  useEffect(() => plot.current?.setData(data));

  const index = at !== null && at < times.length ? at : null;
  return (
    <figure class="chart">
      <div ref={place} role="img" aria-label={label} />
      <figcaption>
        <span class="when">{index === null ? label : clock(times[index]! * 1000)}</span>
        {shown.map((s) => (
          <span key={s.name} class="key">
            <i class="swatch" style={{ background: `var(${s.color})` }} />
            {s.name}
            {index === null ? null : <b>{s.line[index] === null || s.line[index] === undefined ? "not looked at" : value(s.line[index]!)}</b>}
          </span>
        ))}
      </figcaption>
    </figure>
  );
}

function shownSeconds(times: number[]): boolean {
  return times.length > 1 && times[1]! - times[0]! < 5;
}

// order returns the order in which to draw: of stacked bars, the highest is drawn first, behind the others.
function order(shown: Shown[], stacked: boolean): Shown[] {
  return stacked ? shown.toReversed() : shown;
}

function aligned(times: number[], shown: Shown[], stacked: boolean): uPlot.AlignedData {
  if (!stacked) return [times, ...shown.map((s) => s.line)] as uPlot.AlignedData;
  const sums = new Array<number>(times.length).fill(0);
  const lines = shown.map((s) => s.line.map((n, i) => (n === null ? null : (sums[i]! += n))));
  return [times, ...lines.toReversed()] as uPlot.AlignedData;
}
