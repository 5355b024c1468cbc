"""A program for each way that its modes can go, without any mode left in it.

A kernel is made for one of them: in evaluation with running statistics nothing is pooled at
all, which no `if` inside a loop could bring about.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from metanorm.ir.flags import choosing_flags, flag_of
from metanorm.ir.nodes import Expand, Map, Mode, Program, Ref
from metanorm.ir.operands import operands
from metanorm.ir.placement import kind_of
from metanorm.passes.builder import Builder
from metanorm.passes.fold import fold
from metanorm.passes.split import split

# An arm: which way modes that keep running statistics go, which way plain ones do, and whether
# buffers are updated. `batch` is evaluation with the statistics of the batch, where none are kept.
ARMS = {
    "train": ("train", "train"),
    "eval": ("eval", "eval"),
    "batch": ("train", "eval"),
}


def arms(program: Program) -> dict[str, Program]:
    """The arms that differ, by name: `train` alone where there is no mode.

    Each flag by which the program chooses has arms of its own: `eval_with_flag` where it is true.
    """
    found: dict[str, Program] = {}
    flags = choosing_flags(program)
    for on in product((False, True), repeat=len(flags)):
        decided = _chosen(program, dict(zip(flags, on)))
        suffix = "".join(f"_with_{flag}" for flag, true in zip(flags, on) if true)
        found |= {f"{name}{suffix}": arm for name, arm in _modes(program, decided).items()}
    return found


def _chosen(program: Program, values: dict[str, bool]) -> Program:
    """The program with every choice made that flags of these values decide."""
    if not values:
        return program
    ops, flags = program.index.ops, frozenset(values)
    builder = Builder(program)
    whole = _needed_whole(program)
    for let in program.body:
        flag = flag_of(let.op, ops, flags)
        if flag is None:
            builder.take(let)
            continue
        _, first, second = operands(let.op)
        chosen = builder.moved[first if values[flag] else second]
        lacking = tuple(a for a in let.type.axes if a not in builder.types[chosen].axes)
        if lacking and let.name in whole:
            chosen = builder.emit(Expand(chosen, lacking))
        builder.forward(let, chosen)
    return builder.finish()


def _modes(program: Program, decided: Program) -> dict[str, Program]:
    """The arms by modes of a program in which flags are decided."""
    names = ["train"]
    if _kinds(program) or program.updates:
        names.append("eval")
    if without_statistics(program) == "batch":
        names.append("batch")
    return {name: _arm(decided, name) for name in names}


def without_statistics(program: Program) -> str:
    """The arm of evaluation where no running statistics are kept."""
    kinds = _kinds(program)
    if "track" not in kinds:
        return "eval"
    stored = any(not update.averages for update in program.updates)
    return "batch" if "mode" in kinds or stored else "train"


def _kinds(program: Program) -> set[str]:
    return {kind_of(let.op) for let in program.body if isinstance(let.op, Mode)}


def _arm(program: Program, name: str) -> Program:
    track, plain = ARMS[name]
    builder = Builder(program)
    whole = _needed_whole(program)
    for let in program.body:
        if isinstance(let.op, Mode):
            way = track if kind_of(let.op) == "track" else plain
            chosen = builder.moved[let.op.train if way == "train" else let.op.eval]
            lacking = tuple(a for a in let.type.axes if a not in builder.types[chosen].axes)
            if lacking and let.name in whole:
                chosen = builder.emit(Expand(chosen, lacking))
            builder.forward(let, chosen)
        else:
            builder.take(let)
    updates = [
        replace(u, value=builder.moved[u.value])
        for u in program.updates
        if u.happens(name == "train")
    ]
    decided = builder.finish(updates=updates)
    return fold(split(decided))


def _needed_whole(program: Program) -> set[Ref]:
    """Values that more than maps read, so that they must keep axes which only one arm has."""
    whole = {ref for _, ref in program.outputs} | {u.value for u in program.updates}
    for let in reversed(program.body):
        if not isinstance(let.op, Map) or let.name in whole:
            whole |= set(operands(let.op))
    return whole
