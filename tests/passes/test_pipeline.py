"""Every pass leaves the meaning of every program alone: the oracle interprets both."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from importlib import import_module

import pytest
import torch
from conftest import PROGRAMS, ROOT
from hypothesis import assume, given, settings
from tiers import modes
from torch import Tensor

from metanorm.frontend import check
from metanorm.ir.dump import type_text
from metanorm.ir.nodes import Buffer, Let, Type
from metanorm.ir.program import Program
from metanorm.ir.space import Space
from metanorm.ir.verify import verify
from metanorm.oracle.call import Call
from metanorm.oracle.interpret import interpret
from metanorm.passes.pipeline import (
    BACKWARD_PASSES,
    FINAL_PASSES,
    FORWARD_PASSES,
    PIPELINE,
    optimize,
    reasons,
    stages,
)
from metanorm.source import Source, Span
from metanorm.verify.cases import Example, Setting, make_example
from metanorm.verify.reference import combined_loss
from metanorm.workspace import load

sys.path.append(str(ROOT / "tests" / "properties"))
random_norms = import_module("random_specs").norms

CORPUS = {
    norm.program.name: norm.program
    for folder in ("tests/good/features", "tests/good/language")
    for path in sorted((ROOT / folder).glob("*.norm"))
    for specs in [load([str(path)])]
    for norm in check(specs.sources, specs.roots).norms[specs.roots[0]]
}
NOWHERE = Span("", 0, 0)
EVERYTHING = {**CORPUS, **PROGRAMS}
NON_NEGATIVE = ("DoublyStochastic",)  # what such a norm takes: elsewhere it is NaN


@dataclass
class Answer:
    """What the oracle makes of a program: values and gradients by name."""

    values: dict[str, Tensor]
    gradients: dict[str, Tensor]


def answer(program: Program, built: Example, training: bool, keeps: bool = True) -> Answer:
    """The program on these inputs, with parameters and buffers that are not at neutral values."""
    generator = torch.Generator().manual_seed(3)

    def state(dims: tuple[str, ...]) -> Tensor:
        shape = [n for dim in dims for n in built.shapes[dim]]
        return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5

    params = {p.name: state(p.dims).requires_grad_() for p in program.params}
    buffers = {b.name: state(b.dims) for b in program.buffers}
    tensors = {**built.inputs, **built.drawn}
    inputs = {n: x.detach().clone() if x is not None else None for n, x in tensors.items()}
    for x in inputs.values():
        if x is not None and x.is_floating_point():
            x.requires_grad_()
    hypers = {a.name: built.arguments.get(a.name, a.default) for a in program.arguments}
    call = Call(inputs, params, buffers, hypers, built.groups, training, keeps, epsilon=1e-5)
    result = interpret(reading_all_buffers(program), call)
    leaves = params | {n: x for n, x in inputs.items() if x is not None and x.requires_grad}
    loss = combined_loss(result.outputs, program)
    gradients = torch.autograd.grad(
        loss, list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    values = {**result.outputs, **result.updates}
    return Answer({n: v.detach() for n, v in values.items()}, dict(zip(leaves, gradients)))


def reading_all_buffers(program: Program) -> Program:
    """The oracle updates a buffer from what the body read of it, and a pass may drop a read."""
    space, names = Space(program.axes), {let.name for let in program.body}
    reads = []
    for buffer in program.buffers:
        if buffer.name not in names:
            axes = space.ordered(leaf for dim in buffer.dims for leaf in space.leaves(dim))
            reads.append(Let(buffer.name, Buffer(buffer.name), Type("real", axes), NOWHERE))
    return replace(program, body=(*reads, *program.body))


def close(actual: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    """Equal names, and numbers that are equal beside the largest of them."""
    assert actual.keys() == wanted.keys()
    for name, right in wanted.items():
        scale = float(right.abs().max().clamp_min(1)) if right.numel() else 1.0
        torch.testing.assert_close(
            actual[name], right, rtol=0, atol=tolerance * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def modes_of(program: Program) -> list[tuple[bool, bool]]:
    """The ways to call a norm that it can tell apart: in training or not, keeping statistics or
    not."""
    keeping = (True, False) if program.buffers else (True,)
    return [(training, keeps) for training in modes(program) for keeps in keeping]


def unchanged(program: Program, tolerance: float = 1e-11) -> None:
    """All passes, one after the other, with the numbers that each leaves."""
    built = make_example(program, Setting("train"))
    if program.name in NON_NEGATIVE:
        built.inputs = {n: x if x is None else x.abs() for n, x in built.inputs.items()}
    wanted = {mode: answer(program, built, *mode) for mode in modes_of(program)}
    before = program
    for name, after in stages(program):
        if after == before:  # the pass found nothing to do
            continue
        before = after
        verify(after)
        for mode in wanted:
            actual = answer(after, built, *mode)
            try:
                close(actual.values, wanted[mode].values, tolerance)
                close(actual.gradients, wanted[mode].gradients, tolerance)
            except AssertionError as error:
                raise AssertionError(f"{name} changes {program.name} in {mode}: {error}") from error


def smooth(program: Program, tolerance: float) -> bool:
    """Whether rounding errors of the input make no difference: none sits on a kink."""
    built = make_example(program, Setting("train"))
    wanted = {mode: answer(program, built, *mode) for mode in modes_of(program)}
    generator = torch.Generator().manual_seed(4)
    for _ in range(2):
        moved = make_example(program, Setting("train"))
        for x in moved.inputs.values():
            if x is not None and x.is_floating_point():
                x *= 1 + 1e-14 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        for mode in wanted:
            actual = answer(program, moved, *mode)
            try:
                close(actual.values, wanted[mode].values, tolerance)
                close(actual.gradients, wanted[mode].gradients, tolerance)
            except AssertionError:
                return False
    return True


@pytest.mark.parametrize("name", EVERYTHING)
def test_no_pass_changes_a_norm_of_the_corpus(name: str) -> None:
    unchanged(EVERYTHING[name])


@settings(max_examples=60)
@given(random_norms())
def test_no_pass_changes_a_random_norm(text: str) -> None:
    checked = check({"random.norm": Source.of("random.norm", text)}, ["random.norm"])
    assert checked.ok, checked.diagnostics
    program = checked.norms["random.norm"][0].program
    # Nearly equal values that are normalized make rounding errors 1 / sqrt(eps) larger.
    assume(smooth(program, 1e-8))
    unchanged(program, 1e-7)


def work(program: Program) -> Counter[str]:
    """How often each operation comes, and on which axes."""
    ops = [(let.op, type_text(let.type)) for let in program.body]
    return Counter(f"{getattr(op, 'function', type(op).__name__)} {axes}" for op, axes in ops)


@pytest.mark.parametrize("name", EVERYTHING)
def test_optimizing_twice_is_optimizing_once(name: str) -> None:
    once = optimize(EVERYTHING[name])
    twice = optimize(once, check=True)
    assert work(twice) == work(once)


def test_the_names_of_the_passes_are_those_of_their_modules() -> None:
    modules = {path.stem for path in (ROOT / "metanorm" / "passes").glob("*.py")}
    rest = {"__init__", "affine", "algebra", "builder", "derivatives", "directions", "pipeline"}
    rest |= {
        "compositions",
        "cut_blocks",
        "divided",
        "gradients_of_messages",
        "joint_messages",
        "pool_adjoints",
        "integral",
        "local_sweeps",
        "sweep_programs",
    }
    assert {*reasons()} == modules - rest
    passes = (*PIPELINE, *FORWARD_PASSES, *BACKWARD_PASSES, *FINAL_PASSES)
    assert all(step.run.__name__ == step.name and step.why_here for step in passes)
    assert all(reasons().values())
