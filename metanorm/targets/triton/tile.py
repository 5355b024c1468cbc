"""Kernels that look at the data: one sweep in tiles, or all sweeps of islands that fit a tile."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from metanorm.ir.nodes import Along, Expand, Let, Map, Pool, Ref, Stop
from metanorm.plan.sweeps import Reduction, Sweep
from metanorm.targets.python.pyir import (
    Assign,
    Comment,
    Expr,
    For,
    Function,
    If,
    IfElse,
    Literal,
    Name,
    Parameter,
    Stmt,
    Tuple,
)
from metanorm.targets.triton.frame import Arguments, Frame, Group
from metanorm.targets.triton.scope import Scope, Sides
from metanorm.targets.triton.shapes import Shape
from metanorm.targets.triton.steps import Keys, Parts, TileStep
from metanorm.targets.triton.terms import (
    ONE,
    ZERO,
    both,
    call,
    cast,
    full,
    infix,
    is_given,
    lying,
    plus,
    times,
    upright,
)

ROW, COLUMN = frozenset(("row",)), frozenset(("column",))
META = {"rows": ("ROWS",), "columns": ("BLOCK",)}
PARTS = {"sum": ("total",), "mean": ("weight", "total"), "var": ("weight", "mean", "squares")}


class NotInTile(Exception):
    """A narrow value between sweeps needs more than a tile."""


class TilePrinter:
    """Prints one kernel. `later` are the narrow values that something else reads afterwards;
    `island` where sweeps follow each other in the same tile."""

    def __init__(
        self, frame: Frame, shape: Shape, sweeps: Sequence[Sweep], later: Collection[Ref],
        island: bool,
    ) -> None:  # fmt: skip
        self.f, self.shape, self.sweeps, self.later = frame, shape, sweeps, later
        self.island = island
        self.arguments = Arguments()
        changing = ROW if shape.turns else ROW | COLUMN
        self.s = _TileScope(frame, self.arguments, changing=changing)
        self.s.printer = self
        self.tail: list[Stmt] = []
        self.parts: list[Parts] = []
        self.arrays: list[tuple[str, Keys]] = []
        self.adds_up = False
        self.block: Expr | None = None
        self.chunk: Expr | None = None
        self._places()
        for sweep in sweeps:
            self._sweep(sweep)

    # ---- the function

    def step(self, name: str, doc: str) -> TileStep:
        """The kernel, with what a call has to bring."""
        meta = [*(["ROWS"] if self.shape.rows else []), "BLOCK"]
        keys = tuple(self.arguments.keys)
        inner = tuple(self.s.body)
        body = (*self.s.head, *(self._loop(inner) if self.shape.turns else inner), *self.tail)
        function = function_of(name, doc, self.arguments, meta, body)
        sides = (("rows", self.shape.whole_rows), ("columns", self.shape.whole_columns))
        writes = tuple(output for sweep in self.sweeps for output, _ in sweep.outputs)
        return TileStep(
            function,
            (*keys, "REAL", "INDEX", *meta),
            _sizes(self.shape.outer),
            _sizes(self.shape.rows),
            _sizes((self.shape.columns,)),
            tuple(side for side, whole in sides if whole),
            self.shape.grouped,
            self.adds_up,
            tuple(self.parts),
            tuple(self.arrays),
            tuple(dict.fromkeys(r for sweep in self.sweeps for r in sweep.reads)),
            tuple(f"to.{output}" for output in writes),
        )

    def _loop(self, body: tuple[Stmt, ...]) -> list[Stmt]:
        bounds = (Name("begin"), Name("end"), Name("ROWS"))
        return [For(Name("first"), call("range", *bounds), body)]

    # ---- where the tile is

    def _places(self) -> None:
        """The place of this program along each axis."""
        head, shape = self.s.head, self.shape
        head.append(Assign((Name("program"),), cast(call("tl.program_id", ZERO), "INDEX")))
        rest: Expr = Name("program")
        if not shape.whole_columns:
            blocks = self.arguments("blocks")
            head.append(Assign((Name("block"),), infix("%", rest, blocks)))
            self.block, rest = Name("block"), infix("//", rest, blocks)
        if shape.turns:
            chunks = self.arguments("chunks")
            here = infix("%", rest, chunks) if shape.outer else rest
            head.append(Assign((Name("chunk"),), here))
            self.chunk, rest = Name("chunk"), infix("//", rest, chunks)
        for number, group in reversed(list(enumerate(shape.outer))):
            size = self.f.size(self.arguments, group)
            here = infix("%", rest, size) if number else rest
            self._axis(group, here, frozenset(), head)
            rest = infix("//", rest, size)
        self._columns()
        if shape.grouped:
            self._rows_of_group()
        elif shape.rows:
            self._rows()
        if self.f.cell is not None and not shape.grouped:
            self._group_of_row()
        self.inside = self._inside()

    def _axis(self, group: Group, here: Expr, sides: Sides, into: list[Stmt]) -> None:
        """A loop variable, and the places of the parts that it counts through."""
        wanted = "_".join(group) if len(group) == 1 else self.f.dim_of(group[0])
        variable = Name(self.arguments.names.fresh(wanted.lower()))
        into.append(Assign((variable,), here))
        if len(group) == 1:
            self.s.at[group[0]] = variable
        else:
            self.s.at[f"*{group[0]}"] = variable
            rest: Expr = variable
            for number, leaf in reversed(list(enumerate(group))):
                size = self.f.size(self.arguments, (leaf,))
                self.s.at[leaf] = infix("%", rest, size) if number else rest
                rest = infix("//", rest, size)
        for leaf in group:
            self.s.sides[leaf] = sides

    def _columns(self) -> None:
        lane = cast(lying(call("tl.arange", ZERO, Name("BLOCK"))), "INDEX")
        if self.block is not None:
            lane = plus(times(self.block, Name("BLOCK")), lane)
        group = self.shape.columns
        self._axis(group, lane, COLUMN, self.s.head)
        variable = self.s.at[group[0] if len(group) == 1 else f"*{group[0]}"]
        size = self.f.size(self.arguments, group)
        self.s.head.append(Assign((Name("in_columns"),), infix("<", variable, size)))
        self.s.masks["column"] = Name("in_columns")

    def _rows(self) -> None:
        s, shape = self.s, self.shape
        axes = tuple(leaf for group in shape.rows for leaf in group)
        total = self.f.size(self.arguments, axes)
        lane: Expr = cast(upright(call("tl.arange", ZERO, Name("ROWS"))), "INDEX")
        into = s.body if shape.turns else s.head
        if shape.turns:
            step = self.arguments("rows of a chunk")
            s.head.append(Assign((Name("begin"),), times(Name("chunk"), step)))
            least = call("tl.minimum", plus(Name("begin"), step), total)
            s.head.append(Assign((Name("end"),), least))
            lane, total = plus(Name("first"), lane), Name("end")
        if len(shape.rows) == 1:
            self._axis(shape.rows[0], lane, ROW, into)
            row = s.at[shape.rows[0][0]]
        else:
            row = Name("row")
            into.append(Assign((row,), lane))
            rest: Expr = row
            for number, group in reversed(list(enumerate(shape.rows))):
                size = self.f.size(self.arguments, group)
                self._axis(group, infix("%", rest, size) if number else rest, ROW, into)
                rest = infix("//", rest, size)
        into.append(Assign((Name("in_rows"),), infix("<", row, total)))
        s.masks["row"] = Name("in_rows")

    def _rows_of_group(self) -> None:
        """The rows of a group, through the order that sorts them, if they are not sorted."""
        s = self.s
        assert self.f.cell is not None
        group = s.at[self.f.cell]
        starts = self.arguments("starts")
        start = call("tl.load", plus(starts, group))
        stop = call("tl.load", plus(plus(starts, group), ONE))
        s.head.append(Assign((Name("start"), Name("stop")), Tuple((start, stop), True)))
        length = call("tl.cdiv", infix("-", Name("stop"), Name("start")), Name("chunks"))
        self.arguments("chunks")
        s.head.append(Assign((Name("length"),), length))
        begin = plus(Name("start"), times(Name("chunk"), Name("length")))
        s.head.append(Assign((Name("begin"),), begin))
        least = call("tl.minimum", plus(Name("begin"), Name("length")), Name("stop"))
        s.head.append(Assign((Name("end"),), least))
        lane = cast(upright(call("tl.arange", ZERO, Name("ROWS"))), "INDEX")
        s.body.append(Assign((Name("place"),), plus(Name("first"), lane)))
        s.body.append(Assign((Name("in_rows"),), infix("<", Name("place"), Name("end"))))
        s.masks["row"] = Name("in_rows")
        order = self.arguments("order")
        loaded = call("tl.load", plus(order, Name("place")), Name("in_rows"), ZERO)
        row = IfElse(is_given(order), loaded, Name("place"))
        self._axis(self.shape.rows[0], row, ROW, s.body)
        s.sides[self.f.cell] = frozenset()

    def _group_of_row(self) -> None:
        """The group that a row belongs to."""
        s, grouped, cell = self.s, self.f.plan.grouped, self.f.cell
        assert grouped is not None and cell is not None
        sides = s.sides[grouped]
        index = self.arguments("index")
        row = s.at[grouped]
        loaded = cast(s.load(index, row, sides), "INDEX")
        group = IfElse(is_given(index), loaded, infix("*", row, ZERO))
        into = s.body if sides & s.changing else s.head
        self._axis((cell,), group, sides, into)

    def _inside(self) -> Expr:
        mask = both(self.s.masks.get("row"), self.s.masks.get("column"))
        assert mask is not None
        if "row" not in self.s.masks:
            return mask
        into = self.s.body if self.shape.turns else self.s.head
        into.append(Assign((Name("inside"),), mask))
        self.s.masks["both"] = Name("inside")
        return Name("inside")

    # ---- sweeps

    def _sweep(self, sweep: Sweep) -> None:
        if self.island and len(self.sweeps) > 1:
            self.s.body.append(Comment(what(self.f, sweep)))
        for let in sweep.maps:
            self.s.value(let.name)
        for reduction in sweep.reductions:
            self._reduced(reduction)
        for output, ref in sweep.outputs:
            self._written(output, ref)

    def _written(self, output: str, ref: Ref) -> None:
        key = f"to.{output}"
        pointer = self.arguments(f"tensor {key}", key.replace(".", "_"))
        value = self.s.value(ref)
        sides = ROW | COLUMN
        store = self.s.store(pointer, self.s.strided(key), sides, value)
        self.s.body.append(If(is_given(pointer), (store,)) if output.startswith("d.") else store)

    # ---- statistics

    def _weighed(self, r: Reduction) -> tuple[Expr, Expr]:
        """What an element weighs, and whether it counts at all."""
        counts, weight = self.inside, cast(self.inside, "REAL")
        if r.where is not None:
            counts = infix("&", counts, self.s.value(r.where))
            weight = cast(counts, "REAL")
        if r.weight is not None:
            own = self.s.value(r.weight)
            counts = infix("&", counts, infix("!=", own, ZERO))
            weight = call("tl.where", counts, own, ZERO)
        return counts, weight

    def _reduced(self, r: Reduction) -> None:
        number = self.f.measured[r.results[0][1]][0]
        counts, weight = self._weighed(r)
        value = self.s.value(r.value)
        sides = (bool(self.shape.rows) and not self.shape.by_row(r), not self.shape.by_column(r))
        alike = r.where is None and r.weight is None
        if r.kind != "var":
            counted = value if r.weight is None else infix("*", self.s.value(r.weight), value)
            total = call("tl.where", counts, counted, ZERO)
            given: dict[str, Expr] = {"total": total}
            if r.kind == "mean":
                given = {"weight": weight, "total": total}
            turns = sides[0] and self.shape.turns
            if turns:
                given = self._collected(number, given)
            found = {part: self._added(e, sides) for part, e in given.items()}
            if "weight" in found and alike and not turns:
                found["weight"] = self._count(sides)
        elif sides[0] and self.shape.turns:
            found = self._gathered(number, value, weight, sides, alike)
        else:
            names = tuple(self._name(f"{part}_{number}") for part in PARTS["var"])
            flags = tuple(Literal(side) for side in sides)
            taken = call("arithmetic.moments", value, weight, *flags)
            if alike:
                count = self._count(sides)
                taken = call("arithmetic.moments_alike", value, self.inside, count, *flags)
            self.s.body.append(Assign(names, taken))
            found = dict(zip(PARTS["var"], names))
        into = self.tail if sides[0] and self.shape.turns else self.s.body
        if self.island and not r.terminal:
            self._complete(r, found, sides)
        else:
            self._partial(number, r, found, into)

    def _count(self, sides: tuple[bool, bool]) -> Expr:
        """How many elements of the tile are pooled, along rows, columns or both."""
        count: Expr = ONE
        if sides[0]:
            axes = tuple(leaf for group in self.shape.rows for leaf in group)
            count = self.f.size(self.arguments, axes)
            if self.shape.turns:
                left = infix("-", Name("end"), Name("first"))
                count = call("tl.minimum", left, Name("ROWS"))
        if sides[1]:
            columns = self.f.size(self.arguments, self.shape.columns)
            if self.block is not None:
                left = infix("-", columns, times(self.block, Name("BLOCK")))
                columns = call("tl.minimum", left, Name("BLOCK"))
            count = times(count, columns)
        return full(count)

    def _name(self, wanted: str) -> Name:
        return Name(self.arguments.names.fresh(wanted))

    def _added(self, value: Expr, sides: tuple[bool, bool]) -> Expr:
        if not any(sides):
            return value
        return call("arithmetic.added", value, *(Literal(side) for side in sides))

    def _collected(self, number: int, given: dict[str, Expr]) -> dict[str, Expr]:
        """Sums for each place of the tile, over all turns of the loop."""
        found: dict[str, Expr] = {}
        for part, value in given.items():
            name = self._accumulator(f"{part}_{number}")
            self.s.body.append(Assign((name,), infix("+", name, value)))
            found[part] = name
        return found

    def _accumulator(self, wanted: str) -> Name:
        name = self._name(wanted)
        shape = Tuple((Name("ROWS"), Name("BLOCK")))
        self.s.head.append(Assign((name,), call("tl.zeros", shape, Name("REAL"))))
        self.adds_up = True
        return name

    def _gathered(
        self, number: int, value: Expr, weight: Expr, sides: tuple[bool, bool], alike: bool
    ) -> dict[str, Expr]:
        """Moments for each place of the tile, over all turns, and then of the whole tile."""
        names = tuple(self._accumulator(f"{part}_{number}") for part in PARTS["var"])
        observed = call("arithmetic.observed", *names, value, weight)
        if alike:
            passed = infix("//", infix("-", Name("first"), Name("begin")), Name("ROWS"))
            turn = full(plus(passed, ONE))
            observed = call("arithmetic.observed_alike", *names, value, self.inside, turn)
        self.s.body.append(Assign(names, observed))
        flags = tuple(Literal(side) for side in sides)
        self.tail.append(Assign(names, call("arithmetic.joined", *names, *flags)))
        return dict(zip(PARTS["var"], names))

    def _complete(self, r: Reduction, found: dict[str, Expr], sides: tuple[bool, bool]) -> None:
        """Statistics of whole islands are values like any other."""
        apart = self.shape.by_row(r) and any(not set(g) <= set(r.cells) for g in self.shape.rows)
        if apart or (sides[0] and self.shape.turns):
            raise NotInTile("a statistic that is not of whole tiles or rows")
        weight = found.get("weight")
        for statistic, ref in r.results:
            if statistic == "sum":
                value = found["total"]
            elif statistic == "var":
                value = call("arithmetic.over", found["squares"], _some(weight))
            elif r.kind == "var":
                value = found["mean"]
            else:
                value = call("arithmetic.over", found["total"], _some(weight))
            name = self._name(self.s.wanted(ref))
            self.s.body.append(Assign((name,), value))
            self.s.local[ref] = name
            self.s.within.add(ref)
            if ref in self.later:
                self._stored(ref, name)

    def _stored(self, ref: Ref, value: Expr) -> None:
        order = self.f.order(ref)
        pointer = self.arguments(f"value {ref}", f"{self.s.wanted(ref)}_of")
        place, sides = self.s.place(order), self.s.varies(order)
        self.s.body.append(self.s.store(pointer, place, sides, value))
        self.arrays.append((f"value {ref}", tuple(f"size {axis}" for axis in order)))

    def _partial(self, number: int, r: Reduction, found: dict[str, Expr], into: list[Stmt]) -> None:
        """What this tile brings to statistics, which a later step joins."""
        shape, s = self.shape, self.s
        pooled: list[tuple[str, Expr, Expr, Sides]] = []
        for group in shape.outer:
            if not set(group) <= set(r.cells):
                pooled.append(self._counted(group))
        if shape.by_row(r):
            pooled += [self._counted(g) for g in shape.rows if not set(g) <= set(r.cells)]
        elif self.chunk is not None:
            pooled.append(("chunks", self.arguments("chunks"), self.chunk, frozenset()))
        if not shape.by_column(r) and self.block is not None:
            pooled.append(("blocks", self.arguments("blocks"), self.block, frozenset()))
        part: Expr = ZERO
        sides = s.varies(tuple(r.cells))
        for _, size, here, own in pooled:
            part = here if part == ZERO else plus(times(part, size), here)
            sides |= own
        cells = self.f.size(self.arguments, r.cells) if r.cells else ONE
        place = plus(times(part, cells), s.place(r.cells)) if part != ZERO else s.place(r.cells)
        keys = []
        for name in PARTS[r.kind]:
            key = f"part {number} {name}"
            keys.append(key)
            wanted = f"{s.wanted(r.results[0][1])}_{name}s"
            into.append(s.store(self.arguments(key, wanted), place, sides, found[name]))
        counted = tuple(key for key, *_ in pooled)
        self.parts.append(Parts(tuple(keys), counted, tuple(f"size {a}" for a in r.cells)))

    def _counted(self, group: Group) -> tuple[str, Expr, Expr, Sides]:
        size = self.f.size(self.arguments, group)
        here = self.s.at[group[0] if len(group) == 1 else f"*{group[0]}"]
        return f"size {'*'.join(group)}", size, here, self.s.sides[group[0]]

    # ---- narrow values between the sweeps of an island

    def pooled(self, let: Let) -> Expr:
        """A statistic of narrow values that are in the tile."""
        op = let.op
        if not isinstance(op, Pool) or op.where or op.weight or op.ddof or op.about:
            raise NotInTile("a narrow value that takes more than a sum")
        axes = set(self.f.leaves(axis for axis, _ in op.over))
        rows = {leaf for group in self.shape.rows for leaf in group}
        columns = set(self.shape.columns)
        sides = (bool(axes & rows), bool(axes & columns))
        held = (not sides[0] or self.shape.whole_rows) and (not sides[1] or self.block is None)
        if axes != (rows if sides[0] else set()) | (columns if sides[1] else set()) or not held:
            raise NotInTile("narrow values that do not lie in a tile")
        own = self.s.varies(self.f.lets[op.value].type.axes)
        value, mask = self.s.value(op.value), self.s.mask(own)
        flags = tuple(Literal(side) for side in sides)
        if op.statistic == "sum":
            counted = value if mask is None else call("tl.where", mask, value, ZERO)
            return call("arithmetic.added", counted, *flags)
        if op.statistic not in ("mean", "var") or mask is None:
            raise NotInTile(f"{op.statistic} of narrow values")
        return call(f"arithmetic.{op.statistic}_of", value, cast(mask, "REAL"), *flags)


class _TileScope(Scope):
    """Values of a tile: between the sweeps of an island, narrow ones are computed where they are
    read; otherwise, other kernels have stored them."""

    printer: TilePrinter

    def computed(self, ref: Ref) -> Expr:
        let = self.frame.lets[ref]
        settled = any(let in sweep.narrow for sweep in self.printer.sweeps)
        if self.printer.island and settled:
            if isinstance(let.op, Pool):
                return self.printer.pooled(let)
            if isinstance(let.op, Along):
                raise NotInTile("a map along an axis")
            if not isinstance(let.op, (Map, Stop, Expand)) and not self.frame.inline(ref):
                raise NotInTile("a value at another place")
        return super().computed(ref)

    def simple(self, ref: Ref) -> bool:
        return super().simple(ref) or self.printer.island


def _some(weight: Expr | None) -> Expr:
    assert weight is not None
    return weight


def _sizes(groups: Sequence[Group]) -> Keys:
    return tuple(f"size {leaf}" for group in groups for leaf in group)


def function_of(
    name: str, doc: str, arguments: Arguments, meta: Sequence[str], body: Sequence[Stmt]
) -> Function:
    """A kernel with its parameters in the order in which they were first needed."""
    parameters = [Parameter(own, annotation_of(key)) for key, own in arguments.keys.items()]
    parameters += [Parameter(own, "tl.constexpr") for own in ("REAL", "INDEX", *meta)]
    return Function(name, tuple(parameters), "None", tuple(body), (doc,), "triton.jit")


def annotation_of(key: str) -> str:
    """Numbers are part of what is compiled, but for those that change from call to call."""
    word = key.split(" ")[0]
    return {"number": "tl.constexpr", "momentum": "tl.float64"}.get(word, "")


def what(frame: Frame, sweep: Sweep) -> str:
    """What a sweep does, in words."""
    done = []
    for r in sweep.reductions:
        cells = ", ".join(r.cells) or "all"
        kind = {"var": "moments", "mean": "mean", "sum": "sum"}[r.kind]
        value = f" of {r.value}" if not r.value.startswith("%") else ""
        done.append(f"{kind}{value} per {cells}")
    done += [f"writes {name}" for name, _ in sweep.outputs]
    return "; ".join(done)
