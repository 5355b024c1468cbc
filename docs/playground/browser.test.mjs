// The built playground in a real browser: CHROMIUM=/usr/bin/chromium node --test browser.test.mjs
//
// The folder is served below a path. METANORM is the command line whose bytes the page must have, and
// SCREENSHOT the file of the picture in the README, which is written where it is named.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ROOT, packaged } from "./packages.mjs";
import { serve } from "./serve.mjs";

const { chromium } = (await packaged("playwright-core")).default;
const { CHROMIUM = "/usr/bin/chromium", METANORM = join(ROOT, ".venv/bin/metanorm"), SCREENSHOT } = process.env;
const BAD = "norm Centred {\n  input  x[N, C]\n  output x - mean(x over D)\n}\n";
const HOSTILE = 'norm A {\n  input  x[N, C]\n  output x - <img src=x onerror="window.hit = 1">\n}\n';
const LONG = { timeout: 120_000 };

const folder = mkdtempSync(join(tmpdir(), "playground-"));
const outside = [];
const errors = [];
let server;
let browser;
let page;

async function open(fragment = "") {
  const opened = await browser.newPage({ viewport: { width: 1280, height: 800 }, colorScheme: "light" });
  opened.on("pageerror", (error) => errors.push(String(error)));
  opened.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  opened.on("request", (request) => {
    if (!request.url().startsWith(server.url) && !request.url().startsWith("blob:")) outside.push(request.url());
  });
  await opened.goto(`${server.url}${fragment}`);
  return opened;
}

// Wait until a tab shows what belongs to the text in the editor.
const shown = (about) => page.waitForSelector(`#panel[data-shown="${about}"]:not(.stale)`, LONG);
const choose = async (name) => page.selectOption("#library", name);
const type = async (text) => {
  await page.click(".cm-content");
  await page.keyboard.press("Control+a");
  await page.keyboard.insertText(text);
};

before(async () => {
  execFileSync(METANORM, ["compile", join(ROOT, "specs"), "-o", folder], { stdio: "ignore" });
  server = await serve(join(ROOT, "build/playground"), "/docs/playground/");
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  page = await open();
});

after(async () => {
  await browser?.close();
  server?.close();
  rmSync(folder, { recursive: true });
});

test("the first spec is compiled to the bytes of the command line", async () => {
  await shown("module");
  assert.equal(await page.textContent("#panel"), readFileSync(join(folder, "group_norm.py"), "utf8"));
});

test("a mistake has a squiggle, its code and its help", async () => {
  await type(BAD);
  await page.waitForSelector(".cm-lintRange-error");
  assert.match(await page.textContent("#report"), /MN\d{4}/);
  assert.equal(await page.locator(".cm-lintRange-error").count(), 1);
  await page.hover(".cm-lintRange-error");
  const [, code] = (await page.textContent("#report")).match(/(MN\d{4})/);
  assert.ok((await page.textContent(".cm-tooltip-lint")).startsWith(`${code}: `));
});

test("a fix is one click", async () => {
  await type("norm Centred {\n  input  x[N, C]\n  output x - maen(x over C)\n}\n");
  await page.waitForSelector(".cm-lintRange-error");
  await page.hover(".cm-lintRange-error");
  await page.click(".cm-diagnosticAction");
  await shown("module");
  assert.match(await page.textContent(".cm-content"), /mean\(x over C\)/);
});

test("columns count characters beyond the basic plane once", async () => {
  await type('norm A {\n  input  x[N, C]\n  output x - "𝒩" - y\n}\n');
  await page.waitForFunction(() => document.querySelectorAll(".cm-lintRange-error").length === 2);
  assert.deepEqual(await page.locator(".cm-lintRange-error").allTextContents(), ['"𝒩"', "y"]);
});

