"""A sweep as C: loops over tiles of the data, in which wide values are computed and measured.

A tile is some rows along the vector axis. Rows are those of further axes, along which some
statistic is pooled; sums are taken over the tile in `real` and added to accumulators in double.
Variances take two looks at a tile, the first for its mean; the second also sums up by how much
that was missed, and corrects it. Tiles are joined by Chan's rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.nodes import Expand, Input, Let, Map, Ref, Stop
from metanorm.ir.operands import operands
from metanorm.plan.sweeps import NotPlannable, Plan, Reduction, Sweep
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
    Number,
    Prefix,
    Set,
    Stmt,
)
from metanorm.targets.native.frame import Frame
from metanorm.targets.native.functions import FUNCTIONS
from metanorm.targets.native.narrow import Narrow

EACH, START, LENGTH = Name("i"), Name("start"), Name("length")
ZERO, ONE = Number(0), Number(1)
LOOK = ("drift", "squares")  # what the second look at a tile sums up


class SweepPrinter:
    """Prints one sweep of a kernel. `first` is the number of its first reduction."""

    def __init__(self, frame: Frame, narrow: Narrow, sweep: Sweep, first: int) -> None:
        self.f = frame
        self.narrow = narrow
        self.values = narrow.values
        self.sweep = sweep
        self.plan: Plan = frame.plan
        self.numbered = [(first + i, r) for i, r in enumerate(sweep.reductions)]
        self.maps = {let.name: let for let in sweep.maps}
        self.vector = frame.loops.vector
        self.rows = self._rows()
        for _, r in self.numbered:
            if self._by_row(r) and self._by_column(r) and r.kind != "sum":
                raise NotPlannable("statistics that pool crosswise")
        self.at: dict[str, Expr] = {}
        for group in frame.loops.axes:
            key = group[0] if len(group) == 1 else f"*{group[0]}"
            self.at[key] = Name(frame.variable(group))
        key = self.vector[0] if len(self.vector) == 1 else f"*{self.vector[0]}"
        self.at[key] = START

    # ---- which axis tiles have rows of

    def _along(self, reduction: Reduction, group: tuple[str, ...]) -> bool:
        """Whether the cells of a reduction vary along a loop."""
        return set(group) <= set(reduction.cells)

    def _rows(self) -> tuple[tuple[str, ...], ...]:
        """The axes whose rows a tile holds: the innermost ones, beside the vector axis, that are
        pooled by all that has cells along rows, or else by what is measured in two looks."""
        tiled = [r for _, r in self.numbered if self._along(r, self.vector)]
        tiled = tiled or [r for _, r in self.numbered if r.kind == "var"]
        found: list[tuple[str, ...]] = []
        for group in reversed(self.f.loops.axes[:-1]):
            pooled = tiled and not any(self._along(r, group) for r in tiled)
            if group == (self.f.cell,) or not pooled:
                if found:
                    break
                continue
            found.insert(0, group)
            if self._grouped(group):
                break
        return tuple(found)

    def _by_row(self, reduction: Reduction) -> bool:
        """Whether a reduction ends with each row of a tile."""
        return not self.rows or any(self._along(reduction, group) for group in self.rows)

    def _by_column(self, reduction: Reduction) -> bool:
        return self._along(reduction, self.vector)

    # ---- the function

    def function(self, name: str, doc: str) -> Function:
        """The sweep over the range `r`."""
        body: list[Stmt] = [Declare("const values *", "v", Name("values_"))]
        if not self.numbered:  # nothing to do where no output is wanted
            wanted: Expr | None = None
            for output, _ in self.sweep.outputs:
                given = Name(f"v->{self.f.name(f'to.{output}')}.data")
                wanted = given if wanted is None else Infix("||", wanted, given)
            if wanted is not None:
                body.append(If(Prefix("!", wanted), (cir.Leave(),)))
        names = [self.f.name(read) for read in self.sweep.reads]
        names += [self.f.name(f"to.{output}") for output, _ in self.sweep.outputs]
        body += [Declare("const tensor", name, Name(f"v->{name}")) for name in names]
        body += [Declare("real", f"{name}_row[TILE]") for name in names]
        body += self._tiles()
        parameters = (
            ("const void *", "values_"), ("const range *", "r"), ("const accumulator *", "a"),
        )  # fmt: skip
        return Function(doc, "void", name, parameters, tuple(body))

    def _bounds(self, group: tuple[str, ...]) -> tuple[Expr, Expr]:
        constant = Name(self.f.axis(group))
        return Element(Name("r->lo"), constant), Element(Name("r->hi"), constant)

    def _tiles(self) -> list[Stmt]:
        """The loops around a tile: other axes, blocks of rows, pieces of rows."""
        low, high = self._bounds(self.vector)
        body = self._tile()
        left = Infix("-", high, START)
        body = [
            Declare("const int64_t", "length", Apply("least", (Name("TILE"), left))),
            *body,
        ]
        body = [For("start", low, high, tuple(body), step=Name("TILE"))]
        if self.rows:
            first, last = self._tile_bounds()
            span = Infix("-", high, low)
            most = Apply("most", (Apply("least", (Name("TILE"), span)), ONE))
            area = Infix("/", Name("TILE_AREA"), most)
            step = Declare("const int64_t", "rows", Apply("least", (Name("TILE_ROWS"), area)))
            end = Declare(
                "const int64_t",
                "end",
                Apply("least", (Infix("+", Name("begin"), Name("rows")), last)),
            )
            body = [step, For("begin", first, last, (end, *body), step=Name("rows"))]
        for group in reversed(self.f.loops.axes[:-1]):
            if self._grouped(group) and group not in self.rows:
                body = [For("place", *self._group_bounds(group), (*self._found((group,)), *body))]
            elif group not in self.rows:
                body = [For(self.f.variable(group), *self._bounds(group), tuple(body))]
        return body

    def _grouped(self, group: tuple[str, ...]) -> bool:
        """Whether rows along this axis are reached through their groups."""
        return group == (self.plan.grouped,)

    def _extent(self, group: tuple[str, ...]) -> Expr:
        low, high = self._bounds(group)
        return Infix("-", high, low)

    def _tile_bounds(self) -> tuple[Expr, Expr]:
        """First and last row: of a group, or counted through the axes of rows."""
        if self._grouped(self.rows[0]):
            return self._group_bounds(self.rows[0])
        if len(self.rows) == 1:
            return self._bounds(self.rows[0])
        count: Expr = ONE
        for group in self.rows:
            count = cir.product(count, self._extent(group))
        return ZERO, count

    def _group_bounds(self, group: tuple[str, ...]) -> tuple[Expr, Expr]:
        """The places of the rows of a group, as far as they are in the range."""
        low, high = self._bounds(group)
        assert self.f.cell is not None
        cell = self.at[self.f.cell]
        start = Name("v->shape.groups.start")
        after = Element(start, Infix("+", cell, ONE))
        return Apply("most", (low, Element(start, cell))), Apply("least", (high, after))

    def _found(self, groups: Sequence[tuple[str, ...]]) -> list[Stmt]:
        """Where a row is that is the one at `place`."""
        place: Expr = Name("place")
        if self._grouped(groups[0]):
            order = Name("v->shape.groups.order")
            ordered = Choice(order, Element(order, place), place)
            return [Declare("const int64_t", self.f.variable(groups[0]), ordered)]
        done: list[Stmt] = []
        for number, group in enumerate(groups):
            here = place
            inner: Expr = ONE
            for other in groups[number + 1 :]:
                inner = cir.product(inner, self._extent(other))
            if inner != ONE:
                here = Infix("/", here, inner)
            if number:
                here = Infix("%", here, self._extent(group))
            low, _ = self._bounds(group)
            done.append(Declare("const int64_t", self.f.variable(group), Infix("+", low, here)))
        return done

    def _over_rows(self, body: list[Stmt]) -> list[Stmt]:
        if not self.rows:
            return body
        first, last = Name("begin"), Name("end")
        if len(self.rows) == 1 and not self._grouped(self.rows[0]):
            return [For(self.f.variable(self.rows[0]), first, last, tuple(body))]
        return [For("place", first, last, (*self._found(self.rows), *body))]

    # ---- one tile

    def _tile(self) -> list[Stmt]:
        done: list[Stmt] = []
        tiled = [(n, r) for n, r in self.numbered if not self._by_row(r)]
        for n, r in tiled:
            done += self._started(n, r)
        done += self._over_rows(self._row())
        for n, r in tiled:
            done += self._ended(n, r)
        return done

    def _parts(self, n: int, r: Reduction) -> list[str]:
        """The sums of a tile: of values, and of weights where elements weigh differently."""
        weighted = r.kind != "sum" and (r.where is not None or r.weight is not None)
        return [f"sum_{n}", *([f"weight_{n}"] if weighted else [])]

    def _started(self, n: int, r: Reduction) -> list[Stmt]:
        done: list[Stmt] = []
        for part in self._parts(n, r):
            if self._by_column(r):
                done.append(Declare("real", f"{part}[TILE]"))
                done.append(_each((Set(Element(Name(part), EACH), "=", ZERO),)))
            else:
                done.append(Declare("real", part, ZERO))
        return done

    def _row(self) -> list[Stmt]:
        """A row: what it reads, one loop over it, and what ends with it."""
        done: list[Stmt] = []
        mine = [(n, r) for n, r in self.numbered if self._by_row(r)]
        for n, r in mine:
            if not self._by_column(r):
                done += [Declare("real", part, ZERO) for part in self._parts(n, r)]
        inner: list[Stmt] = []
        sums: list[str] = []
        pointers: list[Stmt] = []
        for n, r in self.numbered:
            if self._by_column(r) and self._by_row(r):
                cell = self._cell(n, r)
                pointers.append(
                    Declare("double *", f"cells_{n}", Infix("+", Name(f"a[{n}].total"), cell))
                )
        needed = {ref for _, ref in self.sweep.outputs}
        for _, r in self.numbered:
            needed |= {x for x in (r.value, r.where, r.weight) if x is not None}
        reading, inner = self._computed(needed)
        for n, r in self.numbered:
            sums += self._accumulated(n, r, inner)
        for output, ref in self.sweep.outputs:
            name = self.f.name(f"to.{output}")
            inner.append(Set(Element(Name(f"{name}_here"), EACH), "=", self._wide(ref)))
            place = (self._member(f"to.{output}", "", "&"), self._point())
            where = Apply("target", (*place, Name(f"{name}_row")))
            pointers.append(Declare("real *", f"{name}_here", where))
        done += [*reading, *pointers, _each(tuple(inner), tuple(sums))]
        for output, _ in self.sweep.outputs:
            name = self.f.name(f"to.{output}")
            place = (self._member(f"to.{output}", "", "&"), self._point())
            done.append(Do(Apply("written", (*place, LENGTH, Name(f"{name}_row")))))
        for n, r in mine:
            done += self._ended(n, r)
        return done

    def _computed(self, needed: set[Ref]) -> tuple[list[Stmt], list[Stmt]]:
        """What a row has to read, and the values computed from that for each element of it."""
        wanted = set(needed)
        lets: list[Let] = []
        for let in reversed(self.sweep.maps):
            if let.name in wanted:
                wanted |= set(operands(let.op))
                lets.append(let)
        reading: list[Stmt] = []
        inner: list[Stmt] = []
        seen: set[Ref] = set()
        for let in reversed(lets):
            if isinstance(let.op, Input):
                reading.append(self._read(let.op.name))
        for ref in [r for let in reversed(lets) for r in operands(let.op)] + sorted(needed):
            if ref not in self.maps and ref not in seen and not self.values.inline(ref):
                seen.add(ref)
                reading.append(self._narrow_row(ref))
        for let in reversed(lets):
            if not isinstance(let.op, Input):
                kind = "const int" if let.type.kind == "bool" else "const real"
                inner.append(Declare(kind, self.f.name(let.name), self._map(let)))
        return reading, inner

    def _map(self, let: Let) -> Expr:
        op = let.op
        if isinstance(op, (Stop, Expand)):
            return self._wide(op.value)
        assert isinstance(op, Map)
        return FUNCTIONS[op.function](*(self._wide(a) for a in op.arguments))

    def _wide(self, ref: Ref) -> Expr:
        """A value at element `i` of the row."""
        let = self.narrow.lets[ref]
        if ref in self.maps:
            if isinstance(let.op, Input):
                return Element(Name(f"{self.f.name(let.op.name)}_here"), EACH)
            return Name(self.f.name(ref))
        if self.values.inline(ref):
            return self.values.value(ref, self._element_at())
        name = Name(f"{self.f.name(ref)}_here")
        axes = self.f.types[ref].axes
        if not set(self.vector) & set(axes):
            return name
        stride = self.f.stride(self.f.order(ref), self.vector)
        return Element(name, cir.product(EACH, stride))

    def _element_at(self) -> dict[str, Expr]:
        key = self.vector[0] if len(self.vector) == 1 else f"*{self.vector[0]}"
        return {**self.at, key: Infix("+", START, EACH)}

    def _narrow_row(self, ref: Ref) -> Stmt:
        """A narrow value beside a row: one number, or an array along it."""
        axes = self.f.types[ref].axes
        name = f"{self.f.name(ref)}_here"
        value = self.values.value(ref, self.at)
        if set(self.vector) & set(axes):
            return Declare("const real *", name, Prefix("&", value))
        return Declare("const real", name, value)

    def _member(self, field: str, part: str, prefix: str = "") -> Expr:
        return Name(f"{prefix}{self.f.name(field)}{part}")

    def _point(self) -> Expr:
        """Where the row begins."""
        return Apply("AT", tuple(self._position(group) for group in self.f.loops.axes))

    def _position(self, group: tuple[str, ...]) -> Expr:
        return self.at[group[0] if len(group) == 1 else f"*{group[0]}"]

    def _read(self, field: str) -> Stmt:
        name = self.f.name(field)
        where = (self._member(field, "", "&"), self._point(), LENGTH, Name(f"{name}_row"))
        return Declare("const real *", f"{name}_here", Apply("row", where))

    # ---- accumulating

    def _weight(self, r: Reduction) -> Expr | None:
        """What an element weighs, where that is not one."""
        weight: Expr | None = None
        if r.where is not None:
            weight = Choice(Infix("!=", self._wide(r.where), ZERO), ONE, ZERO)
        if r.weight is not None:
            own = self._wide(r.weight)
            weight = own if weight is None else Infix("*", weight, own)
        return weight

    def _weighed(self, r: Reduction, value: Expr) -> Expr:
        weight = self._weight(r)
        if weight is None:
            return value
        inside = value if r.weight is None else Infix("*", weight, value)
        return Choice(Infix("!=", weight, ZERO), inside, ZERO)

    def _accumulated(self, n: int, r: Reduction, inner: list[Stmt]) -> list[str]:
        """Add what the element brings; returns the sums that the loop reduces."""
        weight = self._weight(r)
        brought = [(f"sum_{n}", self._weighed(r, self._wide(r.value)))]
        if weight is not None and r.kind != "sum":
            brought.append((f"weight_{n}", weight))
        reduced = []
        for part, value in brought:
            if not self._by_column(r):
                inner.append(Set(Name(part), "+=", value))
                reduced.append(part)
            elif self._by_row(r):
                inner.append(Set(Element(Name(f"cells_{n}"), EACH), "+=", value))
            else:
                inner.append(Set(Element(Name(part), EACH), "+=", value))
        return reduced

    def _cell(self, n: int, r: Reduction) -> Expr:
        """The accumulator of a cell, or of the first one of a row."""
        return self.narrow.cell(n, r, self.at)

    def _ended(self, n: int, r: Reduction) -> list[Stmt]:
        """A reduction at the end of its row or tile: variances look again, then all is joined."""
        if r.kind == "sum":
            if self._by_column(r) and self._by_row(r):
                return []
            total = Infix("+", Name(f"a[{n}].total"), self._cell(n, r))
            if self._by_column(r):
                return [Do(Apply("add_up", (total, Name(f"sum_{n}"), LENGTH)))]
            return [Set(Element(Name(f"a[{n}].total"), self._cell(n, r)), "+=", Name(f"sum_{n}"))]
        weighted = self._weight(r) is not None
        cell = self._cell(n, r)
        count: Expr = LENGTH if not self._by_column(r) else ONE
        if not self._by_row(r):
            taken = Infix("-", Name("end"), Name("begin"))
            count = cir.product(taken, count)
        if r.kind == "mean":
            return self._ended_mean(n, r, cell, count, weighted)
        return self._ended_moments(n, r, cell, count, weighted)

    def _ended_mean(
        self, n: int, r: Reduction, cell: Expr, count: Expr, weighted: bool
    ) -> list[Stmt]:
        total, weight = (Name(f"a[{n}].{part}") for part in ("total", "weight"))
        if not self._by_column(r):
            more = Name(f"weight_{n}") if weighted else Prefix("(double)", count)
            return [
                Set(Element(total, cell), "+=", Name(f"sum_{n}")),
                Set(Element(weight, cell), "+=", more),
            ]
        done: list[Stmt] = [
            Do(Apply("add_up", (Infix("+", total, cell), Name(f"sum_{n}"), LENGTH)))
        ]
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
        columns = self._by_column(r)

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
        reading, inner = self._computed(needed)
        gap = Declare("const real", "gap", Infix("-", self._wide(r.value), of("centre")))
        square = self._weighed(r, Infix("*", Name("gap"), Name("gap")))
        drift = self._weighed(r, Name("gap"))
        inner += [gap, Set(of("drift"), "+=", drift), Set(of("squares"), "+=", square)]
        sums = () if columns else tuple(f"{part}_{n}" for part in LOOK)
        again = [*reading, _each(tuple(inner), sums)]
        if not self._by_row(r):
            done += self._over_rows(again)
        else:  # the row is still at hand
            done.append(again[-1])
        into = (Name(f"&a[{n}]"), cell)
        more: Expr = Name(f"weight_{n}") if weighted else Prefix("(double)", count)
        found = (more, *(Name(f"{part}_{n}") for part in ("centre", *LOOK)))
        if not columns:
            return [*done, Do(Apply("merge_at", (*into, *found)))]
        merged = "merge_each" if weighted else "merge_alike"
        return [*done, Do(Apply(merged, (*into, *found, LENGTH)))]


def _each(body: Sequence[Stmt], sums: tuple[str, ...] = ()) -> For:
    """For each element of the row."""
    return For("i", ZERO, LENGTH, tuple(body), simd=True, sums=sums)
