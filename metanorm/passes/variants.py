"""The variants of a program: one for each way its modes can go, without any mode left in it.

Each kernel computes one variant. Evaluation with running statistics pools nothing at all, which no
`if` inside a loop could achieve.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import replace
from itertools import product

from metanorm.ir.flags import choosing_flags, flag_of
from metanorm.ir.mode_placement import mode_kind
from metanorm.ir.nodes import Expand, Let, Map, Mode, Ref
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.passes.builder import Builder
from metanorm.passes.fold import fold
from metanorm.passes.split import split

# By the name of a variant: the branch of modes with running statistics, and of modes without. Only
# `train` updates buffers; `batch` is evaluation without running statistics, on those of the batch.
VARIANTS = {
    "train": ("train", "train"),
    "eval": ("eval", "eval"),
    "batch": ("train", "eval"),
}


def variants(program: Program) -> dict[str, Program]:
    """The variants that differ, by name: `train` alone where there is no mode.

    Each flag by which the program chooses doubles them: `eval_with_flag` is `eval` with it true.
    """
    programs: dict[str, Program] = {}
    flags = choosing_flags(program)
    for values in product((False, True), repeat=len(flags)):
        flag_values = dict(zip(flags, values))
        decided = _with_flags(program, flag_values)
        suffix = "".join(f"_with_{flag}" for flag, value in flag_values.items() if value)
        for name in _variant_names(program):
            programs[f"{name}{suffix}"] = _without_modes(decided, name)
    return programs


def _with_flags(program: Program, flag_values: dict[str, bool]) -> Program:
    """The program with every choice made that these flags decide."""
    if not flag_values:
        return program
    ops, flags = program.index.ops, frozenset(flag_values)
    builder = Builder(program)
    full = _read_with_all_axes(program)
    for let in program.body:
        flag = flag_of(let.op, ops, flags)
        if flag is None:
            builder.copy(let)
            continue
        _, if_true, if_false = operands(let.op)
        _replace_choice(builder, let, if_true if flag_values[flag] else if_false, full)
    return builder.finish()


def _replace_choice(builder: Builder, let: Let, chosen: Ref, full: Container[Ref]) -> None:
    """Replace a choice by the chosen value. Choices in `full` keep all of their axes."""
    value = builder.value_map[chosen]
    missing = tuple(axis for axis in let.type.axes if axis not in builder.types[value].axes)
    if missing and let.name in full:
        value = builder.emit(Expand(value, missing))
    builder.substitute(let, value)


def _variant_names(program: Program) -> Iterator[str]:
    yield "train"
    if _mode_kinds(program) or program.updates or program.backward is not None:
        yield "eval"
    if without_statistics(program) == "batch":
        yield "batch"


def without_statistics(program: Program) -> str:
    """The variant of evaluation where no running statistics are kept."""
    kinds = _mode_kinds(program)
    if "track" not in kinds:
        return "eval"
    stored = any(not update.averages for update in program.updates)
    return "batch" if "mode" in kinds or stored else "train"


def _mode_kinds(program: Program) -> set[str]:
    return {mode_kind(let.op) for let in program.body if isinstance(let.op, Mode)}


def _without_modes(program: Program, variant: str) -> Program:
    track_branch, mode_branch = VARIANTS[variant]
    builder = Builder(program)
    full = _read_with_all_axes(program)
    for let in program.body:
        if isinstance(let.op, Mode):
            branch = track_branch if mode_kind(let.op) == "track" else mode_branch
            chosen = let.op.train if branch == "train" else let.op.eval
            _replace_choice(builder, let, chosen, full)
        else:
            builder.copy(let)
    updates = [
        replace(update, value=builder.value_map[update.value])
        for update in program.updates
        if update.happens(variant == "train")
    ]
    return fold(split(builder.finish(updates=updates)))


def _read_with_all_axes(program: Program) -> set[Ref]:
    """Values that other operations than maps depend on: maps broadcast, the others need every axis,
    even one that only the branch not taken has."""
    full = {ref for _, ref in program.outputs} | {update.value for update in program.updates}
    for let in reversed(program.body):
        if not isinstance(let.op, Map) or let.name in full:
            full |= set(operands(let.op))
    return full
