// The page of the server and front.html, looked at and used in a browser.
//
//     node check.mjs MODULES PANACEA CHROMIUM PICTURES
//
// MODULES is the folder that has the node_modules of package-lock.json, PANACEA the binary, CHROMIUM the browser, PICTURES
// where screenshots go. Runs of the quickstart are trained for a few steps and measured, and all are served on a free port, where
// one has no front. Called from the root of the repository; `cargo xtask ci` does it.

import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import readline from "node:readline";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";

const [modules, panacea, chromium, pictures] = process.argv.slice(2).map((part) => path.resolve(part));
const { chromium: browsers } = createRequire(path.join(modules, "package.json"))("playwright-core");
const axe = await readFile(path.join(modules, "node_modules/axe-core/axe.min.js"), "utf8");

const BASE = "datasets/quickstart/base";
/** Nothing of the kind is in the records: no answer to it is learnt by heart, and small differences tell. */
const PROMPT = "how do birds fly?";
const KEY = "a-key-of-the-check";
/** Nothing waits for time to pass; what never happens fails after a minute. */
const PATIENCE = 60_000;

/** The folder of the first evaluation of a run, among the runs. */
const firstEvaluation = (run) => path.join(run, "evaluations", "001");

/** What a few steps at a high rate get along with, in place of what the configurations say for many at a low one. */
const PLAIN = ["adapter.s=learned", "preference.groups=1", "preference.concentration=1.0", "optimizer.schedule=cosine"];

/**
 * Trains and measures in `runs`. `one` has two objectives and is trained until its λ tells; a small β lets it leave the base
 * model.
 */
async function prepare(runs) {
  const run = (...words) => promisify(execFile)(panacea, [...words, "--runs", runs], { maxBuffer: 1 << 26 });
  const train = (name, config, steps, batch) =>
    run(
      "train",
      "--config",
      `configs/${config}.toml`,
      "--run",
      name,
      "--steps",
      steps,
      "--set",
      `optimizer.batch_size=${batch}`,
      ...PLAIN.flatMap((key) => ["--set", key]),
      "--set",
      "optimizer.learning_rate=0.02",
      "--set",
      "method.beta=0.1",
    );
  const measure = (names, divisions, ...more) => {
    const which = names.flatMap((name) => ["--run", name]);
    const few = ["--records", "8", "--prompts", "2", "--max-new-tokens", "24", "--divisions", divisions];
    return run("eval-front", ...which, ...few, ...more);
  };
  await train("one", "quickstart", "60", 4);
  await train("again", "quickstart", "20", 4);
  await train("three", "quickstart-3", "10", 2);
  await train("five", "quickstart-5", "10", 2);
  await measure(["one"], "4");
  await measure(["three"], "2");
  // Elsewhere, so that the server knows nothing of them.
  await measure(["one", "again"], "4", "--out", path.join(runs, "both"));
  await measure(["five"], "1", "--out", path.join(runs, "apart"));
  return JSON.parse(await readFile(path.join(runs, firstEvaluation("one"), "front.json"), "utf8"));
}

