"""The gradient of a program: reverse-mode differentiation of the IR.

The result is a program like any other. It reads what the forward program reads, the gradients of
its outputs (`d.output`), and the statistics of the data that the forward call saves (`kept.mean`);
it recomputes every other narrow value. Its outputs are the gradients of inputs and parameters
(`d.x`, `d.weight`). The adjoint of an implicit broadcast is a sum; the adjoint of a pool spreads
over the pooled elements.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from metanorm.ir.aggregation import Aggregation, ByIndex, Grouping, Ones, Reach, is_partition
from metanorm.ir.dump import operation_name
from metanorm.ir.empty_groups import returned_group_values
from metanorm.ir.exposure import exposed_to_nan
from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Cast,
    Concat,
    Count,
    Detach,
    Expand,
    Input,
    Inside,
    Let,
    Link,
    Lookup,
    Map,
    Number,
    Op,
    Param,
    Piece,
    Pool,
    Position,
    Recurrence,
    Ref,
    Rename,
)
from metanorm.ir.ops import ORDERED
from metanorm.ir.outputs import output_axes, output_dims
from metanorm.ir.program import InputDecl, Program
from metanorm.ir.scalar import Const, SizeOf, apply
from metanorm.passes.builder import Builder, without_dead_code
from metanorm.passes.derivatives import DERIVATIVES, AdjointBuilder
from metanorm.passes.pool_adjoints import PoolAdjoint
from metanorm.passes.scans import scan_obstacles

GRADIENT = "d."
KEPT = "kept."


class NotDerivable(Exception):
    """The compiler has no gradient for an operation: the norm uses the one of autograd."""


@dataclass(frozen=True)
class Gradient:
    """The backward program, and its forward program.

    The forward program has the saved statistics as further outputs; `kept` holds their names.
    """

    program: Program
    forward: Program
    kept: tuple[str, ...]


def backward(program: Program) -> Gradient:
    """The gradient of a program without modes. Raises `NotDerivable`."""
    return _Backward(program).run()


def _with_means(program: Program) -> Program:
    """The program with a mean for each variance, which the gradient of the variance needs."""
    builder = Builder(program)
    name_by_op = {let.op: let.name for let in program.body}
    means: list[tuple[str, Ref]] = []
    for let in program.body:
        ref = builder.copy(let)
        op = builder.ops[ref]
        if isinstance(op, Pool) and isinstance(let.op, Pool) and op.statistic == "var":
            name = name_by_op.get(replace(let.op, statistic="mean"), "")
            mean = builder.emit(replace(op, statistic="mean"), name)
            means.append((mean, mean))
    with_outputs = builder.finish(
        outputs=[*((name, builder.value_map[ref]) for name, ref in program.outputs), *means]
    )
    return replace(with_outputs, outputs=with_outputs.outputs[: len(program.outputs)])


def _saved_name(ref: Ref) -> str:
    return f"{KEPT}{ref.lstrip('%')}"


class _Backward:
    def __init__(self, program: Program) -> None:
        self.forward = program = _with_means(program)
        types, space = program.index.types, program.index.space
        input_axes = {leaf for dim in program.inputs[0].dims for leaf in space.leaves(dim)}
        self.saved = tuple(
            let.name
            for let in program.body
            if isinstance(let.op, Pool)
            and input_axes <= set(types[let.op.value].axes)
            and not input_axes <= set(types[let.name].axes)  # as large as the input itself
        )
        saved_inputs = [
            InputDecl(_saved_name(ref), "tensor", types[ref].axes) for ref in self.saved
        ]
        adjoint_inputs = [
            InputDecl(GRADIENT + name, "tensor", self._dims(name, ref, types[ref].axes))
            for name, ref in program.outputs
        ]
        inputs = (*program.inputs, *adjoint_inputs, *saved_inputs)
        body = (
            *program.body,
            *(
                Let(d.name, Input(d.name), program.body[0].type, program.body[0].span)
                for d in adjoint_inputs
            ),
        )
        self.b = AdjointBuilder(replace(program, inputs=inputs, body=body))
        self.means = {let.op: let.name for let in program.body if isinstance(let.op, Pool)}
        self.adjoints: dict[Ref, list[Ref]] = {}
        # What outputs return for each group, and whether what is being propagated is among that.
        # Gradients that arrive at outputs are.
        self.returned, self.is_returned = returned_group_values(program), True

    def _dims(self, name: str, ref: Ref, axes: tuple[str, ...]) -> tuple[str, ...]:
        """The dimensions of the gradient of an output: those of the output, or its axes if its
        cells are spread over an axis, which no kernel does."""
        program, space = self.forward, self.forward.index.space
        is_first = program.keeps_shape and name == program.outputs[0][0]
        is_spread = output_axes(program, name, ref) is None
        has_cells = any(space[axis].cells_of for axis in axes)
        return axes if has_cells and is_spread and not is_first else output_dims(program, name, ref)

    def run(self) -> Gradient:
        """Recompute the forward values, then propagate adjoints from the outputs backward."""
        for let in self.forward.body:
            if let.name in self.saved:
                self.b.copy(let, Input(_saved_name(let.name)))
            else:
                self.b.copy(let)
        exposed = exposed_to_nan(self.forward)  # values inside of a `repeat` included
        self.b.mark_exposed(new for ref, new in self.b.value_map.items() if ref in exposed)
        for name, ref in self.forward.outputs:
            adjoint = self.b.emit(Input(GRADIENT + name), GRADIENT + name)
            axes = self.b.types[adjoint].axes
            self._contribute(ref, adjoint, axes)
        gradients: list[tuple[str, Ref]] = []
        for let in reversed(self.forward.body):
            contributions = self.adjoints.get(let.name)
            if not contributions or let.type.kind != "real":
                continue
            self.b.span = let.span
            total = contributions[0]
            for contribution in contributions[1:]:
                total = self.b.map("add", total, contribution)
            if isinstance(let.op, (Input, Param)):
                missing = set(let.type.axes).difference(self.b.types[total].axes)
                if missing:
                    total = self.b.emit(Expand(total, self.b.space.ordered(missing)))
                gradients.append((GRADIENT + let.op.name, total))
            else:
                self.is_returned = let.name in self.returned
                self._propagate(let.op, self.b.value_map[let.name], total)
        if not gradients and self.forward.target == "sweep":
            gradients.append(self._zero_gradient())
        if not gradients:
            raise NotDerivable("nothing that could have a gradient")
        gradient_program = self.b.finish(outputs=gradients, updates=())
        input_names = {let.op.name for let in gradient_program.body if isinstance(let.op, Input)}
        inputs = tuple(
            i for i in gradient_program.inputs if i.name in input_names or i in self.forward.inputs
        )
        saved = [ref for ref in self.saved if _saved_name(ref) in input_names]
        outputs = (*self.forward.outputs, *((_saved_name(ref), ref) for ref in saved))
        forward = without_dead_code(replace(self.forward, outputs=outputs))
        kept = tuple(_saved_name(ref) for ref in saved)
        return Gradient(replace(gradient_program, inputs=inputs, checks=()), forward, kept)

    def _zero_gradient(self) -> tuple[str, Ref]:
        """The gradient of the first input of a sweep that counts: what it measures has none."""
        first = self.forward.inputs[0]
        axes = self.b.declarations.axes(first.dims)
        return GRADIENT + first.name, self.b.emit(Expand(self.b.number(0), axes))

    # ---- adjoints

    def _contribute(self, operand: Ref, contribution: Ref | None, axes: tuple[str, ...]) -> None:
        """Add a contribution to the adjoint of an operand; `axes` are those of the operation."""
        if contribution is None:
            return
        op = self.forward.index.ops[operand]
        if isinstance(op, (Number, Buffer, Detach, Count, Position, Inside, Link)):
            return
        if isinstance(op, Input) and self.forward.index.inputs[op.name].drawn is not None:
            return
        new = self.b.value_map[operand]
        if self.b.types[new].kind != "real":
            return
        if operand in self.returned:
            for axis in self.b.types[contribution].axes:
                contribution = self._of_some(contribution, axis)
        self.adjoints.setdefault(operand, []).append(
            self._summed(contribution, self.b.types[new].axes, axes)
        )

    def _summed(
        self, contribution: Ref, target_axes: tuple[str, ...], axes: tuple[str, ...]
    ) -> Ref:
        """The contribution summed over the axes that the operand lacks or has cells of."""
        space = self.b.space
        target_by_base = {space.base(a): a for a in target_axes}
        present_by_base = {space.base(a): a for a in self.b.types[contribution].axes}
        over: list[tuple[str, Grouping]] = []
        for axis in axes:
            base = space.base(axis)
            target, present = target_by_base.get(base), present_by_base.get(base)
            if target == axis:
                continue
            grouping: Grouping = Ones()
            if target is not None:
                cells = space[target].cells_of
                assert cells is not None
                grouping = cells[1]
            if present == axis:
                contribution = self._of_some(contribution, axis)
                over.append((axis, grouping))
            elif present is None or present == target:
                contribution = self._times_count(contribution, ((axis, grouping),))
            else:
                cells = space[present].cells_of
                if cells is None or target is not None:
                    raise NotDerivable("cells of two kinds along one axis")
                contribution = self._times_count(contribution, (cells,))
                over.append((present, Ones()))
        return self.b.emit(Pool("sum", contribution, tuple(over))) if over else contribution

    def _times_count(self, contribution: Ref, over: Aggregation) -> Ref:
        """The sum of equal contributions."""
        total = self.b.map("mul", contribution, self.b.emit(Count(over)))
        groups = tuple(pair for pair in over if isinstance(pair[1], ByIndex))
        return self._where_any(total, groups) if groups else total

    def _of_some(self, contribution: Ref, axis: str) -> Ref:
        """An adjoint of cells, and zero for cells of nothing if an index makes the cells, unless an
        output returns them."""
        if self.is_returned:
            return contribution
        cells = self.b.space[axis].cells_of
        by_index = cells is not None and isinstance(cells[1], ByIndex)
        return self._where_any(contribution, (cells,)) if cells and by_index else contribution

    def _where_any(self, d: Ref, groups: Aggregation) -> Ref:
        """An adjoint, and zero for groups of nothing, such as rows of a table that no label
        chooses: their statistics and counts are zero, and may have been divided by. Whatever a sum
        over a group of nothing is multiplied by, `sums` may move that out of the sum."""
        zero = self.b.number(0)
        is_any = self.b.map("ne", self.b.emit(Count(groups)), zero)
        return self.b.map("where", is_any, d, zero)

    def _propagate(self, op: Op, result: Ref, d: Ref) -> None:
        """Propagate the adjoint `d` of a result to the operands. Names in `op` are old ones."""
        axes = self.b.types[result].axes
        match op:
            case Map(function, arguments):
                new_arguments = tuple(self.b.value_map[a] for a in arguments)
                contributions = DERIVATIVES[function](self.b, d, new_arguments, result)
                for old, contribution in zip(arguments, contributions):
                    self._contribute(old, contribution, axes)
            case Pool():
                self._propagate_pool(op, result, d)
            case Expand(value, _):
                self._contribute(value, d, axes)
            case Cast(value, to):  # the gradient is rounded to the same dtype
                rounded = d if to.has_eight_bits else self.b.emit(Cast(d, to))
                self._contribute(value, rounded, axes)
            case Rename(value, old, new):
                # An adjoint that is constant along the axis does not have it.
                contribution = d
                if new in self.b.types[d].axes:
                    contribution = self.b.emit(Rename(self._of_some(d, new), new, old))
                self._contribute(value, contribution, self.b.types[self.b.value_map[value]].axes)
            case AxisMap("softmax", value, axis):
                weighted = self.b.times(d, result)
                total = self.b.emit(Pool("sum", weighted, ((axis, Ones()),)))
                spread = self.b.times(self.b.map("sub", d, total), result)
                self._contribute(value, spread, axes)
            case AxisMap("sparsestmax", value, axis, radius, None):
                x = self.b.value_map[value]
                arriving = self.b.emit(AxisMap("sparsestmax", x, axis, radius, adjoint=d))
                self._contribute(value, arriving, axes)
            case Recurrence():
                self._propagate_recurrence(op, result, d)
            case Lookup(table, axis, int() as row):
                position = self.b.emit(Position(axis))
                from_end = apply("add", SizeOf(axis), Const(float(row)))
                number = self.b.number(row if row >= 0 else from_end)
                chosen = self.b.map("eq", position, number)
                placed = self.b.map("where", chosen, d, self.b.number(0))
                self._contribute(table, placed, self.b.types[placed].axes)
            case Concat(values, pieces, axis):
                of_pieces = self._with_axis(d, axis)
                for value, piece in zip(values, pieces):
                    of_piece = self.b.emit(Piece(of_pieces, piece))
                    self._contribute(value, of_piece, self.b.types[of_piece].axes)
            case Piece(value, piece):
                axes_of_value = self.b.types[self.b.value_map[value]].axes
                (whole,) = (a for a in axes_of_value if a not in self.b.types[result].axes)
                of_whole = self.b.emit(Concat((self._with_axis(d, piece),), (piece,), whole))
                self._contribute(value, of_whole, axes_of_value)
            case _:
                raise NotDerivable(operation_name(op))

    def _propagate_recurrence(self, op: Recurrence, result: Ref, d: Ref) -> None:
        """The adjoint of the state after a step: what arrives there, and what a scan in the other
        direction brings from behind it. The decay's is that times the state before the step."""
        b = self.b
        value, decay, start = (b.value_map[ref] for ref in (op.value, op.decay, op.start))
        d = self._with_axis(d, op.axis)
        arriving = d if op.before else b.map("mul", decay, d)
        scan = Recurrence(arriving, decay, b.number(0), op.axis, not op.reverse, before=True)
        behind = b.emit(scan)
        adjoint = behind if op.before else b.map("add", d, behind)
        begun = b.emit(Recurrence(value, decay, start, op.axis, op.reverse, before=True))
        decayed = b.map("mul", decay, adjoint)
        to_start = b.map("add", d, decayed) if op.before else decayed
        axes = b.types[result].axes
        last = apply("sub", SizeOf(op.axis), Const(1.0))
        begins = b.number(last if op.reverse else Const(0.0))
        is_first = b.map("eq", b.emit(Position(op.axis)), begins)
        over: Aggregation = ((op.axis, Ones()),)
        first = b.emit(Pool("sum", b.map("where", is_first, to_start, b.number(0)), over))
        self._contribute(op.value, adjoint, axes)
        self._contribute(op.decay, b.map("mul", adjoint, begun), axes)
        self._contribute(op.start, first, tuple(axis for axis in axes if axis != op.axis))

    def _with_axis(self, d: Ref, axis: str) -> Ref:
        """An adjoint that has an axis, along which it may be constant."""
        return d if axis in self.b.types[d].axes else self.b.emit(Expand(d, (axis,)))

    def _propagate_pool(self, op: Pool, result: Ref, d: Ref) -> None:
        for reason in scan_obstacles(op):
            raise NotDerivable(reason)
        if not all(is_partition(matrix) or isinstance(matrix, Reach) for _, matrix in op.over):
            raise NotDerivable("a pool by a given matrix or a graph")
        if op.ddof or op.about is not None:
            raise NotDerivable(f"{op.statistic} with ddof or about")
        if op.statistic in ORDERED:
            raise NotDerivable("a statistic that is found in the order of the values")
        adjoint = PoolAdjoint(
            self.b, self._with_new_operands(op), result, d, self._measured_mean(op)
        )
        # A pool along an axis counts a value of its cells once for each position.
        operands_read = (r for r in (op.value, op.where, op.weight) if r is not None)
        axes = [self.b.types[self.b.value_map[r]].axes for r in operands_read]
        joined = self.b.space.join(*axes, tuple(axis for axis, _ in op.over))
        if op.weight is not None:
            self._contribute(op.weight, adjoint.of_weight(), joined)
        self._contribute(op.value, adjoint.of_value(), joined)

    def _with_new_operands(self, op: Pool) -> Pool:
        """A pool of the forward program, on values of the backward program."""
        value_map = self.b.value_map
        where, weight = (None if r is None else value_map[r] for r in (op.where, op.weight))
        return replace(op, value=value_map[op.value], where=where, weight=weight)

    def _measured_mean(self, op: Pool) -> Ref | None:
        """The mean over the same pools, if the forward program has it."""
        mean = self.means.get(replace(op, statistic="mean"))
        return None if mean is None else self.b.value_map[mean]