test("hostile text stays text", async () => {
  await type(HOSTILE);
  await page.waitForSelector(".cm-lintRange-error");
  await page.hover(".cm-lintRange-error");
  await page.waitForSelector(".cm-tooltip-lint");
  assert.equal(await page.locator("img[src=x]").count(), 0);
  assert.equal(await page.evaluate(() => window.hit), undefined);
});

test("a text is formatted", async () => {
  await type("norm A {\ninput x[N, C]\n      output x - mean( x over C )\n}\n");
  await page.click("#format");
  await page.waitForFunction(() => document.querySelectorAll(".cm-line")[2]?.textContent === "  output x - mean(x over C)");
});

test("what may be written is offered", async () => {
  await type("norm A {\n  input  x[N, C]\n  output x - mea");
  await page.keyboard.type("n");
  const offered = page.locator(".cm-tooltip-autocomplete li", { hasText: /^mean/ });
  await offered.first().waitFor(LONG);
  await offered.first().click();
  assert.match(await page.textContent(".cm-content"), /x - mean/);
});

test("what is too long is not taken", async () => {
  await type("# short\n");
  await type("x".repeat(60_000));
  assert.equal(await page.textContent(".cm-content"), "# short");
});

test("equations are set, pools are drawn, kernels are the command line's", async () => {
  await choose("group_norm.norm");
  await page.click("#tab-equations");
  await shown("equations");
  assert.ok((await page.locator("#panel .katex").count()) >= 1);
  assert.equal(await page.locator("#panel .katex-error").count(), 0);
  await page.click("#tab-kernels");
  await shown("kernels");
  assert.equal(await page.textContent("#panel"), readFileSync(join(folder, "group_norm.c"), "utf8"));
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
  assert.equal(download.suggestedFilename(), "group_norm.c");
  await page.click("#tab-pools");
  await shown("pools");
  await page.waitForFunction(() => document.querySelector("#panel img")?.naturalWidth > 100);
});

test("explained is what the command line explains", async () => {
  await choose("layer_norm.norm");
  await page.click("#tab-explanation");
  await shown("explanation");
  const printed = execFileSync(METANORM, ["explain", join(ROOT, "specs/layer_norm.norm")], { encoding: "utf8" });
  assert.equal(await page.textContent("#panel"), printed);
});

test("a link restores a spec, and a broken one says so", async () => {
  await type(BAD.replace("over D", "over C"));
  await page.fill("#name", "centred");
  await page.click("#share");
  await page.waitForFunction(() => location.hash.length > 1);
  const { hash } = new URL(page.url());
  assert.ok(hash.length < 200);
  const second = await open(hash);
  await second.waitForFunction(() => document.querySelector(".cm-content")?.textContent.includes("Centred"));
  assert.equal(await second.inputValue("#name"), "centred");
  await second.close();
  const third = await open("#nonsense");
  await third.waitForFunction(() => document.querySelector("#name").value === "group_norm");
  await third.close();
});

test("every spec of the library is compiled to the bytes of the command line", async () => {
  await page.click("#tab-module");
  const names = await page.locator("#library option").evaluateAll((list) => list.map((o) => o.value).filter(Boolean));
  assert.ok(names.length >= 60);
  for (const name of names) {
    await choose(name);
    await shown("module");
    const file = join(folder, name.replace(/norm$/, "py"));
    assert.equal(await page.textContent("#panel"), readFileSync(file, "utf8"), name);
  }
});

test("a picture of the page", { skip: !SCREENSHOT }, async () => {
  await page.setViewportSize({ width: 1180, height: 620 });
  await page.click("#tab-pools");
  await choose("switch_norm.norm");
  await shown("pools");
  await page.waitForFunction(() => document.querySelector("#panel img")?.complete && !document.querySelector("#status").textContent);
  await page.screenshot({ path: SCREENSHOT });
});

test("nothing was asked of anybody else, and nothing failed", () => {
  assert.deepEqual(outside, []);
  assert.deepEqual(errors, []);
});
