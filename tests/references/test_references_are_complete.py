"""Whatever the language page names has a reference: the list is of the page and its grammar."""

from __future__ import annotations

import re

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

PAGE = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
GRAMMAR = (ROOT / "grammar" / "metanorm.lark").read_text(encoding="utf-8")
SPECS = "\n".join(
    (
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
        (ROOT / "tests" / "runtime" / "test_stated_backward.py").read_text(encoding="utf-8"),
        (ROOT / "tests" / "numerics" / "test_step_norms.py").read_text(encoding="utf-8"),
        (ROOT / "tests" / "native" / "test_recurrence_kernels.py").read_text(encoding="utf-8"),
    )
)
# Names that examples on the page give to values, axes and numbers.
NAMES = set("beta share spread strength momentum groups slope num_classes moments_of learn".split())


def words(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z_]\w+|[-+*/^<>=!]=?|->", text))


def test_every_word_of_the_grammar_is_used() -> None:
    quoted = re.findall(r'"((?:[a-z]+|->|[<>=!]=?|[-+*/^.:]))"', GRAMMAR.split("---- terminals")[0])
    quoted += re.findall(r'^[A-Z]+: "([^"]+)"$', GRAMMAR, re.MULTILINE)
    assert {"norm", "repeat", "over", "off", "init", "where", "->"} <= set(quoted)
    assert not [word for word in quoted if word not in SPECS]


def test_every_operation_is_used() -> None:
    listed = PAGE.split("<!-- begin operations -->")[1].split("<!-- end operations -->")[0]
    spans = re.findall(r"`([^`]+)`", listed)
    assert len(spans) > 50
    functions = [s for s in spans if s.isidentifier()]
    assert not [f for f in functions if not re.search(rf"\b{f}\(|: {f}\b|by {f}", SPECS)]
    operators = [s.strip("ab ") for s in spans if not s.isidentifier()]
    assert not [o for o in operators if o not in words(SPECS)]


def test_every_row_of_the_tables_is_used() -> None:
    """The words of all code in the first columns: sorts, clauses, forms, defaults, edges."""
    rows = re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE)
    named = {w for row in rows for span in re.findall(r"`([^`]+)`", row) for w in words(span)}
    assert {"sparsestmax", "causal", "mask", "buffer", "eye", "repeat"} <= named
    assert not named - words(SPECS) - NAMES


def test_every_target_and_option_is_used() -> None:
    targets = set(re.findall(r"`(?:norm \w+ )?for (\w+)", PAGE))
    assert targets >= {"weight", "gradient", "step", "loss"}
    edges = set(re.findall(r"edge = (\w+)", PAGE)) | {"truncate"}
    options = set(re.findall(r"`(\w+) = [^`]*`", PAGE.split("## Pools")[1].split("## Clauses")[0]))
    assert "ddof" in options
    wanted = {f"for {t} {{" for t in targets} | {f"edge = {e}" for e in edges}
    wanted |= {f"{o} = " for o in (*options, "about", "radius")}
    assert not [w for w in wanted if w not in SPECS]
