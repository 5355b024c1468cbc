"""Optimised IR to the body of a function over torch tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from metanorm.ir.aggregation import Blocks, ByIndex, Chunks, Interleave, Matrix
from metanorm.ir.nodes import (
    Along,
    Buffer,
    Count,
    Expand,
    Input,
    Let,
    Lookup,
    Map,
    Mode,
    Number,
    Param,
    Pool,
    Position,
    Program,
    Ref,
    Rename,
    Stop,
    Update,
)
from metanorm.ir.rename import role_of
from metanorm.ir.scalar import Const, Scalar
from metanorm.ir.verify import operands
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Call,
    Do,
    Expr,
    If,
    IfElse,
    Literal,
    Name,
    Return,
    Slice,
    Starred,
    Stmt,
    Subscript,
    Tuple,
    Unary,
)
from metanorm.targets.python.text_from_pyir import WIDTH, flat, is_chain
from metanorm.targets.torch.elementwise import NUMBER, TENSOR, number_expr
from metanorm.targets.torch.layout import Dim, Dims, Layouts, Value, call, integer, method, plus
from metanorm.targets.torch.placement import kind_of, needed_by, places
from metanorm.targets.torch.pools import PoolPrinter

NEUTRAL = {"mul": 1.0, "add": 0.0}
INLINE_WIDTH = 60  # columns of an expression that stays one, if it is used once
TINY_WIDTH = 12  # ... and if it is used a few times, such as `1 - gate`


class Body:
    """Prints one program. `statements` is the result."""

    def __init__(self, program: Program, taken: Iterable[str]) -> None:
        self.program = program
        self.layouts = Layouts(program)
        self.space = self.layouts.space
        self.lets = {let.name: let for let in program.body}
        self.places = places(program)
        self.values: dict[Ref, Value] = {}
        self.hints: dict[Ref, str] = {}
        self.prologue: list[Stmt] = []
        named = {let.name for let in program.body if not let.name.startswith("%")}
        self.taken = {*taken, *named}
        self.own = named - set(taken)  # names of the spec, each kept for its own value
        self.layouts.taken = self.taken
        self.uses = self._count_uses()
        self.pools = PoolPrinter(self)
        self.momenta = momenta(program)
        self.updated: set[str] = set()
        self.group_names: dict[str, str] = {}
        self.first = program.inputs[0].name

    # ---- the whole

    def statements(self) -> list[Stmt]:
        """The statements of the function."""
        body: list[Stmt] = []
        for let in self.program.body:
            if let.name in self.values or self.places[let.name] is not None:
                continue
            if isinstance(let.op, Mode):
                self._modes(let, body)
            else:
                self.emit(let, body)
        self._plain_updates(body)
        result = self._result(body)
        return [*self._inputs(), *self._along(), *self.prologue, *body, result]

    def _count_uses(self) -> dict[Ref, int]:
        uses = {let.name: 0 for let in self.program.body}
        for let in self.program.body:
            for ref in operands(let.op):
                uses[ref] += 1
        for _, ref in self.program.outputs:
            uses[ref] += 1
        for update in self.program.updates:
            uses[update.value] += 1
        return uses

    def _inputs(self) -> list[Stmt]:
        """The dtype of statistics, and split axes."""
        done: list[Stmt] = []
        for decl in self.program.inputs:
            name = Name(decl.name)
            if decl.sort == "tensor" and not isinstance(decl.default, float):
                wide = call("runtime.widened", name)
                if decl.name == self.first:
                    dtype = Attribute(name, "dtype")
                    done.append(Assign((Name("dtype"), name), Tuple((dtype, wide), bare=True)))
                else:
                    done.append(Assign((name,), wide))
        for decl in self.program.inputs:
            if decl.sort in ("tensor", "mask") and not isinstance(decl.default, float):
                split = self.split(Value(Name(decl.name), tuple(Dim(d) for d in decl.dims)))
                if split.expr != Name(decl.name):
                    axes = ", ".join(self.shown(d.axis) for d in split.dims)
                    done.append(Assign((Name(decl.name),), split.expr, axes))
        return done

    def _along(self) -> list[Stmt]:
        done: list[Stmt] = []
        for axis, local in self.layouts.along_used.items():
            nones = Binary("*", (Tuple((Literal(None),)), self.layouts.rank(axis)))
            done.append(Assign((Name(local),), nones, f"a new dimension for each of *{axis}"))
        return done

    def _result(self, body: list[Stmt]) -> Stmt:
        results = []
        for position, (_, ref) in enumerate(self.program.outputs):
            value = self.values[ref]
            expr = self._stored(value, ref, position == 0)
            results.append(method(expr, "to", Name("dtype")))
        if len(results) == 1:
            return Return(self.fitting(results[0], "y", body))
        bound = [self.fitting(r, n, body) for r, (n, _) in zip(results, self.program.outputs)]
        return Return(call(f"{self.program.name}Output", *bound))

    def _stored(self, value: Value, ref: Ref, wide: bool) -> Expr:
        """A value as it is returned: whole axes, and only those it has."""
        frame = self.layouts.frame(self.program.inputs[0].dims)
        axes = self.lets[ref].type.axes
        wanted = self.space.ordered(self.space.base(a) for a in axes)
        if wide:
            wanted = tuple(d.axis for d in frame)
        dims = tuple(Dim(axis) for axis in wanted)
        value = self.spread(value, wanted)
        if not wide:
            value = self.layouts.compact(value)
        expr = self.layouts.aligned(value, dims) if value.dims else value.expr
        if value.number:
            first = Name(self.first)
            return method(first, "new_full", self.sizes(dims), expr)
        if tuple(d.axis for d in value.dims) != wanted or value.loose:
            expr = method(expr, "expand", self.sizes(dims))
        return self._merged(expr, dims)

    def _merged(self, expr: Expr, dims: Dims) -> Expr:
        """Split axes put together again."""
        axes = [d.axis for d in dims]
        for axis in self.space:
            leaves = self.space.leaves(axis.name)
            if axis.parts and all(leaf in axes for leaf in leaves):
                at = axes.index(leaves[0])
                now = tuple(Dim(a) for a in axes)
                begin = self.layouts.position(now, at)
                end = self.layouts.position(now, at + len(leaves) - 1)
                expr = method(expr, "flatten", begin, end)
                axes[at : at + len(leaves)] = [axis.name]
        return expr

    # ---- names

    def local(self, name: str) -> str:
        """A new name for a local variable."""
        other = {"scale": "gain", "shift": "offset", "mean": "average", "var": "variance"}
        candidate, number = name, 2
        if candidate in self.taken and other.get(name, name) not in self.taken:
            candidate = other.get(name, name)
        while candidate in self.taken:
            candidate, number = f"{name}_{number}", number + 1
        self.taken.add(candidate)
        return candidate

    def name_of(self, ref: Ref, fallback: str) -> str:
        """The local variable of a value: its name in the spec, or what it is for."""
        if ref in self.hints:
            return self.hints[ref]
        if ref in self.own:
            return ref
        return self.local(role_of(ref) or fallback)

    def shown(self, axis: str) -> str:
        """An axis as comments write it."""
        return f"*{axis}" if self.space[axis].variadic else axis

    # ---- binding

    def bind(self, let: Let, expr: Expr, dims: Dims, out: list[Stmt], fallback: str) -> None:
        """A value in a variable of its own."""
        name = self.name_of(let.name, fallback)
        out.append(Assign((Name(name),), self.broken(expr, out)))
        self.values[let.name] = Value(Name(name), dims)

    def fitting(self, expr: Expr, fallback: str, out: list[Stmt]) -> Expr:
        """The expression, after its inner part is bound where it would not fit behind `return`."""
        if len(flat(expr)) <= WIDTH - 11:
            return expr
        inner = expr
        calls: list[Expr] = []
        while isinstance(inner, Call) and isinstance(inner.function, Attribute):
            calls.append(inner)
            inner = inner.function.value
        name = Name(self.local(fallback))
        out.append(Assign((name,), self.broken(inner, out)))
        rebuilt: Expr = name
        for outer in reversed(calls):
            assert isinstance(outer, Call) and isinstance(outer.function, Attribute)
            rebuilt = replace(outer, function=replace(outer.function, value=rebuilt))
        return rebuilt

    def broken(self, expr: Expr, out: list[Stmt]) -> Expr:
        """A single operator that does not fit on a line gets its long operands by name.

        Several of one level need no help: they break inside parentheses.
        """
        if not isinstance(expr, Binary) or len(flat(expr)) <= WIDTH - 24 or is_chain(expr):
            return expr
        operands: list[Expr] = []
        for operand in expr.operands:
            if isinstance(operand, Name) or len(flat(operand)) < 24:
                operands.append(operand)
                continue
            name = Name(self.local("term"))
            out.append(Assign((name,), self.broken(operand, out)))
            operands.append(name)
        return replace(expr, operands=tuple(operands))

    def named(self, value: Value, out: list[Stmt]) -> Value:
        """The value in a variable, where it is an expression."""
        if isinstance(value.expr, Name):
            return value
        name = Name(self.local("value"))
        out.append(Assign((name,), self.broken(value.expr, out)))
        return replace(value, expr=name)

    # ---- operations

    def emit(self, let: Let, out: list[Stmt]) -> None:
        """The statements of one binding."""
        match let.op:
            case Input(name):
                self._input(let, name)
            case Param(name):
                decl = next(p for p in self.program.params if p.name == name)
                value = Value(Name(name), tuple(Dim(d) for d in decl.dims))
                split = replace(self.split(value), optional=bool(decl.switches))
                self.values[let.name] = split
            case Buffer(name):
                dims = next(b.dims for b in self.program.buffers if b.name == name)
                self.values[let.name] = self.split(Value(Name(name), tuple(Dim(d) for d in dims)))
            case Number(scalar):
                self.values[let.name] = Value(number_expr(scalar, self.size), number=True)
            case Position(axis):
                device = Attribute(Name(self.first), "device")
                dtype = Attribute(Name(self.first), "dtype")
                expr = call("torch.arange", self.size(axis), device=device, dtype=dtype)
                self.bind(let, expr, (Dim(axis),), out, "position")
            case Map():
                self._map(let, let.op, out)
            case Pool():
                self.pools.pool(let, let.op, out)
            case Count():
                self.pools.count(let, let.op, out)
            case Along(_, ref, axis):
                value = self.named(self.present(ref), out)
                place = [d.axis for d in value.dims].index(axis)
                at = self.layouts.position(value.dims, place)
                expr = call("torch.softmax", value.expr, dim=at)
                self.bind(let, expr, value.dims, out, "share")
            case Lookup():
                self._lookup(let, let.op, out)
            case Rename(ref, old, new):
                value = self.present(ref)
                renamed = (replace(d, axis=new if d.axis == old else d.axis) for d in value.dims)
                self.values[let.name] = replace(value, dims=tuple(renamed))
            case Expand(ref, axes):
                self._expand(let, ref, axes, out)
            case Stop(ref):
                value = self.present(ref)
                expr = value.expr if value.number else method(value.expr, "detach")
                self._keep(let, replace(value, expr=expr), out, "fixed")
            case Mode():
                self._modes(let, out)
            case _:
                raise NotImplementedError(f"the torch target does not print {let.op}")

    def _input(self, let: Let, name: str) -> None:
        decl = next(i for i in self.program.inputs if i.name == name)
        dims = self.layouts.frame(decl.dims)
        optional = isinstance(decl.default, float) or (decl.sort == "mask" and not decl.required)
        self.values[let.name] = Value(Name(name), dims, optional=optional)

    def absent(self, ref: Ref) -> float:
        """The number that an optional parameter or input stands for when it is `None`."""
        op = self.lets[ref].op
        if isinstance(op, Param):
            absent = next(p.absent for p in self.program.params if p.name == op.name)
            return absent if absent is not None else 0.0
        assert isinstance(op, Input)
        default = next(i.default for i in self.program.inputs if i.name == op.name)
        assert isinstance(default, float)
        return default

    def present(self, ref: Ref) -> Value:
        """A value that surely is not `None`."""
        value = self.values[ref]
        if not value.optional:
            return value
        name = self._optional_name(ref)
        number = number_expr_of(self.absent(ref))
        expr = IfElse(Binary("is", (Name(name), Literal(None))), number, value.expr)
        whole = call("torch.as_tensor", expr)
        return Value(whole, value.dims, loose=True)

    def _optional_name(self, ref: Ref) -> str:
        op = self.lets[ref].op
        assert isinstance(op, (Param, Input))
        return op.name

    def _keep(self, let: Let, value: Value, out: list[Stmt], fallback: str) -> None:
        """An expression stays one while it is short, nameless and used once."""
        text, uses = flat(value.expr), self.uses[let.name]
        short = len(text) <= INLINE_WIDTH and uses == 1
        tiny = len(text) <= TINY_WIDTH and uses <= 3 and "(" not in text
        nameless = let.name.startswith("%") and let.name not in self.hints
        if nameless and (short or tiny):
            self.values[let.name] = value
            return
        self.bind(let, value.expr, value.dims, out, self._role(let.name) or fallback)
        bound = self.values[let.name]
        self.values[let.name] = replace(bound, number=value.number, loose=value.loose)

    def _role(self, ref: Ref) -> str:
        """What a nameless value is for: the scale or the shift of a fold."""
        for let in self.program.body:
            if isinstance(let.op, Map) and let.op.function == "rescale":
                roles = dict(zip(let.op.arguments[1:], ("centre", "shift", "scale", "weight")))
                if ref in roles:
                    return roles[ref]
            elif isinstance(let.op, Map) and ref in let.op.arguments:
                others = [self.lets[a].type.axes for a in let.op.arguments if a != ref]
                if self.lets[ref].type.axes not in others and let.type.axes in others:
                    wide = let.type.axes == self._first_axes()
                    role = {"mul": "scale", "add": "shift"}.get(let.op.function, "")
                    if wide and role:
                        return role
        return ""

    def _first_axes(self) -> tuple[str, ...]:
        first = self.layouts.frame(self.program.inputs[0].dims)
        return self.space.ordered(d.axis for d in first)

    # ---- maps

    def frame_of(self, let_axes: Sequence[str], values: Sequence[Value]) -> Dims:
        """The dimensions against which operands line up.

        An operand's own where one has them all; those of an input where an operand is kept in
        its shape; else the axes of the result, in order.
        """
        bases = {self.space.base(a) for a in let_axes}
        for value in values:
            if bases <= {self.space.base(d.axis) for d in value.dims}:
                return tuple(replace(d, axis=self._finest(d.axis, let_axes)) for d in value.dims)
        if any(not d.full for value in values for d in value.dims):
            for decl in self.program.inputs:
                frame = self.layouts.frame(decl.dims)
                if bases <= {d.axis for d in frame} and decl.sort == "tensor":
                    return tuple(replace(d, axis=self._finest(d.axis, let_axes)) for d in frame)
        return tuple(Dim(axis) for axis in let_axes)

    def _finest(self, axis: str, axes: Sequence[str]) -> str:
        base = self.space.base(axis)
        return next((a for a in axes if self.space.base(a) == base), axis)

    def lined_up(self, values: Sequence[Value], axes: Sequence[str]) -> tuple[list[Expr], Dims]:
        """Operands that broadcast against each other, and the dimensions of the result."""
        values = [self.spread(v, axes) for v in values]
        frame = self.frame_of(axes, values)
        exprs = [self.layouts.aligned(v, frame) for v in values]
        starts = [self.layouts.place(frame, v.dims[0].axis) for v in values if v.dims]
        start = min(starts, default=len(frame))
        full = {d.axis for v in values for d in v.dims if d.full}
        return exprs, tuple(Dim(d.axis, d.axis in full) for d in frame[start:])

    def spread(self, value: Value, axes: Sequence[str]) -> Value:
        """Values of cells, given back to the positions of an axis that is wanted in full."""
        for place, dim in enumerate(value.dims):
            cells_of = self.space[dim.axis].cells_of
            if cells_of is None or dim.axis in axes or cells_of[0] not in axes or not dim.full:
                continue
            base, matrix = cells_of
            at = self.layouts.position(value.dims, place)
            dims = tuple(Dim(base) if i == place else d for i, d in enumerate(value.dims))
            value = Value(self._spread(value.expr, matrix, base, at), dims, loose=value.loose)
        return value

    def _spread(self, expr: Expr, matrix: Matrix, base: str, at: Expr) -> Expr:
        match matrix:
            case ByIndex(index):
                return method(self.groups(index), "spread", expr, at)
            case Blocks(count):
                width = Binary("//", (self.size(base), number_expr(count, self.size)))
                return method(expr, "repeat_interleave", width, at)
            case Chunks(size):
                return method(expr, "repeat_interleave", number_expr(size, self.size), at)
            case Interleave(count):
                times = Binary("//", (self.size(base), number_expr(count, self.size)))
                return call("runtime.tiled", expr, times, at)
            case _:
                raise TypeError(f"{matrix} has no cells")

    def _map(self, let: Let, op: Map, out: list[Stmt]) -> None:
        optional = [ref for ref in op.arguments if self.values[ref].optional]
        if op.function == "rescale":
            self._rescale(let, op, out)
            return
        if len(optional) == 1 and self._drops_out(op, optional[0]):
            self._neutral(let, op, optional[0], out)
            return
        values = [self._arithmetic(ref, op.function, i) for i, ref in enumerate(op.arguments)]
        if all(v.number for v in values):
            build = NUMBER.get(op.function) or TENSOR[op.function]
            value = Value(build(*(v.expr for v in values)), number=True)
            self._keep(let, value, out, "number")
            return
        exprs, dims = self.lined_up(values, let.type.axes)
        loose = self._is_loose(values, let.type.axes, dims)
        if op.function == "unbiased" and values[1].number:
            exprs[1] = values[1].expr
        value = Value(TENSOR[op.function](*exprs), dims, loose=loose)
        self._keep(let, value, out, "value")

    def _arithmetic(self, ref: Ref, function: str, position: int) -> Value:
        """An operand; conditions count as zero and one, but choose as they are."""
        value = self.present(ref)
        kind = self.lets[ref].type.kind
        chooses = function == "where" and position == 0
        if kind == "bool" and not chooses:
            dtype = Attribute(Name(self.first), "dtype")
            return replace(value, expr=method(value.expr, "to", dtype))
        if chooses and kind != "bool" and not value.number:
            return replace(value, expr=Binary("!=", (value.expr, integer(0))))
        return value

    def _drops_out(self, op: Map, optional: Ref) -> bool:
        """Whether an absent operand changes nothing: a weight of one, a bias of zero."""
        other = op.arguments != (optional, optional)
        return other and NEUTRAL.get(op.function) == self.absent(optional)

    def _neutral(self, let: Let, op: Map, optional: Ref, out: list[Stmt]) -> None:
        """`v = v * weight`, only where there is a weight."""
        other = next(ref for ref in op.arguments if ref != optional)
        values = [self.present(other), replace(self.values[optional], optional=False)]
        exprs, dims = self.lined_up(values, let.type.axes)
        base, operand = exprs
        if values[0].number:
            base = call("torch.as_tensor", base)
        reuse = isinstance(base, Name) and self.uses[other] == 1 and not self._is_argument(base)
        role = self._role(let.name) or self._next_role(let.name) or "value"
        name = base if reuse and isinstance(base, Name) else Name(self.name_of(let.name, role))
        if not reuse:
            out.append(Assign((name,), self.broken(base, out)))
        inner: list[Stmt] = []
        combined = self.broken(TENSOR[op.function](name, operand), inner)
        present = Binary("is not", (Name(self._optional_name(optional)), Literal(None)))
        out.append(If(present, (*inner, Assign((name,), combined))))
        loose = self._is_loose([values[0], replace(values[1], loose=True)], let.type.axes, dims)
        self.values[let.name] = Value(name, dims, loose=loose)

    def _is_loose(self, values: Sequence[Value], axes: Sequence[str], dims: Dims) -> bool:
        """Whether some dimension is there only thanks to a value that may lack it."""
        sure = {d.axis for v in values if not v.loose for d in self.spread(v, axes).dims if d.full}
        return any(d.full and d.axis not in sure for d in dims)

    def _is_argument(self, name: Name) -> bool:
        return name.text in {i.name for i in self.program.inputs}

    def _next_role(self, ref: Ref) -> str:
        """The role of what a nameless value goes into next."""
        for let in self.program.body:
            if isinstance(let.op, Map) and ref in let.op.arguments:
                return self._role(let.name)
        return ""

    def _rescale(self, let: Let, op: Map, out: list[Stmt]) -> None:
        """The one map over a wide value. What is neutral, or may be absent, is `None`."""
        source, centre, shift, *scales = op.arguments
        roles = {"centre": centre, **dict(zip(("scale", "weight"), scales)), "shift": shift}
        used = {role: ref for role, ref in roles.items() if not self._is_neutral(role, ref)}
        values = [self.present(source)]
        values += [replace(self.values[ref], optional=False) for ref in used.values()]
        exprs, dims = self.lined_up(values, let.type.axes)
        keywords: list[tuple[str, Expr]] = []
        for (role, ref), expr in zip(used.items(), exprs[1:]):
            if self.values[ref].optional and not isinstance(expr, Name):
                missing = Binary("is", (Name(self._optional_name(ref)), Literal(None)))
                local = Name(self.local(role))
                out.append(Assign((local,), IfElse(missing, Literal(None), expr)))
                expr = local
            keywords.append((role, expr))
        expr = Call(Name("runtime.rescale"), (exprs[0],), tuple(keywords))
        self._keep(let, Value(expr, dims), out, "y")

    def _is_neutral(self, role: str, ref: Ref) -> bool:
        op = self.lets[ref].op
        neutral = Const(0.0 if role in ("centre", "shift") else 1.0)
        return isinstance(op, Number) and op.value == neutral

    # ---- the rest

    def _lookup(self, let: Let, op: Lookup, out: list[Stmt]) -> None:
        table = self.named(self.present(op.table), out)
        place = [d.axis for d in table.dims].index(op.axis)
        at = self.layouts.position(table.dims, place)
        rest = tuple(d for i, d in enumerate(table.dims) if i != place)
        if isinstance(op.index, int):
            expr = Subscript(table.expr, (integer(op.index),))
            if place:
                expr_at = method(table.expr, "select", at, integer(op.index))
                self._keep(let, Value(expr_at, rest), out, "item")
                return
            self._keep(let, Value(expr, rest), out, "item")
            return
        index = self.values[op.index]
        if place:
            table = Value(method(table.expr, "movedim", at, integer(0)), table.dims)
        expr = Subscript(table.expr, (index.expr,))
        self._keep(let, Value(expr, (*index.dims, *rest)), out, "chosen")

    def _expand(self, let: Let, ref: Ref, axes: tuple[str, ...], out: list[Stmt]) -> None:
        dims = tuple(Dim(axis) for axis in let.type.axes)
        value = self.present(ref)
        sizes = self.sizes(dims)
        if value.number:
            expr = method(Name(self.first), "new_full", sizes, value.expr)
        else:
            expr = method(self.layouts.aligned(value, dims), "expand", sizes)
        self._keep(let, Value(expr, dims), out, "value")

    def size(self, axis: str) -> Expr:
        """The length of an axis, from the shape of a tensor that has it."""
        leaves = self.space.leaves(axis)
        if len(leaves) > 1:
            return Binary("*", tuple(self.size(leaf) for leaf in leaves))
        tensors = [
            (i.name, i.dims)
            for i in self.program.inputs
            if i.required or isinstance(i.default, str)
        ]
        tensors += [(p.name, p.dims) for p in self.program.params if not p.switches]
        for name, declared in tensors:
            dims = self.layouts.frame(declared)
            for place, dim in enumerate(dims):
                if dim.axis == axis:
                    shape = Attribute(Name(name), "shape")
                    if not self.layouts.variadic(dim):
                        return Subscript(shape, (self.layouts.position(dims, place),))
                    return method(Subscript(shape, (self._slice(dims, place),)), "numel")
        size = self.space[axis].size
        assert size is not None, axis
        return number_expr(size, self.size)

    def _slice(self, dims: Dims, place: int) -> Expr:
        before = [d for d in dims[:place] if self.layouts.variadic(d)]
        after = len(dims) - place - 1
        if not before:
            rest = [d for d in dims[place + 1 :] if self.layouts.variadic(d)]
            if rest:
                stop: Expr | None = plus(self.layouts.rank(dims[place].axis), place)
            else:
                stop = integer(-after) if after else None
            return Slice(integer(place) if place else None, stop)
        begin = plus(Unary("-", self.layouts.rank(dims[place].axis)), -after)
        return Slice(begin, integer(-after) if after else None)

    def sizes(self, dims: Dims) -> Expr:
        """The shape of a tensor with these dimensions."""
        items: list[Expr] = []
        for dim in dims:
            size = self.size(dim.axis)
            if self.layouts.variadic(dim):
                assert isinstance(size, Call) and isinstance(size.function, Attribute)
                items.append(Starred(size.function.value))
            else:
                items.append(size)
        return Tuple(tuple(items))

    def split(self, value: Value) -> Value:
        """A tensor as it is stored, with split axes unflattened."""
        expr, dims = value.expr, list(value.dims)
        for axis in self.space:
            whole = Dim(axis.name)
            if axis.parts and whole in dims:
                place = dims.index(whole)
                at = self.layouts.position(tuple(dims), place)
                sizes = [self._part(part, axis.name) for part in axis.parts]
                expr = call("torch.unflatten", expr, at, Tuple(tuple(sizes)))
                dims[place : place + 1] = [Dim(part) for part in axis.parts]
        return replace(value, expr=expr, dims=tuple(dims))

    def _part(self, part: str, whole: str) -> Expr:
        """The length of a part as `unflatten` takes it: -1 for the one that gets the rest."""
        size = self.space[part].size
        assert size is not None
        rest = f"SizeOf(axis='{whole}')" in repr(size)
        return integer(-1) if rest else number_expr(size, self.size)

    # ---- groups and matrices

    def groups(self, index: str) -> Expr:
        """The local that holds the groups of an index."""
        local = self.group_names.setdefault(index, "")
        if not local:
            several = sum(i.sort == "index" for i in self.program.inputs) > 1
            local = self.local(f"{index}_groups" if several else "groups")
            self.group_names[index] = local
        if not any(isinstance(s, Assign) and s.targets == (Name(local),) for s in self.prologue):
            decl = next(i for i in self.program.inputs if i.name == index)
            count = Name(f"{index}_size") if decl.table is None else self.size(decl.table)
            made = call("runtime.Groups", Name(index), count, self.size(decl.dims[0]))
            self.prologue.append(Assign((Name(local),), made))
        return Name(local)

    def rows(self, matrix: str, axis: str) -> Expr:
        """The local that holds the scaled rows of a given matrix."""
        local = f"{matrix}_rows"
        if not any(isinstance(s, Assign) and s.targets == (Name(local),) for s in self.prologue):
            self.taken.add(local)
            made = call(
                "runtime.pooling_rows",
                Name(matrix),
                Literal(matrix),
                Name(self.first),
                self.size(axis),
            )
            self.prologue.append(Assign((Name(local),), made))
        return Name(local)

    # ---- modes and updates

    def _modes(self, first: Let, out: list[Stmt]) -> None:
        """One `if` for all modes of a kind that can be decided here."""
        assert isinstance(first.op, Mode)
        kind = kind_of(first.op)
        cluster = [let for let in self.program.body if self._joins(let, kind)]
        train: list[Stmt] = []
        evaluate: list[Stmt] = []
        names = {let.name: self.name_of(let.name, self._mode_name(let)) for let in cluster}
        for let in cluster:
            assert isinstance(let.op, Mode)
            self.hints[let.name] = names[let.name]
            if self.places[let.op.train] is not None and let.op.train not in self.hints:
                self.hints[let.op.train] = names[let.name]
        modes = [let.op for let in cluster if isinstance(let.op, Mode)]
        buffers = list(dict.fromkeys(m.buffer for m in modes if m.buffer))
        updates = [u for u in self.program.updates if u.buffer in buffers and kind == "track"]
        main = needed_by((m.train for m in modes), self.lets)
        self._emit_needed(main, train)
        if updates:
            train.append(self._tracked_updates(updates))
        self._emit_needed(needed_by((m.eval for m in modes), self.lets), evaluate)
        for let in cluster:
            assert isinstance(let.op, Mode)
            self._choose(let, let.op, Name(names[let.name]), train, evaluate)
        condition = self._condition(kind, buffers)
        out.append(If(condition, _together(train), _together(evaluate)))

    def _joins(self, let: Let, kind: str) -> bool:
        """Whether a mode is still open and everything it needs in any case is there."""
        if not isinstance(let.op, Mode) or kind_of(let.op) != kind or let.name in self.values:
            return False
        if self.places[let.name] is not None:
            return False
        needed = needed_by((let.op.train, let.op.eval), self.lets)
        return all(
            ref in self.values or self.places[ref] is not None or not operands(self.lets[ref].op)
            for ref in needed
        )

    def _mode_name(self, let: Let) -> str:
        assert isinstance(let.op, Mode)
        train = let.op.train
        if let.op.buffer:
            return let.op.buffer.replace("running_", "")
        return "value" if train.startswith("%") else train

    def _condition(self, kind: str, buffers: Sequence[str]) -> Expr:
        training = Name("training")
        if kind == "mode":
            return training
        missing = [Binary("is", (Name(b), Literal(None))) for b in buffers]
        return Binary("or", (training, *missing))

    def _emit_needed(self, needed: set[Ref], out: list[Stmt]) -> None:
        for let in self.program.body:
            if let.name in needed and let.name not in self.values:
                self.emit(let, out)

    def _choose(
        self, let: Let, op: Mode, name: Name, train: list[Stmt], evaluate: list[Stmt]
    ) -> None:
        live, kept = self.present(op.train), self.present(op.eval)
        if live.number != kept.number:
            live, kept = (self._as_tensor(v) if v.number else v for v in (live, kept))
        exprs, dims = self.lined_up([live, kept], let.type.axes)
        for value, expr, out in ((live, exprs[0], train), (kept, exprs[1], evaluate)):
            short = len(dims) - len(dims[self._start(dims, value) :])
            if short and not value.number and value.dims:
                expr = Subscript(expr, (*[Literal(None)] * short, Name("...")))
            if expr != name:
                out.append(Assign((name,), self.broken(expr, out)))
        number = live.number and kept.number
        self.values[let.name] = Value(name, dims, number=number)

    def _as_tensor(self, value: Value) -> Value:
        return Value(method(Name(self.first), "new_tensor", value.expr), loose=True)

    def _start(self, dims: Dims, value: Value) -> int:
        bases = [self.space.base(d.axis) for d in value.dims]
        places_ = [i for i, d in enumerate(dims) if self.space.base(d.axis) in bases]
        return places_[0] if places_ else 0

    def _tracked_updates(self, updates: Sequence[Update]) -> Stmt:
        """Running statistics, where there are any."""
        inner: list[Stmt] = []
        self._emit_needed(needed_by((u.value for u in updates), self.lets), inner)
        for update in updates:
            self.updated.add(update.buffer)
            value = self._update_value(update)
            momentum = Name(self.momenta[update.momentum])
            inner.append(Do(call("runtime.track_", Name(update.buffer), value, momentum)))
        present = [Binary("is not", (Name(u.buffer), Literal(None))) for u in updates]
        condition = present[0] if len(present) == 1 else Binary("and", tuple(present))
        return If(condition, tuple(inner))

    def _update_value(self, update: Update) -> Expr:
        declared = next(b.dims for b in self.program.buffers if b.name == update.buffer)
        dims = self.layouts.frame(declared)
        value = self.spread(self.present(update.value), [d.axis for d in dims])
        if value.number:
            return value.expr
        expr = self.layouts.aligned(self.layouts.compact(value), dims)
        if len(dims) > len(declared) and value.dims:
            expr = self._merged(method(expr, "expand", self.sizes(dims)), dims)
        return expr

    def _plain_updates(self, out: list[Stmt]) -> None:
        """`update` statements, and running statistics that the output does not read."""
        left = [u for u in self.program.updates if u.buffer not in self.updated]
        tracked = [u for u in left if u.averages]
        plain = [u for u in left if not u.averages]
        if tracked:
            out.append(If(Name("training"), (self._tracked_updates(tracked),)))
        if plain:
            inner: list[Stmt] = []
            self._emit_needed(needed_by((u.value for u in plain), self.lets), inner)
            for update in plain:
                value = self._update_value(update)
                inner.append(Do(call("runtime.store_", Name(update.buffer), value)))
            out.append(If(Name("training"), tuple(inner)))


def _together(statements: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """`a = x` and `b = y` as `a, b = x, y`, where all are mere names."""
    plain = [s for s in statements if isinstance(s, Assign) and isinstance(s.value, Name)]
    if len(plain) < 2 or len(plain) < len(statements) or len(plain) > 3:
        return tuple(statements)
    targets = tuple(s.targets[0] for s in plain)
    values = tuple(s.value for s in plain if s.value is not None)
    return (Assign(targets, Tuple(values, bare=True)),)


def momenta(program: Program) -> dict[Scalar | None, str]:
    """The argument that brings the momentum of each running statistic."""
    distinct = dict.fromkeys(u.momentum for u in program.updates if u.averages)
    return {m: "momentum" if i == 0 else f"momentum_{i + 1}" for i, m in enumerate(distinct)}


def number_expr_of(value: float) -> Expr:
    """A literal, whole where it is."""
    return Literal(int(value)) if value == int(value) else Literal(value)
