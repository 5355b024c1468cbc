// The extension in VS Code itself, which code-server serves to a browser: `make editor-test`.
//
// CODE_SERVER is its folder, NODE what runs it, PACKAGES the folder of playwright-core, METANORM the
// command that is the language server. SCREENSHOT names the file of the picture in docs/editors.md,
// FAILED one that shows the editor when a test has failed.
import assert from "node:assert/strict";
import { spawn, execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const { CHROMIUM = "/usr/bin/chromium", CODE_SERVER, FAILED, METANORM, NODE, PACKAGES, SCREENSHOT } = process.env;
const { chromium } = createRequire(join(PACKAGES, "none.js"))("playwright-core");
const VSIX = fileURLToPath(new URL("dist/metanorm.vsix", import.meta.url));
const SPEC = "norm Centred {\n  input  x[N, C]\n    output x - maen(x over C)\n}\n";
const SETTINGS = {
  "metanorm.command": [METANORM, "lsp"],
  "security.workspace.trust.enabled": false,
  "telemetry.telemetryLevel": "off",
  "workbench.startupEditor": "none",
  "workbench.tips.enabled": false,
  "workbench.colorTheme": "Default Light Modern",
  "extensions.autoCheckUpdates": false,
  "chat.disableAIFeatures": true,
  "workbench.secondarySideBar.defaultVisibility": "hidden",
};
const SLOW = { timeout: 120_000 };

const folder = mkdtempSync(join(tmpdir(), "editor-"));
const paths = Object.fromEntries(["data", "extensions", "specs"].map((name) => [name, join(folder, name)]));
const options = ["--user-data-dir", paths.data, "--extensions-dir", paths.extensions];
const environment = { ...process.env, EXTENSIONS_GALLERY: "{}", HOME: folder };
const outside = [];
let server;
let browser;
let page;

const freePort = () =>
  new Promise((found) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => found(port));
    });
  });

async function answers(url) {
  for (let tries = 0; tries < 240; tries++) {
    if (await fetch(url).then((response) => response.ok, () => false)) return;
    await new Promise((done) => setTimeout(done, 500));
  }
  assert.fail("code-server did not start");
}

before(async () => {
  const settings = ["User", "Machine"].map((name) => join(paths.data, name)); // what names a program is of the machine
  for (const path of [...settings, paths.extensions, paths.specs]) mkdirSync(path, { recursive: true });
  for (const path of settings) writeFileSync(join(path, "settings.json"), JSON.stringify(SETTINGS));
  writeFileSync(join(paths.specs, "centred.norm"), SPEC);
  execFileSync(NODE, [CODE_SERVER, ...options, "--install-extension", VSIX], { env: environment, stdio: "inherit" });
  const port = await freePort();
  const quiet = ["--auth", "none", "--disable-telemetry", "--disable-update-check", "--disable-workspace-trust"];
  server = spawn(NODE, [CODE_SERVER, ...options, ...quiet, "--bind-addr", `127.0.0.1:${port}`], {
    env: environment,
    stdio: "ignore",
  });
  const url = `http://127.0.0.1:${port}/`;
  await answers(`${url}healthz`);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  page = await browser.newPage({ viewport: { width: 1180, height: 620 } });
  page.on("request", (request) => {
    const { hostname, protocol } = new URL(request.url());
    if (protocol.startsWith("http") && hostname !== "127.0.0.1") outside.push(request.url());
  });
  await page.goto(`${url}?folder=${encodeURIComponent(paths.specs)}`);
  await page.waitForSelector(".monaco-workbench", SLOW);
});

after(async () => {
  await browser?.close();
  server?.kill();
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
});

afterEach(async ({ passed }) => {
  if (!passed && FAILED) await page?.screenshot({ path: FAILED });
});

// A command of the palette, by its title.
async function run(title) {
  await page.keyboard.press("F1");
  await page.waitForSelector(".quick-input-widget input", SLOW);
  await page.keyboard.type(title);
  await page.waitForSelector(`.quick-input-list [aria-label^="${title}"]`, SLOW);
  await page.keyboard.press("Enter");
}

test("a mistake has a squiggle, and its code among the problems", async () => {
  await page.dblclick('.explorer-folders-view [aria-label*="centred.norm"]', SLOW);
  await page.waitForSelector(".squiggly-error", SLOW);
  await run("Problems: Focus on Problems View");
  const problem = page.locator('.markers-panel [role="treeitem"]', { hasText: /MN\d{4}/ });
  await problem.first().waitFor(SLOW);
  assert.match(await problem.first().textContent(), /maen/);
  if (SCREENSHOT) await page.screenshot({ path: SCREENSHOT });
});

test("its fix is applied, and the text formatted", async () => {
  await page.click(".view-line >> text=maen");
  await page.keyboard.press("Control+.");
  await page.waitForSelector(".action-widget", SLOW);
  await page.keyboard.press("Enter");
  await page.waitForSelector(".squiggly-error", { state: "detached", ...SLOW });
  await run("Format Document");
  await page.waitForFunction(() => {
    const lines = [...document.querySelectorAll(".view-line")].map((line) => line.textContent.replaceAll("\u00a0", " "));
    return lines.includes("  output x - mean(x over C)");
  }, null, SLOW);
});

test("the picture of the pools is beside the spec", SLOW, async () => {
  await page.click(".codelens-decoration >> text=show pools", SLOW);
  await page.waitForSelector('.tab[aria-label^="Centred"]', SLOW);
  const images = () => Promise.all(page.frames().map((frame) => frame.locator("img[src^='data:image/svg']").count()));
  while (!(await images()).some((count) => count)) await page.waitForTimeout(200);
});

test("nothing was asked of anybody else", () => assert.deepEqual(outside, []));
