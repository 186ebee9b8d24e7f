// The pictures of fronts in docs/pictures: what `eval-front` draws, its page in a browser, and its tables in a terminal.
//
//     node pictures.mjs MODULES PANACEA CHROMIUM RUNS PICTURES
//
// MODULES is the folder that has the node_modules of package-lock.json, PANACEA the binary, CHROMIUM the browser, RUNS where
// `cargo xtask reproduce quickstart` has left its runs of seed 1, PICTURES where the pictures go. Called from the root of the
// repository. Nothing is trained; every front is measured anew.

import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";

import { withPalette } from "./palette.mjs";

const [modules, panacea, chromium, , pictures] = process.argv.slice(2).map((part) => path.resolve(part));
/** As it is typed, since commands print it. */
const runs = path.relative(".", process.argv[5]);
const { chromium: browsers } = createRequire(path.join(modules, "package.json"))("playwright-core");

/** By objectives, whose front is drawn. */
const METHODS = {
  2: ["panacea-linear"],
  3: ["panacea-linear", "panacea-tchebycheff"],
  5: ["panacea-linear"],
  10: ["panacea-linear"],
};
/** Pixels of the part of a page that is shown. */
const HEIGHT = { 2: 660, 3: 780, 5: 860, 10: 960 };

const folder = await mkdtemp(path.join(tmpdir(), "panacea-pictures-"));
const browser = await browsers.launch({ executablePath: chromium, args: ["--disable-lcd-text"] });
await mkdir(pictures, { recursive: true });

/** Measures into a folder of its own; gives that, and what the command said to a terminal of so many columns. */
async function measured(m, columns) {
  const out = path.join(folder, `m${m}-${columns}`);
  const which = METHODS[m].flatMap((method) => ["--run", `quickstart-m${m}-${method}-seed1`]);
  const words = ["eval-front", ...which, "--records", "all", "--prompts", "2", "--max-new-tokens", "40", "--runs", runs, "--out", out];
  const env = { ...process.env, COLUMNS: `${columns}` };
  const { stdout } = await promisify(execFile)(panacea, words, { env, maxBuffer: 1 << 26 });
  // The paths at its end are those of a folder that is gone.
  return { out, said: stdout.split("\n").filter((line) => !line.startsWith(folder)).join("\n").trim() };
}

async function shown(url, { width, height, name, dark = false, clip }) {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme: dark ? "dark" : "light" });
  await page.goto(url);
  if (url.endsWith("front.html")) await page.locator(".plot .mark").first().waitFor();
  // Where lines are picked, one of a λ in between.
  const add = page.getByRole("button", { name: "Add its line" });
  if ((await add.count()) > 0) {
    await page.getByLabel("Measured λ whose line is added").selectOption({ index: 2 });
    await add.click();
    await page.getByRole("heading", { level: 1 }).scrollIntoViewIfNeeded();
  }
  const shot = clip ? page.locator(clip) : page;
  await writeFile(path.join(pictures, name), withPalette(await shot.screenshot()));
  await page.close();
}

/** Text as a terminal shows it. */
async function terminal(said, columns) {
  const escaped = said.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const style = "margin: 0; white-space: break-spaces; word-break: break-all; padding: 12px 14px; background: #16191d; color: #d8dde2; font: 13px/1.35 'DejaVu Sans Mono', monospace";
  const file = path.join(folder, `terminal-${columns}.html`);
  const frame = `width: ${columns}ch`;
  const html = `<!doctype html><meta charset="utf-8"><body style="margin: 0"><pre style="${style}; ${frame}">${escaped}</pre>`;
  await writeFile(file, html);
  await shown(pathToFileURL(file).href, { width: 1280, height: 800, name: `terminal-${columns}.png`, clip: "pre" });
}

try {
  for (const m of [2, 3, 5, 10]) {
    const { out, said } = await measured(m, 80);
    const url = pathToFileURL(path.join(out, "front.html")).href;
    await shown(url, { width: 1280, height: HEIGHT[m], name: `front-m${m}.png`, dark: m === 3 });
    if (m === 3 || m === 5) await copyFile(path.join(out, "front.svg"), path.join(pictures, `quickstart-m${m}.svg`));
    if (m < 10) continue;
    // Of so many panels a picture of pixels is the smaller one.
    const svg = path.join(out, "front.svg");
    const [, width, height] = /width="([0-9.]+)" height="([0-9.]+)"/.exec(await readFile(svg, "utf8"));
    const size = { width: Math.ceil(width), height: Math.ceil(height) };
    await shown(pathToFileURL(svg).href, { ...size, name: "quickstart-m10.png" });
    await terminal(said, 80);
    await terminal((await measured(m, 120)).said, 120);
  }
} finally {
  await browser.close();
  await rm(folder, { recursive: true });
}