/** A server of the runs; `stop()` ends it, by force if need be, and holds that it ended well. */
async function serve(runs, ...more) {
  const names = ["one", "three", "five"].flatMap((name) => ["--run", name]);
  const words = ["serve", "--model", BASE, ...names, "--runs", runs, "--port", "0", ...more];
  const server = spawn(panacea, words, { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => server.on("exit", resolve));
  const [line] = await Promise.race([
    new Promise((resolve) => readline.createInterface(server.stdout).once("line", (line) => resolve([line]))),
    ended.then((code) => Promise.reject(new Error(`the server ended with ${code}`))),
  ]);
  const url = line.replace("listening on ", "").trim();
  assert.match(url, /^http:/);
  return {
    url,
    stop: async () => {
      server.kill("SIGTERM");
      const force = setTimeout(() => server.kill("SIGKILL"), PATIENCE);
      const code = await ended;
      clearTimeout(force);
      assert.equal(code, 0, `the server ended with ${code}`);
    },
  };
}

let browser = null;
/** What went wrong in pages that nobody asked to go wrong. */
const faults = [];

/**
 * A page of the browser at `url`, in a session of its own. `expected` are the errors of the network that belong to the check.
 * What the page copies is in its `window.copied`: the clipboard of the machine belongs to no page alone.
 */
async function open(url, { expected = [], mayCopy = true } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  await page.addInitScript((mayCopy) => {
    navigator.clipboard.writeText = async (text) => {
      if (!mayCopy) throw new DOMException("not here", "NotAllowedError");
      window.copied = text;
    };
  }, mayCopy);
  page.on("pageerror", (error) => faults.push(`${page.url()}: ${error.stack}`));
  page.on("console", (message) => {
    const isExpected = expected.some((status) => message.text().includes(`status of ${status}`));
    if (["error", "warning"].includes(message.type()) && !isExpected) faults.push(`${page.url()}: ${message.text()}`);
  });
  await page.goto(url);
  await page.waitForSelector(".answer, .setup, #key form");
  return page;
}

const card = (page, letter) => page.locator(".answer").nth("ABC".indexOf(letter));
const answerOf = (page, letter) => card(page, letter).locator(".text").textContent();
const markOf = async (page, letter) => {
  const mark = page.locator(`.mark[data-letter=${letter}]`).first();
  const [, x, y] = /translate\((\S+) (\S+)\)/.exec(await mark.getAttribute("transform"));
  return { x: Number(x), y: Number(y), isMeasured: (await mark.getAttribute("class")).includes("is-measured") };
};

/** Waits until all answers have come to their end. */
async function finished(page) {
  await page.waitForFunction(() => /(is whole|was stopped|failed)\.$/.test(document.querySelector(".status").textContent));
}

async function send(page) {
  await page.getByRole("button", { name: "Send" }).click();
  await finished(page);
  const status = await page.locator(".status").textContent();
  return [status, ...(await page.locator(".error:visible").allTextContents())].join(" ");
}

/** Settings under which answers are long enough to tell λ, and the same whenever they are asked for. */
const SAMPLING = "&temperature=1&max_tokens=120&seed=5";
const address = (prompt, ...answers) =>
  `/#${new URLSearchParams([["prompt", prompt], ...answers.map((answer) => ["answer", answer])])}${SAMPLING}`;

async function answersDifferByLambdaAlone({ url }) {
  const page = await open(url + address(PROMPT, "one@1,0", "one@0,1", "one@1,0"));
  // What the first answer was when its first piece was seen.
  await page.evaluate(() => {
    const text = document.querySelector(".answer .text");
    new MutationObserver((_, observer) => {
      if (text.textContent === "") return;
      window.seenFirst = { text: text.textContent, busy: text.getAttribute("aria-busy") };
      observer.disconnect();
    }).observe(text, { subtree: true, childList: true, characterData: true });
  });
  assert.equal(await send(page), "A is whole, B is whole, C is whole.");
  const [a, b, c] = await Promise.all(["A", "B", "C"].map((letter) => answerOf(page, letter)));
  assert.notEqual(a, b, "two λ");
  assert.equal(a, c, "one λ, one seed");
  const first = await page.evaluate(() => window.seenFirst);
  assert.equal(first.busy, "true");
  assert.ok(a.startsWith(first.text) && first.text.length < a.length, `not piece by piece: ${first.text} of ${a}`);
  assert.equal(await card(page, "B").locator(".label").textContent(), "one under brevity 0.00, detail 1.00");

  // An answer keeps its λ when the control moves, and says so.
  const slider = card(page, "B").getByRole("slider");
  await slider.focus();
  await page.keyboard.press("ArrowLeft");
  assert.equal(await card(page, "B").locator(".label").textContent(), "one under brevity 0.00, detail 1.00");
  await card(page, "B").getByText("The control has moved since").waitFor();
  await page.context().close();
}

async function theMarkFollowsTheSlider({ url, front }) {
  const page = await open(url + address("", "one@1,0", "one@0,1"));
  await page.waitForSelector(".mark");
  const slider = card(page, "A").getByRole("slider");
  const before = await markOf(page, "A");
  assert.ok(before.isMeasured);
  await slider.focus();
  for (let step = 0; step < 40; step += 1) await page.keyboard.press("ArrowRight");
  const byKeys = await markOf(page, "A");
  assert.ok(Math.hypot(byKeys.x - before.x, byKeys.y - before.y) > 0.5, "by keys");
  assert.ok(!byKeys.isMeasured);
  assert.equal(await slider.getAttribute("aria-valuetext"), "brevity 0.60, detail 0.40");

  // In words: between the measured (0.75, 0.25) and (0.5, 0.5).
  const values = [0.75, 0.5].map((weight) => front.methods[0].points.find(({ lambda }) => lambda[0] === weight).values);
  const reading = await page.locator(".readings li").first().locator("span").last().textContent();
  assert.match(reading, /Interpolated between the measured λ \(0\.5, 0\.5\) and \(0\.75, 0\.25\)/);
  for (const [i, name] of ["brevity", "detail"].entries()) {
    const [, said] = new RegExp(`${name} (−?[0-9]+\\.[0-9]+)`).exec(reading);
    const expected = 0.4 * values[0][i] + 0.6 * values[1][i];
    const digits = said.split(".")[1].length;
    assert.ok(Math.abs(Number(said.replace("−", "-")) - expected) <= 0.51 * 10 ** -digits, `${reading}: ${expected}`);
  }

  // By pointer, to the right end, and by a typed number.
  const box = await slider.boundingBox();
  await page.mouse.move(box.x + box.width * 0.4, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 1.2, box.y + box.height / 2, { steps: 5 });
  // While it is held.
  assert.deepEqual(await markOf(page, "A"), await markOf(page, "B"));
  await page.mouse.up();
  const number = card(page, "A").getByRole("spinbutton", { name: "brevity, λ of answer A" });
  await number.fill("1");
  await number.press("Enter");
  assert.deepEqual(await markOf(page, "A"), before);
  await page.context().close();
}

async function controlsKeepTheSum({ url }) {
  const page = await open(url + address("", "three@0.8,0.1,0.1", "five@0.2,0.2,0.2,0.2,0.2"));
  await page.waitForSelector(".mark[data-letter=A]");
  const weights = async (letter) => {
    const numbers = card(page, letter).getByRole("spinbutton");
    return (await numbers.evaluateAll((inputs) => inputs.map((input) => input.value))).map(Number);
  };
  const handle = card(page, "A").getByRole("slider");
  await handle.focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowRight");
  const byKeys = await weights("A");
  assert.equal(byKeys[0], 0.79);
  assert.ok(byKeys[2] > byKeys[1] && Math.abs(byKeys[0] + byKeys[1] + byKeys[2] - 1) < 1e-9, byKeys);
  const before = await markOf(page, "A");
  const corner = await card(page, "A").locator(".triangle").boundingBox();
  const knob = await handle.boundingBox();
  await page.mouse.move(knob.x + knob.width / 2, knob.y + knob.height / 2);
  await page.mouse.down();
  await page.mouse.move(corner.x, corner.y + corner.height, { steps: 4 });
  await page.mouse.up();
  assert.deepEqual(await weights("A"), [0, 1, 0], "beyond the lower left corner");
  assert.notDeepEqual(await markOf(page, "A"), before);
  assert.match(await handle.getAttribute("aria-valuetext"), /^brevity 0\.00, detail 1\.00, politeness 0\.00$/);
  await page.waitForURL(/answer=three@0,1,0/);

  const first = card(page, "B").getByRole("slider").first();
  await first.fill("60");
  assert.deepEqual(await weights("B"), [0.6, 0.1, 0.1, 0.1, 0.1]);
  await first.fill("100");
  assert.deepEqual(await weights("B"), [1, 0, 0, 0, 0]);

  // Nobody has measured this run.
  await page.getByText("panacea eval-front --run five").waitFor();
  await page.context().close();
}

async function theAddressHoldsAll({ url }) {
  const page = await open(url);
  await page.getByLabel("Prompt").fill("it's 100 % & more?\nyes");
  await card(page, "A").getByRole("slider").fill("35");
  await card(page, "B").getByRole("combobox").selectOption("base");
  await page.getByRole("button", { name: "Add an answer" }).click();
  await card(page, "C").getByRole("combobox").selectOption("three");
  await page.getByText("Sampling").click();
  await page.getByLabel("Seed").fill("77");
  await page.getByLabel("Seed").press("Tab");
  const shown = async (page) => ({
    prompt: await page.getByLabel("Prompt").inputValue(),
    models: await page.getByRole("combobox").evaluateAll((selects) => selects.map((select) => select.value)),
    numbers: await page.getByRole("spinbutton").evaluateAll((inputs) => inputs.map((input) => input.value)),
    seed: await page.locator("[name=seed]").inputValue(),
  });
  const before = await shown(page);
  assert.deepEqual(before.models, ["one", "base", "three"]);
  assert.equal(before.seed, "77");
  await page.waitForURL(/seed=77/);
  const other = await open(page.url());
  await other.getByText("Sampling").click();
  assert.deepEqual(await shown(other), before);
  // An address that is typed over another is shown at once.
  await other.evaluate(() => (location.hash = "#prompt=again&answer=one@3,1&answer=nobody@1,0"));
  await other.getByText("names the model nobody").waitFor();
  assert.equal(await other.getByLabel("Prompt").inputValue(), "again");
  assert.equal(await card(other, "A").getByRole("spinbutton").first().inputValue(), "0.75");
  for (const { context } of [page, other].map((page) => ({ context: page.context() }))) await context.close();
}

/** A link that is followed just before the page writes the address of the view that is left. */
async function aLinkIsFollowed({ url }) {
  const page = await open(url);
  await page.locator(".compare").waitFor();
  await page.evaluate(() => {
    const slider = document.querySelector("input[type=range]");
    const link = [...document.querySelectorAll("#views a")].at(-1);
    // The page writes after as long, and both are due when this ends: first the click, then the address, then the click's event.
    setTimeout(() => link.click(), 100);
    slider.value = "37";
    for (const type of ["input", "change"]) slider.dispatchEvent(new Event(type, { bubbles: true }));
    for (const end = performance.now() + 150; performance.now() < end; );
  });
  await page.locator(".setup").waitFor();
  assert.match(page.url(), /view=balance/);
  // What was left is there again.
  await page.getByRole("link", { name: "Compare" }).click();
  await page.locator(".compare").waitFor();
  assert.equal(await card(page, "A").getByRole("slider").inputValue(), "37");
  await page.context().close();
}

async function theCommandIsTheRequest({ url }) {
  const page = await open(url + address('it\'s a "bakery" $HOME `id` \\', "one@0.25,0.75", "base"));
  await send(page);
  for (const letter of ["A", "B"]) {
    await card(page, letter).getByRole("button", { name: "Copy as curl" }).click();
    await card(page, letter).getByText("Copied.").waitFor();
    const command = await page.evaluate(() => window.copied);
    // The words that a shell makes of it.
    const script = `curl() { for word in "$@"; do printf '%s\\0' "$word"; done; }\n${command}`;
    const words = execFileSync("sh", ["-c", script], { encoding: "utf8" }).split("\0");
    const body = JSON.parse(words[words.indexOf("-d") + 1]);
    assert.equal(words[1], `${url}/v1/chat/completions`);
    assert.equal(words[words.indexOf("-H") + 1], "Content-Type: application/json");
    assert.deepEqual(body.preference, letter === "A" ? { brevity: 0.25, detail: 0.75 } : undefined);
    const { stream, stream_options, ...whole } = body;
    assert.ok(stream && stream_options.include_usage);
    const response = await fetch(words[1], {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(whole),
    });
    const answer = await response.json();
    assert.equal(answer.choices?.[0].message.content, await answerOf(page, letter), JSON.stringify(answer));
  }
  // Where a page may not copy, the command is there to be selected.
  const other = await open(page.url(), { mayCopy: false });
  await send(other);
  await card(other, "A").getByRole("button", { name: "Copy as curl" }).click();
  await card(other, "A").getByText("Select it below.").waitFor();
  assert.match(await card(other, "A").getByLabel("Answer A as a curl command").textContent(), /^curl --no-buffer 'http:/);
  await other.context().close();
  await page.context().close();
}

async function errorsAreSaid({ url }) {
  const page = await open(url + address(PROMPT, "one@1,0", "one@0,1").replace("temperature=1", "temperature=-1"), {
    expected: [400],
  });
  assert.match(await send(page), /^A failed, B failed\. .*temperature/);
  for (const letter of ["A", "B"]) assert.match(await card(page, letter).getByRole("alert").textContent(), /temperature/);
  await looksWell(page, "with errors");
  // Mended, it is answered, and the error goes.
  await page.getByText("Sampling").click();
  await page.getByLabel("Temperature").fill("0");
  await page.getByLabel("Prompt").press("Control+Enter");
  await page.waitForFunction(() => document.querySelector(".status").textContent === "A is whole, B is whole.");
  assert.equal(await page.locator(".error:visible").count(), 0);

  // Sent and stopped before the server can have answered.
  await page.evaluate(() => {
    for (const name of ["Send", "Stop"]) [...document.querySelectorAll("button")].find((b) => b.textContent === name).click();
  });
  await page.waitForFunction(() => document.querySelector(".status").textContent === "A was stopped, B was stopped.");
  // Stopped as soon as there is text.
  await page.evaluate(() => {
    const press = (name) => [...document.querySelectorAll("button")].find((button) => button.textContent === name).click();
    const text = document.querySelector(".answer .text");
    const stop = (_, observer) => {
      if (text.textContent === "") return;
      observer.disconnect();
      press("Stop");
    };
    new MutationObserver(stop).observe(text, { subtree: true, childList: true, characterData: true });
    press("Send");
  });
  await page.waitForFunction(() => document.querySelector(".status").textContent.startsWith("A was stopped, B "));
  assert.notEqual(await answerOf(page, "A"), "");
  await page.getByLabel("Prompt").fill("  ");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText("Write a prompt first.").waitFor();
  await page.context().close();
}

async function theKeyIsAskedFor({ url }) {
  const page = await open(url, { expected: [401] });
  await looksWell(page, "that asks for a key");
  await page.getByLabel("This server wants an API key").fill("another");
  await page.keyboard.press("Enter");
  await page.getByLabel("That key is wrong").fill(KEY);
  await page.keyboard.press("Enter");
  await page.waitForSelector(".answer");
  await page.reload();
  await page.waitForSelector(".answer");
  await page.getByLabel("Prompt").fill(PROMPT);
  assert.equal(await send(page), "A is whole, B is whole.");
  await card(page, "A").getByRole("button", { name: "Copy as curl" }).click();
  await card(page, "A").getByText("Copied.").waitFor();
  const command = await page.evaluate(() => window.copied);
  assert.ok(command.includes('-H "Authorization: Bearer $PANACEA_API_KEY"') && !command.includes(KEY), command);
  await page.context().close();
}

/** The view that finds a balance, for a profile of a model. */
const QUESTIONS = ["When does the bakery open?", "Where is the library?", "When does the last bus leave?"];
const balance = (model, profile, more = {}) =>
  `/#${new URLSearchParams({
    view: "balance",
    model,
    profile,
    prompts: QUESTIONS.join("\n"),
    temperature: 1,
    max_tokens: 60,
    seed: 1,
    candidates: 20,
    ...more,
  })}`;

const isAsked = (page) => page.locator(".choices button:not([aria-disabled])").first();
const begin = async (page) => {
  await page.getByRole("button", { name: /^(Begin|Go on with)/ }).click();
  await isAsked(page).waitFor();
};
/** Waits for the next question, or for the end; false there. */
async function isAskedOn(page) {
  await isAsked(page).or(page.locator(".end")).first().waitFor();
  return (await page.locator(".end").count()) === 0;
}
/** What is known, as the page draws and says it. */
const known = (page) =>
  page.evaluate(() => {
    const path = document.querySelector(".belief path").getAttribute("d");
    const heights = [...path.matchAll(/L\S+ (\S+?)(?=L)/g)].map(([, y]) => 1 - Number(y));
    const sum = heights.reduce((a, b) => a + b, 0);
    const mean = heights.reduce((total, height, k) => total + height * k, 0) / sum;
    const variance = heights.reduce((total, height, k) => total + height * (k - mean) ** 2, 0) / sum;
    const [, low, high] = /90 %: (\S+) to (\S+)\)/.exec(document.querySelector(".intervals .number").textContent);
    return { path, spread: Math.sqrt(variance) / heights.length, width: Number(high) - Number(low) };
  });

/** By somebody who always prefers the shorter text, to the end. */
async function aBalanceIsFound({ url }) {
  const page = await open(url + balance("one", "anna"));
  await page.evaluate(() => {
    window.said = [];
    new MutationObserver(() => window.said.push(document.querySelector(".pair .status")?.textContent)).observe(document.body, {
      subtree: true,
      childList: true,
      characterData: true,
    });
  });
  await begin(page);
  assert.ok((await page.evaluate(() => window.said)).includes("20 answers are being written."));
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Question 1: which answer is better?");
  const before = await known(page);
  for (let asked = 1; await isAskedOn(page); asked += 1) {
    assert.ok(asked <= 25, "it comes to no end");
    const heading = page.getByRole("heading", { name: `Question ${asked}: which answer is better?` });
    await heading.waitFor();
    const prompt = await page.locator(".question .asked").textContent();
    if (asked < 4) assert.equal(prompt, QUESTIONS[0]);
    if (asked === 4) assert.equal(prompt, QUESTIONS[1], "after three questions, the next prompt");
    const [left, right] = await page.locator(".side .text").allTextContents();
    const [key, name] =
      left.length < right.length
        ? ["ArrowLeft", "Left is better"]
        : left.length > right.length
          ? ["ArrowRight", "Right is better"]
          : ["ArrowUp", "About equal"];
    if (asked === 2) await page.getByRole("button", { name }).click();
    else await page.keyboard.press(key);
    await heading.waitFor({ state: "detached" });
  }
  const after = await known(page);
  assert.notEqual(after.path, before.path);
  assert.ok(after.spread < 0.8 * before.spread, `the picture: ${before.spread}, then ${after.spread}`);
  assert.ok(after.width < 0.8 * before.width, `the interval: ${before.width}, then ${after.width}`);
  assert.match(
    await page.evaluate(() => document.activeElement.textContent),
    /^(Your balance is found|Enough for one sitting)$/,
  );

  // What is shown is what the server serves, and leans to brevity.
  const { preference, answers } = await (await fetch(`${url}/v1/models/one/profiles/anna`)).json();
  assert.ok(preference.brevity > 0.55, JSON.stringify(preference));
  await page.waitForFunction(() => document.querySelectorAll(".end .written .note:not(:empty)").length >= 2);
  await page.waitForFunction(() => document.querySelectorAll(".end [aria-busy]").length === 0);
  const words = `brevity ${preference.brevity.toFixed(2)}, detail ${preference.detail.toFixed(2)}`;
  const labels = page.locator(".end .label");
  assert.deepEqual(await labels.allTextContents(), [`one under ${words}`, "one under brevity 0.50, detail 0.50"]);
  await page.getByText(`Served: ${words}`).waitFor();
  await page.getByRole("button", { name: "Copy as curl" }).first().click();
  await page.getByText("Copied.").first().waitFor();
  const command = await page.evaluate(() => window.copied);
  assert.ok(command.includes('"profile":"anna"') && !command.includes("preference"), command);
  await looks(page, "balance-end");

  // Its λ in the other view, and back.
  await page.getByRole("link", { name: "Open in Compare" }).click();
  await page.waitForSelector(".compare");
  assert.match(page.url(), new RegExp(`answer=one@${preference.brevity},${preference.detail}&answer=one@0.5,0.5`));
  assert.equal(await card(page, "A").getByRole("spinbutton").first().inputValue(), preference.brevity.toFixed(2));
  await page.goBack();
  await page.waitForSelector(".setup");
  for (const again of [false, true]) {
    if (again) await page.reload();
    await page.getByRole("button", { name: "anna", exact: true }).waitFor();
    await page.getByRole("button", { name: "Go on with anna" }).waitFor();
    await page.getByRole("heading", { name: "What is known of anna" }).waitFor();
  }
  assert.equal(await page.getByLabel("Prompts").inputValue(), QUESTIONS.join("\n"));
  await page.getByRole("link", { name: "Compare" }).click();
  await page.waitForSelector(".compare");
  await page.goBack();
  await page.waitForSelector(".setup");
  await looks(page, "balance-setup");

  // Who knows enough is asked on all the same, to the end of a prompt.
  await begin(page);
  for (const key of ["ArrowUp", "ArrowDown"]) {
    const heading = await page.locator(".question h2").textContent();
    // Held keys answer once, and keys with Alt are the browser's.
    await page.keyboard.press("Alt+ArrowUp");
    await page.keyboard.down(key);
    await page.keyboard.down(key);
    await page.keyboard.up(key);
    await page.waitForFunction((heading) => {
      const now = document.querySelector(".question h2").textContent;
      return now !== heading && now.endsWith("?");
    }, heading);
  }
  const then = await (await fetch(`${url}/v1/models/one/profiles/anna`)).json();
  assert.equal(then.answers, answers + 1, "a skipped question teaches nothing");
  await page.getByRole("button", { name: "Enough for now" }).click();
  await page.locator(".end").waitFor();
  await page.getByRole("button", { name: "Ask on" }).click();
  await isAsked(page).waitFor();
  await page.context().close();
}

/** With more objectives: points in a triangle, or intervals alone. */
async function beliefsOfMoreObjectives({ url }) {
  for (const model of ["three", "five"]) {
    const page = await open(url + balance(model, "ben"));
    await begin(page);
    const cloud = () =>
      page.locator(".belief .guess").evaluateAll((points) => points.map((point) => point.getAttribute("transform")).join());
    const before = await cloud();
    await page.getByRole("button", { name: "Left is better" }).click();
    await page.getByText("After 1 answer.").waitFor();
    assert.equal(await page.locator(".intervals li").count(), model === "three" ? 3 : 5);
    if (model === "three") assert.ok(before !== (await cloud()) && before.split(",").length > 100);
    else assert.equal(await page.locator(".belief").count(), 0);
    await isAsked(page).waitFor();
    await looks(page, `balance-${model}`);
    await page.context().close();
  }
}

/** What an interview cannot do is said, and it goes on. */
async function interviewsSayWhatIsWrong({ url }) {
  const page = await open(url + balance("one", "not a name"), { expected: [400, 429] });
  const problem = page.locator(".asking .notice");
  await page.getByRole("button", { name: "Begin" }).click();
  await page.getByText("A profile's name has 1 to 64 letters").waitFor();
  await page.getByLabel("Profile", { exact: true }).fill("cleo");
  await page.getByLabel("Prompts").fill(" \n");
  await page.getByRole("button", { name: "Begin" }).click();
  await page.getByText("Write a prompt first.").waitFor();
  await page.getByLabel("Prompts").fill(QUESTIONS[0]);

  // Everybody is waiting.
  const busy = { error: { message: "too many answers are waiting; try again in 1 s" } };
  await page.route("**/questions", (route) => route.fulfill({ status: 429, json: busy }), { times: 1 });
  await page.getByRole("button", { name: "Begin" }).click();
  await problem.getByText("too many answers are waiting; try again in 1 s").waitFor();
  await looksWell(page, "with a question that could not be asked");
  await page.getByRole("button", { name: "Try again" }).click();
  await isAsked(page).waitFor();

  // Somebody else asks for the same profile: what is answered here is over.
  const response = await fetch(`${url}/v1/models/one/profiles/cleo/questions`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ messages: [{ role: "user", content: QUESTIONS[1] }], candidates: 6, seed: 3, temperature: 1 }),
  });
  assert.equal(response.status, 200, await response.text());
  await page.keyboard.press("ArrowLeft");
  await problem.getByText("is not the question that `cleo` was asked last").waitFor();
  await page.getByRole("button", { name: "Write other answers" }).click();
  await isAsked(page).waitFor();
  await page.getByRole("button", { name: "Enough for now" }).click();
  await page.getByRole("button", { name: "Begin" }).waitFor();

  // The likeliest first word of this run is the same under every λ.
  const alike = { prompts: "Hello", temperature: 0, max_tokens: 1, candidates: 2 };
  const same = await open(url + balance("five", "dan", alike), { expected: [400] });
  await same.getByRole("button", { name: "Begin" }).click();
  await same.locator(".asking .notice").getByText("no two differ").waitFor();
  await same.getByRole("button", { name: "Change what is asked" }).click();
  await same.getByRole("button", { name: "Begin" }).waitFor();
  await same.context().close();

  // A run without profiles says why.
  const reason = "`one` has no profiles: a program says its rewards";
  const none = await page.context().newPage();
  await none.route("**/profiles", (route) => route.fulfill({ status: 404, json: { error: { message: reason } } }));
  await none.goto(url + balance("one", "anna"));
  await none.getByText(reason).waitFor();
  assert.ok(await none.getByRole("button", { name: "Begin" }).isDisabled());
  await page.context().close();
}

