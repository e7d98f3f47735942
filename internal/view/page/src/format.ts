// Numbers and times in a form for people.

const prefixes = ["", "k", "M", "G", "T", "P"];

// scaled returns a number with three digits, and the prefix of its unit.
function scaled(n: number): [string, string] {
  const sign = n < 0 ? "\u2212" : "";
  n = Math.abs(n);
  let i = 0;
  while (n >= 999.5 && i < prefixes.length - 1) {
    n /= 1000;
    i++;
  }
  const digits = i === 0 ? (n >= 9.95 || Number.isInteger(n) ? n.toFixed(0) : n.toFixed(1)) : n >= 99.5 ? n.toFixed(0) : n >= 9.95 ? n.toFixed(1) : n.toFixed(2);
  return [sign + digits, prefixes[i]!];
}

// Amount is a number and its unit, which are aligned separately.
export type Amount = [number: string, unit: string];

export function bytes(n: number): Amount {
  const [number, prefix] = scaled(Math.abs(n) < 0.5 ? 0 : n < 1000 ? Math.round(n) : n);
  return [number, `${prefix}B`];
}

export function rate(n: number): Amount {
  const [number, unit] = bytes(n);
  return [number, `${unit}/s`];
}

export function count(n: number): string {
  return Math.round(n).toLocaleString("en-US").replace("-", "\u2212");
}

export function perSecond(n: number): string {
  if (n === 0) return "0";
  return n < 0.1 ? "<0.1" : n < 10 ? n.toFixed(1) : count(n);
}

// brief returns a count with three digits.
export function brief(n: number): string {
  return n < 10_000 ? count(n) : scaled(n).join(" ").replace(" ", "\u00a0");
}

export function milliseconds(ms: number): Amount {
  if (ms >= 59_950) return [(ms / 60_000).toFixed(1), "min"];
  if (ms >= 999.5) return [(ms / 1000).toFixed(2), "s"];
  if (ms >= 0.9995) return [ms.toFixed(ms >= 99.5 ? 0 : ms >= 9.95 ? 1 : 2), "ms"];
  return [(ms * 1000).toFixed(ms * 1000 >= 9.95 ? 0 : 1), "µs"];
}

export const text = ([number, unit]: Amount): string => `${number} ${unit}`;

const two = (n: number) => String(n).padStart(2, "0");

export function clock(ms: number, withMillis = false): string {
  const d = new Date(ms);
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}${withMillis ? `.${String(d.getMilliseconds()).padStart(3, "0")}` : ""}`;
}

export function ago(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

// end returns an address and its port. A path, which is the address of a Unix socket, has none.
export function end(e?: { address?: string; port?: number }): string {
  if (!e?.address) return e?.port ? `:${e.port}` : "";
  if (!e.port) return e.address;
  return e.address.includes(":") ? `[${e.address}]:${e.port}` : `${e.address}:${e.port}`;
}

export const short = (id: string): string => (id.length > 12 ? id.slice(0, 12) : id);

// words returns a name of the kernel as words: "no socket" for no_socket.
export const words = (name: string): string => name.replaceAll("_", " ");
