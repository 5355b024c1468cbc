// How the page asks the compiler, with a worker that answers when it is told to.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Compiler } from "./compiler.js";

const workers = [];
globalThis.Worker = class {
  constructor() {
    this.posted = [];
    workers.push(this);
  }
  postMessage(message) {
    this.posted.push(message);
  }
  terminate() {
    this.ended = true;
  }
  answer(data) {
    this.onmessage({ data });
  }
};

let statuses;
let compiler;
const texts = () => workers.at(-1).posted.map(({ text }) => text);

beforeEach(() => {
  statuses = [];
  compiler = new Compiler((words) => statuses.push(words), 50);
});

test("nothing is asked before it is ready", () => {
  compiler.ask("check", { text: "a" }, () => {});
  assert.deepEqual(texts(), []);
  workers.at(-1).answer({ ready: true });
  assert.deepEqual(texts(), ["a"]);
  workers.at(-1).answer({ id: 1, answer: "" });
});

test("one question at a time, and of waiting ones of a kind the newest", () => {
  const answers = [];
  workers.at(-1).answer({ ready: true });
  for (const text of ["a", "b", "c"]) compiler.ask("check", { text }, (answer) => answers.push([text, answer]));
  assert.deepEqual(texts(), ["a"]);
  workers.at(-1).answer({ id: 1, answer: "A" });
  assert.deepEqual(texts(), ["a", "c"]);
  workers.at(-1).answer({ id: 1, answer: "late" });
  workers.at(-1).answer({ id: 3, answer: "C" });
  assert.deepEqual(answers, [["a", "A"], ["c", "C"]]);
});

test("what is forgotten is not answered", () => {
  const answers = [];
  workers.at(-1).answer({ ready: true });
  compiler.ask("check", { text: "a" }, (answer) => answers.push(answer));
  compiler.ask("compile", { text: "a" }, (answer) => answers.push(answer));
  compiler.forget();
  workers.at(-1).answer({ id: 1, answer: "A" });
  assert.deepEqual([answers, texts()], [[], ["a"]]);
});

test("a worker that takes too long, or broke down, is replaced", async () => {
  workers.at(-1).answer({ ready: true });
  compiler.ask("check", { text: "a" }, () => assert.fail());
  const slow = workers.at(-1);
  await new Promise((done) => setTimeout(done, 100));
  assert.ok(slow.ended && workers.at(-1) !== slow);
  assert.match(statuses.at(-1), /too long/);
  workers.at(-1).answer({ ready: true });
  compiler.ask("check", { text: "b" }, () => assert.fail());
  const broken = workers.at(-1);
  broken.answer({ id: 2, failed: "RuntimeError", broken: true });
  assert.ok(broken.ended);
  assert.match(statuses.at(-1), /broke down/);
});

test("a failure is shown, and the next question is asked", () => {
  workers.at(-1).answer({ ready: true });
  compiler.ask("check", { text: "a" }, () => assert.fail());
  workers.at(-1).answer({ id: 1, failed: "KeyError", broken: false });
  assert.match(statuses.at(-1), /KeyError/);
  compiler.ask("check", { text: "b" }, () => {});
  assert.deepEqual(texts(), ["a", "b"]);
  workers.at(-1).answer({ id: 2, answer: "" });
});
