"""Which branch of a mode needs a binding: a binding of one branch is computed there alone."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from metanorm.ir.flags import flag_of, flags_of
from metanorm.ir.nodes import Let, Mode, Ref
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.reachable import pooling_indices


class ModeBranch(NamedTuple):
    """A branch of all choices of one kind.

    The kind is `track` for modes that keep running statistics, `mode` for other modes, or the
    condition of all choices by one flag.
    """

    kind: str
    branch: Literal["train", "eval", "then", "else"]


def mode_kind(mode: Mode) -> Literal["track", "mode"]:
    """Whether a mode chooses by running statistics or by the training flag alone."""
    return "track" if mode.buffer else "mode"


def mode_placement(program: Program) -> dict[Ref, ModeBranch | None]:
    """The one branch that needs each binding; `None` where no single branch does."""
    tracked = {buffer.name for buffer in program.buffers if buffer.tracked}
    ops, flags = program.index.ops, flags_of(program)
    users: dict[Ref, set[ModeBranch | None]] = {let.name: set() for let in program.body}
    for _, ref in program.outputs:
        users[ref].add(None)
    for update in program.updates:
        kind = "track" if update.buffer in tracked else "mode"
        branch = None if update.when == "always" else ModeBranch(kind, update.when)
        for ref in filter(None, (update.value, update.elements)):
            users[ref].add(branch)
    placement: dict[Ref, ModeBranch | None] = {}
    for let in reversed(program.body):  # users come before what they read
        branch = next(iter(users[let.name])) if len(users[let.name]) == 1 else None
        placement[let.name] = branch
        if isinstance(let.op, Mode):
            kind = mode_kind(let.op)
            users[let.op.train].add(branch or ModeBranch(kind, "train"))
            users[let.op.eval].add(branch or ModeBranch(kind, "eval"))
            continue
        if branch is None and flag_of(let.op, ops, flags):
            condition, if_true, if_false = operands(let.op)
            users[condition].add(None)
            users[if_true].add(ModeBranch(condition, "then"))
            users[if_false].add(ModeBranch(condition, "else"))
            continue
        for ref in (*operands(let.op), *pooling_indices(let.op)):
            users[ref].add(branch)
    return placement


def dependencies(
    refs: Iterable[Ref], lets: Mapping[Ref, Let], available: Container[Ref] = frozenset()
) -> Iterator[Ref]:
    """`refs` and the bindings that they depend on, without those that are `available` already.

    Each comes once, and as soon as it is found: who looks for one need not wait for all.
    """
    seen: set[Ref] = set()
    pending = list(refs)
    while pending:
        ref = pending.pop()
        if ref in seen or ref not in lets or ref in available:
            continue
        seen.add(ref)
        yield ref
        pending += (*operands(lets[ref].op), *pooling_indices(lets[ref].op))
