"""Statistics and softmax of narrow values: loops over what they pool, for the cells of a phase."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import Along, Count, Pool, Ref
from metanorm.plan.sweeps import NotPlannable
from metanorm.targets.python.pyir import Assign, Expr, For, Literal, Name, Stmt, Tuple
from metanorm.targets.triton.scope import Scope
from metanorm.targets.triton.terms import ZERO, both, call, cast, full, infix, plus, upright

ROW = frozenset(("row",))
TWINS = ("mean", "var")
MOMENTS = ("weight", "mean", "squares")
Collect = Callable[["Scope", Expr], list[Stmt]]  # what a turn of the loop does, where it is inside


class PoolPrinter:
    """Prints loops over pools into the kernel of a phase."""

    def __init__(self, scope: Scope) -> None:
        self.s = scope
        self.f = scope.frame
        self.pooled: list[tuple[str, ...]] = []  # the axes of each loop

    def pool(self, ref: Ref, op: Pool | Count, members: Collection[Ref]) -> None:
        """A statistic, and its twin if that is among the members: a variance beside a mean."""
        if any(not isinstance(matrix, Ones) for _, matrix in op.over):
            raise NotPlannable("a narrow pool by groups, blocks or a given matrix")
        axes = self.f.leaves(axis for axis, _ in op.over)
        if isinstance(op, Count):
            self._keep(ref, self._sums(axes, op, ref, ("weight",))["weight"])
            return
        if op.statistic not in ("sum", "mean", "var") or op.ddof or op.about:
            raise NotPlannable(f"{op.statistic} of narrow values")
        if op.statistic == "sum":
            self._keep(ref, self._sums(axes, op, ref, ("total",))["total"])
            return
        alike = {
            name: next((r for r in members if self.f.lets[r].op == replace(op, statistic=name)), "")
            for name in TWINS
        }
        if alike["var"]:
            weight, mean, squares = self._moments(axes, op, ref)
            if alike["mean"]:
                self._keep(alike["mean"], mean)
            self._keep(alike["var"], call("arithmetic.over", squares, weight))
        else:
            found = self._sums(axes, op, ref, ("weight", "total"))
            self._keep(ref, call("arithmetic.over", found["total"], found["weight"]))

    def softmax(self, ref: Ref, op: Along) -> None:
        """Shares of one that follow the exponentials of values along an axis."""
        if op.function != "softmax":
            raise NotPlannable(op.function)
        axes = (op.axis,)
        largest = self._accumulator(f"largest_{op.axis}", call("float", Literal("-inf")))

        def raised(s: Scope, inside: Expr) -> list[Stmt]:
            value = call("tl.where", inside, s.value(op.value), call("float", Literal("-inf")))
            return [Assign((largest,), call("tl.maximum", largest, value))]

        self._loop(axes, raised)
        self.s.body.append(
            Assign((largest,), call("tl.max", largest, ZERO, keep_dims=Literal(True)))
        )
        total = self._accumulator(f"total_{op.axis}")

        def added(s: Scope, inside: Expr) -> list[Stmt]:
            share = call("tl.exp", infix("-", s.value(op.value), largest))
            value = call("tl.where", inside, share, ZERO)
            return [Assign((total,), infix("+", total, value))]

        self._loop(axes, added)
        own = call("tl.exp", infix("-", self.s.value(op.value), largest))
        self._keep(ref, infix("/", own, self._sum(total)))

    # ---- loops

    def _loop(self, axes: tuple[str, ...], collect: Collect) -> None:
        """A loop over all places along some axes, so many at a time."""
        s = self.s
        size = self.f.size(s.arguments, axes)
        inner = replace(
            s, at=dict(s.at), sides=dict(s.sides), changing=ROW, head=s.body, body=[],
            local={r: e for r, e in s.local.items() if not {*axes} & {*self.f.lets[r].type.axes}},
            within=set(),
        )  # fmt: skip
        name = "place" if len(axes) > 1 else axes[0].lower()
        variable = Name(s.arguments.names.fresh(name))
        start = Name(s.arguments.names.fresh("start"))
        lane = plus(start, upright(call("tl.arange", ZERO, Name("PARTS"))))
        inner.body.append(Assign((variable,), lane))
        rest: Expr = variable
        for number, axis in reversed(list(enumerate(axes))):
            extent = self.f.size(s.arguments, (axis,))
            inner.at[axis] = infix("%", rest, extent) if number else rest
            inner.sides[axis] = ROW
            rest = infix("//", rest, extent)
        in_rows = Name(s.arguments.names.fresh("in_pool"))
        inner.body.append(Assign((in_rows,), infix("<", variable, size)))
        inner.masks = {**s.masks, "row": in_rows}
        inside = both(in_rows, s.masks.get("column"))
        assert inside is not None
        inner.body += collect(inner, inside)
        for ref in inner.local.keys() - s.local.keys() - inner.within:
            s.local[ref] = inner.local[ref]  # the same in all turns
            s.within.add(ref)
        values = call("range", ZERO, size, Name("PARTS"))
        s.body.append(For(start, values, tuple(inner.body)))
        self.pooled.append(tuple(f"size {axis}" for axis in axes))

    def _weighed(self, s: Scope, op: Pool | Count, inside: Expr) -> tuple[Expr, Expr]:
        """Whether an element counts, and what it weighs."""
        if op.where is not None:
            inside = infix("&", inside, s.value(op.where))
        if op.weight is None:
            return inside, cast(inside, "REAL")
        own = s.value(op.weight)
        return infix("&", inside, infix("!=", own, ZERO)), call("tl.where", inside, own, ZERO)

    def _sums(
        self, axes: tuple[str, ...], op: Pool | Count, ref: Ref, parts: tuple[str, ...]
    ) -> dict[str, Expr]:
        """The total weight, the total, or both."""
        found: dict[str, Expr] = {}
        if op.where is None and op.weight is None:
            found["weight"] = full(self.f.size(self.s.arguments, axes))
        names = {
            part: self._accumulator(f"{self.s.wanted(ref)}_{part}")
            for part in parts
            if part not in found
        }

        def collect(s: Scope, inside: Expr) -> list[Stmt]:
            counts, weight = self._weighed(s, op, inside)
            own = {"weight": weight}
            if isinstance(op, Pool):
                value = s.value(op.value)
                value = value if op.weight is None else infix("*", weight, value)
                own["total"] = call("tl.where", counts, value, ZERO)
            return [Assign((n,), infix("+", n, own[part])) for part, n in names.items()]

        self._loop(axes, collect)
        return {**found, **{part: self._sum(name) for part, name in names.items()}}

    def _moments(self, axes: tuple[str, ...], op: Pool, ref: Ref) -> tuple[Expr, ...]:
        """Weight, mean and squares about it, by Chan's rule."""
        names = tuple(self._accumulator(f"{self.s.wanted(ref)}_{part}") for part in MOMENTS)

        def collect(s: Scope, inside: Expr) -> list[Stmt]:
            counts, own = self._weighed(s, op, inside)
            value = call("tl.where", counts, s.value(op.value), ZERO)
            return [Assign(names, call("arithmetic.observed", *names, value, own))]

        self._loop(axes, collect)
        flags = (Literal(True), Literal(False))
        self.s.body.append(Assign(names, call("arithmetic.joined", *names, *flags)))
        return names

    def _accumulator(self, wanted: str, value: Expr = ZERO) -> Name:
        """A number for each place of a tile, over all turns of a loop."""
        name = Name(self.s.arguments.names.fresh(wanted.lower()))
        shape = Tuple((Name("PARTS"), Name("CELLS")))
        self.s.body.append(Assign((name,), call("tl.full", shape, value, Name("REAL"))))
        return name

    def _sum(self, name: Expr) -> Expr:
        return call("tl.sum", name, ZERO, keep_dims=Literal(True))

    def _keep(self, ref: Ref, value: Expr) -> None:
        name = Name(self.s.arguments.names.fresh(self.s.wanted(ref)))
        self.s.body.append(Assign((name,), value))
        self.s.local[ref] = name
        self.s.within.add(ref)
