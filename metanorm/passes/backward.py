"""The program of the gradient: reverse mode on the IR.

The result is a program like any other. It reads what the forward program reads, the gradients
of its outputs (`d.output`), and the statistics that were measured on the data, which are kept
from the forward call (`kept.mean`); everything else that is narrow is computed again. Its outputs
are the gradients of inputs and parameters (`d.x`, `d.weight`). An implicit broadcast has a sum as
its adjoint, and a pool the spreading of its adjoint over what it pooled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from metanorm.ir.aggregation import Aggregation, Grouping, Ones, Reach, is_partition
from metanorm.ir.dump import operation_name
from metanorm.ir.exposure import exposed_to_nan
from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Cast,
    Count,
    Detach,
    Expand,
    Input,
    InputDecl,
    Let,
    Link,
    Lookup,
    Map,
    Number,
    Op,
    Param,
    Pool,
    Position,
    Program,
    Ref,
    Rename,
)
from metanorm.ir.ops import ORDERED
from metanorm.ir.outputs import output_dims
from metanorm.passes.builder import Builder, without_dead_code
from metanorm.passes.derivatives import DERIVATIVES, AdjointBuilder
from metanorm.passes.pool_adjoints import PoolAdjoint
from metanorm.passes.scans import scan_obstacles

GRADIENT = "d."
KEPT = "kept."


class NotDerivable(Exception):
    """The gradient of this operation is not known to the compiler; torch's is used."""


@dataclass(frozen=True)
class Gradient:
    """The backward program, and the forward one that it belongs to.

    The latter has the measured values that are kept as further outputs, called `kept`.
    """

    program: Program
    forward: Program
    kept: tuple[str, ...]


def backward(program: Program) -> Gradient:
    """The gradient of a program without modes. Raises `NotDerivable`."""
    return _Backward(program).run()


def _with_means(program: Program) -> Program:
    """The program with the mean beside each variance, which its gradient needs."""
    builder = Builder(program)
    named = {let.op: let.name for let in program.body}
    means: list[tuple[str, Ref]] = []
    for let in program.body:
        ref = builder.copy(let)
        op = builder.ops[ref]
        if isinstance(op, Pool) and isinstance(let.op, Pool) and op.statistic == "var":
            name = named.get(replace(let.op, statistic="mean"), "")
            mean = builder.emit(replace(op, statistic="mean"), name)
            means.append((mean, mean))
    done = builder.finish(
        outputs=[*((name, builder.value_map[ref]) for name, ref in program.outputs), *means]
    )
    return replace(done, outputs=done.outputs[: len(program.outputs)])


def _kept(ref: Ref) -> str:
    return f"{KEPT}{ref.lstrip('%')}"


