"""How C is printed: what layouts share, where expressions end, and what a worker touches."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metanorm.driver import compile_specs
from metanorm.options import Options
from metanorm.targets.native.alternatives import with_alternatives
from metanorm.targets.native.cir import Alternatives, Define, Function, ReturnVoid
from metanorm.targets.native.text_from_cir import text_from_cir
from metanorm.workspace import load

ROOT = Path(__file__).parent.parent.parent
A, B, C, D = (Define(name, "1") for name in "ABCD")
# As many lines as a spec's C has at most, so that it can be read; 10,854 was the longest.
LONGEST = 5600


def c_of(spec: str) -> str:
    specs = load([str(ROOT / "specs" / f"{spec}.norm")])
    files = compile_specs(specs.sources, specs.roots, Options()).files
    assert files is not None
    return files[f"{spec}.c"]


def sections(text: str) -> dict[str, str]:
    return dict(re.findall(r"#ifdef (\w+)\n(.*?)#endif /\* \1 \*/", text, re.DOTALL))


def test_what_all_layouts_have_is_there_once() -> None:
    merged = list(with_alternatives({"X": (A, B, C), "Y": (A, D, C)}))
    assert merged == [A, Alternatives(((("X",), (B,)), (("Y",), (D,)))), C]


def test_what_one_layout_lacks_is_left_out_for_it() -> None:
    merged = list(with_alternatives({"X": (A, B), "Y": (A,)}))
    assert merged == [A, Alternatives(((("X",), (B,)),))]


def test_layouts_that_agree_share_a_case() -> None:
    f, g = (Function("", "int", "f", (), (ReturnVoid(),) * n) for n in (1, 2))
    merged = list(with_alternatives({"X": (A, f), "Y": (A, g), "Z": (A, f)}))
    assert merged == [A, Alternatives(((("X", "Z"), (f,)), (("Y",), (g,))))]
    assert "#if defined X || defined Z" in text_from_cir(merged)


def test_constants_go_with_the_functions_beside_them() -> None:
    f, g = (Function("", "int", "f", (), (ReturnVoid(),) * n) for n in (1, 2))
    other = Define("A", "2")
    merged = list(with_alternatives({"X": (f, A), "Y": (g, A), "Z": (f, other)}))
    (block,) = merged
    assert isinstance(block, Alternatives)
    assert [names for names, _ in block.cases] == [("X",), ("Y",), ("Z",)]


def test_what_is_in_another_order_is_not_shared() -> None:
    merged = list(with_alternatives({"X": (A, B), "Y": (B, A)}))
    for name, order in (("X", [A, B]), ("Y", [B, A])):
        results = [d for part in merged for d in expanded(part, name)]
        assert results == order


def expanded(part: object, name: str) -> list[object]:
    if isinstance(part, Alternatives):
        return [d for names, definitions in part.cases if name in names for d in definitions]
    return [part]


def test_one_layout_needs_no_alternatives() -> None:
    assert list(with_alternatives({"X": (A, B)})) == [A, B]


def test_cells_are_worked_on_by_one_text_for_all_layouts() -> None:
    text = sections(c_of("batch_channel_norm"))["BATCH_CHANNEL_NORM_TRAIN_BACKWARD"]
    for function in ("prepare", "finalize_0", "finalize_1", "finalize_2", "finish"):
        assert len(re.findall(rf"^static void {function}\(", text, re.MULTILINE)) == 1, function
    assert len(re.findall(r"^static void sweep_1\(", text, re.MULTILINE)) == 3


def test_a_worker_adds_up_the_columns_of_its_own_islands() -> None:
    text = sections(c_of("batch_channel_norm"))["BATCH_CHANNEL_NORM_TRAIN_BACKWARD"]
    (finalizer,) = re.findall(r"static void finalize_2\(.*?\n}\n", text, re.DOTALL)
    calls = re.findall(r"sums_across\(.*?\);", finalizer, re.DOTALL)
    assert calls
    for call in calls:
        assert "high(r, AXIS_G, v->size_G) - low(r, AXIS_G)" in " ".join(call.split())


@pytest.mark.parametrize("spec", ["batch_channel_norm", "ilm_norm", "task_norm"])
def test_the_longest_files_do_not_grow(spec: str) -> None:
    assert c_of(spec).count("\n") < LONGEST
