"""The state that the printers of one function share: printed values, and names of variables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from metanorm.ir.mode_placement import mode_placement
from metanorm.ir.nodes import Cast, Dtype, Expand, Input, Let, Map, Op, Param, Ref, Repeat, Type
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.rename import role_of
from metanorm.ir.roles import RESCALING
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Call,
    Expr,
    If,
    Literal,
    Name,
    Return,
    Stmt,
)
from metanorm.targets.python.text_from_pyir import WIDTH, flat, is_chain
from metanorm.targets.torch.layout import Dim, Dims, Layouts, Value, call, method
from metanorm.targets.torch.lengths import Lengths

INLINE_WIDTH = 60  # columns of an expression that is inlined, if it is used once
TINY_WIDTH = 12  # ... if it is used a few times, such as `1 - gate`
CHAIN_WIDTH = 400  # ... if it is a sum of many terms, which breaks over lines


class Context:
    """The function that is being printed. `used_names` are not free for local variables."""

    def __init__(self, program: Program, used_names: Iterable[str]) -> None:
        self.program = program
        self.layouts = Layouts(program)
        self.space = self.layouts.space
        self.lengths = Lengths(program, self.layouts, self.groups)
        self.bodies = dict(_bodies_by_ref(program.body))
        self.lets = {let.name: let for let in _all_lets(program.body, {})}
        self.order = {ref: number for number, ref in enumerate(self.lets)}
        self.mode_placement = mode_placement(program)
        for name, body in self.bodies.items():
            self.mode_placement.setdefault(name, self.mode_placement.get(body[0].name))
        self.values: dict[Ref, Value] = {}
        self.variable_hints: dict[Ref, str] = {}
        self.prologue: list[Stmt] = []
        self.filled: set[Ref] = set()  # optional values that are needed even where absent
        named = {name for name in self.lets if not name.startswith("%")}
        self.used_names = {*used_names, *named}
        self.spec_names = named - set(used_names)  # names of the spec are reserved for their values
        self.layouts.used_names = self.used_names
        self.users = self._find_users()
        self.use_counts = self._count_uses()
        self.group_names: dict[str, str] = {}
        self.row_names: dict[str, str] = {}
        self.set_up_locals: dict[Expr, Name] = {}  # the local that holds a value of the prologue
        self.first = program.inputs[0].name
        self.dtypes = {
            name: self.local(f"{name}_dtype") for name in _tensors_with_dtype_reads(program)
        }

    @property
    def may_be_absent(self) -> frozenset[str]:
        """Inputs and parameters that may be `None`."""
        inputs = (i.name for i in self.program.inputs if isinstance(i.default, float))
        return frozenset((*inputs, *(p.name for p in self.program.params if p.switches)))

    def dtype(self, to: Dtype) -> Expr:
        """A dtype as an expression."""
        return Name(self.dtypes.get(to.name, "dtype") if to.like else f"torch.{to.name}")

    def dtype_of(self, output: str) -> Expr:
        """The dtype of an output as an expression."""
        return self.dtype(dict(self.program.output_dtypes).get(output, Dtype(self.first)))

    def _find_users(self) -> dict[Ref, list[Let]]:
        users: dict[Ref, list[Let]] = {name: [] for name in self.lets}
        for let in self.lets.values():
            for ref in dict.fromkeys(operands(let.op)):
                users[ref].append(let)
        return users

    def _count_uses(self) -> dict[Ref, int]:
        """How often the expression of each value would be printed."""
        uses = dict.fromkeys(self.lets, 0)
        for let in self.lets.values():
            square = isinstance(let.op, Map) and is_square(let.op)
            for ref in set(operands(let.op)) if square else operands(let.op):
                uses[ref] += 1
            for ref in let.op.results if isinstance(let.op, Repeat) else ():
                uses[ref] += 1
        for _, ref in self.program.outputs:
            uses[ref] += 1
        for update in self.program.updates:
            uses[update.value] += 1
        return uses

    def local(self, name: str) -> str:
        """A new name for a local variable."""
        alternatives = {"scale": "gain", "shift": "offset", "mean": "average", "var": "variance"}
        candidate, number = name, 2
        if candidate in self.used_names and alternatives.get(name, name) not in self.used_names:
            candidate = alternatives.get(name, name)
        while candidate in self.used_names:
            candidate, number = f"{name}_{number}", number + 1
        self.used_names.add(candidate)
        return candidate

    def name_of(self, ref: Ref, fallback: str) -> str:
        """The name of a value's variable: that of the spec, or its role."""
        if ref in self.variable_hints:
            return self.variable_hints[ref]
        if ref in self.spec_names:
            return ref
        return self.local(role_of(ref) or fallback)

    def axis_text(self, axis: str) -> str:
        """An axis as comments print it; a group of axes has a star."""
        return f"*{axis}" if self.space[axis].variadic else axis

    def bind(self, let: Let, expr: Expr, dims: Dims, out: list[Stmt], fallback: str) -> None:
        """Assign a value to a variable."""
        name = self.name_of(let.name, fallback)
        out.append(Assign((Name(name),), self.with_named_operands(expr, out)))
        self.values[let.name] = Value(Name(name), dims)

    def fit_return(self, expr: Expr, fallback: str, out: list[Stmt]) -> Expr:
        """The expression, with inner parts assigned to variables until it fits behind `return`."""
        if len(flat(expr)) <= WIDTH - 11:
            return expr
        inner = expr
        calls: list[Expr] = []
        while isinstance(inner, Call) and isinstance(inner.function, Attribute):
            calls.append(inner)
            inner = inner.function.value
        value = self.with_named_operands(inner, out)
        if not calls:
            return value
        name = Name(self.local(fallback))
        out.append(Assign((name,), value))
        rebuilt: Expr = name
        for outer in reversed(calls):
            assert isinstance(outer, Call) and isinstance(outer.function, Attribute)
            longer = replace(outer, function=replace(outer.function, value=rebuilt))
            if rebuilt != name and len(flat(longer)) > WIDTH - 11:
                out.append(Assign((name,), rebuilt))
                longer = replace(outer, function=replace(outer.function, value=name))
            rebuilt = longer
        return rebuilt

    def with_named_operands(self, expr: Expr, out: list[Stmt]) -> Expr:
        """The expression, with long operands assigned to variables if it does not fit on a line.

        A chain of operators of one level stays, since it breaks inside parentheses.
        """
        if not isinstance(expr, Binary) or len(flat(expr)) <= WIDTH - 24 or is_chain(expr):
            return expr
        operands: list[Expr] = []
        for operand in expr.operands:
            if isinstance(operand, Name) or len(flat(operand)) < 24:
                operands.append(operand)
                continue
            name = Name(self.local("term"))
            out.append(Assign((name,), self.with_named_operands(operand, out)))
            operands.append(name)
        return replace(expr, operands=tuple(operands))

    def in_variable(self, value: Value, out: list[Stmt]) -> Value:
        """The value, assigned to a variable if it is not one already."""
        if isinstance(value.expr, Name):
            return value
        name = Name(self.local("value"))
        out.append(Assign((name,), self.with_named_operands(value.expr, out)))
        return replace(value, expr=name)

    def as_number(self, ref: Ref, value: Value) -> Value:
        """A boolean value converted to zeros and ones; any other value unchanged."""
        if self.lets[ref].type.kind != "bool":
            return value
        if value.number:
            return replace(value, expr=call("float", value.expr))
        dtype = Attribute(Name(self.first), "dtype")
        return replace(value, expr=method(value.expr, "to", dtype))

    def tensor(self, number: Expr, dtype: Expr | None = None) -> Expr:
        """A number as a tensor; by default of the dtype of the statistics.

        `torch.tensor` would round to torch's default dtype and ignore the device.
        """
        return method(Name(self.first), "new_tensor", number, dtype=dtype)

    def absent_value(self, ref: Ref) -> float:
        """The number that replaces an optional parameter or input that is `None`."""
        op = self.lets[ref].op
        if isinstance(op, Param):
            absent = next(p.absent for p in self.program.params if p.name == op.name)
            return absent if absent is not None else 0.0
        assert isinstance(op, Input)
        default = next(i.default for i in self.program.inputs if i.name == op.name)
        assert isinstance(default, float)
        return default

    def not_none(self, ref: Ref) -> Value:
        """The value; if it is optional, the prologue replaces `None` by the default number."""
        value = self.values[ref]
        if not value.optional:
            return value
        name = Name(self.argument_name(ref))
        dtype = Name("torch.bool") if self.lets[ref].type.kind == "bool" else None
        number = Literal(self.absent_value(ref) if dtype is None else bool(self.absent_value(ref)))
        filled = method(
            self.tensor(number, dtype), "expand", self.lengths.shape(self._declared(ref))
        )
        missing = Binary("is", (name, Literal(None)))
        self.prologue.append(If(missing, (Assign((name,), filled),)))
        self.filled.add(ref)
        self.values[ref] = replace(value, optional=False)
        return self.values[ref]

    def _declared(self, ref: Ref) -> Dims:
        """The dimensions of an argument: an input has split axes, a parameter is as declared."""
        op = self.lets[ref].op
        if isinstance(op, Param):
            dims = next(p.dims for p in self.program.params if p.name == op.name)
            return tuple(Dim(axis) for axis in dims)
        return self.values[ref].dims

    def argument_name(self, ref: Ref) -> str:
        """The name of an input's or a parameter's argument."""
        op = self.lets[ref].op
        assert isinstance(op, (Param, Input))
        return op.name

    def last_use(self, ref: Ref, uses: int = 1) -> bool:
        """Whether the variable of a value can be overwritten after these uses.

        Another value may share the variable: the statistic of a batch shares that of its mode,
        which is stored at the end.
        """
        name = self.values[ref].expr
        other_exprs = (v.expr for other_ref, v in self.values.items() if other_ref != ref)
        return self.use_counts[ref] == uses and name not in other_exprs

    def keep(self, let: Let, value: Value, out: list[Stmt], fallback: str) -> None:
        """Inline a value that is short, nameless and used once; assign any other to a variable."""
        text, uses = flat(value.expr), self.use_counts[let.name]
        short = len(text) <= INLINE_WIDTH and uses == 1
        tiny = len(text) <= TINY_WIDTH and uses <= 3 and "(" not in text
        nameless = let.name.startswith("%") and let.name not in self.variable_hints
        if nameless and (short or tiny or self._continues(let, text)):
            self.values[let.name] = value
            return
        self.bind(let, value.expr, value.dims, out, self.role(let.name) or fallback)
        bound = self.values[let.name]
        self.values[let.name] = replace(
            bound, number=value.number, may_lack_dims=value.may_lack_dims
        )

    def _continues(self, let: Let, text: str) -> bool:
        """Whether a value is printed as a part of the next one: `a + b` in `a + b + c`, or a clamp
        with the other bound."""
        if self.use_counts[let.name] != 1 or len(text) > CHAIN_WIDTH:
            return False
        users = [u.op for u in self.users[let.name] if operands(u.op)[0] == let.name]
        if is_sum(let.op):
            return any(map(is_sum, users))
        return _is_call_of(let.op, "clamp_min") and any(
            _is_call_of(op, "clamp_max") for op in users
        )

    def role(self, ref: Ref) -> str:
        """The role of a nameless value, such as the scale or the shift of a normalization."""
        for let in self.users[ref]:
            if isinstance(let.op, Map) and let.op.function == "rescale":
                roles = dict(zip(let.op.arguments[1:], RESCALING))
                if ref in roles:
                    return roles[ref]
            elif isinstance(let.op, Map):
                argument_axes = [self.lets[a].type.axes for a in let.op.arguments if a != ref]
                if self.lets[ref].type.axes not in argument_axes and let.type.axes in argument_axes:
                    wide = self.is_wide(let.name)
                    role = {"mul": "scale", "add": "shift"}.get(let.op.function, "")
                    if wide and role:
                        return role
        return ""

    def is_wide(self, ref: Ref) -> bool:
        """Whether a value has all axes of the first input."""
        first = self.layouts.full_dims(self.program.inputs[0].dims)
        return self.lets[ref].type.axes == self.space.ordered(d.axis for d in first)

    def next_role(self, ref: Ref) -> str:
        """The role of the value that a nameless value is an operand of."""
        user = next((let for let in self.users[ref] if isinstance(let.op, Map)), None)
        return self.role(user.name) if user is not None else ""

    def groups(self, index: str) -> Expr:
        """The local variable that holds the groups of an index input."""
        local = self.group_names.setdefault(index, "")
        if not local:
            several = sum(i.sort == "index" for i in self.program.inputs) > 1
            local = self.local(f"{index}_groups" if several else "groups")
            self.group_names[index] = local
        if not any(isinstance(s, Assign) and s.targets == (Name(local),) for s in self.prologue):
            decl = self.program.index.inputs[index]
            count = Name(f"{index}_size") if decl.table is None else self.lengths.of(decl.table)
            groups_call = call("runtime.Groups", Name(index), count, self.lengths.of(decl.dims[0]))
            self.prologue.append(Assign((Name(local),), groups_call))
        return Name(local)

    def set_up(self, local: str, value: Expr) -> Name:
        """The local variable that holds a value. The prologue assigns it once."""
        if value not in self.set_up_locals:
            self.set_up_locals[value] = Name(self.local(local))
            self.prologue.append(Assign((self.set_up_locals[value],), value))
        return self.set_up_locals[value]

    def rows(self, matrix: str, axis: str) -> Expr:
        """The local variable that holds the scaled rows of a given matrix."""
        local = self.row_names.get(matrix, "")
        if not local:
            local = self.row_names[matrix] = self.local(f"{matrix}_rows")
        if not any(isinstance(s, Assign) and s.targets == (Name(local),) for s in self.prologue):
            rows_call = call(
                "runtime.pooling_rows",
                Name(matrix),
                Literal(matrix),
                Name(self.first),
                self.lengths.of(axis),
            )
            self.prologue.append(Assign((Name(local),), rows_call))
        return Name(local)


