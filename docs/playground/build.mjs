// Builds the playground into one folder that any static server serves: node build.mjs OUT PYTHON
//
// PYTHON is an interpreter that has metanorm and lark.
import { execFileSync } from "node:child_process";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { HERE, MODULES, ROOT, packaged } from "./packages.mjs";

const { build } = await packaged("esbuild");
const { loadPyodide } = await packaged("pyodide/pyodide.mjs");
const STATIC = ["index.html", "favicon.svg"];
const RUNTIME = ["pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json"];

async function bundle(out) {
  const shared = { bundle: true, format: "esm", minify: true, legalComments: "eof", absWorkingDir: HERE, nodePaths: [MODULES] };
  await build({ ...shared, entryPoints: ["page.js"], outdir: out, target: "es2022" });
  await build({ ...shared, entryPoints: ["worker.js"], outdir: out, external: ["./pyodide/pyodide.mjs"] });
  await build({
    ...shared,
    entryPoints: ["page.css"],
    outdir: out,
    loader: { ".woff2": "file", ".woff": "empty", ".ttf": "empty" },
    assetNames: "fonts/[name]",
  });
}

async function pack(out, python) {
  const sources = join(out, "sources.zip");
  execFileSync(python, ["-m", "docs.playground.pack", sources, join(out, "specs.json")], { cwd: ROOT, stdio: "inherit" });
  const pyodide = await loadPyodide();
  pyodide.FS.writeFile("/sources.zip", new Uint8Array(await readFile(sources)));
  pyodide.runPython(await readFile(join(HERE, "compile_archive.py"), "utf8"));
  pyodide.runPython("open('/compiler.zip', 'wb').write(compiled(open('/sources.zip', 'rb').read()))");
  await writeFile(join(out, "compiler.zip"), pyodide.FS.readFile("/compiler.zip"));
  await rm(sources);
}

const [out, python] = process.argv.slice(2).map((path) => resolve(path));
await rm(out, { recursive: true, force: true });
await mkdir(join(out, "pyodide"), { recursive: true });
for (const name of STATIC) await cp(join(HERE, name), join(out, name));
for (const name of RUNTIME) await cp(join(MODULES, "pyodide", name), join(out, "pyodide", name));
await bundle(out);
await pack(out, python);
console.log(out);
