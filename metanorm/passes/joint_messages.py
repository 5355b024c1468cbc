"""One message for each stage, also where training exchanges more than evaluation does.

A sum that both modes read would be exchanged before a branch of training, and what training alone
reads in a second message. So the exchange of the first is made in each branch: training sends it
with all that it needs, and evaluation by itself, if it reads it at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from metanorm.ir.division import message_depths
from metanorm.ir.mode_placement import ModeBranch, mode_placement
from metanorm.ir.nodes import Exchange, Let, Mode, Number, Ref
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.reachable import reachable
from metanorm.ir.scalar import Const

Kind = Literal["track", "mode"]
IN_TRAINING = ModeBranch("mode", "train")


def with_joint_messages(program: Program) -> Program:
    """The program with as few messages in each mode as it has stages."""
    stages = _stages(program)
    branching = {let.name: kind for stage in stages for let, kind in stage.exchanged_in_branches()}
    if not branching and not any(stage.is_cut for stage in stages):
        return program
    program = replace(program, body=tuple(_Branches(program, branching).body()))
    depths = message_depths(program)
    # What a message waits for comes before the branch that sends it.
    return replace(program, body=tuple(sorted(program.body, key=lambda let: depths[let.name])))


@dataclass(frozen=True)
class _Stage:
    """The exchanges that are ready for one message."""

    program: Program
    placement: Mapping[Ref, ModeBranch | None]
    exchanges: tuple[Let, ...]

    @property
    def in_branches(self) -> tuple[Let, ...]:
        """Those of one branch of a mode. Any message takes in what is read off shapes alone."""
        ops = self.program.index.ops
        return tuple(
            let for let in self.exchanges
            if self._kind(let) and any(operands(ops[ref]) for ref in operands(let.op))
        )  # fmt: skip

    def exchanged_in_branches(self) -> Iterator[tuple[Let, Kind]]:
        """The exchanges to make in each branch of a mode, with the kind of mode."""
        kinds = {self._kind(let) for let in self.in_branches}
        if not kinds:
            return
        kind: Kind = "track" if "track" in kinds else "mode"
        for let in self.exchanges:
            branch = self.placement[let.name]
            # Calls in training are among those that do without running statistics.
            if branch is None or (branch == IN_TRAINING and kind == "track"):
                yield let, kind

    @property
    def is_cut(self) -> bool:
        """Whether the first of a branch comes before what both branches compute for another."""
        order = {ref: place for place, ref in enumerate(self.program.index.lets)}
        lets, ops = self.in_branches, self.program.index.ops
        needed = self.program.index.closure(let.name for let in lets)
        shared = (ref for ref in needed if self.placement[ref] is None and operands(ops[ref]))
        return bool(lets) and any(order[ref] > order[lets[0].name] for ref in shared)

    def _kind(self, let: Let) -> Kind | None:
        """The kind of mode of which one branch needs an exchange."""
        branch = self.placement[let.name]
        if branch is None:
            return None
        return "track" if branch.kind == "track" else "mode" if branch.kind == "mode" else None


def _stages(program: Program) -> list[_Stage]:
    placement, depths = mode_placement(program), message_depths(program)
    stages: dict[object, list[Let]] = {}
    for let in program.body:
        if isinstance(let.op, Exchange):
            key = (let.op.axes, let.op.is_sum, depths[let.name])
            stages.setdefault(key, []).append(let)
    return [_Stage(program, placement, tuple(lets)) for lets in stages.values()]


class _Branches:
    """Makes an exchange in both branches of a mode."""

    def __init__(self, program: Program, kinds: Mapping[Ref, Kind]) -> None:
        self.program, self.kinds = program, kinds
        self.tracked = next((b.name for b in program.buffers if b.tracked), None)
        others = replace(program, updates=tuple(u for u in program.updates if u.when != "train"))
        kept, measured = (reachable(others, evaluating=True, keeps=k) for k in (True, False))
        self.read_in_evaluation: Mapping[Kind, set[Ref]] = {"track": kept, "mode": kept | measured}
        self.used_names = {let.name for let in program.body}

    def body(self) -> Iterator[Let]:
        """The bindings of the program."""
        for let in self.program.body:
            if let.name in self.kinds:
                yield from self._in_both(let, self.kinds[let.name])
            else:
                yield let

    def _in_both(self, let: Let, kind: Kind) -> Iterator[Let]:
        """The exchange for training, that for evaluation or a number that nothing reads, and the
        choice of one of them."""
        in_training = replace(let, name=self._free(f"{let.name}.train"))
        is_read = let.name in self.read_in_evaluation[kind]
        op = let.op if is_read else Number(Const(0.0))
        in_evaluation = replace(let, name=self._free(f"{let.name}.eval"), op=op)
        buffer = self.tracked if kind == "track" else None
        yield from (in_training, in_evaluation)
        yield replace(let, op=Mode(in_training.name, in_evaluation.name, buffer))

    def _free(self, name: Ref) -> Ref:
        while name in self.used_names:
            name += "_"
        self.used_names.add(name)
        return name
