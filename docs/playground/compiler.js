// Questions to the worker. Only the newest one of a kind waits, and one that takes too long ends it.

export class Compiler {
  // `showStatus` gets the state of the compiler in words; an answer may take `patience` milliseconds.
  constructor(showStatus, patience = 30_000) {
    this.showStatus = showStatus;
    this.patience = patience;
    this.last = 0;
    this.start();
  }

  start() {
    this.showStatus("The compiler is loading …");
    this.asked = null;
    this.waiting = new Map();
    this.ready = false;
    this.worker = new Worker("worker.js", { type: "module" });
    this.worker.onmessage = ({ data }) => this.receive(data);
    this.worker.onerror = (event) => this.showStatus(`The compiler did not start: ${event.message}`);
  }

  // Ask about a spec. A question that a newer one of its kind overtakes is never answered.
  ask(kind, question, then) {
    this.waiting.set(kind, { id: ++this.last, question, then });
    this.next();
  }

  // Forget what was asked and is not answered yet.
  forget() {
    this.waiting.clear();
    if (this.asked) this.asked.then = () => {};
  }

  next() {
    if (!this.ready || this.asked || !this.waiting.size) return;
    const [kind, asked] = this.waiting.entries().next().value;
    this.waiting.delete(kind);
    this.asked = asked;
    this.timer = setTimeout(() => this.restart("That took too long."), this.patience);
    this.worker.postMessage({ id: asked.id, ...asked.question });
  }

  restart(reason) {
    this.worker.terminate();
    this.start();
    this.showStatus(`${reason} The compiler starts again …`);
  }

  receive(data) {
    if (data.ready) {
      this.ready = true;
      this.showStatus("");
    } else if (!("id" in data)) {
      this.showStatus(`The compiler did not start: ${data.failed}`);
    } else if (data.id === this.asked?.id) {
      clearTimeout(this.timer);
      const { then } = this.asked;
      this.asked = null;
      if (data.broken) this.restart(`The compiler broke down: ${data.failed}.`);
      else if ("failed" in data) this.showStatus(`The compiler failed: ${data.failed}`);
      else then(data.answer);
    }
    this.next();
  }
}
