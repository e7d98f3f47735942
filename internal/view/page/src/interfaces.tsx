import { Chart } from "./chart";
import { brief, bytes, count, perSecond, rate, text, words } from "./format";
import type { Body, AccountLine, Common, DeviceLine, Unit } from "./frames";
import { Card, Choice, Empty, Heads, Spark, type Go } from "./parts";
import { beside, format, type Place } from "./place";
import { accountsInWords, whyNothing } from "./reasons";

const say = (unit: Unit, n: number) => (unit === "bytes" ? text(bytes(n)) : `${brief(n)} packets`);

export function Interfaces({ common, body, place, go, theme }: { common: Common; body: Body; place: Place; go: Go; theme: string }) {
  const devices = body.devices ?? [];
  const selected = devices.find((d) => d.key === place.selected);
  return (
    <>
      <div class="tools">
        <Choice label="Unit" all={["bytes", "packets"] as const} value={place.unit} set={(unit) => go({ unit })} />
        <span class="note">
          {count(devices.length)} interfaces. The accounts and what is unobserved add up to the interface's own counter.
          {place.filter ? " The filter does not apply here: the accounts are of all packets." : ""}
        </span>
      </div>
      {place.selected && !selected ? <Empty>That interface is not there, or has been forgotten.</Empty> : null}
      {selected ? <One device={selected} common={common} body={body} place={place} go={go} theme={theme} /> : null}
      <Card title="Accounts">{devices.length === 0 ? <Empty>{whyNothing({ ...common, filter: "" }, "traffic", "No interface has been read yet.")}</Empty> : <AccountBars devices={devices} place={place} unit={place.unit} />}</Card>
    </>
  );
}

function One({ device, common, body, place, go, theme }: { device: DeviceLine; common: Common; body: Body; place: Place; go: Go; theme: string }) {
  const value = (n: number) => (place.unit === "bytes" ? text(rate(n)) : `${perSecond(n)}/s`);
  const all = { tx: device.tx, rx: device.rx };
  const name = device.about.name ?? device.key;
  return (
    <Card title={name} note={<CloseLink go={go} />} class="detail">
      <div class="twocharts">
        {(["tx", "rx"] as const).map((way) => (
          <div key={way}>
            <Chart
              label={way === "tx" ? "sent, by account" : "received, by account"}
              times={common.times}
              theme={theme}
              value={value}
              stacked
              shown={(body.stacked ?? []).filter((s) => s.kind === way).map((s) => ({ name: words(s.name), color: `--account-${colorOf(s.name)}`, line: s.line }))}
            />
            <table class="list accounts">
              <tbody>
                {all[way].map((l) => (
                  <tr key={l.name}>
                    <td class="nowrap">
                      <i class={`swatch account ${colorOf(l.name)}`} aria-hidden="true" /> {words(l.name)}
                    </td>
                    <td class="muted">{accountsInWords[l.name] ?? ""}</td>
                    <td class="right figures nowrap">{say(place.unit, l.amount)}</td>
                  </tr>
                ))}
                <tr class="sum">
                  <td>total</td>
                  <td class="muted">{(way === "tx" ? device.txCounted : device.rxCounted) ? "what the interface counted" : "the interface's own counter cannot be read"}</td>
                  <td class="right figures nowrap">{say(place.unit, way === "tx" ? device.txTotal : device.rxTotal)}</td>
                </tr>
              </tbody>
            </table>
          </div>
        ))}
      </div>
      <p class="note">
        {device.about.stacked ? "It stands on another interface, which counts the same packets. " : ""}
        {device.about.netns ? `Network namespace ${device.about.netns}. ` : ""}
        <a href={format(beside(place, "processes", { filter: `iface:${name}` }))}>Its processes</a>
      </p>
    </Card>
  );
}

export function CloseLink({ go }: { go: Go }) {
  return (
    <button type="button" class="quiet" onClick={() => go({ selected: "" })}>
      Close <kbd>Esc</kbd>
    </button>
  );
}

const colored = ["process", "carried", "forwarded", "kernel", "no_socket", "unclaimed", "request", "time_wait", "unowned", "overflow", "unobserved"];

function colorOf(account: string): string {
  return (colored.includes(account) ? account : "unowned").replace("_", "-");
}

// AccountBars shows the accounts of each interface as one bar for each direction, whose length is their sum.
export function AccountBars({ devices, place, unit, small = false }: { devices: DeviceLine[]; place: Place; unit: Unit; small?: boolean }) {
  const used = new Set(devices.flatMap((d) => [...d.tx, ...d.rx].filter((l) => l.amount !== 0).map((l) => l.name)));
  used.add("unobserved");
  return (
    <div class="accountbars">
      <div class="legend">
        {colored
          .filter((name) => used.has(name))
          .map((name) => (
            <span key={name} class="key" title={accountsInWords[name]}>
              <i class={`swatch account ${name.replace("_", "-")}`} aria-hidden="true" />
              {words(name)}
            </span>
          ))}
      </div>
      <table class="list accountbars">
        <Heads of={[["Interface"], ["sent"], ["received"]]} />
        <tbody>
          {devices.map((d) => (
            <tr key={d.key} class={d.key === place.selected ? "selected" : ""}>
              <td class="device">
                <a class="who" href={format(beside(place, "interfaces", { selected: d.key, unit }))}>
                  <span class={`name ${d.about.ended_ms ? "ended" : ""}`}>{d.about.name ?? "not known"}</span>
                  <span class="where">{[d.about.stacked ? "stacked" : "", d.about.ended_ms ? "gone" : ""].filter(Boolean).join(", ")}</span>
                </a>
              </td>
              <Balance lines={d.tx} total={d.txTotal} counted={d.txCounted} unit={unit} line={small ? undefined : d.txLine} kind="tx" />
              <Balance lines={d.rx} total={d.rxTotal} counted={d.rxCounted} unit={unit} line={small ? undefined : d.rxLine} kind="rx" />
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

// Balance is one bar. If what is unobserved is negative, it covers the end of the
// accounts, because it reduces their sum.
function Balance({ lines, total, counted, unit, line, kind }: { lines: AccountLine[]; total: number; counted: boolean; unit: Unit; line?: DeviceLine["txLine"]; kind: string }) {
  const positive = lines.reduce((sum, l) => sum + Math.max(0, l.amount), 0);
  const unobserved = lines.find((l) => l.name === "unobserved")?.amount ?? 0;
  const share = (n: number) => ({ width: `${positive > 0 ? ((100 * Math.abs(n)) / positive).toFixed(3) : 0}%` });
  const spoken = lines.map((l) => `${words(l.name)} ${say(unit, l.amount)}`).join(", ");
  return (
    <td class="balance">
      <div class="amounts">
        <span class="figures">{say(unit, total)}</span>
        <span class={`unobserved ${unobserved !== 0 ? "some" : ""}`}>{counted ? `unobserved ${say(unit, unobserved)}` : "counter not known"}</span>
      </div>
      <div class="stack" role="img" aria-label={spoken || "nothing"}>
        {lines
          .filter((l) => l.amount > 0)
          .map((l) => (
            <i key={l.name} class={`account ${colorOf(l.name)}`} style={share(l.amount)} title={`${words(l.name)} ${say(unit, l.amount)}`} />
          ))}
        {unobserved < 0 ? <i class="account unobserved negative" style={share(unobserved)} title={`unobserved ${say(unit, unobserved)}`} /> : null}
      </div>
      {line ? <Spark line={line} kind={kind} large /> : null}
    </td>
  );
}