/** By keyboard from one end to the other, in the order of what is seen. */
async function theKeyboardReachesAll({ url }) {
  const page = await open(url + address("", "one@1,0"));
  await page.getByLabel("Prompt").focus();
  const reached = [];
  for (let step = 0; step < 7; step += 1) {
    await page.keyboard.press("Tab");
    reached.push(
      await page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent),
    );
  }
  assert.deepEqual(reached, [
    "Send",
    "Sampling",
    "Add an answer",
    "Model of answer A",
    "λ of answer A, from brevity to detail",
    "brevity, λ of answer A",
    "detail, λ of answer A",
  ]);
  await page.context().close();
}

/** What holds for any front and any λ: exact for values that are linear in λ, and at every measured point. */
async function betweenPointsItIsLinear({ url }) {
  const page = await open(url);
  const wrong = await page.evaluate(async () => {
    const { readFront } = await import("/page/front.js");
    const compositions = (m, n) =>
      m === 1 ? [[n]] : Array.from({ length: n + 1 }, (_, k) => compositions(m - 1, n - k).map((rest) => [k, ...rest])).flat();
    let state = 1;
    const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
    const wrong = [];
    for (const [m, n] of [
      [2, 10],
      [3, 7],
      [4, 3],
      [5, 4],
    ]) {
      const linear = (lambda) =>
        lambda.map((_, i) => lambda.reduce((sum, weight, k) => sum + weight * ((i * 7 + k * 3) % 5), 0));
      const points = compositions(m, n)
        .map((counts) => counts.map((count) => count / n))
        .map((lambda) => ({ lambda, values: linear(lambda) }));
      const look = (lambda, kind) => {
        const { kind: found, values } = readFront({ points }, lambda);
        const isRight = linear(lambda).every((value, i) => Math.abs(value - values[i]) < 1e-6);
        if (found !== kind || !isRight) wrong.push({ m, lambda, found, values, expected: linear(lambda) });
      };
      for (const { lambda } of points) look(lambda, "measured");
      for (let draw = 0; draw < 200; draw += 1) {
        const parts = Array.from({ length: m }, () => -Math.log(random()));
        const sum = parts.reduce((a, b) => a + b, 0);
        look(
          parts.map((part) => part / sum),
          "between",
        );
      }
      // With a hole in the grid, and where there is no grid, the nearest point is read, and called that.
      const alone = readFront({ points: points.slice(0, 1) }, points.at(-1).lambda);
      if (alone.kind !== "nearest" || alone.points[0] !== points[0]) wrong.push({ m, alone });
    }
    return wrong;
  });
  assert.deepEqual(wrong, []);
  await page.context().close();
}

