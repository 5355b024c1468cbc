// The colours of specs, from the words that all editors share.
import { HighlightStyle, StreamLanguage, syntaxHighlighting } from "@codemirror/language";
import { tags } from "@lezer/highlight";
import { functions, literals, sorts, statements, words } from "../../editors/codemirror/words.mjs";

const KINDS = [
  ["keyword", statements],
  ["keyword", words],
  ["typeName", sorts],
  ["bool", literals],
];
const kindOfWord = new Map(KINDS.flatMap(([kind, list]) => list.map((word) => [word, kind])));
const called = new Set(functions);

function token(stream) {
  if (stream.eatSpace()) return null;
  if (stream.match(/^#.*/)) return "comment";
  if (stream.match(/^"[^"]*"?/)) return "string";
  if (stream.match(/^(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?/)) return "number";
  const word = stream.match(/^\*?[A-Za-z_]\w*/);
  if (!word) {
    stream.next();
    return null;
  }
  const name = word[0];
  if (called.has(name) && stream.match(/^\s*\(/, false)) return "macroName";
  return kindOfWord.get(name) ?? (/^\*?[A-Z]/.test(name) ? "className" : "variableName");
}

const norm = StreamLanguage.define({
  name: "norm",
  token,
  languageData: { commentTokens: { line: "#" } },
});

const colours = HighlightStyle.define([
  { tag: tags.keyword, color: "var(--keyword)" },
  { tag: tags.macroName, color: "var(--call)" },
  { tag: [tags.typeName, tags.className], color: "var(--type)" },
  { tag: [tags.number, tags.bool], color: "var(--number)" },
  { tag: tags.string, color: "var(--string)" },
  { tag: tags.comment, color: "var(--comment)" },
]);

export const language = [norm, syntaxHighlighting(colours)];