class _Backward:
    def __init__(self, program: Program) -> None:
        self.forward = program = _with_means(program)
        types, space = program.index.types, program.index.space
        first = {leaf for dim in program.inputs[0].dims for leaf in space.leaves(dim)}
        self.saved = tuple(
            let.name
            for let in program.body
            if isinstance(let.op, Pool) and first <= set(types[let.op.value].axes)
        )
        kept = [InputDecl(_kept(ref), "tensor", types[ref].axes) for ref in self.saved]
        arriving = [
            InputDecl(GRADIENT + name, "tensor", self._dims(name, ref, types[ref].axes))
            for name, ref in program.outputs
        ]
        inputs = (*program.inputs, *arriving, *kept)
        body = (
            *program.body,
            *(
                Let(d.name, Input(d.name), program.body[0].type, program.body[0].span)
                for d in arriving
            ),
        )
        self.b = AdjointBuilder(replace(program, inputs=inputs, body=body))
        self.means = {let.op: let.name for let in program.body if isinstance(let.op, Pool)}
        self.adjoints: dict[Ref, list[Ref]] = {}

    def _dims(self, name: str, ref: Ref, axes: tuple[str, ...]) -> tuple[str, ...]:
        """As the output is returned; cells, which no kernel returns, as they are."""
        program, space = self.forward, self.forward.index.space
        first = program.keeps_shape and name == program.outputs[0][0]
        has_cells = any(space[axis].cells_of for axis in axes)
        return axes if has_cells and not first else output_dims(program, name, ref)

    def run(self) -> Gradient:
        """Forward again on narrow values, then from the outputs back."""
        for let in self.forward.body:
            if let.name in self.saved:
                self.b.copy(let, Input(_kept(let.name)))
            else:
                self.b.copy(let)
        inside = exposed_to_nan(self.forward)  # what is local to a `repeat` among them
        self.b.expose(new for ref, new in self.b.value_map.items() if ref in inside)
        for name, ref in self.forward.outputs:
            arrived = self.b.emit(Input(GRADIENT + name), GRADIENT + name)
            axes = self.b.types[arrived].axes
            self._contribute(ref, arrived, axes)
        gradients: list[tuple[str, Ref]] = []
        for let in reversed(self.forward.body):
            parts = self.adjoints.get(let.name)
            if not parts or let.type.kind != "real":
                continue
            self.b.span = let.span
            total = parts[0]
            for part in parts[1:]:
                total = self.b.map("add", total, part)
            if isinstance(let.op, (Input, Param)):
                lacking = set(let.type.axes).difference(self.b.types[total].axes)
                if lacking:
                    total = self.b.emit(Expand(total, self.b.space.ordered(lacking)))
                gradients.append((GRADIENT + let.op.name, total))
            else:
                self._propagate(let.op, self.b.value_map[let.name], total)
        if not gradients:
            raise NotDerivable("nothing that could have a gradient")
        found = self.b.finish(outputs=gradients, updates=())
        read = {let.op.name for let in found.body if isinstance(let.op, Input)}
        inputs = tuple(i for i in found.inputs if i.name in read or i in self.forward.inputs)
        saved = [ref for ref in self.saved if _kept(ref) in read]
        outputs = (*self.forward.outputs, *((_kept(ref), ref) for ref in saved))
        forward = without_dead_code(replace(self.forward, outputs=outputs))
        kept = tuple(_kept(ref) for ref in saved)
        return Gradient(replace(found, inputs=inputs, checks=()), forward, kept)

    # ---- adjoints

    def _contribute(self, old: Ref, part: Ref | None, result: tuple[str, ...]) -> None:
        """Add to the adjoint of an old value what comes from a use with axes `result`."""
        if part is None:
            return
        op = self.forward.index.ops[old]
        if isinstance(op, (Number, Buffer, Detach, Count, Position, Link)):
            return
        new = self.b.value_map[old]
        if self.b.types[new].kind != "real":
            return
        self.adjoints.setdefault(old, []).append(self._summed(part, self.b.types[new].axes, result))

    def _summed(self, part: Ref, to: tuple[str, ...], result: tuple[str, ...]) -> Ref:
        """The sum of an adjoint over the axes of `result` along which the value is constant."""
        space = self.b.space
        mine = {space.base(a): a for a in to}
        theirs = {space.base(a): a for a in self.b.types[part].axes}
        over: list[tuple[str, Grouping]] = []
        for axis in result:
            base = space.base(axis)
            wanted, present = mine.get(base), theirs.get(base)
            if wanted == axis:
                continue
            matrix: Grouping = Ones()
            if wanted is not None:
                cells = space[wanted].cells_of
                assert cells is not None
                matrix = cells[1]
            if present == axis:
                over.append((axis, matrix))
            elif present is None or present == wanted:
                part = self._times_count(part, ((axis, matrix),))
            else:
                cells = space[present].cells_of
                if cells is None or wanted is not None:
                    raise NotDerivable("cells of two kinds along one axis")
                part = self._times_count(part, (cells,))
                over.append((present, Ones()))
        return self.b.emit(Pool("sum", part, tuple(over))) if over else part

    def _times_count(self, part: Ref, over: Aggregation) -> Ref:
        return self.b.map("mul", part, self.b.emit(Count(over)))

    def _propagate(self, op: Op, result: Ref, d: Ref) -> None:
        """From the adjoint of a result to those of its operands. Names in `op` are old ones."""
        axes = self.b.types[result].axes
        match op:
            case Map(function, arguments):
                moved = tuple(self.b.value_map[a] for a in arguments)
                parts = DERIVATIVES[function](self.b, d, moved, result)
                for old, part in zip(arguments, parts):
                    self._contribute(old, part, axes)
            case Pool():
                self._pool(op, result, d)
            case Expand(value, _):
                self._contribute(value, d, axes)
            case Cast(value, to):  # the gradient is rounded alike
                rounded = d if to.has_eight_bits else self.b.emit(Cast(d, to))
                self._contribute(value, rounded, axes)
            case Rename(value, old, new):
                # An adjoint that is the same all along the axis lacks it, whatever its name.
                part = self.b.emit(Rename(d, new, old)) if new in self.b.types[d].axes else d
                self._contribute(value, part, self.b.types[self.b.value_map[value]].axes)
            case AxisMap("softmax", value, axis):
                weighted = self.b.times(d, result)
                total = self.b.emit(Pool("sum", weighted, ((axis, Ones()),)))
                spread = self.b.times(self.b.map("sub", d, total), result)
                self._contribute(value, spread, axes)
            case Lookup(table, axis, int() as row):
                position = self.b.emit(Position(axis))
                chosen = self.b.map("eq", position, self.b.number(row))
                placed = self.b.map("where", chosen, d, self.b.number(0))
                self._contribute(table, placed, self.b.types[placed].axes)
            case _:
                raise NotDerivable(operation_name(op))

    def _pool(self, op: Pool, result: Ref, d: Ref) -> None:
        for reason in scan_obstacles(op):
            raise NotDerivable(reason)
        if not all(is_partition(matrix) or isinstance(matrix, Reach) for _, matrix in op.over):
            raise NotDerivable("a pool by a given matrix or a graph")
        if op.ddof or op.about is not None:
            raise NotDerivable(f"{op.statistic} with ddof or about")
        if op.statistic in ORDERED:
            raise NotDerivable("a statistic that is found in the order of the values")
        found = PoolAdjoint(self.b, self._moved(op), result, d, self._mean(op))
        # A pool along an axis takes a value of its cells once for each position.
        read = (r for r in (op.value, op.where, op.weight) if r is not None)
        axes = [self.b.types[self.b.value_map[r]].axes for r in read]
        joined = self.b.space.join(*axes, tuple(axis for axis, _ in op.over))
        if op.weight is not None:
            self._contribute(op.weight, found.of_weight(), joined)
        self._contribute(op.value, found.of_value(), joined)

    def _moved(self, op: Pool) -> Pool:
        """A pool of the forward program, in names of the backward one."""
        moved = self.b.value_map
        where, weight = (None if r is None else moved[r] for r in (op.where, op.weight))
        return replace(op, value=moved[op.value], where=where, weight=weight)

    def _mean(self, op: Pool) -> Ref | None:
        """The mean of what is pooled, where it was measured."""
        mean = self.means.get(replace(op, statistic="mean"))
        return None if mean is None else self.b.value_map[mean]
