// Writes dist/, which is embedded into the program. The same sources and the same lock file
// give the same bytes.
import { build } from "esbuild";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

const out = "dist";
rmSync(out, { recursive: true, force: true });
mkdirSync(out);
const result = await build({
  entryPoints: { page: "src/main.tsx", worker: "src/worker.ts" },
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  outdir: out,
  legalComments: "none", // the licences are in LICENSES.txt
  charset: "utf8",
  metafile: true,
  logLevel: "warning",
});
cpSync("src/index.html", `${out}/index.html`);
cpSync("src/icon.svg", `${out}/icon.svg`);

// The licences of bundled libraries require that their notices are included.
const bundled = new Set();
for (const input of Object.keys(result.metafile.inputs)) {
  const name = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1];
  if (name) bundled.add(name);
}
let notices = "The page contains these libraries.\n";
for (const name of [...bundled].sort()) {
  const about = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"));
  const license = readFileSync(`node_modules/${name}/LICENSE`, "utf8").trim();
  notices += `\n${name} ${about.version}\n\n${license}\n`;
}
writeFileSync(`${out}/LICENSES.txt`, notices);
