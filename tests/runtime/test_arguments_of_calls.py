"""What a call takes for its input and for a number of groups, and what it refuses in words."""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

import numpy
import pytest
import torch
from conftest import PROGRAMS

import metanorm
from metanorm import runtime
from metanorm.ir.program import Program
from metanorm.verify.cases import Setting, make_example
from metanorm.verify.compare import call_module, make_module

TARGETS = ["auto", "native", "torch"]


@pytest.mark.parametrize("target", ["auto", "torch"])
def test_an_input_that_is_no_tensor(program: Program, target: Any, library: ModuleType) -> None:
    setting = Setting("call")
    built = make_example(program, setting)
    norm = make_module(program, library, built, setting)
    name = program.inputs[0].name
    for wrong in (None, [1.0, 2.0], numpy.ones(3), 1.0):
        arguments: Any = {**built.inputs, name: wrong}
        said = rf"{program.name}: {name} must be a tensor, got (None|a \w+)$"
        with runtime.use(target), pytest.raises(TypeError, match=said):
            call_module(program, norm, arguments, built)


FURTHER = [(p.name, i.name) for p in PROGRAMS.values() for i in p.given_inputs[1:]]


@pytest.mark.parametrize("target", ["auto", "torch"])
@pytest.mark.parametrize(("norm", "name"), FURTHER)
def test_a_further_input_that_is_no_tensor(
    norm: str, name: str, target: Any, library: ModuleType
) -> None:
    program, setting = PROGRAMS[norm], Setting("call")
    built = make_example(program, setting)
    module = make_module(program, library, built, setting)
    decl = next(i for i in program.inputs if i.name == name)
    before = copy.deepcopy(module.state_dict())
    original = built.inputs[name]
    assert original is not None
    for wrong in (None, original.tolist(), original.numpy(), 1.0, "x", True):
        if wrong is None and not decl.required:
            continue
        arguments: Any = {**built.inputs, name: wrong}
        said = rf"^{norm}: {name} must be a tensor, got (None|a \w+)$"
        with runtime.use(target), pytest.raises(TypeError, match=said):
            call_module(program, module, arguments, built)
    for key, value in module.state_dict().items():
        assert value.equal(before[key]), key


@pytest.mark.parametrize("target", ["auto", "torch"])
def test_an_input_that_is_left_out_tells_no_length(target: Any) -> None:
    norm = metanorm.loads("""
norm Known {
  input  x[N, C], trust[N, K = parts] = 2, late[N, J] = 3, sure[J], m: mask[N, J] = true
  buffer kept[K] = 1
  output x * mean(trust * kept over K) + sum(late * sure over J where m)
}
""").Known(4)
    x, sure, late = torch.randn(2, 3), torch.randn(5), torch.randn(2, 5)
    with runtime.use(target):
        torch.testing.assert_close(norm(x, None, None, sure), 2 * x + 3 * sure.sum())
        expected = 2 * x + (late * sure).sum(1, keepdim=True)
        torch.testing.assert_close(norm(x, None, late, sure), expected)
        for wrong in ((torch.ones(2, 3), None, sure), (None, late[:, 1:], sure)):
            with pytest.raises(runtime.ShapeError, match=r"Known: (trust|late) has shape"):
                norm(x, *wrong)


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
