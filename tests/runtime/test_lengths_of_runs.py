"""Lengths of runs, which the runtime computes as the compiler would."""

from __future__ import annotations

import pytest

from metanorm.ir import scalar
from metanorm.ir.scalar import Apply, Const, Hyper, SizeOf
from metanorm.runtime.kernels import scalars
from metanorm.runtime.kernels.errors import Unsupported
from metanorm.targets.kernel_table import scalar_as_json


def test_the_runtime_knows_every_function_of_scalars() -> None:
    assert scalars.FUNCTIONS.keys() == scalar.FUNCTIONS.keys()


@pytest.mark.parametrize("length", [0, 1, 3, 10, 1000])
@pytest.mark.parametrize("ratio", [0.5, 0.7, 1 / 3, 0.29])
def test_a_share_is_what_the_compiler_says(length: int, ratio: float) -> None:
    share = Apply("floor", (Apply("mul", (Hyper("ratio"), SizeOf("C"))),))
    rest = Apply("sub", (SizeOf("C"), Apply("max", (share, Const(1.0)))))
    names, sizes = {"ratio": ratio}, {"C": length}
    for number in (share, rest):
        right = scalar.evaluate(number, names, sizes)
        if right >= 0:
            assert scalars.whole_number(scalar_as_json(number), names, sizes) == right


@pytest.mark.parametrize(
    "number", [-1.0, 0.5, "ratio", ["size", "D"], ["div", 1.0, 0.0], ["floor", "text"], "None"]
)
def test_what_is_no_length_is_not_served(number: scalars.Scalar) -> None:
    with pytest.raises(Unsupported):
        scalars.whole_number(number, {"ratio": 0.3, "text": "a", "None": None}, {"C": 4})
