"""Training and evaluation: which statistics are used, and the running ones kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from metanorm.ir.aggregation import REGULAR
from metanorm.ir.mode_placement import ModeBranch, dependencies, mode_kind
from metanorm.ir.momenta import momenta
from metanorm.ir.nodes import (
    Count,
    Let,
    Map,
    Mode,
    Ref,
    Rename,
    Update,
)
from metanorm.ir.operands import operands
from metanorm.targets.python.pyir import (
    Assign,
    Binary,
    Do,
    Expr,
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
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import Dims, Value, call, method
from metanorm.targets.torch.lining import Lining


class ModePrinter:
    """Prints the modes and updates of one function. `emit` prints any binding."""

    def __init__(
        self, context: Context, lining: Lining, emit: Callable[[Let, list[Stmt]], None]
    ) -> None:
        self.c = context
        self.lining = lining
        self.emit = emit
        self.momenta = momenta(context.program)

    def modes(self, first: Let, out: list[Stmt]) -> None:
        """One `if` for all modes of a kind that can be decided here."""
        assert isinstance(first.op, Mode)
        kind, place = mode_kind(first.op), self.c.mode_placement[first.name]
        cluster = [
            let
            for let in self.c.bodies[first.name]
            if let == first or self._joins(let, kind, place)
        ]
        train: list[Stmt] = []
        evaluate: list[Stmt] = []
        names = {let.name: self.c.name_of(let.name, self._mode_name(let)) for let in cluster}
        for let in cluster:
            assert isinstance(let.op, Mode)
            self.c.hints[let.name] = names[let.name]
            if self._lends_its_name(let, let.op):
                self.c.hints[let.op.train] = names[let.name]
        modes = [let.op for let in cluster if isinstance(let.op, Mode)]
        buffers = list(dict.fromkeys(m.buffer for m in modes if m.buffer))
        self.emit_needed((m.train for m in modes), train)
        self.emit_needed((m.eval for m in modes), evaluate)
        for let in cluster:
            assert isinstance(let.op, Mode)
            self._choose(let, let.op, Name(names[let.name]), train, evaluate)
        condition = self._condition(kind, buffers)
        out.append(If(condition, _together(train), _together(evaluate)))

    def _joins(self, let: Let, kind: str, place: ModeBranch | None) -> bool:
        """Whether a mode is still open and everything it needs in any case is there."""
        if not isinstance(let.op, Mode) or mode_kind(let.op) != kind or let.name in self.c.values:
            return False
        if self.c.mode_placement[let.name] != place:
            return False
        needed = dependencies((let.op.train, let.op.eval), self.c.lets, self.c.values)
        of_an_arm = {r for r in needed if place is None and self.c.mode_placement[r] is not None}
        return all(self._prints_nothing(ref) for ref in needed - of_an_arm)

    def _prints_nothing(self, ref: Ref) -> bool:
        op = self.c.lets[ref].op
        return not operands(op) or isinstance(op, Rename)

    def _mode_name(self, let: Let) -> str:
        assert isinstance(let.op, Mode)
        train = let.op.train
        if isinstance(self.c.lets[train].op, Count):
            return "counted"
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
        """What these values need and is not there yet, in the order of the program."""
        needed = dependencies(refs, self.c.lets, self.c.values)
        for ref in sorted(needed, key=self.c.order.__getitem__):
            if ref not in self.c.values:
                self.emit(self.c.lets[ref], out)

    def _choose(
        self, let: Let, op: Mode, name: Name, train: list[Stmt], evaluate: list[Stmt]
    ) -> None:
        live, kept = (self.c.counted(r, self.c.present(r)) for r in (op.train, op.eval))
        arms = [live, kept]
        if live.number != kept.number:
            arms = [self._as_tensor(v) if v.number else v for v in arms]
        axes = self._axes(let, op)
        arms = [self.lining.spread(v, axes) for v in arms]
        if any(v.loose for v in arms) or len({_full(v) for v in arms}) > 1:
            arms = [self.lining.whole(v, axes) for v in arms]
        exprs, dims = self.lining.lined_up(arms, axes)
        for value, expr, out in zip(arms, exprs, (train, evaluate)):
            short = len(dims) - len(dims[self._start(dims, value) :])
            if short and not value.number and value.dims:
                expr = Subscript(expr, (*[Literal(None)] * short, Name("...")))
            if expr != name:
                out.append(Assign((name,), self.c.broken(expr, out)))
        number = live.number and kept.number
        self.c.values[let.name] = Value(name, dims, number=number)
        if live.expr == name:  # its variable lies as that of the mode now, and updates read it
            self.c.values[op.train] = self.c.values[let.name]

    def flagged(self, let: Let, op: Map, out: list[Stmt]) -> None:
        """A choice by a flag: what is not chosen is not computed."""
        condition, *chosen = op.arguments
        branches: list[list[Stmt]] = [[], []]
        for ref, branch in zip(chosen, branches):
            self.emit_needed(dependencies((ref,), self.c.lets), branch)
        arms = [self.c.counted(ref, self.c.present(ref)) for ref in chosen]
        name = Name(self.c.name_of(let.name, self.c.role(let.name) or "chosen"))
        if all(v.number for v in arms):
            value = IfElse(self.c.values[condition].expr, arms[0].expr, arms[1].expr)
            out.append(Assign((name,), value))
            self.c.values[let.name] = Value(name, number=True)
            return
        arms = [self._as_tensor(v) if v.number else v for v in arms]
        arms = [self.lining.spread(v, let.type.axes) for v in arms]
        if any(v.loose for v in arms) or arms[0].dims != arms[1].dims:
            arms = [self.lining.whole(v, let.type.axes) for v in arms]
        exprs, dims = self.lining.lined_up(arms, let.type.axes)
        for expr, branch in zip(exprs, branches):
            if expr != name:
                branch.append(Assign((name,), self.c.broken(expr, branch)))
        out.append(If(self.c.values[condition].expr, tuple(branches[0]), tuple(branches[1])))
        self.c.values[let.name] = Value(name, dims)

    def _lends_its_name(self, let: Let, op: Mode) -> bool:
        """Whether what training measures is called as the mode, so that no branch copies it.

        What the mode spreads over an axis keeps a name of its own: updates read it by its cells.
        """
        if self.c.mode_placement[op.train] is None or op.train in self.c.hints:
            return False
        return set(self.c.lets[op.train].type.axes) <= set(self._axes(let, op))

    def _axes(self, let: Let, op: Mode) -> tuple[str, ...]:
        """The axes of a mode, without cells of one arm that do not divide the axis in the other."""
        space = self.c.space
        both = set(self.c.lets[op.train].type.axes) & set(self.c.lets[op.eval].type.axes)
        cut = {a.name for a in space if a.cells_of and isinstance(a.cells_of[1], REGULAR)}
        own = let.type.axes
        return space.ordered(space.base(a) if a in cut and a not in both else a for a in own)

    def _as_tensor(self, value: Value) -> Value:
        return Value(self.c.tensor(value.expr), loose=True)

    def _start(self, dims: Dims, value: Value) -> int:
        bases = [self.c.space.base(d.axis) for d in value.dims]
        places_ = [i for i, d in enumerate(dims) if self.c.space.base(d.axis) in bases]
        return places_[0] if places_ else 0

    def _update_value(self, update: Update) -> Expr:
        declared = next(b.dims for b in self.c.program.buffers if b.name == update.buffer)
        dims = self.c.layouts.frame(declared)
        value = self.lining.spread(self.c.present(update.value), [d.axis for d in dims])
        if value.number:
            return value.expr
        expr = self.c.layouts.aligned(self.c.layouts.compact(value), dims)
        if {d.axis for d in value.dims if d.full} != {d.axis for d in dims}:
            expr = method(expr, "expand", self.c.lengths.shape(dims))
        if len(dims) > len(declared):  # the buffer has the axis as a whole
            expr = self.c.lengths.merged(expr, dims)
        return expr

    def updates(self) -> list[Stmt]:
        """What training leaves in the buffers: the last thing that happens, and all at once, so
        that a call that fails leaves them as they were."""
        others = [u for u in self.c.program.updates if u.when != "train"]
        return [*self._in_training(), *self._in_other_calls(others)]

    def _in_other_calls(self, updates: Sequence[Update]) -> list[Stmt]:
        """What calls in evaluation leave, and what every call does."""
        done: list[Stmt] = []
        for when in ("eval", "always"):
            out: list[Stmt] = []
            chosen = [u for u in updates if u.when == when]
            pairs = self._pairs(chosen, out)
            if not pairs:
                continue
            out.append(Do(self._stored(chosen, *pairs)))
            if when == "eval":
                done.append(If(Unary("not ", Name("training")), tuple(out)))
            else:
                done += out
        return done

    def _in_training(self) -> list[Stmt]:
        updates = [u for u in self.c.program.updates if u.when == "train"]
        averaged = [u for u in updates if u.averages]
        stored = [u for u in updates if not u.averages]
        if not updates:
            return []
        training: Expr = Name("training")
        kept = [Binary("is not", (Name(u.buffer), Literal(None))) for u in averaged]
        out: list[Stmt] = []
        if not averaged or not stored:
            new = self._pairs(averaged or stored, out)
            out.append(Do(self._stored(updates, *new)))
            return [If(Binary("and", (training, *kept)) if kept else training, tuple(out))]
        # What both need is computed in the first, which a training pass never leaves out.
        pairs = Name(self.c.local("updates"))
        first = List(self._pairs(stored, out))
        out.append(Assign((pairs,), first))
        inner: list[Stmt] = []
        more = self._pairs(averaged, inner)
        inner.append(Assign((pairs,), List((Starred(pairs), *more))))
        present = kept[0] if len(kept) == 1 else Binary("and", tuple(kept))
        out += [If(present, tuple(inner)), Do(self._stored(updates, Starred(pairs)))]
        return [If(training, tuple(out))]

    def _stored(self, updates: Sequence[Update], *pairs: Expr) -> Expr:
        """Buffers get their new contents, of divided axes where any process has elements."""
        elements = updates[0].elements
        if elements is None:
            return call("runtime.store_", *pairs)
        return call("runtime.store_where_", self.c.values[elements].expr, *pairs)

    def _pairs(self, updates: Sequence[Update], out: list[Stmt]) -> tuple[Expr, ...]:
        """Buffers with their new contents, once what these need is there."""
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


def _together(statements: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """`a = x` and `b = y` as `a, b = x, y`, where all are mere names."""
    plain = [s for s in statements if isinstance(s, Assign) and isinstance(s.value, Name)]
    if len(plain) < 2 or len(plain) < len(statements) or len(plain) > 3:
        return tuple(statements)
    targets = tuple(s.targets[0] for s in plain)
    values = tuple(s.value for s in plain if s.value is not None)
    return (Assign(targets, Tuple(values, bare=True)),)
