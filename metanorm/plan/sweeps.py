"""The sweep plan of a program: which looks at the data there are, and what happens in between.

A value is *wide* when it has all axes of the first input; it is computed again in every sweep
that needs it and never stored. A sweep measures statistics of wide values and writes wide
outputs; what is narrow is computed between sweeps. Parts of the data that never exchange
information before the outputs are known are *islands*: all sweeps of one can run while it is
in the cache. The plan knows nothing of memory layout, threads or targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from metanorm.ir.aggregation import Aggregation, ByIndex, Ones
from metanorm.ir.nodes import (
    Along,
    Count,
    Expand,
    Input,
    Let,
    Lookup,
    Map,
    Mode,
    Number,
    Pool,
    Program,
    Ref,
    Rename,
    Repeat,
    Stop,
    Type,
)
from metanorm.ir.operands import operands
from metanorm.ir.scalar import Const

WIDE_OPS = (Input, Map, Expand, Stop)
EXACT = 2**24  # below which float32 holds all whole numbers


class NotPlannable(Exception):
    """The program does something to wide values that sweeps cannot; the message says what."""


@dataclass(frozen=True)
class Reduction:
    """A statistic that a sweep measures: `mean` and `var` together are one.

    `terminal` results are needed by no later sweep, so that islands need not wait for them.
    """

    value: Ref
    over: Aggregation
    cells: tuple[str, ...]
    where: Ref | None
    weight: Ref | None
    results: tuple[tuple[str, Ref], ...]  # statistic: its result
    terminal: bool

    @property
    def kind(self) -> str:
        """`sum`, `mean` or `var`: the most that has to be accumulated."""
        names = {name for name, _ in self.results}
        return "var" if "var" in names else "mean" if "mean" in names else "sum"


@dataclass(frozen=True)
class Sweep:
    """One look at the data, and the narrow values that later sweeps need from it."""

    reads: tuple[str, ...]  # inputs that are wide
    maps: tuple[Let, ...]  # wide values, in order
    reductions: tuple[Reduction, ...]
    outputs: tuple[tuple[str, Ref], ...]
    narrow: tuple[Let, ...]  # after it, of each island


@dataclass(frozen=True)
class Plan:
    """Narrow values before all sweeps, the sweeps, and narrow values after them."""

    program: Program
    frame: tuple[str, ...]  # axes of wide values
    groups: str | None  # the index that groups an axis of the frame, and
    grouped: str | None  # that axis
    islands: tuple[str, ...]
    prologue: tuple[Let, ...]
    sweeps: tuple[Sweep, ...]
    epilogue: tuple[Let, ...]

    def type(self, ref: Ref) -> Type:
        """The type of a value."""
        return self.program.index.types[ref]


def plan(program: Program) -> Plan:
    """The plan of a program without modes. Raises `NotPlannable`."""
    return _Planner(program).run()


class _Same(NamedTuple):
    """What statistics have in common that are measured together."""

    kind: str
    value: Ref
    over: Aggregation
    where: Ref | None
    weight: Ref | None


class _Planner:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.space, self.lets = program.index.space, program.index.lets
        first = program.inputs[0]
        self.frame = tuple(leaf for dim in first.dims for leaf in self.space.leaves(dim))
        self.depth: dict[Ref, int] = {}

    def run(self) -> Plan:
        """Depths first: how many sweeps a value has to wait for."""
        for let in self.program.body:
            self._check(let)
            wait = max((self.depth[r] for r in operands(let.op)), default=0)
            self.depth[let.name] = wait + self._measured(let)
        wide = [(name, ref) for name, ref in self.program.outputs if self.wide(ref)]
        last = max((self.depth[ref] + 1 for _, ref in wide), default=0)
        last = max([last, *(self.depth[let.name] for let in self.program.body)])
        later = [self._feeding(number, wide) for number in range(1, last + 1)]
        sweeps = tuple(self._sweep(n, later[n - 1], wide) for n in range(1, last + 1))
        done = {let.name for sweep in sweeps for let in sweep.narrow}
        done |= {ref for sweep in sweeps for r in sweep.reductions for _, ref in r.results}
        narrow = [let for let in self.program.body if not self.wide(let.name)]
        prologue = tuple(let for let in narrow if self.depth[let.name] == 0)
        epilogue = tuple(let for let in narrow if self.depth[let.name] and let.name not in done)
        index, grouped = self._groups()
        islands = self._islands(set().union(*later) if later else set(), index, grouped)
        return Plan(self.program, self.frame, index, grouped, islands, prologue, sweeps, epilogue)

    def wide(self, ref: Ref) -> bool:
        """Whether a value has all axes of the frame."""
        return set(self.frame) <= set(self.lets[ref].type.axes)

    def _measured(self, let: Let) -> bool:
        """Whether a value is a statistic of wide ones."""
        return isinstance(let.op, Pool) and self.wide(let.op.value)

    def _check(self, let: Let) -> None:
        op = let.op
        if isinstance(op, (Mode, Repeat)):
            raise NotPlannable(type(op).__name__.lower())
        if isinstance(op, Map):
            self._check_comparison(op)
        if self.wide(let.name):
            if set(let.type.axes) != set(self.frame):
                raise NotPlannable("a value larger than the input")
            if not isinstance(op, WIDE_OPS):
                raise NotPlannable(f"a {type(op).__name__.lower()} as large as the input")
        elif isinstance(op, (Along, Lookup, Rename)):
            if any(self.wide(r) for r in operands(op)):
                raise NotPlannable(f"{type(op).__name__.lower()} of a value as large as the input")
        elif isinstance(op, Input):
            sort = self.program.index.inputs[op.name].sort
            if sort not in ("tensor", "index", "whole", "mask", "matrix"):
                raise NotPlannable(f"an input of sort {sort}")
        weights = (op.where, op.weight) if isinstance(op, (Count, Pool)) else ()
        if not self._measured(let) and any(w is not None and self.wide(w) for w in weights):
            raise NotPlannable("a weight as large as the input for what is smaller")
        if self._measured(let):
            assert isinstance(op, Pool)
            if any(not isinstance(m, (Ones, ByIndex)) for _, m in op.over):
                raise NotPlannable("a window, a given matrix or blocks of several sizes")
            if op.statistic not in ("sum", "mean", "var") or op.ddof or op.about:
                raise NotPlannable(f"{op.statistic} of a value as large as the input")
            for ref in (op.where, op.weight):
                if ref is not None and self.depth[ref] != 0:
                    raise NotPlannable("a weight that depends on the data")

    def _check_comparison(self, op: Map) -> None:
        """Kernels read whole numbers as real ones, which hold the small ones exactly."""
        ops = {ref: self.lets[ref].op for ref in op.arguments}
        wholes = [ref for ref in ops if self.lets[ref].type.kind == "int"]
        inputs = self.program.index.inputs
        if any(inputs[o.name].sort != "whole" for r in wholes if isinstance(o := ops[r], Input)):
            raise NotPlannable("a comparison of what also chooses or pools")
        numbers = [o.value for o in ops.values() if isinstance(o, Number)]
        small = all(isinstance(n, Const) and abs(n.value) < EXACT for n in numbers)
        if wholes and (len(wholes) == len(ops) or not small):
            raise NotPlannable("a comparison of whole numbers that may be large")

    # ---- what later sweeps need

    def _feeding(self, number: int, wide: Iterable[tuple[str, Ref]]) -> set[Ref]:
        """All values that sweeps after the one with this number depend on."""
        roots = [ref for _, ref in wide if self.depth[ref] >= number]
        for let in self.program.body:
            if self._measured(let) and self.depth[let.name] > number:
                roots += operands(let.op)
        return self.program.index.closure(roots)

    def _sweep(self, number: int, later: set[Ref], wide: Iterable[tuple[str, Ref]]) -> Sweep:
        measured = [
            let
            for let in self.program.body
            if self._measured(let) and self.depth[let.name] == number
        ]
        outputs = tuple((n, ref) for n, ref in wide if self.depth[ref] == number - 1)
        needed = {ref for _, ref in outputs}
        for let in measured:
            needed |= {r for r in operands(let.op) if self.wide(r)}
        maps: list[Let] = []
        for let in reversed(self.program.body):
            if let.name in needed:
                needed |= {r for r in operands(let.op) if self.wide(r)}
                maps.append(let)
        reads = tuple(let.op.name for let in reversed(maps) if isinstance(let.op, Input))
        narrow = tuple(
            let
            for let in self.program.body
            if self.depth[let.name] == number
            and let.name in later
            and not self.wide(let.name)
            and let not in measured
        )
        return Sweep(
            reads, tuple(reversed(maps)), self._reductions(measured, later), outputs, narrow
        )

    def _reductions(self, measured: list[Let], later: set[Ref]) -> tuple[Reduction, ...]:
        """Mean and variance of the same elements are measured together."""
        groups: dict[_Same, list[tuple[str, Ref]]] = {}
        for let in measured:
            assert isinstance(let.op, Pool)
            op = let.op
            kind = "sum" if op.statistic == "sum" else "moments"
            key = _Same(kind, op.value, op.over, op.where, op.weight)
            groups.setdefault(key, []).append((op.statistic, let.name))
        found = []
        for key, results in groups.items():
            _, value, over, where, weight = key
            cells = self.lets[results[0][1]].type.axes
            terminal = not any(ref in later for _, ref in results)
            found.append(Reduction(value, over, cells, where, weight, tuple(results), terminal))
        return tuple(found)

    # ---- islands

    def _groups(self) -> tuple[str | None, str | None]:
        """The index by which an axis of the frame is cut; at most one can order the rows."""
        found = {
            (axis.cells_of[1].index, axis.cells_of[0])
            for axis in self.space
            if axis.cells_of
            and isinstance(axis.cells_of[1], ByIndex)
            and axis.cells_of[0] in self.frame
        }
        if len(found) > 1:
            raise NotPlannable("groups of two kinds")
        index, grouped = next(iter(found), (None, None))
        if grouped is not None and any(
            set(let.type.axes) != set(self.frame)
            and grouped in let.type.axes
            and let.type.kind == "real"
            for let in self.program.body
        ):
            raise NotPlannable("values for each row beside values for each group of rows")
        return index, grouped

    def _islands(
        self, feeding: set[Ref], index: str | None, grouped: str | None
    ) -> tuple[str, ...]:
        """The axes along which nothing that feeds a later sweep is pooled."""
        cell = next((a.name for a in self.space if a.cells_of and a.cells_of[0] == grouped), None)
        islands = [*([cell] if cell else []), *self.frame]
        for let in self.program.body:
            if let.name not in feeding or self.depth[let.name] == 0:
                continue
            gone: set[str] = set()
            match let.op:
                case Pool(over=over):
                    for axis, matrix in over:
                        gone.add(axis)
                        if not isinstance(matrix, ByIndex) and axis == grouped and cell:
                            gone.add(cell)
                case Along(axis=axis) | Lookup(axis=axis) | Rename(old=axis):
                    gone.add(axis)
            islands = [a for a in islands if a not in gone]
        return tuple(islands)