/** No serious fault that axe-core knows, and nothing to scroll sideways. */
async function looksWell(page, name) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document));
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  const nodes = serious.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${html}\n${failureSummary}`),
  );
  assert.deepEqual(nodes, [], `the page ${name}`);
  const { found, room } = await page.evaluate(() => ({ found: document.documentElement.scrollWidth, room: window.innerWidth }));
  assert.ok(found <= room, `the page ${name}: ${found} pixels in ${room}`);
}

/** In light, in dark and on phones; leaves it as it was. */
async function looks(page, name) {
  await mkdir(pictures, { recursive: true });
  for (const [look, width, scheme] of [
    ["light", 1280, "light"],
    ["dark", 1280, "dark"],
    ["phone", 320, "light"],
    ["phone-wide", 390, "light"],
  ]) {
    await page.setViewportSize({ width, height: 800 });
    await page.emulateMedia({ colorScheme: scheme });
    await page.waitForFunction(() =>
      [...document.querySelectorAll(".plot svg")].every((picture) => picture.viewBox.baseVal.width === picture.clientWidth),
    );
    await looksWell(page, `${name} ${look}`);
    await page.screenshot({ path: path.join(pictures, `${name}-${look}.png`), fullPage: true });
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.emulateMedia({ colorScheme: "light" });
}

/** With two, three and five objectives. */
async function everyLookIsWell({ url }) {
  const choices = {
    two: ["one@0.9,0.1", "one@0.4,0.6"],
    three: ["three@0.6,0.2,0.2", "three@0.2,0.5,0.3", "base"],
    five: ["five@0.6,0.1,0.1,0.1,0.1", "five"],
  };
  for (const [name, answers] of Object.entries(choices)) {
    const page = await open(url + address(PROMPT, ...answers));
    await send(page);
    if (name !== "five") await page.waitForSelector(".mark");
    await looks(page, name);
    await page.context().close();
  }
  // Who does not want motion has none.
  const page = await open(url);
  const animation = () =>
    page.evaluate(() => {
      const text = document.querySelector(".text");
      text.setAttribute("aria-busy", "true");
      return getComputedStyle(text, "::after").animationName;
    });
  await page.emulateMedia({ reducedMotion: "no-preference" });
  assert.equal(await animation(), "wait");
  await page.emulateMedia({ reducedMotion: "reduce" });
  assert.equal(await animation(), "none");
  await page.context().close();
}

/** front.html of a folder, as a browser opens it from a disk, and what it was made of. */
async function openFile(folder) {
  const file = path.join(runs, folder, "front.html");
  const [, data] = /<script type="application\/json" id="data">(.*?)<\/script>/s.exec(await readFile(file, "utf8"));
  const page = await open(pathToFileURL(file).href);
  // The picture is drawn once its size is known, its marks last.
  await page.locator(".plot .mark").first().waitFor();
  return { page, ...JSON.parse(data) };
}

/** The middle of what is there for a measured point, by its place along the front. */
async function placeOfPoint(page, k) {
  const box = await page.locator(".plot .point").nth(k).boundingBox();
  return [box.x + box.width / 2, box.y + box.height / 2];
}

const pane = (page, letter) => page.getByRole("article", { name: `Answer at ${letter}` });
const readingOf = (page, letter) => page.getByRole("region", { name: `Mark ${letter}` }).locator(".reading").textContent();
const letters = (page) => page.locator(".mark").evaluateAll((marks) => marks.map((mark) => mark.dataset.letter));

/**
 * Around each point, seen without a pointer: as wide and as high as one standard error on both sides, in pixels as the points
 * lie, and leaning the way that the errors go together. The page's own formula is not used here.
 */
async function ellipsesAreOneStandardError(page, points) {
  const found = await page.evaluate(() => {
    const numbers = (text) => text.match(/-?[0-9.]+/g).map(Number);
    return {
      dots: [...document.querySelectorAll(".plot .point")].map((dot) => numbers(dot.getAttribute("transform"))),
      ellipses: [...document.querySelectorAll(".plot ellipse.standard-error")].map((ellipse) => {
        const [x, y, degrees] = numbers(ellipse.getAttribute("transform"));
        return { x, y, angle: (degrees * Math.PI) / 180, rx: ellipse.rx.baseVal.value, ry: ellipse.ry.baseVal.value };
      }),
    };
  });
  const { dots, ellipses } = found;
  assert.ok(ellipses.length >= 2, `${ellipses.length} ellipses`);
  // Two points far apart give the pixels of a unit.
  const scale = [0, 1].map((i) => (dots.at(-1)[i] - dots[0][i]) / (points.at(-1).values[i] - points[0].values[i]));
  for (const { x, y, angle, rx, ry } of ellipses) {
    const k = dots.findIndex(([a, b]) => Math.hypot(a - x, b - y) < 0.2);
    const { stderr, correlation } = points[k];
    const wide = Math.hypot(rx * Math.cos(angle), ry * Math.sin(angle));
    const high = Math.hypot(rx * Math.sin(angle), ry * Math.cos(angle));
    const together = (rx * rx - ry * ry) * Math.sin(angle) * Math.cos(angle);
    const expected = [Math.abs(scale[0]) * stderr[0], Math.abs(scale[1]) * stderr[1]];
    const covariance = correlation[1][0] * scale[0] * stderr[0] * scale[1] * stderr[1];
    const near = (a, b, most) => assert.ok(Math.abs(a - b) < most, `${a}, expected ${b} at point ${k}`);
    near(wide, expected[0], 0.03 * expected[0] + 0.3);
    near(high, expected[1], 0.03 * expected[1] + 0.3);
    near(together, covariance, 0.05 * expected[0] * expected[1] + 0.5);
  }
}

/** The picture's formula for many covariances: its axes are eigenvectors, its lengths the roots of the eigenvalues. */
async function ellipsesAreThoseOfTheCovariance({ url }) {
  const page = await open(url);
  const wrong = await page.evaluate(async () => {
    const { chosenPoints, correlationOf, ellipseOf } = await import("/page/errors.js");
    const wrong = [];
    for (const [dx, dy, rho] of [
      [3, 1, 0],
      [3, 1, 0.6],
      [0.2, 5, -0.9],
      [1, 1, 1],
      [0, 2, 0],
    ]) {
      const [xx, yy, xy] = [dx * dx, dy * dy, rho * dx * dy];
      const { long, short, angle } = ellipseOf(xx, yy, xy);
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      const errors = [
        xx * cos + xy * sin - long * long * cos,
        xy * cos + yy * sin - long * long * sin,
        -xx * sin + xy * cos + short * short * sin,
        -xy * sin + yy * cos - short * short * cos,
        Math.hypot(long * cos, short * sin) - dx,
        Math.hypot(long * sin, short * cos) - dy,
      ];
      if (errors.some((error) => Math.abs(error) > 1e-6)) wrong.push({ dx, dy, rho, errors });
    }
    const point = { correlation: [[], [0.1], [0.2, 0.3]] };
    const known = [correlationOf(point, 0, 2), correlationOf(point, 2, 1), correlationOf({}, 0, 1)];
    if (`${known}` !== "0.2,0.3,") wrong.push({ known });
    const points = [
      [1, 0, 0],
      [0.5, 0.5, 0],
      [0.4, 0.3, 0.3],
      [0, 1, 0],
      [0, 0, 1],
    ].map((lambda) => ({ lambda }));
    const chosen = [...chosenPoints({ points }, [0, 2])].map((point) => points.indexOf(point));
    if (`${chosen}` !== "0,4,2") wrong.push({ chosen });
    return wrong;
  });
  assert.deepEqual(wrong, []);
  await page.context().close();
}

async function aFileShowsTheFront() {
  const { page, front, samples } = await openFile(firstEvaluation("one"));
  const points = [...front.methods[0].points].sort((a, b) => a.lambda[0] - b.lambda[0]);
  const answer = (lambda, prompt = 0) => samples[prompt].answers.find((answer) => `${answer.lambda}` === `${lambda}`).text;
  assert.equal(points.length, 5);
  assert.equal(await page.locator(".plot .point").count(), 5);
  await ellipsesAreOneStandardError(page, points);
  assert.match(await page.locator(".verdict").innerText(), /^(From λ = \(0, 1\) to \(1, 0\)|λ has no measurable effect) /);
  assert.deepEqual(await letters(page), ["A", "B"]);

  // The pointer finds what a point is.
  await page.mouse.move(...(await placeOfPoint(page, 1)));
  const tip = await page.locator(".tip").innerText();
  assert.match(tip, /^λ = \(0\.25, 0\.75\)\nbrevity −?[0-9.]+ ± [0-9.]+\ndetail −?[0-9.]+ ± [0-9.]+$/);
  for (const [i, name] of front.objectives.entries()) {
    const [, value, error] = new RegExp(`${name} (−?[0-9.]+) ± ([0-9.]+)`).exec(tip);
    const unit = 10 ** -value.split(".")[1].length;
    assert.ok(Math.abs(Number(value.replace("−", "-")) - points[1].values[i]) <= 0.51 * unit, tip);
    assert.ok(Math.abs(Number(error) - points[1].stderr[i]) <= 0.51 * unit, tip);
  }
  await page.mouse.move(2, 2);
  assert.ok(await page.locator(".tip").isHidden());

  // A click brings a mark there, and with it the answers of that λ.
  const before = await markOf(page, "A");
  assert.ok((await pane(page, "A").textContent()).includes(answer([1, 0])));
  await page.mouse.click(...(await placeOfPoint(page, 2)));
  const clicked = await markOf(page, "A");
  assert.notDeepEqual(clicked, before);
  assert.match(await readingOf(page, "A"), /^Measured at this λ: /);
  assert.match(await pane(page, "A").locator(".label").textContent(), /^panacea-linear at λ = \(0\.5, 0\.5\), [0-9]+ tokens?$/);
  assert.equal(await pane(page, "A").locator(".text").textContent(), answer([0.5, 0.5]));
  await page.getByRole("group", { name: "Prompt" }).getByRole("button", { name: "2" }).click();
  assert.equal(await pane(page, "A").locator(".text").textContent(), answer([0.5, 0.5], 1));

  // The slider moves it between the points, and says so.
  await page.getByRole("slider", { name: "λ of A, from brevity to detail" }).focus();
  for (let step = 0; step < 10; step += 1) await page.keyboard.press("ArrowRight");
  const between = await markOf(page, "A");
  assert.ok(!between.isMeasured && Math.hypot(between.x - clicked.x, between.y - clicked.y) > 0.5);
  assert.match(await readingOf(page, "A"), /Interpolated between the measured λ \(0\.25, 0\.75\) and \(0\.5, 0\.5\): /);
  assert.match(await pane(page, "A").locator(".label").textContent(), /No answer was written at this λ.*\(0\.5, 0\.5\)/);

  // Without a pointer, a list has every point.
  await page.getByLabel("Measured λ of B").selectOption({ label: "(0.75, 0.25)" });
  assert.match(await readingOf(page, "B"), /^Measured at this λ: /);
  // Whichever mark was taken hold of last is the one that a click moves.
  const still = await markOf(page, "A");
  await page.mouse.click(...(await placeOfPoint(page, 0)));
  assert.deepEqual(await markOf(page, "A"), still);
  assert.equal(await pane(page, "B").locator(".text").textContent(), answer([0, 1], 1));
  await page.getByRole("radio", { name: "A", exact: true }).check();
  await page.mouse.click(...(await placeOfPoint(page, 2)));
  assert.deepEqual(await markOf(page, "A"), clicked);
  await page.getByRole("button", { name: "Remove B" }).click();
  assert.deepEqual(await letters(page), ["A"]);
  await page.getByRole("button", { name: "Compare with another λ" }).click();
  assert.deepEqual(await letters(page), ["A", "B"]);
  assert.equal(await page.locator("#picture").count(), 0, "the picture for who has no script");
  await looks(page, "front-two");
  await page.context().close();
}

async function aFileHidesMethods() {
  const { page, front } = await openFile("both");
  const names = front.methods.map(({ method }) => method);
  assert.deepEqual(names, ["panacea-linear (one)", "panacea-linear (again)"]);
  assert.equal(await page.locator(".plot .point").count(), 10);
  assert.match(await pane(page, "A").locator(".label").textContent(), /^panacea-linear \(one\) at λ = \(1, 0\)/);
  await page.getByLabel("Method of B", { exact: true }).selectOption(names[1]);
  assert.match(await pane(page, "B").locator(".label").textContent(), /^panacea-linear \(again\) at λ = \(0, 1\)/);
  await looks(page, "front-methods");
  await page.getByRole("checkbox", { name: names[1] }).uncheck();
  assert.equal(await page.locator(".plot .point").count(), 5);
  assert.deepEqual(await letters(page), ["A"], "a mark on what is hidden is hidden");
  await page.getByRole("checkbox", { name: names[0] }).uncheck();
  assert.equal(await page.locator(".plot .point, .mark").count(), 0);
  await looksWell(page, "front.html without a method");
  await page.getByRole("checkbox", { name: names[1] }).check();
  assert.deepEqual(await letters(page), ["B"]);
  await page.context().close();
}

async function aFileShowsMoreObjectives() {
  const three = await openFile(firstEvaluation("three"));
  assert.equal(await three.page.locator(".plot .plane").count(), 3);
  assert.equal(await three.page.locator(".heat figure").count(), 3);
  const last = three.front.methods[0].points.length - 1;
  await three.page.locator(".heat figure").nth(1).locator(".value").nth(last).click();
  const { lambda } = three.front.methods[0].points[last];
  const numbers = await three.page.getByRole("region", { name: "Mark A" }).getByRole("spinbutton").all();
  assert.deepEqual(await Promise.all(numbers.map(async (number) => Number(await number.inputValue()))), lambda);
  const before = await markOf(three.page, "A");
  await three.page.getByRole("region", { name: "Mark A" }).getByRole("slider").focus();
  await three.page.keyboard.press("Home");
  assert.notDeepEqual(await markOf(three.page, "A"), before);
  assert.match(await readingOf(three.page, "A"), /^Not measured here\. Interpolated between /);
  await looks(three.page, "front-three");
  await three.page.context().close();

  const { page, front } = await openFile("apart");
  assert.equal(await page.locator(".parallel .axis").count(), 5);
  assert.deepEqual(await page.locator(".parallel .axis").allTextContents(), front.objectives);
  assert.equal(await page.locator(".pairs .plane").count(), 10);
  const range = page.getByRole("region", { name: "Mark A" }).getByRole("slider").first();
  const from = await markOf(page, "A");
  await range.fill("60");
  assert.notDeepEqual(await markOf(page, "A"), from);
  assert.match(await readingOf(page, "A"), /^Not measured here\. /);
  // A row of the map for each λ; a click brings the mark there, and its letter beside the row.
  const rows = page.locator(".heat-map .can-pick");
  assert.equal(await rows.count(), front.methods[0].points.length);
  await rows.nth(2).locator(".value").first().click();
  assert.match(await readingOf(page, "A"), /^Measured at this λ: /);
  assert.ok((await page.locator(".heat-map .row-mark").allTextContents()).includes("A"));
  await linesArePicked(page, front);
  await looks(page, "front-five");
  await page.context().close();
}

/** Of picked λ, after a click on one row of the map brought mark A there, which picked it, too. */
async function linesArePicked(page, front) {
  const { points } = front.methods[0];
  const said = page.getByRole("group", { name: "Lines of picked λ" });
  const list = said.getByRole("listitem");
  assert.equal(await list.count(), 1);
  // A mark covers its own λ's line: A, B, and what was picked under A.
  const lines = page.locator(".parallel polyline.line");
  assert.equal(await lines.count(), 2);
  const picker = page.getByLabel("Measured λ whose line is added");
  const add = page.getByRole("button", { name: "Add its line" });
  assert.equal(await picker.locator("option").count(), points.length);

  // By keys alone: one more line, with errors on every axis and the best at its λ.
  await picker.focus();
  await page.keyboard.press("Home");
  for (let k = 0; k < 3; k += 1) await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelectorAll(".kept li").length === 2);
  assert.equal(await lines.count(), 3);
  const letter = "2";
  const at = page.locator(`.parallel .mark[data-letter="${letter}"]`);
  assert.equal(await at.count(), 5);
  const kept = await at.first().getAttribute("class");
  assert.match(kept, /series-4 is-measured/);
  const whiskers = page.locator(".parallel .whisker.series-4");
  assert.equal(await whiskers.count(), 5);
  assert.equal(await page.locator(".parallel .best.series-4").count(), 5);

  // Where it is on each axis is its value, and its bars are its standard errors.
  const places = await page.evaluate(() => {
    const x = (mark) => Number(/translate\((\S+) /.exec(mark.getAttribute("transform"))[1]);
    const strokes = [...document.querySelectorAll(".parallel .tick")].map((tick) => Number(tick.getAttribute("x1")));
    const bars = [...document.querySelectorAll(".parallel .whisker.series-4")].map((bar) => bar.getBBox().width);
    const best = [...document.querySelectorAll(".parallel .best.series-4")].map((line) => line.x1.baseVal.value);
    return { marks: [...document.querySelectorAll('.parallel .mark[data-letter="2"]')].map(x), strokes, bars, best };
  });
  front.objectives.forEach((name, i) => {
    const strokes = places.strokes.slice(i * points.length, (i + 1) * points.length);
    assert.ok(Math.abs(places.marks[i] - strokes[3]) < 0.2, `${name}: ${places.marks[i]}, expected ${strokes[3]}`);
    // The best at its λ lies far enough away to tell the pixels of a unit.
    const unit = (places.best[i] - places.marks[i]) / (points[3].exact.values[i] - points[3].values[i]);
    const expected = 2 * points[3].stderr[i] * unit;
    assert.ok(Math.abs(places.bars[i] - expected) < 0.02 * expected + 0.5, `${name}: ${places.bars[i]}, expected ${expected}`);
  });

  // A λ between the measured ones has a line without errors.
  await page.getByRole("region", { name: "Mark A" }).getByRole("slider").first().fill("37");
  assert.equal(await lines.count(), 4, "and the line that was picked under A comes out");
  assert.match(await page.locator(".parallel .mark[data-letter=A]").first().getAttribute("class"), /is-estimate/);
  assert.equal(await page.locator(".parallel .whisker.series-0").count(), 0);
  assert.match(await page.locator(".parallel").getAttribute("aria-label"), /A: brevity .*2: brevity /);

  // A click on a stroke picks its λ, and the first one makes room; then all go, and the page says what to do.
  const stroke = page.locator(".parallel .tick").nth(4);
  const box = await stroke.boundingBox();
  await page.mouse.click(box.x + box.width / 2, box.y + 2);
  await page.waitForFunction(() => document.querySelectorAll(".kept li").length === 3);
  await picker.selectOption({ index: 2 });
  await add.click();
  assert.equal(await list.count(), 3);
  for (const left of [2, 1, 0]) {
    await list.first().getByRole("button").focus();
    await page.keyboard.press("Enter");
    assert.equal(await list.count(), left);
  }
  assert.match(await said.innerText(), /^No λ is picked yet: click a stroke, or choose a λ here and add it/);
  await picker.selectOption({ index: 2 });
  await add.click();
}

/** Without a script there are the picture, the tables and where the answers are. */
async function aFileNeedsNoScript() {
  const context = await browser.newContext({ javaScriptEnabled: false, viewport: { width: 390, height: 800 } });
  const page = await context.newPage();
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  const url = pathToFileURL(path.join(runs, firstEvaluation("three"), "front.html")).href;
  await page.goto(url);
  await page.locator("#picture svg").waitFor();
  // Playwright finds nothing by a text that is in there.
  assert.match(await page.locator("noscript").innerText(), /the answers are all in report\.md/);
  assert.ok((await page.locator("table").first().isVisible()) && (await page.locator("table").count()) === 3);
  assert.deepEqual(asked, [url], "nothing else is asked for");
  await page.screenshot({ path: path.join(pictures, "front-no-script.png"), fullPage: true });
  await context.close();
}

const runs = await mkdtemp(path.join(tmpdir(), "panacea-page-"));
const servers = [];
let ends;
try {
  const front = await prepare(runs);
  const open = await serve(runs);
  servers.push(open);
  await writeFile(path.join(runs, "key.txt"), `${KEY}\n`);
  const locked = await serve(runs, "--api-key-file", path.join(runs, "key.txt"));
  servers.push(locked);
  browser = await browsers.launch({ executablePath: chromium, timeout: PATIENCE });
  const checks = [
    answersDifferByLambdaAlone,
    theMarkFollowsTheSlider,
    controlsKeepTheSum,
    theAddressHoldsAll,
    aLinkIsFollowed,
    theCommandIsTheRequest,
    errorsAreSaid,
    theKeyIsAskedFor,
    theKeyboardReachesAll,
    betweenPointsItIsLinear,
    ellipsesAreThoseOfTheCovariance,
    everyLookIsWell,
    aBalanceIsFound,
    beliefsOfMoreObjectives,
    interviewsSayWhatIsWrong,
    aFileShowsTheFront,
    aFileHidesMethods,
    aFileShowsMoreObjectives,
    aFileNeedsNoScript,
  ];
  for (const check of checks) {
    const start = Date.now();
    await check({ url: check === theKeyIsAskedFor ? locked.url : open.url, front });
    console.log(`${check.name}: passed in ${((Date.now() - start) / 1000).toFixed(1)} s`);
  }
  assert.deepEqual(faults, [], "errors in the browser's console");
  console.log(`the page holds in Chromium ${browser.version()}; how it looks is in ${pictures}`);
} catch (error) {
  for (const fault of faults) console.error(`in the browser: ${fault}`);
  throw error;
} finally {
  // All that runs, whatever becomes of the others.
  ends = await Promise.allSettled([browser?.close(), ...servers.map(({ stop }) => stop())]);
  await rm(runs, { recursive: true });
}
// Not before, where it would hide what went wrong first.
for (const end of ends) if (end.status === "rejected") throw end.reason;