def _tensors_with_dtype_reads(program: Program) -> list[str]:
    """The tensors, except the first input, to whose dtypes the program casts."""
    casts = [let.op.to for let in _all_lets(program.body, {}) if isinstance(let.op, Cast)]
    names = [d.name for d in (*casts, *(d for _, d in program.output_dtypes)) if d.like]
    return [name for name in dict.fromkeys(names) if name != program.inputs[0].name]


def _all_lets(body: Iterable[Let], types: dict[Ref, Type]) -> Iterator[Let]:
    """The bindings of a body and of its loops, and one for each value that a loop carries."""
    for let in body:
        if isinstance(let.op, Repeat) and let.op.inside[0] not in types:
            for inside, initial in zip(let.op.inside, let.op.initial):
                types[inside] = types[initial]
                yield Let(inside, Expand(initial, types[initial].axes), types[initial], let.span)
            yield from _all_lets(let.op.body, types)
        types[let.name] = let.type
        yield let


def _bodies_by_ref(body: tuple[Let, ...]) -> Iterator[tuple[Ref, tuple[Let, ...]]]:
    """Each binding, with the body that contains it."""
    for let in body:
        yield let.name, body
        if isinstance(let.op, Repeat):
            yield from _bodies_by_ref(let.op.body)


def _is_call_of(op: Op, function: str) -> bool:
    return isinstance(op, Map) and op.function == function


def is_square(op: Map) -> bool:
    """Whether a map multiplies a value by itself."""
    return op.function == "mul" and op.arguments[0] == op.arguments[1]


def is_sum(op: Op) -> bool:
    """Whether a value is a sum or a difference."""
    return isinstance(op, Map) and op.function in ("add", "sub")


def returned(result: Expr, body: list[Stmt]) -> Return:
    """The return of a result; one that the last statement assigns to a variable needs none."""
    if body and isinstance(body[-1], Assign) and body[-1].targets == (result,):
        last = body.pop()
        assert isinstance(last, Assign) and last.value is not None
        return Return(last.value, last.comment)
    return Return(result)
