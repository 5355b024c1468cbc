"""A sweep as C: loops over tiles of the data, in which wide values are computed and measured.

A tile is some rows along the vector axis. Rows are those of further axes, along which some
statistic is pooled; sums are taken over the tile in `real` and added to accumulators in double.
Variances take two looks at a tile, the first for its mean; the second also sums up by how much
that was missed, and corrects it. Tiles are joined by Chan's rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.nest.nest import Block
from metanorm.plan.sweeps import Reduction
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Choice,
    Declare,
    Do,
    Element,
    Expr,
    For,
    Function,
    If,
    Infix,
    Name,
    Prefix,
    Set,
    Stmt,
)
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.elements import Elements
from metanorm.targets.native.joining import JOINING, joining
from metanorm.targets.native.narrow import Narrow
from metanorm.targets.native.tiling import EACH, LENGTH, ONE, ZERO, Tiling

LOOK = ("drift", "squares")  # what the second look at a tile sums up


class SweepPrinter:
    """Prints one sweep of a kernel."""

    def __init__(self, context: KernelContext, narrow: Narrow, sweep: Block) -> None:
        self.f = context
        self.narrow = narrow
        self.sweep = sweep
        self.numbered = [(number, context.nest.reductions[number]) for number in sweep.measures]
        self.t = Tiling(context, [r for _, r in self.numbered])
        self.elements = Elements(self.t, narrow.values, sweep)

    # ---- the function

    def function(self, name: str, doc: str) -> Function:
        """The sweep over the range `r`."""
        body: list[Stmt] = [Declare("const values *", "v", Name("values_"))]
        if not self.numbered:  # nothing to do where no output is wanted
            wanted: Expr | None = None
            for output, _ in self.sweep.writes:
                given = Name(f"v->{self.f.name(output)}.data")
                wanted = given if wanted is None else Infix("||", wanted, given)
            if wanted is not None:
                body.append(If(Prefix("!", wanted), (cir.Leave(),)))
        names = [self.f.name(read) for read in self.sweep.reads]
        names += [self.f.name(output) for output, _ in self.sweep.writes]
        body += [Declare("const tensor", name, Name(f"v->{name}")) for name in names]
        body += [Declare("real", f"{name}_row[TILE]") for name in names]
        body += self.t.around(self._tile())
        parameters = (
            ("const void *", "values_"), ("const range *", "r"), ("const accumulator *", "a"),
        )  # fmt: skip
        return Function(doc, "void", name, parameters, tuple(body))

    # ---- one tile

    def _tile(self) -> list[Stmt]:
        done: list[Stmt] = []
        tiled = [(n, r) for n, r in self.numbered if not self.t.by_row(r)]
        for n, r in tiled:
            done += self._started(n, r)
        done += self.t.over_rows(self._row())
        for n, r in tiled:
            done += self._ended(n, r)
        return done

    def _parts(self, n: int, r: Reduction) -> list[str]:
        """The sums of a tile: of values, and of weights where elements weigh differently."""
        weighted = len(r.row.parts) > 1 and r.weighed
        return [self._total(n, r), *([f"weight_{n}"] if weighted else [])]

    def _total(self, n: int, r: Reduction) -> str:
        """What the values of a tile are added up in, or what the largest of them is."""
        return f"{joining(r.row).part}_{n}"

    def _begins(self, n: int, r: Reduction, part: str) -> Expr:
        return joining(r.row).identity if part == self._total(n, r) else ZERO

    def _started(self, n: int, r: Reduction) -> list[Stmt]:
        done: list[Stmt] = []
        for part in self._parts(n, r):
            if self.t.by_column(r):
                done.append(Declare("real", f"{part}[TILE]"))
                begins = self._begins(n, r, part)
                done.append(_each((Set(Element(Name(part), EACH), "=", begins),)))
            else:
                done.append(Declare("real", part, self._begins(n, r, part)))
        return done

    def _row(self) -> list[Stmt]:
        """A row: what it reads, one loop over it, and what ends with it."""
        done: list[Stmt] = []
        mine = [(n, r) for n, r in self.numbered if self.t.by_row(r)]
        for n, r in mine:
            if not self.t.by_column(r):
                parts = self._parts(n, r)
                done += [Declare("real", part, self._begins(n, r, part)) for part in parts]
        inner: list[Stmt] = []
        reduced: list[tuple[str, str]] = []
        pointers: list[Stmt] = []
        for n, r in self.numbered:
            if self.t.by_column(r) and self.t.by_row(r):
                cell = self._cell(n, r)
                pointers.append(
                    Declare("double *", f"cells_{n}", Infix("+", Name(f"a[{n}].total"), cell))
                )
        needed = {ref for _, ref in self.sweep.writes}
        for _, r in self.numbered:
            needed |= {x for x in (r.value, r.where, r.weight) if x is not None}
        reading, inner = self.elements.computed(needed)
        if self.numbered and (later := self.t.ahead()):
            names = (Name(f"&{self.f.name(read)}") for read in self.sweep.reads)
            reading += [Do(Apply("foresee", (name, later, LENGTH))) for name in names]
        for n, r in self.numbered:
            reduced += self._accumulated(n, r, inner)
        for output, ref in self.sweep.writes:
            name = self.f.name(output)
            inner.append(Set(Element(Name(f"{name}_here"), EACH), "=", self.elements.wide(ref)))
            place = (Name(f"&{name}"), self.t.point())
            where = Apply("target", (*place, Name(f"{name}_row")))
            pointers.append(Declare("real *", f"{name}_here", where))
        done += [*reading, *pointers, _each(tuple(inner), tuple(reduced))]
        for output, _ in self.sweep.writes:
            name = self.f.name(output)
            place = (Name(f"&{name}"), self.t.point())
            done.append(Do(Apply("written", (*place, LENGTH, Name(f"{name}_row")))))
        for n, r in mine:
            done += self._ended(n, r)
        return done

    # ---- accumulating

    def _weight(self, r: Reduction) -> Expr | None:
        """What an element weighs, where that is not one."""
        weight = None if r.weight is None else self.elements.wide(r.weight)
        if r.where is None:
            return weight
        counts = Infix("!=", self.elements.wide(r.where), ZERO)
        return Choice(counts, ONE if weight is None else weight, ZERO)

    def _weighed(self, r: Reduction, value: Expr) -> Expr:
        weight = self._weight(r)
        if weight is None:
            return value
        inside = value
        if r.weight is not None and r.row.weighs:
            inside = Infix("*", weight, value)
        return Choice(Infix("!=", weight, ZERO), inside, joining(r.row).identity)

    def _accumulated(self, n: int, r: Reduction, inner: list[Stmt]) -> list[tuple[str, str]]:
        """Join in what the element brings; returns the variables that the loop reduces."""
        weight, join = self._weight(r), joining(r.row)
        brought = [(self._total(n, r), join, self._weighed(r, self.elements.wide(r.value)))]
        if weight is not None and len(r.row.parts) > 1:
            brought.append((f"weight_{n}", JOINING["add"], weight))
        reduced = []
        for part, rule, value in brought:
            if not self.t.by_column(r):
                inner.append(rule.into(Name(part), value))
                reduced.append((part, rule.operator))
            elif self.t.by_row(r):
                inner.append(rule.into(Element(Name(f"cells_{n}"), EACH), value))
            else:
                inner.append(rule.into(Element(Name(part), EACH), value))
        return reduced

    def _cell(self, n: int, r: Reduction) -> Expr:
        """The accumulator of a cell, or of the first one of a row."""
        return self.narrow.cell(Name(f"&a[{n}]"), r, self.t.at)

    def _ended(self, n: int, r: Reduction) -> list[Stmt]:
        """A reduction at the end of its row or tile: variances look again, then all is joined."""
        if r.kind == "sum":
            if self.t.by_column(r) and self.t.by_row(r):
                return []
            total = Infix("+", Name(f"a[{n}].total"), self._cell(n, r))
            if self.t.by_column(r):
                return [Do(Apply("add_up", (total, Name(f"sum_{n}"), LENGTH)))]
            return [Set(Element(Name(f"a[{n}].total"), self._cell(n, r)), "+=", Name(f"sum_{n}"))]
        weighted = self._weight(r) is not None
        cell = self._cell(n, r)
        count: Expr = LENGTH if not self.t.by_column(r) else ONE
        if not self.t.by_row(r):
            taken = Infix("-", Name("end"), Name("begin"))
            count = cir.product(taken, count)
        if r.row.rule == "moments":
            return self._ended_moments(n, r, cell, count, weighted)
        return self._ended_alone(n, r, cell, count, weighted)

    def _ended_alone(
        self, n: int, r: Reduction, cell: Expr, count: Expr, weighted: bool
    ) -> list[Stmt]:
        """One part beside the weight, which is joined whatever the weight is."""
        total, weight = (Name(f"a[{n}].{part}") for part in ("total", "weight"))
        here, join = Name(self._total(n, r)), joining(r.row)
        if not self.t.by_column(r):
            more = Name(f"weight_{n}") if weighted else Prefix("(double)", count)
            return [join.into(Element(total, cell), here), Set(Element(weight, cell), "+=", more)]
        done: list[Stmt] = []
        if join.macro:
            each = Element(total, Infix("+", cell, EACH))
            done.append(_each((join.into(each, Element(here, EACH)),)))
        else:
            done.append(Do(Apply("add_up", (Infix("+", total, cell), here, LENGTH))))
        if weighted:
            done.append(
                Do(Apply("add_up", (Infix("+", weight, cell), Name(f"weight_{n}"), LENGTH)))
            )
        else:
            spread = Element(weight, Infix("+", cell, EACH))
            done.append(_each((Set(spread, "+=", Prefix("(double)", count)),)))
        return done

    def _ended_moments(
        self, n: int, r: Reduction, cell: Expr, count: Expr, weighted: bool
    ) -> list[Stmt]:
        columns = self.t.by_column(r)

        def of(part: str) -> Expr:
            return Element(Name(f"{part}_{n}"), EACH) if columns else Name(f"{part}_{n}")

        weight: Expr = of("weight") if weighted else Prefix("(real)", count)
        centre: Expr = Infix("/", of("sum"), weight)
        if weighted:
            centre = Choice(Infix(">", weight, ZERO), centre, ZERO)
        done: list[Stmt] = []
        if columns:
            done += [Declare("real", f"{part}_{n}[TILE]") for part in ("centre", *LOOK)]
            cleared = (Set(of(part), "=", ZERO) for part in LOOK)
            done.append(_each((Set(of("centre"), "=", centre), *cleared)))
        else:
            done.append(Declare("const real", f"centre_{n}", centre))
            done += [Declare("real", f"{part}_{n}", ZERO) for part in LOOK]
        needed = {x for x in (r.value, r.where, r.weight) if x is not None}
        reading, inner = self.elements.computed(needed)
        gap = Declare("const real", "gap", Infix("-", self.elements.wide(r.value), of("centre")))
        square = self._weighed(r, Infix("*", Name("gap"), Name("gap")))
        drift = self._weighed(r, Name("gap"))
        inner += [gap, Set(of("drift"), "+=", drift), Set(of("squares"), "+=", square)]
        reduced = () if columns else tuple((f"{part}_{n}", "+") for part in LOOK)
        again = [*reading, _each(tuple(inner), reduced)]
        if not self.t.by_row(r):
            done += self.t.over_rows(again)
        else:  # the row is still at hand
            done.append(again[-1])
        into = (Name(f"&a[{n}]"), cell)
        more: Expr = Name(f"weight_{n}") if weighted else Prefix("(double)", count)
        found = (more, *(Name(f"{part}_{n}") for part in ("centre", *LOOK)))
        if not columns:
            return [*done, Do(Apply("merge_at", (*into, *found)))]
        merged = "merge_each" if weighted else "merge_alike"
        return [*done, Do(Apply(merged, (*into, *found, LENGTH)))]


def _each(body: Sequence[Stmt], reduced: tuple[tuple[str, str], ...] = ()) -> For:
    """For each element of the row."""
    return For("i", ZERO, LENGTH, tuple(body), simd=True, reduced=reduced)
