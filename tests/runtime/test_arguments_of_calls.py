"""What a call takes for its input and for a number of groups, and what it refuses in words."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy
import pytest
import torch
from conftest import PROGRAMS

import metanorm
from metanorm import runtime
from metanorm.ir.nodes import Program
from metanorm.verify.cases import Setting, build
from metanorm.verify.compare import call, make

TARGETS = ["auto", "native", "torch"]


@pytest.mark.parametrize("target", ["auto", "torch"])
def test_an_input_that_is_no_tensor(program: Program, target: Any, library: ModuleType) -> None:
    setting = Setting("call")
    built = build(program, setting)
    norm = make(program, library, built, setting)
    name = program.inputs[0].name
    for wrong in (None, [1.0, 2.0], numpy.ones(3), 1.0):
        given: Any = {**built.inputs, name: wrong}
        said = rf"{program.name}: {name} must be a tensor, got (None|a \w+)$"
        with runtime.use(target), pytest.raises(TypeError, match=said):
            call(program, norm, given, built)


@pytest.fixture(scope="module")
def groups() -> Any:
    return metanorm.loads("""
norm Grouped { input x[N, C], batch: index[N]  output x - mean(x over N: batch) }
""").Grouped()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("wrong", [True, "3", 2.0, (2,), torch.tensor(2)])
def test_a_number_of_groups_of_another_type(groups: Any, wrong: Any, target: Any) -> None:
    with runtime.use(target), pytest.raises(TypeError, match="number of groups must be an int"):
        groups(torch.randn(3, 2), torch.zeros(3, dtype=torch.int64), wrong)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("wrong", [0, -1])
def test_a_number_of_groups_below_one(groups: Any, wrong: int, target: Any) -> None:
    with runtime.use(target), pytest.raises(ValueError, match=f"at least 1, got {wrong}"):
        groups(torch.randn(3, 2), torch.zeros(3, dtype=torch.int64), wrong)


@pytest.mark.parametrize("target", ["auto", "torch"])
def test_whole_numbers_of_any_type_and_no_groups_of_nothing(groups: Any, target: Any) -> None:
    x, batch = torch.randn(3, 2), torch.tensor([0, 1, 0])
    with runtime.use(target):
        torch.testing.assert_close(groups(x, batch, numpy.int64(2)), groups(x, batch))
        assert groups(x[:0], batch[:0], 0).shape == (0, 2)


def test_all_norms_are_here() -> None:
    assert len(PROGRAMS) > 100
