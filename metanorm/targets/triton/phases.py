"""Schedule the narrow values between two passes over the data in phases, and what reads the data at
other positions: pools that overlap, and states that move along an axis.

A phase computes values on the same axes, cell by cell: statistics joined from the parts of tiles,
and pools of values that earlier phases stored. A state has a cell for each line along its axis. An
elementwise value is computed wherever it is read, unless a phase on its own axes computes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from metanorm.ir.index import closure
from metanorm.ir.nodes import (
    POINTWISE,
    AxisMap,
    Concat,
    Count,
    Lookup,
    Op,
    Piece,
    Pool,
    Recurrence,
    Ref,
    Rename,
)
from metanorm.ir.operands import operands
from metanorm.nest.statements import is_sparsestmax, reach_of
from metanorm.targets.triton.context import KernelContext

RELOCATIONS = (Rename, Lookup, Piece, Concat)  # they read an array at another position


def reads_arrays(op: Op) -> bool:
    """Whether an operation reads its operands at other positions than its own, from arrays."""
    return isinstance(op, RELOCATIONS) or is_sparsestmax(op)


@dataclass(frozen=True)
class Phase:
    """Values on the same axes, in order. `stored` are the members that other kernels read."""

    members: tuple[Ref, ...]
    stored: frozenset[Ref]


class Phases:
    """Finds the phases that compute narrow values or overlapping pools, and store them."""

    def __init__(self, context: KernelContext) -> None:
        self.ctx = context
        self.op = {name: let.op for name, let in context.lets.items()}
        self.axes = {name: frozenset(context.phase_axes(name)) for name in context.lets}

    def schedule(
        self, required: Collection[Ref], followed: Collection[Ref], available: Collection[Ref],
        parts: Collection[int], optional: Collection[Ref],
    ) -> list[Phase]:  # fmt: skip
        """Phases after which all that is `wanted` has arrays, what is `followed` by a buffer was
        computed, and what is there `by_the_way` has arrays as well. `parts` are the statistics
        that tiles have measured.
        """
        available_refs, unfollowed = set(available), set(followed)
        phases: list[Phase] = []
        while missing := self._missing({*required, *unfollowed}, available_refs):
            arrays = {*required, *self._sources(missing)}
            opportunistic = self._missing(optional, available_refs)
            refs = [ref for ref in self.ctx.lets if ref in missing or ref in opportunistic]
            heads = dict.fromkeys(self.axes[ref] for ref in refs if ref in missing)
            candidates = [self._closure(axes, refs, available_refs, parts) for axes in heads]
            members = max(
                candidates, key=lambda c: (self._break_count(c, missing), len({*c} & arrays))
            )
            unfollowed -= {*members}
            readers = (
                self._missing({*required, *unfollowed}, {*available_refs, *members})
                - self.ctx.measured.keys()
            )
            outside = {o for r in readers for o in operands(self.op[r])}
            stored = frozenset({*members} & {*arrays, *optional, *outside}) - available_refs
            assert stored or {*members} & {*followed}, refs
            phases.append(Phase(tuple(members), stored))
            available_refs |= stored
        return phases

    def ready(self, ref: Ref, parts: Collection[int]) -> bool:
        """Whether all statistics of the data that a value depends on are among `parts`."""
        measured = self.ctx.measured
        refs = closure(
            [ref], lambda operand: () if operand in measured else operands(self.op[operand])
        )
        return all(measured[operand][0] in parts for operand in refs if operand in measured)

    def _missing(self, refs: Iterable[Ref], available: Collection[Ref]) -> set[Ref]:
        """The values that have to be computed to get `refs`, themselves included."""

        def absent(some: Iterable[Ref]) -> list[Ref]:
            return [ref for ref in some if ref not in available and not self.ctx.is_external(ref)]

        def read(ref: Ref) -> list[Ref]:
            if ref in self.ctx.measured:
                return []
            moved = reads_arrays(self.op[ref])
            return absent(r for r in operands(self.op[ref]) if moved or not self.ctx.is_inline(r))

        return closure(absent(refs), read)

    def _sources(self, missing: Iterable[Ref]) -> set[Ref]:
        """The values that need arrays, since missing values read them at other positions."""
        moved = [self.op[r] for r in missing if reads_arrays(self.op[r])]
        return {o for op in moved for o in operands(op)}

    def _closure(
        self, axes: frozenset[str], refs: Collection[Ref], available: Collection[Ref],
        parts: Collection[int],
    ) -> list[Ref]:  # fmt: skip
        """The values on these axes that one phase can compute."""
        known_at: dict[tuple[Ref, str], bool] = {}
        members: list[Ref] = []

        def is_available(ref: Ref, moving_axis: str = "") -> bool:
            """Whether the phase has a value, also at other positions along `moving_axis`."""
            if ref in available or self.ctx.is_external(ref) or self.ctx.is_inline(ref):
                return True
            is_line = self.ctx.line_axis(ref) is not None  # which has more axes than its phase
            if ref in members and moving_axis not in self.axes[ref] and not is_line:
                return True
            if (ref, moving_axis) not in known_at:
                known_at[ref, moving_axis] = not self.is_phase_boundary(ref) and is_computable(
                    ref, moving_axis
                )
            return known_at[ref, moving_axis]

        def is_computable(ref: Ref, moving_axis: str = "") -> bool:
            op = self.op[ref]
            if ref in self.ctx.measured:
                return self.ctx.measured[ref][0] in parts
            if reads_arrays(op):
                return all(o in available or self.ctx.is_external(o) for o in operands(op))
            if isinstance(op, AxisMap):
                return is_available(op.value, op.axis)
            if isinstance(op, Pool) and (scan := reach_of(op)) is not None:
                return all(is_available(operand, scan[0]) for operand in operands(op))
            has_rule = isinstance(op, (*POINTWISE, Pool, Count, Recurrence))
            if not has_rule and not self.ctx.is_inline(ref):
                return False
            return all(is_available(o, moving_axis) for o in operands(op))

        for ref in refs:  # in the order of the program, in which operands come first
            if self.axes[ref] == axes and is_computable(ref):
                members.append(ref)
        return members

    def is_phase_boundary(self, ref: Ref) -> bool:
        """Whether a value needs a loop or stored parts, instead of values at its own position."""
        op = self.op[ref]
        if isinstance(op, Count):
            return not self.ctx.is_inline(ref) and not self.ctx.is_group_size(self.ctx.lets[ref])
        return ref in self.ctx.measured or isinstance(op, (Pool, AxisMap, Recurrence))

    def _break_count(self, refs: Iterable[Ref], refs_to_count: Collection[Ref]) -> int:
        return sum(ref in refs_to_count and self.is_phase_boundary(ref) for ref in refs)
