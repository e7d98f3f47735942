import { render } from "preact";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Accepts } from "./accepts";
import { Calls } from "./calls";
import { Drops } from "./drops";
import { ago, brief, clock } from "./format";
import type { Ask, Common, Frame, Query } from "./frames";
import { HealthView, lostOf } from "./health";
import { Interfaces } from "./interfaces";
import { Overview } from "./overview";
import { Choice } from "./parts";
import { beside, format, parse, ranges, views, type Place } from "./place";
import { Processes, type Window } from "./processes";
import "./style.css";

const worker = new Worker("/page/worker.js", { name: "nettap" });
const ask = (a: Ask) => worker.postMessage(a);

type Theme = "auto" | "light" | "dark";
const themes: Theme[] = ["auto", "light", "dark"];

// The theme is stored in the browser, if it allows that.
function remembered(): Theme {
  try {
    return themes.find((t) => t === localStorage.getItem("theme")) ?? "auto";
  } catch {
    return "auto";
  }
}

function remember(theme: Theme): void {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // The browser does not allow it, so the theme is not stored.
  }
}

// hiddenFor is for how long a page that is not visible is updated, in ms. While it follows
// the view, the instruments are read each second.
const hiddenFor = 60_000;

function App() {
  const [place, setPlace] = useState<Place>(() => parse(location.hash));
  const [frame, setFrame] = useState<Frame>();
  const [paused, setPaused] = useState(false);
  const [asleep, setAsleep] = useState(false);
  const [theme, setTheme] = useState<Theme>(remembered);
  const [help, setHelp] = useState(false);
  const [open, setOpen] = useState<string[]>([]);
  const [seen, setSeen] = useState<Window>({ from: 0, to: 60 });
  const [restarted, setRestarted] = useState(0);
  const [typed, setTyped] = useState(place.filter);
  const instance = useRef("");
  const input = useRef<HTMLInputElement>(null);

  const go = useCallback((change: Partial<Place>) => {
    // Both links and buttons change the address, and the page follows the address.
    const next = format({ ...parse(location.hash), ...change });
    if (next !== location.hash) location.hash = next;
  }, []);

  useEffect(() => {
    const moved = () => {
      const next = parse(location.hash);
      setPlace((before) => {
        if (before.view !== next.view) scrollTo(0, 0);
        return next;
      });
      setTyped((t) => (t.trim() === next.filter ? t : next.filter));
    };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);

  // Frames that come faster than they can be drawn are skipped.
  useEffect(() => {
    let next: Frame | undefined;
    let asked = 0;
    worker.onmessage = ({ data }: MessageEvent<Frame>) => {
      next = data;
      asked ||= requestAnimationFrame(() => {
        asked = 0;
        setFrame(next);
      });
    };
    worker.onerror = (event) => console.error("the worker has failed:", event.message);
  }, []);

  const query: Query = { view: place.view, range: place.range, sort: place.sort, descending: place.descending, group: place.group, open, from: seen.from, to: seen.to, selected: place.selected, unit: place.unit, classes: place.classes };
  const key = JSON.stringify(query);
  useEffect(() => ask({ type: "query", query }), [key]);
  const scale = place.range === "1m" ? "1m" : "15m";
  useEffect(() => ask({ type: "stream", range: scale, filter: place.filter, paused: paused || asleep }), [scale, place.filter, paused, asleep]);

  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const seen = () => {
      clearTimeout(timer);
      if (document.hidden) timer = setTimeout(() => setAsleep(true), hiddenFor);
      else setAsleep(false);
    };
    document.addEventListener("visibilitychange", seen);
    return () => document.removeEventListener("visibilitychange", seen);
  }, []);

  useEffect(() => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    remember(theme);
  }, [theme]);

  // The filter is applied when nothing has been typed for a moment.
  useEffect(() => {
    if (typed.trim() === place.filter) return;
    const timer = setTimeout(() => go({ filter: typed.trim() }), 250);
    return () => clearTimeout(timer);
  }, [typed]);

  const now = frame?.common;
  useEffect(() => {
    if (!now?.instance) return;
    if (instance.current && instance.current !== now.instance) setRestarted(Date.now());
    instance.current = now.instance;
  }, [now?.instance]);

  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const writing = event.target instanceof HTMLInputElement;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Escape") {
        if (help) setHelp(false);
        else if (writing) {
          (event.target as HTMLInputElement).blur();
        } else go({ selected: "" });
        return;
      }
      if (writing) return;
      const to = views[Number(event.key) - 1];
      if (to && /^[1-9]$/.test(event.key)) {
        location.hash = format(beside(parse(location.hash), to.view));
      } else if (event.key === "/") {
        input.current?.focus();
        input.current?.select();
      } else if (event.key === "p") {
        setPaused((was) => !was);
      } else if (event.key === "r") {
        const { range } = parse(location.hash);
        go({ range: ranges[(ranges.indexOf(range) + 1) % ranges.length]! });
      } else if (event.key === "t") {
        setTheme((was) => themes[(themes.indexOf(was) + 1) % themes.length]!);
      } else if (event.key === "?") {
        setHelp((was) => !was);
      } else if (event.key === "j" || event.key === "k") {
        step(event.key === "j" ? 1 : -1);
      } else {
        return;
      }
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [help]);

  const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  const common = frame?.common;
  // It is drawn again for a new frame, and not for each key that is typed.
  const content = useMemo(
    () => frame && frame.view === place.view && <Content frame={frame} place={place} go={go} theme={dark ? "dark" : "light"} seen={seen} setSeen={setSeen} open={open} setOpen={setOpen} />,
    [frame, place, go, dark, seen, open],
  );
  const title = views.find((v) => v.view === place.view)!.label;
  useEffect(() => {
    document.title = `${title} · ${common?.host || "nettap"}`;
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [title, common?.host, !common?.at]);

  return (
    <>
      <a class="skip" href="#content" onClick={(event) => (event.preventDefault(), document.getElementById("content")?.focus())}>
        To the content
      </a>
      <header class="top">
        <div class="brand">
          <a href={format(beside(place, "overview"))} class="logo">
            <img src="/page/icon.svg" alt="" width="20" height="20" />
            nettap
          </a>
          <span class="host">{common?.host}</span>
          <State common={common} paused={paused} asleep={asleep} />
        </div>
        <nav aria-label="Views">
          {views.map(({ view, label }) => (
            <a key={view} href={format(beside(place, view))} aria-current={view === place.view ? "page" : undefined}>
              {label}
              {common ? <Count view={view} common={common} /> : null}
            </a>
          ))}
        </nav>
        <div class="controls">
          <label class="filter">
            <span class="hidden">Filter</span>
            <input
              ref={input}
              type="search"
              placeholder="Filter, as process:nginx"
              spellcheck={false}
              autocomplete="off"
              value={typed}
              aria-invalid={common?.phase === "refused" && place.filter !== common.filter}
              aria-describedby="filter-error"
              onInput={(event) => setTyped(event.currentTarget.value)}
              onKeyDown={(event) => event.key === "Enter" && go({ filter: typed.trim() })}
            />
            <kbd aria-hidden="true">/</kbd>
          </label>
          <Choice label="Time" all={ranges} value={place.range} set={(range) => go({ range })} names={{ "1m": "1 min", "5m": "5 min", "15m": "15 min" }} />
          <button type="button" class="tool" aria-pressed={paused} onClick={() => setPaused(!paused)}>
            {paused ? "Resume" : "Pause"}
          </button>
          <button type="button" class="tool" onClick={() => setTheme(themes[(themes.indexOf(theme) + 1) % themes.length]!)} title={`Colours: ${theme}`} aria-label={`Colours: ${theme}`}>
            <span aria-hidden="true">{theme === "auto" ? "◐" : theme === "dark" ? "☾" : "☀"}</span>
          </button>
          <button type="button" class="tool" aria-label="Keyboard and filters" aria-expanded={help} onClick={() => setHelp(!help)}>
            ?
          </button>
        </div>
      </header>
      <Banner common={common} place={place} restarted={restarted} />
      <main id="content" tabIndex={-1} class={common?.at && (common.phase === "lost" || common.phase === "refused") ? "stale" : ""}>
        <h1 class="hidden">{title}</h1>
        {!frame || frame.view !== place.view ? null : common!.at === 0 ? (
          <p class="empty first">{common!.phase === "lost" ? "nettap does not answer. The page goes on trying." : common!.phase === "refused" ? "" : "Waiting for the first reading."}</p>
        ) : (
          content
        )}
      </main>
      {help ? <Help close={() => setHelp(false)} /> : null}
    </>
  );
}

