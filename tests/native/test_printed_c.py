"""How C is printed: what layouts share, where expressions end, and what a worker touches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from metanorm.driver import compile_specs
from metanorm.options import Options
from metanorm.targets.native.alternatives import with_alternatives
from metanorm.targets.native.cir import (
    Alternatives,
    Apply,
    Define,
    ExprStmt,
    Function,
    InLayouts,
    Stmt,
    Struct,
)
from metanorm.targets.native.conditions import condition_text, simplified
from metanorm.targets.native.text_from_cir import text_from_cir
from metanorm.workspace import load

ROOT = Path(__file__).parent.parent.parent
A, B, C, D = (Define(name, "1") for name in "ABCD")
# As many lines as the C of a spec has at most, so that it can be read; 10,854 were once. These are
# the longest ones, and a norm whose C a programmer should be able to review in ten minutes.
LONGEST = {
    "batch_channel_norm": 1875,
    "conditional_norm": 2850,
    "group_norm": 700,
    "ilm_norm": 2450,
    "online_norm": 2850,
    "task_norm": 1860,
    "test_time_norm": 2400,
    "united_norm": 4600,
}


def c_of(spec: str) -> str:
    specs = load([str(ROOT / "specs" / f"{spec}.norm")])
    files = compile_specs(specs.sources, specs.roots, Options()).files
    assert files is not None
    return files[f"{spec}.c"]


def sections(text: str) -> dict[str, str]:
    """The sections, by the first macro that selects each."""
    pattern = r"^#if(?:def| defined) (\w+)\b(.*?)^#endif /\* \1(?: and others)? \*/"
    return dict(re.findall(pattern, text, re.DOTALL | re.MULTILINE))


def test_what_all_layouts_have_is_there_once() -> None:
    merged = list(with_alternatives({"X": (A, B, C), "Y": (A, D, C)}))
    assert merged == [A, Alternatives(((("X",), (B,)), (("Y",), (D,)))), C]


def test_what_one_layout_lacks_is_left_out_for_it() -> None:
    merged = list(with_alternatives({"X": (A, B), "Y": (A,)}))
    assert merged == [A, Alternatives(((("X",), (B,)),))]


def function(*called: str) -> Function:
    return Function("", "int", "f", (), tuple(ExprStmt(Apply(name, ())) for name in called))


def test_layouts_that_agree_share_a_case() -> None:
    f, g = function("f_1"), function("g_1")
    merged = list(with_alternatives({"X": (A, f), "Y": (A, g), "Z": (A, f)}))
    assert merged == [A, Alternatives(((("X", "Z"), (f,)), (("Y",), (g,))))]
    assert "#if defined X || defined Z" in text_from_cir(merged)


def test_constants_go_with_the_functions_beside_them() -> None:
    f, g = function("f_1"), function("g_1")
    other = Define("A", "2")
    merged = list(with_alternatives({"X": (f, A), "Y": (g, other), "Z": (f, A)}))
    assert merged == [Alternatives(((("X", "Z"), (f, A)), (("Y",), (g, other))))]


def test_no_function_is_there_twice_for_the_sake_of_a_constant() -> None:
    f, g = function("f_1"), function("g_1")
    other = Define("A", "2")
    merged = list(with_alternatives({"X": (f, A), "Y": (g, A), "Z": (f, other)}))
    assert merged == [
        Alternatives(((("X", "Z"), (f,)), (("Y",), (g,)))),
        Alternatives(((("X", "Y"), (A,)), (("Z",), (other,)))),
    ]


def test_statements_of_one_layout_stand_in_a_function_of_all() -> None:
    layouts = {"X": (function("a", "b", "c"),), "Y": (function("a", "d", "c"),)}
    text = text_from_cir(list(with_alternatives(layouts)))
    assert text.splitlines() == [
        "static int f() {",
        "    a();",
        "#if defined X",
        "    b();",
        "#elif defined Y",
        "    d();",
        "#endif",
        "    c();",
        "}",
    ]


@pytest.mark.parametrize("order", [("X", "Y", "Z"), ("Z", "X", "Y")])
def test_a_merged_function_has_the_statements_of_each_layout_in_order(
    order: tuple[str, ...],
) -> None:
    called = {"X": "aabcdefgh", "Y": "abcxdefgh", "Z": "abcdefghbcd"}
    (merged,) = with_alternatives({name: (function(*called[name]),) for name in order})
    assert isinstance(merged, Function) and any(isinstance(s, InLayouts) for s in merged.body)
    for name in order:
        assert tuple(statements_of(merged.body, name)) == function(*called[name]).body


def statements_of(body: Iterable[Stmt], layout: str) -> Iterator[Stmt]:
    for s in body:
        cases = s.cases if isinstance(s, InLayouts) else (((layout,), (s,)),)
        yield from (inner for names, case in cases if layout in names for inner in case)


def test_functions_of_which_less_than_half_is_alike_stand_apart() -> None:
    layouts = {"X": (function("a", "b", "c"),), "Y": (function("a", "d", "e"),)}
    (apart,) = with_alternatives(layouts)
    assert isinstance(apart, Alternatives)


def test_a_structure_has_the_members_of_all_layouts() -> None:
    def struct(*names: str, type: str = "real") -> Struct:
        return Struct("", "values", (("size_t", ("kept",)), (type, names)))

    (merged,) = with_alternatives({"X": (struct("*a", "*b"),), "Y": (struct("*a", "*c"),)})
    assert merged == struct("*a", "*b", "*c")
    (apart,) = with_alternatives({"X": (struct("*a"),), "Y": (struct("*a", type="int"),)})
    assert isinstance(apart, Alternatives)


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
    """The section is that of two norms in training and in evaluation. What these compute per cell
    differs; but each of the four has one text, which is for all of its layouts."""
    text = sections(c_of("batch_channel_norm"))["BATCH_CHANNEL_NORM_TRAIN_BACKWARD"]
    for function in "prepare before_sweeps after_measure_d_output after_write_d_x finish".split():
        conditions = conditions_of(function, text)
        kernels = [kernel for c in conditions for kernel in re.findall(r"defined (\w+)", c)]
        assert sorted(kernels) == sorted(BATCH_CHANNEL_KERNELS), function
    of_sweep = conditions_of("measure_d_output", text)
    assert of_sweep == [f"defined ALONG_{axis}" for axis in "SCD"]


BATCH_CHANNEL_KERNELS = [
    f"{norm}BATCH_CHANNEL_NORM_{mode}_BACKWARD"
    for norm in ("", "ESTIMATED_")
    for mode in ("TRAIN", "EVAL")
]


def conditions_of(function: str, text: str) -> list[str]:
    """The condition of each text of a function: `defined A || defined B`."""
    conditions: list[str] = []
    condition = ""
    for line in text.replace("\\\n", " ").split("\n"):
        if directive := re.match(r"#(?:el)?if (.*)", line):
            condition = " ".join(directive[1].split())
        elif line == "#endif":
            condition = ""
        elif line.startswith(f"static void {function}("):
            conditions.append(condition)
    return conditions


def test_training_and_evaluation_share_their_sweeps() -> None:
    by_section = sections(c_of("batch_channel_norm"))
    for section, sweeps in (
        ("BATCH_CHANNEL_NORM_TRAIN_FORWARD", "measure_x write_output"),
        ("BATCH_CHANNEL_NORM_TRAIN_BACKWARD", "measure_d_output write_d_x"),
    ):
        for sweep in sweeps.split():
            assert texts_of(sweep, by_section[section]) == 3, sweep  # one for each layout


def texts_of(function: str, text: str) -> int:
    return len(re.findall(rf"^static void {function}\(", text, re.MULTILINE))


def test_kernels_that_compute_much_the_same_stand_in_one_section() -> None:
    text = c_of("test_time_norm")
    heads = re.findall(r"^#if defined .*_FORWARD(?:.*\\\n)*.*$", text, re.MULTILINE)
    norms = ("PRIOR_BATCH_NORM_TRAIN_FORWARD", "PRIOR_BATCH_NORM_EVAL_FORWARD")
    assert any(all(f"defined {norm}" in head for norm in norms) for head in heads)
    assert text.count("ENTRY(forward)") < text.count('"forward": {')


BUILDS = ("A S", "A C", "B S", "B C")


@pytest.mark.parametrize(
    ("chosen", "among", "macros"),
    [
        (("A S", "B S"), BUILDS, ("S",)),
        (("A S", "A C"), BUILDS, ("A",)),
        (("A S", "A C", "B C"), BUILDS, ("C", "A S")),
        (("B C",), BUILDS, ("B C",)),
        (("B C",), ("A S", "B C", "A C"), ("B",)),
        (("A S", "B C"), BUILDS, ("A S", "B C")),
    ],
)
def test_builds_are_named_by_few_macros(
    chosen: tuple[str, ...], among: tuple[str, ...], macros: tuple[str, ...]
) -> None:
    assert simplified(chosen, among) == macros
    defines_one = {
        build: any(set(name.split()) <= set(build.split()) for name in macros) for build in among
    }
    assert [build for build in among if defines_one[build]] == [b for b in among if b in chosen]


def test_a_directive_names_both_macros_of_a_build() -> None:
    text = text_from_cir([Alternatives(((("A S", "C"), (A,)), (("B",), (B,))))])
    assert text.splitlines()[0] == "#if (defined A && defined S) || defined C"
    assert "#elif defined B" in text


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("A",), "defined A"),
        (("A", "B"), "defined A || defined B"),
        (("A S",), "defined A && defined S"),
        (("A S", "B S"), "(defined A || defined B) && defined S"),
        (("A S", "A C"), "defined A && (defined S || defined C)"),
        (
            ("A S", "B S", "A C", "B C"),
            "(defined A || defined B) && (defined S || defined C)",
        ),
        (
            ("A S", "B S", "A C"),
            "((defined A || defined B) && defined S) || (defined A && defined C)",
        ),
        (("D", "A S", "B S"), "defined D || ((defined A || defined B) && defined S)"),
    ],
)
def test_conditions_say_once_what_builds_have_in_common(names: tuple[str, ...], text: str) -> None:
    assert condition_text(names) == text


def test_a_worker_adds_up_the_columns_of_its_own_islands() -> None:
    text = sections(c_of("batch_channel_norm"))["BATCH_CHANNEL_NORM_TRAIN_BACKWARD"]
    finalizers = re.findall(r"static void after_write_d_x\(.*?\n}\n", text, re.DOTALL)
    calls = re.findall(r"sums_across\(.*?\);", "".join(finalizers), re.DOTALL)
    assert calls
    for call in calls:
        assert "high(r, AXIS_G, v->size_G) - low(r, AXIS_G)" in " ".join(call.split())


@pytest.mark.parametrize("spec", LONGEST)
def test_the_longest_files_do_not_grow(spec: str) -> None:
    assert c_of(spec).count("\n") < LONGEST[spec]
