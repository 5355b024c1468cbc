// Where npm's packages lie: among what is built, not among the pages of docs/.
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export const HERE = dirname(fileURLToPath(import.meta.url));
export const ROOT = resolve(HERE, "../..");
export const MODULES = join(ROOT, "build/playground-packages/node_modules");

const { resolve: fileOf } = createRequire(join(MODULES, "none.js"));

export const packaged = (name) => import(pathToFileURL(fileOf(name)).href);
