"""What constructors take for a length, a whole number and a number, and what they refuse."""

from __future__ import annotations

import numpy
import pytest
import torch

import metanorm
from metanorm import runtime

SPECS = metanorm.loads(
    """
norm Grouped(num_groups: int, eps = 1e-5, momentum = 0.1) {
  input  x[N, C = num_channels, *S]
  param  weight[C] = 1
  let    inner = normalize(x over N, *S track momentum)
  output weight * normalize(inner over C: blocks(num_groups), *S)
}
norm Layer(eps = 1e-5) {
  input  x[*B, *D = shape]
  reduce *D
  affine *D
}
"""
)
GOOD = {"num_groups": 2, "num_channels": 4}


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        *(("num_groups", w) for w in (2.0, True, "2", None, (2,), torch.tensor(2.0))),
        *(("num_channels", w) for w in (4.0, 6.5, (4, 6), True, "4", None, -4)),
        *(("eps", w) for w in ("1e-5", None, True, (1,), 1j, torch.tensor(1e-5))),
        *(("momentum", w) for w in ("0.1", True, [0.1])),
    ],
)
def test_arguments_of_another_type_are_refused_by_name(argument: str, wrong: object) -> None:
    with pytest.raises((TypeError, ValueError), match=argument):
        SPECS.Grouped(**(GOOD | {argument: wrong}))


@pytest.mark.parametrize("wrong", [6.5, (4, 6.5), "46", (4, -1), (True,), None])
def test_shapes_of_another_type_are_refused_by_name(wrong: object) -> None:
    with pytest.raises((TypeError, ValueError), match="shape"):
        SPECS.Layer(wrong)


def test_numbers_of_any_type_count_as_what_they_are() -> None:
    x = torch.randn(3, 4, 5)
    plain = SPECS.Grouped(2, 4, 1e-5)
    module = SPECS.Grouped(numpy.int64(2), torch.tensor(4), numpy.float64(1e-5), momentum=None)
    assert type(module.num_groups) is int and isinstance(module.eps, float)
    assert SPECS.Layer([4, numpy.int32(5)]).weight.shape == (4, 5)
    for target in ("torch", "auto"):
        with runtime.use(target):
            torch.testing.assert_close(module(x), plain(x))
