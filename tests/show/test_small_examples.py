"""Small examples in plain Python have the values that the oracle computes."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from importlib import import_module
from itertools import product

import pytest
import torch
from conftest import PROGRAMS, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pooled import norm, program_of
from torch import Tensor

from metanorm.frontend import check
from metanorm.ir.nodes import DTYPES
from metanorm.ir.operands import every_let
from metanorm.ir.ops import ELEMENTWISE
from metanorm.ir.program import Program
from metanorm.oracle import interpret as oracle
from metanorm.oracle import simplex
from metanorm.oracle.functions import FUNCTIONS as FUNCTIONS_OF_ORACLE
from metanorm.show.example import CannotDraw, example
from metanorm.show.oracle_call import oracle_call
from metanorm.show.pooled import pool_views
from metanorm.small import interpret
from metanorm.small.dtypes import rounded
from metanorm.small.functions import FUNCTIONS
from metanorm.small.simplex import sparsestmax
from metanorm.workspace import load

sys.path.insert(0, str(ROOT / "tests" / "properties"))
random_norms = import_module("random_specs").norms

SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 30.0, 1e-3, -800.0, 800.0, 1e200, -1e200,
           math.inf, -math.inf, math.nan)  # fmt: skip


def agree(elements: Iterable[float], expected: Tensor) -> None:
    actual = torch.tensor(list(elements), dtype=torch.float64)
    expected = expected.to(torch.float64).flatten()
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12, equal_nan=True)


def check_values(program: Program) -> None:
    """Every value of the example, those in loops too."""
    call = example(program)
    names = [let.name for let in every_let(call.program.body)]
    actual = interpret.values(call, names)
    expected = oracle.values(*oracle_call(program))
    assert names and actual.elements.keys() >= set(names)
    for name in names:
        axes = actual.types[name].axes
        assert actual.sizes(axes) == [expected.size(axis) for axis in axes]
        agree(actual.elements[name], expected.broadcast(name, axes))


CORPUS = {
    f"{path.stem}, {checked.program.name}": checked.program
    for folder in ("tests/good/features", "tests/good/language")
    for path in sorted((ROOT / folder).glob("*.norm"))
    for specs in [load([str(path)])]
    for checked in check(specs.sources, specs.roots).norms[specs.roots[0]]
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_of_the_library(name: str) -> None:
    check_values(PROGRAMS[name])


@pytest.mark.parametrize("name", CORPUS)
def test_values_of_the_corpus(name: str) -> None:
    check_values(CORPUS[name])


def test_values_of_random_norms() -> None:
    @settings(max_examples=60)
    @given(random_norms())
    def check_one(text: str) -> None:
        check_values(program_of(text))

    check_one()


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions(name: str) -> None:
    """At numbers that are hard, at infinities and at NaN."""
    count = len(ELEMENTWISE[name].parameters)
    for arguments in product(SPECIAL if count < 4 else SPECIAL[:6], repeat=count):
        tensors = [torch.tensor(a, dtype=torch.float64) for a in arguments]
        agree([FUNCTIONS[name](*arguments)], FUNCTIONS_OF_ORACLE[name](*tensors))


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_rounded_as_torch_rounds_them(dtype: str) -> None:
    edges = [0.0, 447.0, 448.0, 464.0, 466.0, 57344.0, 65504.0, 65519.0, 65521.0, 3.4e38, 3.5e38]
    spread = [math.copysign(1.37**i, i % 2 - 0.5) for i in range(-350, 300)]
    for x in [*edges, *spread, *(2.0**-i * 1.5 for i in range(160)), math.inf, math.nan]:
        if dtype == "float8_e4m3fn" and abs(x) > 464:
            continue  # versions of torch differ about what lies beyond the largest number
        agree([rounded(x, dtype)], torch.tensor(x, dtype=torch.float64).to(getattr(torch, dtype)))


@given(
    st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=6),
    st.sampled_from((0.0, 0.3, 0.7, 1.0)),
)
def test_sparsestmax(line: list[float], radius: float) -> None:
    tensor = torch.tensor(line, dtype=torch.float64)
    agree(sparsestmax(line, radius), simplex.sparsestmax(tensor, radius))


def test_only_what_is_asked_for_is_computed() -> None:
    call = example(PROGRAMS["BatchNorm"])
    assert not interpret.values(call, []).elements


def test_what_takes_too_long_says_so() -> None:
    """Weights that are means over windows, on axes as long as blocks make them."""
    weight = "mean(w over C: causal)"
    with pytest.raises(CannotDraw, match="takes too long to compute"):
        pool_views(norm("x[N, C], w[N, C]", f"C: blocks(700) weight {weight}"))


def test_lengths_that_divide_nothing_say_so() -> None:
    with pytest.raises(CannotDraw, match="axis C would have 5 positions, no multiple of 2"):
        pool_views(norm("x[N, C = 5]", "C: blocks(groups)", "groups: int"))


def test_a_part_of_an_axis_is_long_enough_to_be_split_again() -> None:
    lengths = example(CORPUS["split_axes, CutPart"]).lengths
    assert lengths["D"] % 3 == 0 and lengths["C"] == lengths["G"] * lengths["D"]
