"""Generates syntax files for editors from the table of words of the language."""

from __future__ import annotations

import json
from collections.abc import Iterable

from metanorm.syntax.words import FUNCTIONS, LITERALS, SOFT, SORTS, STATEMENTS

GENERATED_NOTICE = "Written by `make docs` from metanorm/syntax/words.py."


def text_mate() -> str:
    """The grammar of TextMate, which most editors can read, as JSON."""
    patterns = [
        {"name": "comment.line.number-sign.norm", "match": "#.*$"},
        {"name": "string.quoted.double.norm", "match": '"[^"\\n]*"'},
        {"name": "constant.numeric.norm", "match": r"\b(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\b"},
        {
            "match": r"\b(norm)\s+([A-Za-z_]\w*)",
            "captures": {
                "1": {"name": "keyword.declaration.norm"},
                "2": {"name": "entity.name.type.norm"},
            },
        },
        {"name": "support.function.norm", "match": _words(FUNCTIONS) + r"(?=\s*\()"},
        {"name": "keyword.control.norm", "match": _words(STATEMENTS)},
        {"name": "keyword.other.norm", "match": _words(SOFT.keys() - STATEMENTS.keys())},
        {"name": "support.type.norm", "match": _words(SORTS)},
        {"name": "constant.language.norm", "match": _words(LITERALS)},
        {"name": "variable.other.axis.norm", "match": r"\*?\b[A-Z]\w*\b"},
    ]
    grammar = {
        "name": "metanorm",
        "scopeName": "source.norm",
        "fileTypes": ["norm"],
        "patterns": patterns,
    }
    return json.dumps(grammar, indent=2) + "\n"


def code_mirror() -> str:
    """The words as a module for a mode of CodeMirror."""
    tables = {
        "statements": STATEMENTS,
        "words": SOFT.keys() - STATEMENTS.keys(),
        "sorts": SORTS,
        "literals": LITERALS,
        "functions": FUNCTIONS,
    }
    lines = [
        f"export const {name} = {json.dumps(sorted(table))};\n" for name, table in tables.items()
    ]
    return f"// {GENERATED_NOTICE}\n" + "".join(lines)


def emacs() -> str:
    """A mode of Emacs with colours and, from version 29 on, the language server."""

    def list_of(table: Iterable[str]) -> str:
        return " ".join(f'"{word}"' for word in sorted(table))

    soft = SOFT.keys() - STATEMENTS.keys()
    return f""";;; norm-mode.el --- Specs of normalization layers  -*- lexical-binding: t; -*-
;; {GENERATED_NOTICE}

(defvar norm-mode-syntax-table
  (let ((table (make-syntax-table)))
    (modify-syntax-entry ?# "<" table)
    (modify-syntax-entry ?\\n ">" table)
    (modify-syntax-entry ?_ "w" table)
    table))

(defvar norm-mode-font-lock
  `(("\\\\_<norm\\\\_>[ \\t\\n]+\\\\(\\\\sw+\\\\)" 1 font-lock-type-face)
    (,(regexp-opt '({list_of(STATEMENTS)}) 'words)
     . font-lock-keyword-face)
    (,(regexp-opt '({list_of(soft)}) 'words)
     . font-lock-keyword-face)
    (,(regexp-opt '({list_of(SORTS)}) 'words)
     . font-lock-type-face)
    (,(regexp-opt '({list_of(LITERALS)}) 'words)
     . font-lock-constant-face)
    (,(regexp-opt '({list_of(FUNCTIONS)}) 'words)
     . font-lock-builtin-face)))

;;;###autoload
(define-derived-mode norm-mode prog-mode "Norm"
  "Specs of normalization layers, for metanorm."
  (setq-local comment-start "# ")
  (setq-local comment-start-skip "#+[ \\t]*")
  (setq-local tab-width 2)
  (setq font-lock-defaults '(norm-mode-font-lock nil nil)))

;;;###autoload
(add-to-list 'auto-mode-alist '("\\\\.norm\\\\'" . norm-mode))

(with-eval-after-load 'eglot
  (add-to-list 'eglot-server-programs '(norm-mode . ("metanorm" "lsp"))))

(provide 'norm-mode)
;;; norm-mode.el ends here
"""


def _words(words: Iterable[str]) -> str:
    return rf"\b({'|'.join(sorted(words))})\b"
