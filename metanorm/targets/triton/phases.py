"""What is computed between two looks at the data: narrow values, in phases.

A phase computes values on the same axes, for one cell after the other: statistics that are joined
from the parts of tiles, and pools of values that earlier phases stored. What is elementwise is
computed wherever it is read, unless it is at hand in a phase of its own axes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from metanorm.ir.index import closure
from metanorm.ir.nodes import POINTWISE, AxisMap, Count, Lookup, Pool, Ref, Rename
from metanorm.ir.operands import operands
from metanorm.targets.triton.context import KernelContext

MOVED = (Rename, Lookup)  # read from an array, at another place


@dataclass(frozen=True)
class Phase:
    """Values on the same axes, in their order; `stored` are those that something else reads."""

    members: tuple[Ref, ...]
    stored: frozenset[Ref]


class Phases:
    """Finds the phases that make arrays of narrow values."""

    def __init__(self, context: KernelContext) -> None:
        self.f = context
        self.op = {name: let.op for name, let in context.lets.items()}
        self.axes = {name: frozenset(let.type.axes) for name, let in context.lets.items()}

    def of(
        self, wanted: Collection[Ref], followed: Collection[Ref], available: Collection[Ref],
        parts: Collection[int], by_the_way: Collection[Ref],
    ) -> list[Phase]:  # fmt: skip
        """Phases after which all that is `wanted` has arrays, what is `followed` by a buffer was
        computed, and what is there `by_the_way` has arrays as well. `parts` are the statistics
        that tiles have measured.
        """
        there, left = set(available), set(followed)
        found: list[Phase] = []
        while missing := self._missing({*wanted, *left}, there):
            arrays = {*wanted, *self._sources(missing)}
            also = self._missing(by_the_way, there)
            refs = [ref for ref in self.f.lets if ref in missing or ref in also]
            heads = dict.fromkeys(self.axes[ref] for ref in refs if ref in missing)
            closures = [self._closure(axes, refs, there, parts) for axes in heads]
            best = max(closures, key=lambda c: (self._breaks(c, missing), len({*c} & arrays)))
            left -= {*best}
            readers = self._missing({*wanted, *left}, {*there, *best}) - self.f.measured.keys()
            outside = {o for r in readers for o in operands(self.op[r])}
            stored = frozenset({*best} & {*arrays, *by_the_way, *outside}) - there
            assert stored or {*best} & {*followed}, refs
            found.append(Phase(tuple(best), stored))
            there |= stored
        return found

    def ready(self, ref: Ref, parts: Collection[int]) -> bool:
        """Whether everything that a value takes from the data has been measured."""
        measured = self.f.measured
        found = closure([ref], lambda own: () if own in measured else operands(self.op[own]))
        return all(measured[own][0] in parts for own in found if own in measured)

    def _missing(self, refs: Iterable[Ref], there: Collection[Ref]) -> set[Ref]:
        """What has to be computed for some values, themselves included."""

        def absent(some: Iterable[Ref]) -> list[Ref]:
            return [ref for ref in some if ref not in there and not self.f.given(ref)]

        def read(ref: Ref) -> list[Ref]:
            if ref in self.f.measured:
                return []
            moved = isinstance(self.op[ref], MOVED)
            return absent(r for r in operands(self.op[ref]) if moved or not self.f.inline(r))

        return closure(absent(refs), read)

    def _sources(self, missing: Iterable[Ref]) -> set[Ref]:
        """What has to be an array, since it is read at other places."""
        moved = [self.op[r] for r in missing if isinstance(self.op[r], MOVED)]
        return {o for op in moved for o in operands(op)}

    def _closure(
        self, axes: frozenset[str], left: Collection[Ref], there: Collection[Ref],
        parts: Collection[int],
    ) -> list[Ref]:  # fmt: skip
        """All values on some axes that can be computed in one phase."""
        known: dict[tuple[Ref, str], bool] = {}
        members: list[Ref] = []

        def at_hand(ref: Ref, apart: str = "") -> bool:
            """Whether a phase has a value, at any place along an axis that is set apart."""
            if ref in there or self.f.given(ref) or self.f.inline(ref):
                return True
            if ref in members and apart not in self.axes[ref]:
                return True
            if (ref, apart) not in known:
                known[ref, apart] = not self.breaks(ref) and computed(ref, apart)
            return known[ref, apart]

        def computed(ref: Ref, apart: str = "") -> bool:
            op = self.op[ref]
            if ref in self.f.measured:
                return self.f.measured[ref][0] in parts
            if isinstance(op, MOVED):
                return all(o in there or self.f.given(o) for o in operands(op))
            if isinstance(op, AxisMap):
                return op.function == "softmax" and at_hand(op.value, op.axis)
            known_op = isinstance(op, (*POINTWISE, Pool, Count)) or self.f.inline(ref)
            return known_op and all(at_hand(o, apart) for o in operands(op))

        for ref in left:  # in the order of the program, in which operands come first
            if self.axes[ref] == axes and computed(ref):
                members.append(ref)
        return members

    def breaks(self, ref: Ref) -> bool:
        """Whether a value is not computed from single values at its own place."""
        op = self.op[ref]
        if isinstance(op, Count):
            return not self.f.inline(ref) and not self.f.by_index(self.f.lets[ref])
        return ref in self.f.measured or isinstance(op, (Pool, AxisMap))

    def _breaks(self, refs: Iterable[Ref], among: Collection[Ref]) -> int:
        return sum(ref in among and self.breaks(ref) for ref in refs)
