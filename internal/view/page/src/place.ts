// The state of the page, all of which is in the address, so that it can be linked to.
import type { Grouping, Range, Unit, View } from "./frames";

export interface Place {
  view: View;
  range: Range;
  filter: string;
  sort: string;
  descending: boolean;
  group: Grouping;
  selected: string;
  unit: Unit;
  classes: string[];
}

export const views: { view: View; label: string }[] = [
  { view: "overview", label: "Overview" },
  { view: "processes", label: "Processes" },
  { view: "interfaces", label: "Interfaces" },
  { view: "drops", label: "Drops" },
  { view: "accepts", label: "Accepts" },
  { view: "calls", label: "Calls" },
  { view: "health", label: "Health" },
];

export const ranges: Range[] = ["1m", "5m", "15m"];
export const groupings: Grouping[] = ["none", "container", "service", "name", "interface"];
export const allClasses = ["loss", "unknown", "benign"];

// The initial order of each view.
const sorts: Partial<Record<View, string>> = { processes: "now", calls: "time" };

function oneOf<T extends string>(value: string | null, all: readonly T[], otherwise: T): T {
  return all.find((one) => one === value) ?? otherwise;
}

export function parse(hash: string): Place {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2) as [string?, string?];
  const p = new URLSearchParams(query);
  const view = oneOf(path, views.map((v) => v.view), "overview");
  const sort = p.get("sort") ?? `-${sorts[view] ?? ""}`;
  const classes = p.get("class")?.split(",").filter((c) => allClasses.includes(c));
  return {
    view,
    range: oneOf(p.get("range"), ranges, "15m"),
    filter: p.get("filter") ?? "",
    sort: sort.replace(/^-/, ""),
    descending: sort.startsWith("-"),
    group: oneOf(p.get("group"), groupings, "none"),
    selected: p.get("show") ?? "",
    unit: oneOf(p.get("unit"), ["bytes", "packets"] as const, "bytes"),
    classes: classes?.length ? classes : allClasses,
  };
}

export function format(place: Place): string {
  const p = new URLSearchParams();
  if (place.filter) p.set("filter", place.filter);
  if (place.range !== "15m") p.set("range", place.range);
  const sort = (place.descending ? "-" : "") + place.sort;
  if (sort !== `-${sorts[place.view] ?? ""}`) p.set("sort", sort);
  if (place.view === "processes" && place.group !== "none") p.set("group", place.group);
  if (place.view === "interfaces" && place.unit !== "bytes") p.set("unit", place.unit);
  if (place.view === "drops" && place.classes.length < allClasses.length) p.set("class", place.classes.join(","));
  if (place.selected) p.set("show", place.selected);
  const query = p.toString();
  return `#/${place.view}${query ? `?${query}` : ""}`;
}

// beside returns the state for another view, with the same filter and range.
export function beside(place: Place, view: View, more: Partial<Place> = {}): Place {
  return { ...parse(`#/${view}`), filter: place.filter, range: place.range, ...more };
}
