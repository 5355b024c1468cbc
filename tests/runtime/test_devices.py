"""All tensors of a call lie on one device: torch's own in-place operations do not say otherwise."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import PROGRAMS
from torch import Tensor, nn

import metanorm
from metanorm import runtime
from metanorm.ir.program import Program
from metanorm.verify.cases import Example, Setting, make_example
from metanorm.verify.compare import call_module, make_module

WORDS = r"\w+: \w+ is on (meta|cpu) and \w+ on (meta|cpu), but all tensors of a call"


Made = tuple[nn.Module, dict[str, Tensor | None], Example]


def made(program: Program, library: ModuleType) -> Made:
    setting = Setting("call")
    built = make_example(program, setting)
    return make_module(program, library, built, setting), built.inputs, built


@pytest.mark.parametrize("target", ["auto", "torch"])
def test_state_on_another_device_is_refused(
    program: Program, target: Any, library: ModuleType
) -> None:
    norm, inputs, built = made(program, library)
    has_state = any(True for _ in norm.parameters()) or any(True for _ in norm.buffers())
    norm = norm.to("meta")
    with runtime.use(target):
        if has_state:
            with pytest.raises(RuntimeError, match=WORDS):
                call_module(program, norm, inputs, built)
        else:
            call_module(program, norm, inputs, built)


@pytest.mark.parametrize("target", ["auto", "torch"])
def test_inputs_on_another_device_are_refused_but_single_numbers_may_be_anywhere(
    program: Program, target: Any, library: ModuleType
) -> None:
    norm, inputs, built = made(program, library)
    moved = {n: None if x is None else x.to("meta") for n, x in inputs.items()}
    tensors = [*norm.parameters(), *(b for n, b in norm.named_buffers() if n not in ("U", "V"))]
    with runtime.use(target):
        if any(tensor.dim() for tensor in tensors):
            with pytest.raises(RuntimeError, match=WORDS):
                call_module(program, norm, moved, built)
        elif tensors:
            assert all(y.is_meta for y in call_module(program, norm, moved, built).values())


@pytest.mark.parametrize("target", ["auto", "torch"])
def test_one_of_many_inputs_is_refused(program: Program, target: Any, library: ModuleType) -> None:
    norm, inputs, built = made(program, library)
    others = [decl.name for decl in program.given_inputs[1:] if inputs[decl.name] is not None]
    for name in others:
        arguments = {**inputs, name: inputs[name].to("meta")}  # type: ignore[union-attr]
        with runtime.use(target), pytest.raises(RuntimeError, match=rf"{name} is on meta and "):
            call_module(program, norm, arguments, built)


def test_the_error_is_named_and_leaves_the_state() -> None:
    norms = metanorm.loads("""
norm Tracked(eps = 1e-5, momentum = 0.1) {
  input  x[N, C = c, *S]
  reduce N, *S
  track  momentum
  affine C
}
""")
    norm = norms.Tracked(4)
    norm.bias = nn.Parameter(norm.bias.to("meta"))
    before = {n: t.clone() for n, t in norm.state_dict().items()}
    with pytest.raises(RuntimeError, match="tracked: bias is on meta and x on cpu, but"):
        norm(torch.randn(2, 4, 3))
    assert all(torch.equal(t, before[n]) for n, t in norm.state_dict().items() if not t.is_meta)


def test_a_matrix_of_a_constructor_is_brought_to_the_input(library: ModuleType) -> None:
    norm = library.MetaNorm(4, U=torch.eye(4), device="meta")
    assert norm.U.is_cpu
    assert norm(torch.empty(4, 4, 3, 3, device="meta")).is_meta


def test_all_norms_are_here() -> None:
    assert len(PROGRAMS) > 100
