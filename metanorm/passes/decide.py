"""Decide modes inside modes: in the `train` branch of a mode, training mode is on."""

from __future__ import annotations

from metanorm.ir.mode_placement import ModeBranch, mode_kind, mode_placement
from metanorm.ir.nodes import Mode, Ref
from metanorm.ir.program import Program
from metanorm.passes.builder import Builder

# By the branch in which a mode stands and by the kind of the mode: the branch that it takes. The
# `train` branch of a mode with running statistics does not decide plain modes: evaluation without
# running statistics takes it, too.
DECIDED: dict[tuple[ModeBranch | None, str], str] = {
    (ModeBranch("mode", "train"), "mode"): "train",
    (ModeBranch("mode", "train"), "track"): "train",
    (ModeBranch("mode", "eval"), "mode"): "eval",
    (ModeBranch("track", "train"), "track"): "train",
    (ModeBranch("track", "eval"), "mode"): "eval",
    (ModeBranch("track", "eval"), "track"): "eval",
}


def decide(program: Program) -> Program:
    """The program without the modes that a single branch of other modes needs."""
    placement = mode_placement(program)
    chosen: dict[Ref, Ref] = {}
    for let in program.body:
        if isinstance(let.op, Mode):
            branch = DECIDED.get((placement[let.name], mode_kind(let.op)))
            if branch is not None:
                chosen[let.name] = let.op.train if branch == "train" else let.op.eval
    if not chosen:
        return program
    builder = Builder(program)
    for let in program.body:
        if let.name in chosen:
            builder.substitute(let, builder.value_map[chosen[let.name]])
        else:
            builder.copy(let)
    return builder.finish()
