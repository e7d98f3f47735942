// Tests the page with real traffic, of a process that sends to a listener and to a closed port.
import { launch } from "./browser.mjs";

const { address, pid, port } = JSON.parse(process.env.NETTAP_TRAFFIC);
const browser = await launch();
const page = await browser.newPage();
page.setDefaultTimeout(30_000);
const complaints = [];
page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
page.on("pageerror", (error) => complaints.push(error.message));

try {
  await page.goto(`${address}/`);
  await page.locator(".talk tbody tr").first().waitFor();

  await page.goto(`${address}/#/processes?filter=process:${pid}&range=1m`);
  const row = page.locator(".processes tr.process", { hasText: "bash" });
  await row.waitFor();
  // It sends ten times a second, to two ports: a little more than 1 kB.
  await page.waitForFunction(() => /[1-9]/.test(document.querySelector(".processes tr.process .figure.tx")?.textContent ?? ""));
  await row.locator("a.who").click();
  await page.locator(".detail tbody tr", { hasText: "lo" }).first().waitFor();

  await page.goto(`${address}/#/drops?filter=iface:lo`);
  await page.locator(".drops .who", { hasText: "no socket" }).first().click();
  await page.locator(".explained", { hasText: "nobody listens" }).or(page.locator(".explained", { hasText: "Nobody listens" })).waitFor();

  await page.goto(`${address}/#/accepts?filter=port:${port}`);
  await page.locator(".accepts tbody tr", { hasText: `127.0.0.1:${port}` }).first().waitFor();

  await page.goto(`${address}/#/interfaces`);
  await page.locator("table.accountbars tr", { hasText: "lo" }).locator(".stack i").first().waitFor();

  await page.goto(`${address}/#/health`);
  await page.waitForFunction(() => document.querySelectorAll(".instruments .badge.ok").length >= 4);
  if (complaints.length) throw new Error(complaints.join("\n"));
} catch (error) {
  console.error(error, await page.locator("body").innerText());
  process.exitCode = 1;
}
await browser.close();
