// The page: what is typed is checked at once, and compiled after a pause.
import { Compiler } from "./compiler.js";
import { editor, replaceText, showDiagnostics } from "./editor.js";
import { fragmentOf, specOf } from "./link.js";
import { TABS } from "./panel.js";

const PAUSE = 300; // milliseconds without a change before the spec is compiled
const FIRST = "group_norm";
const NAME = /^[A-Za-z_]\w{0,59}$/; // of a file, without its ending

const at = (id) => document.getElementById(id);
const showStatus = (words) => (at("status").textContent = words);

// Words about what was just done, which soon have been read.
function note(words) {
  showStatus(words);
  setTimeout(() => at("status").textContent === words && showStatus(""), 4000);
}

const library = await (await fetch("specs.json")).json();
const compiler = new Compiler(showStatus);
let tab = "module";
let answer = null; // what the open tab shows
let sound = false; // whether the spec has been checked, and has no errors
let pause;

const view = editor(at("editor"), "", {
  changed: () => check(),
  complete: (offset, found) => compiler.ask("complete", { about: "completions", ...spec(), more: [offset] }, found),
});

const spec = () => ({ name: `${at("name").value}.norm`, text: view.state.doc.toString() });

function check() {
  clearTimeout(pause);
  compiler.forget();
  at("panel").classList.add("stale");
  sound = false;
  if (!NAME.test(at("name").value)) {
    at("report").textContent = "The name of a file is one word of letters, digits and _.";
    return;
  }
  const asked = spec();
  compiler.ask("check", { about: "check", ...asked }, ({ errors, diagnostics, report }) => {
    showDiagnostics(view, asked.name, diagnostics);
    at("report").textContent = report;
    sound = !errors;
    if (sound) pause = setTimeout(compile, PAUSE);
  });
}

function compile() {
  const about = tab;
  compiler.ask("compile", { about, ...spec() }, (found) => {
    answer = found;
    at("panel").replaceChildren(...TABS[about].show(found));
    at("panel").classList.remove("stale");
    at("panel").dataset.shown = about;
    for (const id of ["copy", "download"]) at(id).hidden = typeof found !== "string";
  });
}

function open(about) {
  tab = about;
  for (const button of at("tabs").children) {
    const chosen = button.dataset.about === about;
    button.setAttribute("aria-selected", chosen);
    button.tabIndex = chosen ? 0 : -1;
  }
  at("panel").setAttribute("aria-labelledby", `tab-${about}`);
  at("panel").replaceChildren();
  delete at("panel").dataset.shown;
  for (const id of ["copy", "download"]) at(id).hidden = true;
  if (sound) compile();
}

function load({ name, text }) {
  at("name").value = name.replace(/\.norm$/, "");
  at("library").value = name in library && library[name] === text ? name : "";
  replaceText(view, text);
  check();
}

async function loadLink() {
  const linked = await specOf(location.hash.slice(1));
  if (linked) load(linked);
  else if (location.hash.length > 1) note("The link holds no spec.");
  return linked !== null;
}

for (const name of Object.keys(library)) at("library").append(new Option(name, name));
at("library").onchange = ({ target }) => target.value && load({ name: target.value, text: library[target.value] });
at("name").oninput = check;
at("tabs").onclick = ({ target }) => target.dataset.about && open(target.dataset.about);
at("tabs").onkeydown = ({ key, target }) => {
  const next = { ArrowRight: target.nextElementSibling, ArrowLeft: target.previousElementSibling }[key];
  if (next) {
    next.focus();
    open(next.dataset.about);
  }
};
at("format").onclick = () =>
  compiler.ask("format", { about: "formatted", ...spec() }, (text) => {
    if (text !== view.state.doc.toString()) replaceText(view, text);
  });
at("share").onclick = async () => {
  history.replaceState(null, "", `#${await fragmentOf(spec())}`);
  await navigator.clipboard?.writeText(location.href).then(() => note("The link is copied."), () => {});
};
at("copy").onclick = () => navigator.clipboard?.writeText(answer).then(() => note("Copied."), () => {});
at("download").onclick = () => {
  const url = URL.createObjectURL(new Blob([answer], { type: "text/plain" }));
  const download = `${at("name").value}${TABS[tab].ending}`;
  Object.assign(document.createElement("a"), { href: url, download }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
};
addEventListener("hashchange", loadLink);

open(tab);
if (!(await loadLink())) load({ name: `${FIRST}.norm`, text: library[`${FIRST}.norm`] });
