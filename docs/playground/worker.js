// The compiler: Python in WebAssembly. It answers one question after the other.
import { loadPyodide } from "./pyodide/pyodide.mjs";

const here = (path) => new URL(path, self.location.href).href;

async function start() {
  const [python, archive] = await Promise.all([
    loadPyodide({ indexURL: here("pyodide/") }),
    fetch(here("compiler.zip")).then((response) => response.arrayBuffer()),
  ]);
  python.unpackArchive(archive, "zip", { extractDir: "/compiler" });
  python.runPython("import sys; sys.path.insert(0, '/compiler')");
  return python.pyimport("answers").answer;
}

const answer = start();

answer.then(
  () => self.postMessage({ ready: true }),
  (error) => self.postMessage({ failed: String(error) }),
);

self.onmessage = async ({ data: { id, about, name, text, more = [] } }) => {
  try {
    self.postMessage({ id, answer: JSON.parse((await answer)(about, name, text, ...more)) });
  } catch (error) {
    self.postMessage({ id, failed: String(error), broken: error.name !== "PythonError" });
  }
};
