"""Whatever the language page names has a reference: the list is of the page and its grammar.

Specs are read as the grammar reads them, so that a word in a comment or in a longer name, or in the
Python around a spec, is no reference.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import test_cells_by_hand
import test_choices_by_hand
import test_clauses_by_hand
import test_draws_by_hand
import test_dtypes_by_hand
import test_entries_by_hand
import test_offsets_by_hand
import test_operations_by_hand
import test_permutations_by_hand
import test_pieces_by_hand
import test_pools_by_hand
import test_state_by_hand
import test_switches_by_hand
from conftest import ROOT
from test_spec_examples import GOOD as WITH_EXAMPLES

from metanorm.syntax.grammar import parser

PAGE = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
GRAMMAR = re.sub(
    r"^//.*$", "", (ROOT / "grammar" / "metanorm.lark").read_text(encoding="utf-8"), flags=re.M
)


def specs_in(path: Path) -> Iterator[str]:
    """The specs among the strings of a Python file; what an f-string inserts is left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        text = " ".join(
            p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)
        )
        if re.search(r"^\s*norm \w+", text, re.MULTILINE):
            yield text


def words(text: str) -> list[str]:
    """The words and signs of a text, as the grammar tells them apart."""
    skipped = ("COMMENT", "SPACE", "NUMBER", "STRING")
    return [str(t) for t in parser().lex(text, dont_ignore=True) if t.type not in skipped]


SPECS = [
    *(r.text for r in test_operations_by_hand.references),
    *(r.text for r in test_pools_by_hand.references),
    *(r.text for r in test_clauses_by_hand.references),
    *(r.text for r in test_cells_by_hand.references),
    test_choices_by_hand.SPEC,
    test_draws_by_hand.SPEC,
    test_dtypes_by_hand.SPEC,
    test_entries_by_hand.SPEC,
    test_offsets_by_hand.SPEC,
    test_permutations_by_hand.SPEC,
    test_pieces_by_hand.SPEC,
    test_state_by_hand.SPEC,
    test_switches_by_hand.SPEC,
    WITH_EXAMPLES,
    *specs_in(ROOT / "tests" / "runtime" / "test_stated_backward.py"),
    *specs_in(ROOT / "tests" / "numerics" / "test_step_norms.py"),
    *specs_in(ROOT / "tests" / "native" / "test_recurrence_kernels.py"),
]
WORDS = {word for spec in SPECS for word in words(spec)}
PAIRS = {pair for spec in SPECS for pair in pairwise(words(spec))}  # of adjacent words
# Names that examples on the page give to values, axes and numbers.
NAMES = set("beta share spread strength momentum groups slope num_classes moments_of learn".split())


def test_every_word_of_the_grammar_is_used() -> None:
    quoted = re.findall(r'"((?:[a-z]+|->|[<>=!]=?|[-+*/^.:]))"', GRAMMAR.split("---- terminals")[0])
    quoted += re.findall(r'^[A-Z]+: "([^"]+)"$', GRAMMAR, re.MULTILINE)
    assert {"norm", "repeat", "over", "off", "init", "where", "->"} <= set(quoted)
    assert set(quoted) <= WORDS, set(quoted) - WORDS


def test_every_operation_is_used() -> None:
    listed = PAGE.split("<!-- begin operations -->")[1].split("<!-- end operations -->")[0]
    spans = re.findall(r"`([^`]+)`", listed)
    assert len(spans) > 50
    functions = {s for s in spans if s.isidentifier()}
    used = {f for f in functions if {(f, "("), (":", f), ("by", f)} & PAIRS}
    assert used == functions, functions - used
    operators = {s.strip("ab ") for s in spans if not s.isidentifier()}
    assert operators <= WORDS, operators - WORDS


def test_every_row_of_the_tables_is_used() -> None:
    """The words of all code in the first columns: sorts, clauses, forms, defaults, edges."""
    rows = re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE)
    spans = [span for row in rows for span in re.findall(r"`([^`]+)`", row.replace(r"\|", "|"))]
    named = {word for span in spans for word in words(span) if len(word) > 1 or not word.isalpha()}
    assert {"sparsestmax", "causal", "mask", "buffer", "eye", "repeat"} <= named
    assert named <= WORDS | NAMES, named - WORDS - NAMES


def test_every_target_and_option_is_used() -> None:
    targets = set(re.findall(r"`(?:norm \w+ )?for (\w+)", PAGE))
    assert targets >= {"weight", "gradient", "step", "loss"}
    edges = set(re.findall(r"edge = (\w+)", PAGE)) | {"truncate"}
    options = set(re.findall(r"`(\w+) = [^`]*`", PAGE.split("## Pools")[1].split("## Clauses")[0]))
    assert "ddof" in options
    wanted = {("for", t) for t in targets} | {("=", e) for e in edges}
    wanted |= {(o, "=") for o in (*options, "about", "radius")}
    assert wanted <= PAIRS, wanted - PAIRS
