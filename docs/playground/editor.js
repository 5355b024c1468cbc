// The editor of specs, and its squiggles.
import { indentUnit } from "@codemirror/language";
import { lintGutter, setDiagnostics } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { EditorView } from "@codemirror/view";
import { basicSetup } from "codemirror";
import { language } from "./language.js";
import { MAX_TEXT } from "./link.js";

const theme = EditorView.theme({
  "&": { color: "var(--ink)", backgroundColor: "var(--paper)" },
  ".cm-gutters": { color: "var(--faint)", backgroundColor: "var(--shade)", border: "none" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "transparent" },
  ".cm-tooltip": { color: "var(--ink)", backgroundColor: "var(--shade)", border: "1px solid var(--line)" },
  "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "color-mix(in srgb, var(--accent) 30%, transparent) !important",
  },
});

// A text that is longer than a spec may be is not taken.
const bounded = EditorState.changeFilter.of((change) => change.newDoc.length <= MAX_TEXT);

// The icons of completions, by their kinds in the language server.
const ICONS = {
  statement: "keyword",
  word: "keyword",
  function: "function",
  norm: "class",
  axis: "type",
  value: "variable",
  option: "property",
  field: "property",
  sort: "type",
};

// Completions, after a letter or a character that begins something. `complete` asks the compiler, and
// may never hear of it: what is typed next overtakes the question.
const completing = (complete) => async (context) => {
  const word = context.matchBefore(/\w*/);
  const begins = /[.:[("]$/.test(context.state.sliceDoc(word.from - 1, word.from));
  if (!context.explicit && !begins && word.from === word.to) return null;
  const before = context.state.sliceDoc(0, context.pos).replace(/^\ufeff/, "");
  const items = await new Promise((found) => {
    context.addEventListener("abort", () => found(null));
    complete(Array.from(before).length, found);
  });
  if (!items || context.aborted) return null;
  const options = items.map(({ text, kind, detail, meaning }) => ({
    label: text.replace(/[ =:]+$/, ""),
    apply: text,
    type: ICONS[kind] ?? "text",
    detail,
    info: meaning || undefined,
  }));
  return { from: word.from, options, validFor: /^\w*$/ };
};

export function editor(parent, text, { changed, complete }) {
  const data = [{ autocomplete: completing(complete) }]; // one for all: CodeMirror compares it
  return new EditorView({
    parent,
    doc: text,
    extensions: [
      basicSetup,
      language,
      lintGutter(),
      indentUnit.of("  "),
      theme,
      bounded,
      EditorState.languageData.of(() => data),
      EditorView.contentAttributes.of({ "aria-label": "Spec" }),
      EditorView.updateListener.of((update) => update.docChanged && changed()),
    ],
  });
}

export function replaceText(view, text) {
  view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } });
}

// A position of a diagnostic, in characters of a line, as an offset in the document, in UTF-16.
function offset(doc, { line, column }) {
  const place = doc.line(Math.min(line, doc.lines));
  const mark = line === 1 && place.text.startsWith("\ufeff") ? 1 : 0; // the compiler drops it
  const before = Array.from(place.text).slice(0, column - 1 + mark).join("");
  return place.from + before.length;
}

function messageOf({ code, message, primary, notes, helps }) {
  const element = document.createElement("div");
  const label = primary.text ? [primary.text] : [];
  const lines = [`${code}: ${message}`, ...label, ...notes, ...helps.map((help) => `help: ${help}`)];
  for (const line of lines) element.append(Object.assign(document.createElement("div"), { textContent: line }));
  return element;
}

// The fixes of a diagnostic as buttons.
function actionsOf(doc, { fixes }) {
  return fixes.map(({ title, edits }) => ({
    name: title,
    apply: (view) => {
      const changes = edits.map(({ start, end, text }) => ({
        from: offset(doc, start),
        to: offset(doc, end),
        insert: text,
      }));
      if (view.state.doc.eq(doc)) view.dispatch({ changes });
    },
  }));
}

export function showDiagnostics(view, name, diagnostics) {
  const { doc } = view.state;
  const here = diagnostics.filter(({ primary }) => primary.path === name);
  const marks = here.map((diagnostic) => {
    const { severity, primary } = diagnostic;
    const from = offset(doc, primary.start);
    return {
      from,
      to: Math.max(from, offset(doc, primary.end)),
      severity,
      message: `${diagnostic.code}: ${diagnostic.message}`,
      renderMessage: () => messageOf(diagnostic),
      actions: actionsOf(doc, diagnostic),
    };
  });
  view.dispatch(setDiagnostics(view.state, marks));
}