function Content({ frame, place, go, theme, seen, setSeen, open, setOpen }: { frame: Frame; place: Place; go: (change: Partial<Place>) => void; theme: string; seen: Window; setSeen: (w: Window) => void; open: string[]; setOpen: (set: (was: string[]) => string[]) => void }) {
  const { common, body } = frame;
  switch (place.view) {
    case "overview":
      return <Overview common={common} body={body} place={place} />;
    case "processes":
      return <Processes common={common} body={body} place={place} go={go} theme={theme} window={seen} setWindow={setSeen} open={open} toggle={(group) => setOpen((was) => (was.includes(group) ? was.filter((g) => g !== group) : [...was, group]))} />;
    case "interfaces":
      return <Interfaces common={common} body={body} place={place} go={go} theme={theme} />;
    case "drops":
      return <Drops common={common} body={body} place={place} go={go} theme={theme} />;
    case "accepts":
      return <Accepts common={common} body={body} place={place} theme={theme} />;
    case "calls":
      return <Calls common={common} body={body} place={place} go={go} />;
    case "health":
      return <HealthView common={common} took={frame.took} />;
  }
}

// step moves the focus from one row's link to the next.
function step(by: number): void {
  const all = [...document.querySelectorAll<HTMLElement>("main .who:is(a, button)")];
  const at = all.indexOf(document.activeElement as HTMLElement);
  all[at < 0 ? 0 : Math.max(0, Math.min(all.length - 1, at + by))]?.focus();
}

