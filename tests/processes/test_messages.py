"""How many messages a call sends: one for each stage, in training and in evaluation."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from conftest import PROGRAMS
from pieces import arguments_of, norm_of

import metanorm
from metanorm import runtime
from metanorm.explain.processes import exchanges_by_axis
from metanorm.ir.aggregation import Ones
from metanorm.ir.division import exchanges, message_depths
from metanorm.ir.program import MinimumPoolSize, Program
from metanorm.passes.divided import divided
from metanorm.passes.pipeline import optimize
from metanorm.runtime.processes.call import Processes
from metanorm.runtime.processes.dividable import dividable, output_class_of
from metanorm.verify.cases import Setting, make_example

DIVIDED = [name for name, program in PROGRAMS.items()
           if (known := divided(optimize(program))) and known.variants]  # fmt: skip


class Recorded(Processes):
    """A single process that keeps how many numbers each of its messages would have."""

    def __init__(self, norm: torch.nn.Module, x: torch.Tensor) -> None:
        super().__init__({}, "norm", 0, x, output_class_of(norm))
        self.messages: list[int] = []
        self.axes: list[list[str]] = []  # of each message

    def exchange(self, stage: int, axes: str, *values: Any, **named: Any) -> Any:
        self.messages.append(sum(torch.as_tensor(value).numel() for value in values))
        self.axes.append(axes.split())
        return super().exchange(stage, axes, *values, **named)

    def extremes(self, stage: int, axes: str, *extremes: Any, **named: Any) -> Any:
        self.messages.append(len(extremes))
        self.axes.append(axes.split())
        return super().extremes(stage, axes, *extremes, **named)


def recorded_call(norm: torch.nn.Module, number: int, inputs: dict[str, Any]) -> Recorded:
    """A call of one variant of a norm, with its messages."""
    info = dividable(norm)
    assert info is not None
    recorded = Recorded(norm, inputs[next(iter(info.inputs))])
    with runtime.use("torch"):
        info.variants[number].forward(norm, recorded, **inputs)
    return recorded


def messages(norm: torch.nn.Module, number: int, inputs: dict[str, Any]) -> list[int]:
    """The messages of a call of one variant of a norm."""
    return recorded_call(norm, number, inputs).messages


def stages(program: Program) -> set[object]:
    depths = message_depths(program)
    return {(op.axes, op.is_sum, depths[ref]) for ref, op in exchanges(program).items()}


@pytest.mark.parametrize("name", DIVIDED)
def test_each_stage_is_one_message(name: str, paths: dict[str, str]) -> None:
    program, known = PROGRAMS[name], divided(optimize(PROGRAMS[name]))
    assert known is not None
    for number, variant in enumerate(known.variants):
        expected = len(stages(variant.program))
        for training in (True, False):
            setting = Setting("call", training=training, dtype=torch.float32)
            example = make_example(program, setting)
            norm = norm_of(paths[name], program, example, setting)
            sent = messages(norm, number, arguments_of(example))
            assert len(sent) <= expected, (variant.axes, training)


SAYS = re.compile(r"exchanges .* numbers? in (one|\d+) messages?")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if i % 8 == 0 or n == "SwitchNorm" else pytest.mark.extended)
        for i, n in enumerate(DIVIDED)
    ],
)
def test_explain_counts_the_messages_of_each_axis(name: str, paths: dict[str, str]) -> None:
    program, optimised = PROGRAMS[name], optimize(PROGRAMS[name])
    lines = dict(line.lstrip("*").split(" ", 1) for line in exchanges_by_axis(optimised, program))
    setting = Setting("call", training=True, dtype=torch.float32)
    example = make_example(program, setting)
    norm = norm_of(paths[name], program, example, setting)
    info = dividable(norm)
    assert info is not None
    for axis in info.axes:
        sent = info.variant(frozenset([axis]))
        said = SAYS.match(lines.get(axis, ""))
        assert bool(said) == (sent is not None and sent.sends(frozenset([axis]))), axis
        if said and sent:
            number = info.variants.index(sent)
            axes = recorded_call(norm, number, arguments_of(example)).axes
            count = sum(axis in of_message for of_message in axes)
            # What the arguments turn off takes no message.
            most = 1 if said[1] == "one" else int(said[1])
            assert count <= most and (count == most or program.buffers), (axis, count)


def pooled_whole(program: Program) -> set[str]:
    """The axes of pools that must have several values, if they are pooled as a whole."""
    over = [pair for check in program.checks if isinstance(check, MinimumPoolSize)
            for pair in check.over]  # fmt: skip
    return {axis for axis, _ in over} if all(m == Ones() for _, m in over) else set()


DEMANDING = [name for name in DIVIDED if pooled_whole(PROGRAMS[name])]


@pytest.mark.parametrize("name", DEMANDING)
def test_a_single_value_in_all_processes_is_refused(name: str, paths: dict[str, str]) -> None:
    program, known = PROGRAMS[name], divided(optimize(PROGRAMS[name]))
    assert known is not None
    lengths = dict.fromkeys(pooled_whole(program), (1,))
    example = make_example(program, Setting("call", training=True, lengths=lengths))
    norm = norm_of(paths[name], program, example, Setting("call", training=True))
    for number in range(len(known.variants)):
        with pytest.raises(runtime.ShapeError, match="Expected more than 1 value"):
            messages(norm, number, arguments_of(example))


# A norm, and what it sends in training, in evaluation, and there without running statistics.
CASES = {
    # What both modes measure, and what training alone stores.
    "both": (
        "input x[N, C = channels]\nbuffer b[C] = 0\nupdate b = max(mean(x^2 over N), 1)\n"
        "output normalize(x over N)",
        (10,), (7,),
    ),
    # A count that only training reads, though outside of what it counts.
    "counted": (
        "input x[N, C = channels], keep: mask[N]\nlet m = mean(x over N where keep track 0.1)\n"
        "output where(mode(train: count(over N where keep), eval: 1) > 0, x - m, x)",
        (5,), (),
    ),
    # Statistics of evaluation beside those of both.
    "evaluation": (
        "input x[N, C = channels]\nlet m = mean(x over N)\n"
        "output mode(train: x - m, eval: x - m * rms(x over N))",
        (4,), (7,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_one_mode_needs_is_sent_with_what_both_need(case: str) -> None:
    lines, in_training, in_evaluation = CASES[case]
    norm = metanorm.loads(f"norm A(eps = 1e-5) {{\n{lines}\n}}").A(3)
    inputs: dict[str, Any] = {"x": torch.randn(6, 3)}
    inputs |= {"keep": torch.tensor([True] * 4 + [False] * 2)} if "keep" in lines else {}
    assert messages(norm, 0, inputs) == [*in_training]
    assert messages(norm.eval(), 0, inputs) == [*in_evaluation]
