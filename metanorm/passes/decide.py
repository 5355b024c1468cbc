"""A mode inside another one is decided: in the arm for training, training is on."""

from __future__ import annotations

from metanorm.ir.nodes import Mode, Program, Ref
from metanorm.ir.placement import Place, kind_of, places
from metanorm.passes.builder import Builder

# What is known in an arm: which way a plain mode goes there, and one with running statistics.
# The arm for training of the latter serves evaluation too, where no running statistics are kept.
DECIDED: dict[tuple[Place | None, str], str] = {
    (Place("mode", "train"), "mode"): "train",
    (Place("mode", "train"), "track"): "train",
    (Place("mode", "eval"), "mode"): "eval",
    (Place("track", "train"), "track"): "train",
    (Place("track", "eval"), "mode"): "eval",
    (Place("track", "eval"), "track"): "eval",
}


def decide(program: Program) -> Program:
    """The program without modes that are needed in one arm of others alone."""
    arms = places(program)
    chosen: dict[Ref, Ref] = {}
    for let in program.body:
        if isinstance(let.op, Mode):
            arm = DECIDED.get((arms[let.name], kind_of(let.op)))
            if arm is not None:
                chosen[let.name] = let.op.train if arm == "train" else let.op.eval
    if not chosen:
        return program
    builder = Builder(program)
    for let in program.body:
        if let.name in chosen:
            builder.forward(let, builder.moved[chosen[let.name]])
        else:
            builder.take(let)
    return builder.finish()