function Count({ view, common }: { view: string; common: Common }) {
  switch (view) {
    case "processes":
      return <span class="count">{brief(common.processes)}</span>;
    case "drops":
      return common.lostPackets ? <span class="count loss">{brief(common.lostPackets)}</span> : null;
    case "accepts":
      return common.cameCount ? <span class={`count ${common.unexpected ? "loss" : ""}`}>{brief(common.cameCount)}</span> : null;
    case "calls":
      return common.failed + common.slow ? <span class="count">{brief(common.failed + common.slow)}</span> : null;
    case "health": {
      const instruments = common.health.instruments ?? [];
      const bad = instruments.filter((i) => i.state === "failed" || i.error || lostOf(i) > 0).length;
      return bad ? <span class="count loss">{bad}</span> : null;
    }
    default:
      return null;
  }
}

function State({ common, paused, asleep }: { common?: Common; paused: boolean; asleep: boolean }) {
  const phase = common?.phase ?? "connecting";
  const [kind, said] =
    paused && common?.at
      ? ["paused", `paused at ${clock(common.at)}`]
      : asleep
        ? ["paused", "asleep"]
        : phase === "live"
          ? ["live", "live"]
          : phase === "lost"
            ? ["lost", "not connected"]
            : phase === "refused"
              ? ["lost", "refused"]
              : ["connecting", "connecting"];
  return (
    <span class={`state-of ${kind}`} role="status">
      <i aria-hidden="true" />
      {said}
    </span>
  );
}

function Banner({ common, place, restarted }: { common?: Common; place: Place; restarted: number }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const second = setInterval(() => tick((n) => n + 1), 1000); // the page shows how long ago something was
    return () => clearInterval(second);
  }, []);
  if (common?.phase === "lost" && Date.now() - common.since > 700) {
    return (
      <p class="banner lost" role="alert">
        No connection to nettap for {ago(Date.now() - common.since)}. {common.at ? `What is shown is of ${clock(common.at)}. ` : ""}The page tries again by itself.
      </p>
    );
  }
  if (common?.phase === "refused") {
    return (
      <p class="banner lost" role="alert" id="filter-error">
        {common.why}
        {common.at && place.filter !== common.filter ? <> What is shown is {common.filter ? `filtered by ${common.filter}` : "not filtered"}.</> : null}
      </p>
    );
  }
  if (restarted && Date.now() - restarted < 15_000) return <p class="banner">nettap has started anew: what it counts begins again.</p>;
  return null;
}

function Help({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  const keys: [string, string][] = [
    ["1 to 7", "a view"],
    ["/", "filter"],
    ["j, k", "next and previous row; Enter opens it"],
    ["Esc", "close what is open"],
    ["p", "pause and resume"],
    ["r", "time that is shown"],
    ["t", "colours"],
  ];
  const filters: [string, string][] = [
    ["process:nginx", "command, executable, service or pid"],
    ["port:443", "either end"],
    ["peer:10.0.0.0/8", "an address, a prefix or a part of one"],
    ["iface:eth0", "interface"],
    ["container:3f2a", "how a container's id begins; a pod"],
    ["word, \"two words\"", "any text"],
    ["/^ng.nx/, process:/^ng/", "a regular expression"],
    ["-process:curl", "all others"],
  ];
  const list = (rows: [string, string][]) => (
    <dl>
      {rows.map(([name, what]) => (
        <div key={name}>
          <dt>
            <kbd>{name}</kbd>
          </dt>
          <dd>{what}</dd>
        </div>
      ))}
    </dl>
  );
  return (
    <dialog ref={dialog} class="help" onClose={close} onClick={(event) => event.target === dialog.current && close()} aria-label="Keyboard and filters">
      <h2>Keyboard</h2>
      {list(keys)}
      <h2>Filters</h2>
      <p class="muted">Terms with spaces between; all must hold.</p>
      {list(filters)}
      <p class="muted">
        As text: <a href="/nettop">/nettop</a>, <a href="/dropwatch">/dropwatch</a>, <a href="/tcp_connections">/tcp_connections</a>, <a href="/socket-trace">/socket-trace</a>, <a href="/connections">/connections</a>, <a href="/packets">/packets</a>, <a href="/tcp">/tcp</a>, <a href="/queues">/queues</a>, <a href="/durations">/durations</a>; as JSON: <a href="/api/v1/state">/api/v1/state</a>.{" "}
        <a href="/page/LICENSES.txt">Licenses</a>
      </p>
      <button type="button" class="tool" onClick={close}>
        Close
      </button>
    </dialog>
  );
}

render(<App />, document.getElementById("app")!);
