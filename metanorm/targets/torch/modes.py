"""Print the choice between training and evaluation, and the updates of buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from metanorm.ir.mode_placement import ModeBranch, dependencies, mode_kind
from metanorm.ir.momenta import momenta
from metanorm.ir.nodes import Count, Exchange, Let, Map, Mode, Ref, Rename
from metanorm.ir.operands import operands
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.program import Update
from metanorm.targets.python.pyir import (
    Assign,
    Binary,
    Expr,
    ExprStmt,
    If,
    IfElse,
    List,
    Literal,
    Name,
    Starred,
    Stmt,
    Subscript,
    Tuple,
    Unary,
)
from metanorm.targets.torch.broadcaster import Broadcaster
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import Dims, Value, call, method


class ModePrinter:
    """Prints the modes and updates of one function. `emit` prints any binding."""

    def __init__(
        self, context: Context, broadcaster: Broadcaster, emit: Callable[[Let, list[Stmt]], None]
    ) -> None:
        self.ctx = context
        self.broadcaster = broadcaster
        self.emit = emit
        self.momenta = momenta(context.program)

    def modes(self, first: Let, out: list[Stmt]) -> None:
        """Print one `if` for all modes that have the same condition and are ready."""
        assert isinstance(first.op, Mode)
        kind, placement = mode_kind(first.op), self.ctx.mode_placement[first.name]
        cluster = [
            let
            for let in self.ctx.bodies[first.name]
            if let == first or self._joins(let, kind, placement)
        ]
        train: list[Stmt] = []
        evaluate: list[Stmt] = []
        names = {let.name: self.ctx.name_of(let.name, self._mode_name(let)) for let in cluster}
        for let in cluster:
            assert isinstance(let.op, Mode)
            self.ctx.variable_hints[let.name] = names[let.name]
            if self._shares_name(let, let.op):
                self.ctx.variable_hints[let.op.train] = names[let.name]
        modes = [let.op for let in cluster if isinstance(let.op, Mode)]
        read = self._modes_of_program() if self.ctx.program.divided else modes
        buffers = list(dict.fromkeys(m.buffer for m in read if m.buffer))
        self.emit_needed((m.train for m in modes), train)
        self.emit_needed((m.eval for m in modes), evaluate)
        for let in cluster:
            assert isinstance(let.op, Mode)
            self._choose(let, let.op, Name(names[let.name]), train, evaluate)
        condition = self._condition(kind, buffers)
        out.append(If(condition, _merged_assignments(train), _merged_assignments(evaluate)))

    def _modes_of_program(self) -> list[Mode]:
        """All modes. Among processes those of one kind have one condition: a message of one of them
        takes in what others read."""
        return [let.op for let in self.ctx.program.body if isinstance(let.op, Mode)]

    def _joins(self, let: Let, kind: str, placement: ModeBranch | None) -> bool:
        """Whether a mode can share this `if`: it has the same condition, and nothing that it needs
        takes further statements above the `if`."""
        if not isinstance(let.op, Mode) or mode_kind(let.op) != kind or let.name in self.ctx.values:
            return False
        if self.ctx.mode_placement[let.name] != placement:
            return False
        needed = dependencies((let.op.train, let.op.eval), self.ctx.lets, self.ctx.values)
        return all(
            self._prints_nothing(ref)
            or (placement is None and self.ctx.mode_placement[ref] is not None)
            for ref in needed
        )

    def _prints_nothing(self, ref: Ref) -> bool:
        op = self.ctx.lets[ref].op
        return not operands(op) or isinstance(op, Rename)

    def _mode_name(self, let: Let) -> str:
        assert isinstance(let.op, Mode)
        train = let.op.train
        train_op = self.ctx.lets[train].op
        if isinstance(train_op, Count):
            return "counted"
        if isinstance(train_op, Exchange):
            return "counted" if isinstance(self.ctx.lets[train_op.value].op, Count) else "whole"
        if let.op.buffer:
            return let.op.buffer.replace("running_", "")
        return "value" if train.startswith("%") else train

    def _condition(self, kind: str, buffers: Sequence[str]) -> Expr:
        training = Name("training")
        if kind == "mode":
            return training
        missing = [Binary("is", (Name(b), Literal(None))) for b in buffers]
        return Binary("or", (training, *missing))

    def emit_needed(self, refs: Iterable[Ref], out: list[Stmt]) -> None:
        """Print the values that these values need and that are not printed yet, in order."""
        needed = dependencies(refs, self.ctx.lets, self.ctx.values)
        for ref in sorted(needed, key=self.ctx.order.__getitem__):
            if ref not in self.ctx.values:
                self.emit(self.ctx.lets[ref], out)

    def _choose(
        self, let: Let, op: Mode, name: Name, train: list[Stmt], evaluate: list[Stmt]
    ) -> None:
        train_value, eval_value = (
            self.ctx.as_number(r, self.ctx.not_none(r)) for r in (op.train, op.eval)
        )
        branch_values = [train_value, eval_value]
        if train_value.number != eval_value.number:
            branch_values = [self._as_tensor(v) if v.number else v for v in branch_values]
        axes = self._axes(let, op)
        branch_values = [self.broadcaster.spread(v, axes) for v in branch_values]
        if (
            any(v.may_lack_dims for v in branch_values)
            or len({_full(v) for v in branch_values}) > 1
        ):
            branch_values = [self.broadcaster.expanded(v, axes) for v in branch_values]
        exprs, dims = self.broadcaster.broadcast(branch_values, axes)
        for value, expr, branch in zip(branch_values, exprs, (train, evaluate)):
            short = len(dims) - len(dims[self._start(dims, value) :])
            if short and not value.number and value.dims:
                expr = Subscript(expr, (*[Literal(None)] * short, Name("...")))
            if expr != name:
                branch.append(Assign((name,), self.ctx.with_named_operands(expr, branch)))
        number = train_value.number and eval_value.number
        self.ctx.values[let.name] = Value(name, dims, number=number)
        if (
            train_value.expr == name
        ):  # both share the variable, in the mode's shape, which updates read
            self.ctx.values[op.train] = self.ctx.values[let.name]

    def flagged(self, let: Let, op: Map, out: list[Stmt]) -> None:
        """Print a choice by a flag. Only the chosen branch is computed."""
        condition, *chosen = op.arguments
        branches: list[list[Stmt]] = [[], []]
        for ref, branch in zip(chosen, branches):
            self.emit_needed(dependencies((ref,), self.ctx.lets), branch)
        branch_values = [self.ctx.as_number(ref, self.ctx.not_none(ref)) for ref in chosen]
        name = Name(self.ctx.name_of(let.name, self.ctx.role(let.name) or "chosen"))
        if all(v.number for v in branch_values):
            value = IfElse(
                self.ctx.values[condition].expr, branch_values[0].expr, branch_values[1].expr
            )
            out.append(Assign((name,), value))
            self.ctx.values[let.name] = Value(name, number=True)
            return
        branch_values = [self._as_tensor(v) if v.number else v for v in branch_values]
        branch_values = [self.broadcaster.spread(v, let.type.axes) for v in branch_values]
        if (
            any(v.may_lack_dims for v in branch_values)
            or branch_values[0].dims != branch_values[1].dims
        ):
            branch_values = [self.broadcaster.expanded(v, let.type.axes) for v in branch_values]
        exprs, dims = self.broadcaster.broadcast(branch_values, let.type.axes)
        for expr, branch in zip(exprs, branches):
            if expr != name:
                branch.append(Assign((name,), self.ctx.with_named_operands(expr, branch)))
        out.append(If(self.ctx.values[condition].expr, tuple(branches[0]), tuple(branches[1])))
        self.ctx.values[let.name] = Value(name, dims)

    def _shares_name(self, let: Let, op: Mode) -> bool:
        """Whether the training value shares the variable of its mode, so that no branch copies it.

        A value whose cells the mode spreads over an axis keeps its name, since updates read it. So
        does one that a loop carries, which no branch computes.
        """
        if self.ctx.mode_placement.get(op.train) is None or op.train in self.ctx.variable_hints:
            return False
        return set(self.ctx.lets[op.train].type.axes) <= set(self._axes(let, op))

    def _axes(self, let: Let, op: Mode) -> tuple[str, ...]:
        """The axes of a mode, without cells of one branch that do not divide the other's axis."""
        space = self.ctx.space
        shared_axes = set(self.ctx.lets[op.train].type.axes) & set(self.ctx.lets[op.eval].type.axes)
        groupings = ((a.name, a.cells_of[1]) for a in space if a.cells_of)
        cell_axes = {name for name, m in groupings if isinstance(m, RegularPartition)}
        axes = let.type.axes
        return space.ordered(
            space.base(a) if a in cell_axes and a not in shared_axes else a for a in axes
        )

    def _as_tensor(self, value: Value) -> Value:
        return Value(self.ctx.tensor(value.expr), may_lack_dims=True)

    def _start(self, dims: Dims, value: Value) -> int:
        bases = [self.ctx.space.base(d.axis) for d in value.dims]
        indices = [i for i, d in enumerate(dims) if self.ctx.space.base(d.axis) in bases]
        return indices[0] if indices else 0

    def _update_value(self, update: Update) -> Expr:
        declared = next(b.dims for b in self.ctx.program.buffers if b.name == update.buffer)
        dims = self.ctx.layouts.full_dims(declared)
        value = self.broadcaster.spread(self.ctx.not_none(update.value), [d.axis for d in dims])
        if value.number:
            return value.expr
        expr = self.ctx.layouts.aligned(self.ctx.layouts.compact(value), dims)
        if {d.axis for d in value.dims if d.full} != {d.axis for d in dims}:
            expr = method(expr, "expand", self.ctx.lengths.shape(dims))
        if len(dims) > len(declared):  # the buffer has the axis as a whole
            expr = self.ctx.lengths.merged(expr, dims)
        return expr

    def updates(self) -> list[Stmt]:
        """The updates of buffers. They come last and all at once, so that a call that fails leaves
        the buffers unchanged."""
        other_updates = [u for u in self.ctx.program.updates if u.when != "train"]
        return [*self._in_training(), *self._in_other_calls(other_updates)]

    def _in_other_calls(self, updates: Sequence[Update]) -> list[Stmt]:
        """The updates of evaluation calls, and those of every call."""
        statements: list[Stmt] = []
        for when in ("eval", "always"):
            out: list[Stmt] = []
            chosen = [u for u in updates if u.when == when]
            pairs = self._pairs(chosen, out)
            if not pairs:
                continue
            out.append(ExprStmt(self._stored(chosen, *pairs)))
            if when == "eval":
                statements.append(If(Unary("not ", Name("training")), tuple(out)))
            else:
                statements += out
        return statements

    def _in_training(self) -> list[Stmt]:
        updates = [u for u in self.ctx.program.updates if u.when == "train"]
        averaged = [u for u in updates if u.averages]
        stored = [u for u in updates if not u.averages]
        if not updates:
            return []
        training: Expr = Name("training")
        present = [Binary("is not", (Name(u.buffer), Literal(None))) for u in averaged]
        out: list[Stmt] = []
        if not averaged or not stored:
            new = self._pairs(averaged or stored, out)
            out.append(ExprStmt(self._stored(updates, *new)))
            return [If(Binary("and", (training, *present)) if present else training, tuple(out))]
        # The values that both need are computed with `stored`, which every training call updates.
        pairs = Name(self.ctx.local("updates"))
        first = List(self._pairs(stored, out))
        out.append(Assign((pairs,), first))
        inner: list[Stmt] = []
        running_pairs = self._pairs(averaged, inner)
        inner.append(Assign((pairs,), List((Starred(pairs), *running_pairs))))
        tracked = present[0] if len(present) == 1 else Binary("and", tuple(present))
        out += [If(tracked, tuple(inner)), ExprStmt(self._stored(updates, Starred(pairs)))]
        return [If(training, tuple(out))]

    def _stored(self, updates: Sequence[Update], *pairs: Expr) -> Expr:
        """The call that stores new contents. With divided axes, it needs elements on a process."""
        elements = updates[0].elements
        if elements is None:
            return call("runtime.store_", *pairs)
        return call("runtime.store_where_", self.ctx.values[elements].expr, *pairs)

    def _pairs(self, updates: Sequence[Update], out: list[Stmt]) -> tuple[Expr, ...]:
        """The pairs of a buffer and its new contents. It prints the values that they need."""
        needed = [ref for u in updates for ref in (u.value, u.elements) if ref is not None]
        self.emit_needed(needed, out)
        return tuple(Tuple((Name(u.buffer), self._new_contents(u))) for u in updates)

    def _new_contents(self, update: Update) -> Expr:
        value = self._update_value(update)
        if not update.averages:
            return value
        momentum = Name(self.momenta[update.momentum])
        return call("runtime.moved", Name(update.buffer), value, momentum)


def _full(value: Value) -> frozenset[str]:
    """The axes along which a value varies."""
    return frozenset(d.axis for d in value.dims if d.full)


def _merged_assignments(statements: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """`a = x` and `b = y` as `a, b = x, y`, if all values are plain names."""
    copies = [s for s in statements if isinstance(s, Assign) and isinstance(s.value, Name)]
    if len(copies) < 2 or len(copies) < len(statements) or len(copies) > 3:
        return tuple(statements)
    targets = tuple(s.targets[0] for s in copies)
    values = tuple(s.value for s in copies if s.value is not None)
    return (Assign(targets, Tuple(values, bare=True)),)
