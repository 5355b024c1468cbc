"""Rewrite values on runs of an axis as values on the whole axis.

Kernels have loops over the whole input. So `x[I]` is x, a pool over I is one over C where a
position is inside of I, and `concat(a, b over C)` chooses by position: where both are the same map,
its narrow operands are chosen. At other positions a value may be anything, since nothing reads it
there. Parameters on a run are placed on the whole axis, and results are cut out of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Concat,
    Count,
    Expand,
    Inside,
    Let,
    Lookup,
    Map,
    Param,
    Piece,
    Pool,
    Position,
    Recurrence,
    Ref,
    Rename,
)
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.passes.builder import Builder
from metanorm.passes.share import share


def runs(program: Program) -> Program:
    """The program with values on whole axes; the same one if it has no runs, or obstacles.

    Moments are shared then: those of channels of a sample and those of channels are of one value.
    """
    if not has_runs(program) or next(run_obstacles(program), None) is not None:
        return program
    return share(_Runs(program).run())


def has_runs(program: Program) -> bool:
    """Whether a program cuts an axis into runs of positions."""
    return any(axis.piece_of is not None for axis in program.axes)


def run_obstacles(program: Program) -> Iterator[str]:
    """The reasons why values on runs of an axis cannot be values on the whole axis."""
    space, whole_of = program.index.space, _wholes(program)
    for whole in whole_of.values():
        if whole in whole_of or space[whole].parts or space[whole].variadic:
            yield "runs of an axis that is a run, or split"
    for let in program.body:
        families = [whole_of.get(a, space.base(a)) for a in let.type.axes]
        if len(set(families)) < len(families):
            yield "values on two runs of an axis at once"
        if any(space.base(a) in whole_of for a in let.type.axes if a not in whole_of):
            yield "groups of positions of a run"
        yield from _obstacles_of(let, whole_of)
    data_axes = {leaf for dim in program.inputs[0].dims for leaf in space.leaves(dim)}
    results = [ref for _, ref in program.outputs] + [u.value for u in program.updates]
    for axes in (program.index.types[ref].axes for ref in results):
        if not whole_of.keys().isdisjoint(axes) and data_axes <= {whole_of.get(a, a) for a in axes}:
            yield "a result on a run of an axis, and on all others of the input"


def _obstacles_of(let: Let, whole_of: Mapping[str, str]) -> Iterator[str]:
    match let.op:
        case Pool(over=over) | Count(over=over):
            if any(axis in whole_of and matrix != Ones() for axis, matrix in over):
                yield "windows or groups of positions of a run"
        case Rename(old=old, new=new) if old in whole_of or new in whole_of:
            yield "a run beside another one of the same length"
        case AxisMap(axis=axis) | Recurrence(axis=axis) | Lookup(axis=axis) if axis in whole_of:
            yield "what is found along a run of an axis"


def _wholes(program: Program) -> dict[str, str]:
    """The whole axis of each run."""
    return {a.name: a.piece_of[0] for a in program.axes if a.piece_of is not None}


class _Runs:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.b = Builder(program)
        self.whole_of = _wholes(program)
        space, dims = program.index.space, program.inputs[0].dims
        self.data_axes = {leaf for dim in dims for leaf in space.leaves(dim)}

    def run(self) -> Program:
        for let in self.program.body:
            self.b.span = let.span
            self._rewrite(let)
        outputs = [(name, self._cut(ref)) for name, ref in self.program.outputs]
        updates = [replace(u, value=self._cut(u.value)) for u in self.program.updates]
        return self.b.finish(outputs, updates)

    def _rewrite(self, let: Let) -> None:
        b, op = self.b, map_operands(let.op, self.b.value_map)
        match op:
            case Param() | Buffer():
                placed = b.copy(let)
                for run in self._runs_in(let.type.axes):
                    placed = b.emit(Concat((placed,), (run,), self.whole_of[run]))
                b.value_map[let.name] = placed
            case Piece(value):
                b.substitute(let, value)
            case Concat(values, pieces, axis):
                b.substitute(let, self._with_axes(self._chosen(values, pieces), [axis]))
            case Position(axis) if axis in self.whole_of:
                whole, start = b.space.cut(axis)
                place = b.emit(Position(whole))
                b.substitute(let, b.map("sub", place, b.number(start)))
            case Expand(value, axes):
                present = b.types[value].axes  # cells of an axis are expanded to it
                whole_axes = dict.fromkeys(self.whole_of.get(axis, axis) for axis in axes)
                missing = tuple(axis for axis in whole_axes if axis not in present)
                b.substitute(let, b.emit(Expand(value, missing)) if missing else value)
            case Pool():
                b.copy(let, self._over_whole(op))
            case Count() if op.where is not None or op.weight is not None:
                b.copy(let, self._over_whole(op))
            case _:
                b.copy(let, op)

    def _runs_in(self, axes: Sequence[str]) -> list[str]:
        return [axis for axis in axes if axis in self.whole_of]

    def _with_axes(self, ref: Ref, axes: Sequence[str]) -> Ref:
        """A value, expanded to axes that it lacks."""
        present = {self.b.space.base(axis) for axis in self.b.types[ref].axes}
        missing = tuple(axis for axis in axes if self.b.space.base(axis) not in present)
        return self.b.emit(Expand(ref, missing)) if missing else ref

    def _over_whole(self, op: Pool | Count) -> Pool | Count:
        """The pool over whole axes, where positions are inside of its runs."""
        where = op.where
        for run in self._runs_in([axis for axis, _ in op.over]):
            inside = self.b.emit(Inside(run))
            where = inside if where is None else self._both(where, inside)
        over = tuple((self.whole_of.get(axis, axis), matrix) for axis, matrix in op.over)
        return replace(op, over=over, where=where)

    def _both(self, mask: Ref, other: Ref) -> Ref:
        b, zero, one = self.b, self.b.number(0), self.b.number(1)
        in_other = b.map("where", other, one, zero)
        return b.map("ne", b.map("where", mask, in_other, zero), zero)

    def _cut(self, ref: Ref) -> Ref:
        """A result with the axes that it had: cut out of whole ones."""
        axes = self.program.index.types[ref].axes
        value = self.b.value_map[ref]
        value = self._with_axes(value, [self.whole_of.get(axis, axis) for axis in axes])
        for run in self._runs_in(axes):
            value = self.b.emit(Piece(value, run))
        return value

    # ---- choosing by position

    def _chosen(self, values: Sequence[Ref], pieces: Sequence[str]) -> Ref:
        """The value of the run that a position is in. The last one needs no question."""
        *firsts, chosen = values
        for value, piece in reversed([*zip(firsts, pieces)]):
            inside = self.b.emit(Inside(piece))
            merged = self._merged(inside, value, chosen)
            chosen = merged or self.b.map("where", inside, value, chosen)
        return chosen

    def _merged(self, inside: Ref, value: Ref, other: Ref) -> Ref | None:
        """One of two values by narrow choices alone; `None` where a sweep has to choose."""
        if value == other:
            return value
        if not self._is_wide(value) and not self._is_wide(other):
            return self.b.map("where", inside, value, other)
        op, other_op = self.b.ops[value], self.b.ops[other]
        if not isinstance(op, Map) or not isinstance(other_op, Map):
            return None
        is_same = (op.function, len(op.arguments)) == (other_op.function, len(other_op.arguments))
        if not is_same or self.b.types[value].kind != "real":
            return None
        arguments: list[Ref] = []
        for one, two in zip(op.arguments, other_op.arguments):
            argument = self._merged(inside, one, two)
            if argument is None:
                return None
            arguments.append(argument)
        return self.b.map(op.function, *arguments)

    def _is_wide(self, ref: Ref) -> bool:
        return self.data_axes <= set(self.b.types[ref].axes)
