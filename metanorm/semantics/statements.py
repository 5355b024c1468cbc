"""Lowering of the statements of one norm, in order. Its clauses are equations by now."""

from __future__ import annotations

from metanorm.diagnostics.axes import AmbiguousAxes, AxisTwice
from metanorm.diagnostics.lengths import BadLength
from metanorm.diagnostics.names import UnknownName, UnknownSort
from metanorm.diagnostics.structure import NotForTarget
from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.values import BadDefault, BadInterval, WrongKind
from metanorm.ir.initializers import backward_slice
from metanorm.ir.nodes import (
    Buffer,
    BufferDecl,
    Expand,
    Init,
    Input,
    InputDecl,
    Mode,
    Param,
    ParamDecl,
    Switch,
    Update,
)
from metanorm.ir.scalar import Const, Scalar
from metanorm.semantics.draws import check_identity, initial_from_ast
from metanorm.semantics.expressions import Expressions
from metanorm.semantics.loops import Loops
from metanorm.semantics.lowering import UNKNOWN, CallScope, Lowering
from metanorm.semantics.outputs import OutputLowering
from metanorm.semantics.reserved import AFFINE_SWITCHES, check_name
from metanorm.semantics.scalars import scalar_from_ast
from metanorm.semantics.values import (
    POISON,
    Choice,
    Entity,
    Outputs,
    PoolOnly,
    Tensor,
    Text,
    Value,
)
from metanorm.syntax import ast

UPDATE_MODES = ("train", "eval", "always")  # the calls that update a buffer
INPUT_SORTS = ("index", "offsets", "mask", "edges", "matrix")


class Statements:
    """Lowers the statements of one norm."""

    def __init__(self, low: Lowering, scope: CallScope) -> None:
        self.low = low
        self.scope = scope
        self.problems = low.problems
        self.e = Expressions(low, scope)
        self.outputs = OutputLowering(low, scope, self.e)
        self._declared_inputs: list[tuple[ast.InputItem, InputDecl]] = []
        self._wrong_inputs: set[str] = set()  # inputs whose axes are wrong

    def lower(self, statement: ast.AnyStatement) -> None:
        """Lower a statement other than an input or an output, which have methods of their own."""
        match statement:
            case ast.Param():
                for item in statement.items:
                    self._param(item)
            case ast.Buffer():
                for buffer in statement.items:
                    self._buffer(buffer)
            case ast.Let():
                self._let(statement)
            case ast.Update():
                self._update(statement)
            case ast.Repeat():
                Loops(self).repeat(statement)
            case _:
                pass

    # ---- inputs

    def input(self, item: ast.InputItem, first: bool) -> None:
        """Declare an input of the norm that is compiled."""
        name, sort = item.name.name, item.sort.name if item.sort else "tensor"
        check_name(item.name, self.problems)
        if item.sort is not None and (sort not in INPUT_SORTS or (first and sort != "matrix")):
            if sort in INPUT_SORTS:
                hint = "the first input is the tensor that is normalized"
                actual = f"an input of sort `{sort}`"
                self.problems.add(WrongKind(item.sort.span, actual, "a tensor", hint))
            else:
                self.problems.add(UnknownSort(item.sort.span, sort, "input", INPUT_SORTS))
            self._wrong_inputs.add(name)
            sort = "tensor"
        dims = self._input_dims(item, sort)
        offsets = sort == "offsets"
        if offsets and item.table is not None:
            hint = f"an index chooses rows: `{name}: index[{dims[0]}] of {item.table.axis.name}`"
            actual = "offsets that choose rows"
            self.problems.add(WrongKind(item.table.span, actual, "offsets that pool", hint))
            self._wrong_inputs.add(name)
        sort = "index" if offsets else sort
        table = self._introduce_axis(item.table) if item.table else None
        if table is not None:
            self.low.table.require_fixed(table, "a table", item.span)
        default = self._default(item, first)
        optional = item.default is not None or (sort == "index" and table is None)
        required = not optional
        decl = InputDecl(name, sort, dims, table, default, required, offsets)  # type: ignore[arg-type]
        self.low.inputs.append(decl)
        self._declared_inputs.append((item, decl))

    def bind_inputs(self) -> None:
        """Bind the declared inputs to values, now that splits of axes are known."""
        for item, decl in self._declared_inputs:
            value: Value
            if decl.name in self._wrong_inputs:
                value = POISON
            elif decl.sort == "edges":
                value = PoolOnly("edges", decl.name, decl.dims[0])
            elif decl.sort == "matrix":
                value = PoolOnly("a matrix", decl.name, decl.dims[0])
            else:
                value = self.low.emit(Input(decl.name), item.name.span, decl.name)
            self.scope.names.enter(decl.name, Entity("input", item.name.span, value))
            if isinstance(decl.default, str):
                self.scope.names.find(decl.default)

    def _introduce_axis(self, dim: ast.Dim, name: str | None = None) -> str:
        """Add an axis. A hyperparameter that gives its length counts as used."""
        if isinstance(dim.size, ast.Identifier):
            self.scope.names.find(dim.size.name)
            sort = self.scope.hyper_sorts.get(dim.size.name, "int")
            if sort not in ("int", UNKNOWN):
                self.problems.add(BadLength(dim.size.span, dim.axis.name, dim.size.name))
        return self.low.table.introduce(dim, self.scope.hypers, name)

    def _input_dims(self, item: ast.InputItem, sort: str) -> tuple[str, ...]:
        table = self.low.table
        if sort == "matrix" and len(item.dims) == 2 and item.dims[0].axis == item.dims[1].axis:
            return (self._introduce_axis(item.dims[0]),) * 2
        if not table.are_distinct([dim.axis for dim in item.dims], item.name.name):
            self._wrong_inputs.add(item.name.name)
        dims = tuple(self._introduce_axis(dim) for dim in item.dims)
        variadic_dims = [dim for dim in item.dims if dim.axis.variadic]
        open_dims = [d for d in variadic_dims if table.space[d.axis.name].size is None]
        if len(open_dims) > 1:
            names = tuple(f"*{d.axis.name}" for d in open_dims)
            self.problems.add(AmbiguousAxes(open_dims[1].span, names))
        if sort in INPUT_SORTS:
            expected = {"edges": 1, "offsets": 1, "matrix": 2}.get(sort)
            if expected and len(dims) != expected:
                shape = "two equal axes, as in `A: matrix[N, N]`" if expected == 2 else "one axis"
                actual = f"{len(dims)} axes"
                axes = "[V]" if expected == 1 else "[N, N]"
                hint = f"say which: `{item.name.name}: {sort}{axes}`"
                self.problems.add(WrongKind(item.span, actual, f"{shape}, for {sort}", hint))
                self._wrong_inputs.add(item.name.name)
                return (dims or ("N",))[:1] * expected
            if sort == "index" and not dims and item.table is None:
                name = item.name.name
                hint = f"say for what it is: `{name}: index[N]` pools axis `N`"
                wanted = "the axis of its positions, for index"
                self.problems.add(WrongKind(item.span, "no axes", wanted, hint))
                self._wrong_inputs.add(name)
            if sort == "offsets" and variadic_dims:
                hint = f"name the packed axis: `{item.name.name}: offsets[T]`"
                wanted = "one axis, for offsets"
                self.problems.add(WrongKind(item.span, "a group of axes", wanted, hint))
                self._wrong_inputs.add(item.name.name)
            for dim in dims:
                if sort != "matrix":
                    where = "packed batch" if sort == "offsets" else sort
                    table.keep_free(dim, f"has a length of its own in each {where}")
        return dims

    def _default(self, item: ast.InputItem, first: bool) -> str | float | None:
        """The default of an input, as `InputDecl` has it; `None` for none, and after a report."""
        if item.default is None:
            return None
        name = item.name.name
        if first:
            self.problems.add(
                BadDefault(item.default.span, name, "left out: it is the first input")
            )
            return None
        earlier = {i.name: i for i in self.low.inputs}
        source = isinstance(item.default, ast.Name) and earlier.get(item.default.name)
        if source and item.sort is None and source.sort == "tensor":
            return source.name
        is_mask = item.sort is not None and item.sort.name == "mask"
        if isinstance(item.default, ast.Name) and item.default.name in ("true", "false"):
            if is_mask:
                return float(item.default.name == "true")
        elif isinstance(item.default, ast.Number) and item.sort is None:
            return item.default.value
        elif (
            isinstance(item.default, ast.Negative)
            and isinstance(item.default.operand, ast.Number)
            and item.sort is None
        ):
            return -item.default.operand.value
        expected = "`true` or `false`" if is_mask else "a number or an earlier tensor input"
        if item.sort is not None and not is_mask:
            expected = f"left out: it is of sort `{item.sort.name}`"
        self.problems.add(BadDefault(item.default.span, name, expected))
        return None

    # ---- parameters and buffers

    def _declared_dims(self, dims: tuple[ast.Dim, ...], what: str) -> tuple[str, ...] | None:
        """The axes of a parameter or buffer; adds those that it gives a length."""
        ok = True
        resolved: list[str] = []
        for dim in dims:
            axes = self._resolve_dim(dim, what)
            ok = ok and axes is not None
            resolved += axes or ()
        if ok and len(resolved) != 2:
            ok = self.low.table.are_distinct([dim.axis for dim in dims])
            if ok and len(set(resolved)) < len(resolved):  # an axis, and a part of it
                ok = False
                twice = next(axis for i, axis in enumerate(resolved) if axis in resolved[:i])
                first = next(d for d in dims if twice in (self.e.pools.resolve(d.axis) or ()))
                self.problems.add(AxisTwice(dims[-1].span, twice, first.span))
        return tuple(resolved) if ok else None

    def _resolve_dim(self, dim: ast.Dim, what: str) -> tuple[str, ...] | None:
        table, name = self.low.table, dim.axis.name
        local = self.scope.axes
        if dim.size is not None and local is not None and name not in local:
            local[name] = (self._introduce_axis(dim, self._fresh_axis(name)),)
        elif dim.size is not None and local is None:
            self._introduce_axis(dim)
        elif local is None and name not in table.declared:
            table.report_unknown(dim.axis, can_size=True)
            return None
        axes = self.e.pools.resolve(dim.axis)
        for axis in axes or ():
            table.require_fixed(axis, what, dim.span)
        return axes

    def _fresh_axis(self, name: str) -> str:
        while name in self.low.table.declared:
            name += "_"
        return name

    def _new_name(self, name: ast.Identifier) -> str:
        """The name in the program of a parameter or buffer."""
        check_name(name, self.problems, attribute=True)
        full = self.scope.prefix + name.name
        if self.scope.axes is not None:
            return self.low.unique(full)
        return full

    def _shared_param(self, item: ast.ParamItem, first_call: CallScope) -> None:
        """Bind a parameter of an earlier call of the same norm."""
        entity = Entity("parameter", item.name.span, POISON)
        if not self.scope.names.enter(item.name.name, entity):
            return
        if self._is_turned_off(item):
            dims = self._declared_dims(item.dims, "a parameter")
            init = self._initial(item, item.name.name, None)
            if isinstance(init, Const) and dims is not None:
                entity.value = self._constant(init, item, dims)
            return
        name = first_call.param_names.get(item.name.name)
        decl = next((p for p in self.low.params if p.name == name), None)
        if decl is None:
            return  # the first call has reported it
        dims = self._declared_dims(item.dims, "a parameter")
        if dims is None:
            return
        if self.low.dims(dims) != decl.dims:
            self.low.report_shared(self.scope, item.name.name, decl.dims)
            return
        entity.value = self.low.emit(Param(decl.name), item.name.span)

    def _param(self, item: ast.ParamItem) -> None:
        if self.scope.first_call is not None:
            self._shared_param(item, self.scope.first_call)
            return
        name = self._new_name(item.name)
        self.scope.param_names[item.name.name] = name
        dims = self._declared_dims(item.dims, "a parameter")
        init = self._initial(item, name, dims)
        init = self._check_identity(item, init, dims)
        low, high = self._bounds(item, None if item.from_weight else init)
        self._first_batch_value(item, name, dims)
        switches = self._switches(item, init)
        if dims is None or init is None:
            self.scope.names.enter(item.name.name, Entity("parameter", item.name.span, POISON))
            return
        entity = Entity("parameter", item.name.span, POISON)
        if not self.scope.names.enter(item.name.name, entity):
            return
        if self._is_turned_off(item) and isinstance(init, Const):
            entity.value = self._constant(init, item, dims)
            return
        absent = init.value if switches and isinstance(init, Const) else None
        decl = ParamDecl(name, self.low.dims(dims), init, low, high, switches, absent)
        self.low.params.append(decl)
        if len(dims) == 2 and dims[0] == dims[1]:
            entity.value = PoolOnly("a matrix", name, dims[0])
        else:
            entity.value = self.low.emit(Param(name), item.name.span, name)

    def _switches(self, item: ast.ParamItem, init: Init | None) -> tuple[str, ...]:
        """The constructor argument that turns a parameter on; declare it where it is new.

        A norm that is called has none: the call says which of its parameters there are.
        """
        if item.switch is None:
            return ()
        name = item.switch.name
        if item.from_weight or item.first or (init is not None and not isinstance(init, Const)):
            hint = "a parameter that is left out counts as the number that it begins with"
            value = item.first or item.value
            self.problems.add(WrongKind(value.span, "a value that is computed", "a number", hint))
            return ()
        if name not in AFFINE_SWITCHES:
            check_name(item.switch, self.problems, attribute=True)
        if self.scope.axes is not None:
            return ()
        declared = next((s for s in self.low.switches if s.name == name), None)
        if declared is None:
            self.low.switches.append(Switch(name, not item.off))
        elif declared.default == item.off:
            default = "on" if declared.default else "off"
            expected = f"`{name}` to be {default} by default, as before"
            hint = f"write `if {name} off` each time, or `if {name}`"
            self.problems.add(WrongKind(item.switch.span, "another default", expected, hint))
        return (name,)

    def _is_turned_off(self, item: ast.ParamItem) -> bool:
        """Whether the call of this norm leaves a parameter out."""
        if item.switch is None or self.scope.axes is None:
            return False
        return not self.scope.fixed_switches.get(item.switch.name, not item.off)

    def _constant(self, value: Const, item: ast.ParamItem, dims: tuple[str, ...]) -> Tensor:
        """What stands for a parameter that is left out: one number on all of its axes."""
        number = self.low.number(value, item.name.span)
        if not dims:
            return number
        return self.low.emit(Expand(number.ref, self.low.table.space.ordered(dims)), item.name.span)

    def _initial(
        self, item: ast.ParamItem | ast.BufferItem, name: str, dims: tuple[str, ...] | None
    ) -> Init | None:
        """The initial value of a parameter or a buffer; `None` after a report."""
        if item.from_weight:
            return self._from_weight(item, name, dims)
        what = f"the initial value of `{item.name.name}`"
        return initial_from_ast(item.value, self.scope, self.low, what)

    def _check_identity(
        self,
        item: ast.ParamItem | ast.BufferItem,
        init: Init | None,
        dims: tuple[str, ...] | None,
    ) -> Init | None:
        """The initial value, checked: an identity matrix needs two axes."""
        if init is None or dims is None:
            return init
        what = f"`{item.name.name}`"
        return check_identity(init, self.low.dims(dims), what, item.value.span, self.low)

    def _from_weight(
        self, item: ast.ParamItem | ast.BufferItem, name: str, dims: tuple[str, ...] | None
    ) -> Scalar | None:
        """`init l2(v over *I)`: note the value. Zero stands for it until there is a weight."""
        target = self.low.target
        if target != "weight":
            what = "param" if isinstance(item, ast.ParamItem) else "buffer"
            hint = f"`{what} g[O] = 1` begins with a number"
            self.problems.add(NotForTarget(item.span, target, "no weight to begin with", hint))
            return None
        value = self._initial_value_on(item.value, dims, "init l2")
        if value is None:
            return None
        self.low.initializers[name] = value.ref
        return Const(0.0)

    def _initial_value_on(
        self, expr: ast.Expr, dims: tuple[str, ...] | None, example: str
    ) -> Tensor | None:
        """An initial value computed in the spec, on these dimensions; `None` after a report."""
        value = self.e.number(expr)
        if value is None or dims is None:
            return None
        value_axes = [self.low.table.space.base(axis) for axis in value.type.axes]
        surplus = [axis for axis in value_axes if axis not in dims]
        if not surplus:
            return value
        expected = f"a value on {listing(dims) or 'no axes'}"
        hint = f"pool it away: `{example}(... over {self.low.table.shown(surplus[0])})`"
        actual = f"one with axis `{surplus[0]}`"
        self.problems.add(WrongKind(expr.span, actual, expected, hint))
        return None

    def _first_batch_value(
        self, item: ast.ParamItem | ast.BufferItem, name: str, dims: tuple[str, ...] | None
    ) -> None:
        """`first -mean(x over N)`: note the initial value of the first batch."""
        if item.first is None:
            return
        if self.low.target != "activation":
            hint = "what a norm for weights begins with is said by `init`"
            target = self.low.target
            self.problems.add(NotForTarget(item.first.span, target, "no first batch", hint))
            return
        value = self._initial_value_on(item.first, dims, "first mean")
        if value is None:
            return
        computed = backward_slice({value.ref}, self.low.body)
        if any(isinstance(let.op, Mode) for let in computed):
            hint = "it is computed once, in training: leave `track` and `mode` out of it"
            actual = "a value that differs in evaluation"
            self.problems.add(WrongKind(item.first.span, actual, "one of the batch alone", hint))
            return
        self.low.first_batch_values[name] = value.ref

    def _bounds(
        self, item: ast.ParamItem, init: Init | None
    ) -> tuple[Scalar | None, Scalar | None]:
        if item.low is None or item.high is None:
            return None, None
        low = scalar_from_ast(item.low, self.scope, self.low, "a bound")
        high = scalar_from_ast(item.high, self.scope, self.low, "a bound")
        span = item.low.span.to(item.high.span)
        if isinstance(low, Const) and isinstance(high, Const):
            if low.value > high.value:
                self.problems.add(BadInterval(span, "the lower bound is above the upper one"))
            elif isinstance(init, Const) and not low.value <= init.value <= high.value:
                reason = "the initial value is outside of it"
                self.problems.add(BadInterval(item.value.span.to(span), reason))
        return low, high

    def _buffer(self, item: ast.BufferItem) -> None:
        name = self._new_name(item.name)
        dims = self._declared_dims(item.dims, "a buffer")
        init = self._check_identity(item, self._initial(item, name, dims), dims)
        self._first_batch_value(item, name, dims)
        if dims is None or init is None:
            self.scope.names.enter(item.name.name, Entity("buffer", item.name.span, POISON))
            return
        entity = Entity("buffer", item.name.span, POISON)
        if not self.scope.names.enter(item.name.name, entity):
            return
        self.low.buffers.append(BufferDecl(name, self.low.dims(dims), init))
        entity.value = self.low.emit(Buffer(name), item.name.span, name)

    def _update(self, statement: ast.Update) -> None:
        entity = self.scope.names.find(statement.name.name)
        value = self.e.number(statement.value)
        if entity is None or entity.what != "buffer":
            buffer_names = tuple(n for n, e in self.scope.names if e.what == "buffer")
            hint = f"only buffers are updated: `buffer {statement.name.name} = ...`"
            self.report_not_a(statement.name, entity, "a buffer", buffer_names, hint)
            return
        if value is None or not isinstance(entity.value, Tensor):
            return
        buffer = entity.value
        space = self.low.table.space
        if not {space.base(a) for a in value.type.axes} <= set(buffer.type.axes):
            extra = [a for a in value.type.axes if space.base(a) not in buffer.type.axes]
            actual = f"a value with axis `{extra[0]}`"
            expected = f"a value on the axes of `{statement.name.name}`"
            hint = f"pool it away: `mean(... over {extra[0]})`"
            self.problems.add(WrongKind(statement.value.span, actual, expected, hint))
            return
        when = statement.mode.name if statement.mode is not None else "train"
        if statement.mode is not None and when not in UPDATE_MODES:
            expected = f"{listing(UPDATE_MODES, 'or')}"
            hint = "an update happens in training, `in eval`, or `in always`, which is both"
            self.problems.add(WrongKind(statement.mode.span, f"`{when}`", expected, hint))
            return
        if any(
            update.buffer == buffer.ref and (update.when == when or "always" in (update.when, when))
            for update in self.low.updates
        ):
            actual, expected = (
                f"a second one of `{statement.name.name}`",
                "one `update` for each buffer and mode",
            )
            hint = "only one could be stored: make them one"
            self.problems.add(WrongKind(statement.span, actual, expected, hint))
            return
        self.low.updates.append(Update(buffer.ref, value.ref, when=when))  # type: ignore[arg-type]

    # ---- values

    def _let(self, statement: ast.Let) -> None:
        name = statement.name
        check_name(name, self.problems)
        self.scope.let_name = name.name
        self.scope.let_call = statement.value if isinstance(statement.value, ast.Call) else None
        value = self.e.value(statement.value)
        if isinstance(value, Outputs) and statement.dims:
            value = value.first
        if isinstance(value, (PoolOnly, Text, Choice)):
            self.e.as_number(value, statement.value)
            value = POISON
        axes: tuple[str, ...] = ()
        if isinstance(value, Tensor):
            if statement.dims:
                value, axes = self._with_axes(statement, value)
            if isinstance(value, Tensor):
                named_value = self.low.rename(value, self.low.unique(self.scope.prefix + name.name))
                if axes and named_value != value:
                    self.low.written_axes[named_value.ref] = axes
                value = named_value
        self.scope.let_name, self.scope.let_call = "", None
        generated = statement.span == statement.name.span
        entity = Entity("value", name.span, value, warns=not generated, axes=axes)
        self.scope.names.enter(name.name, entity)

    def _with_axes(self, statement: ast.Let, value: Tensor) -> tuple[Value, tuple[str, ...]]:
        """`let d[N] = 1`: the value expanded to exactly these axes, and the axes in this order."""
        axes: list[str] = []
        if not self.low.table.are_distinct([dim.axis for dim in statement.dims]):
            return POISON, ()
        for dim in statement.dims:
            resolved = self.e.pools.resolve(dim.axis)
            if resolved is None:
                return POISON, ()
            axes += resolved
        surplus = [a for a in value.type.axes if a not in axes]
        if surplus:
            expected = f"a value on {listing(axes)}"
            actual = f"one with axis `{surplus[0]}`"
            hint = f"pool it away: `mean(... over {surplus[0]})`"
            self.problems.add(WrongKind(statement.value.span, actual, expected, hint))
            return POISON, ()
        ordered = self.low.table.space.ordered(axes)
        if ordered == value.type.axes:
            return value, tuple(axes)
        return self.low.emit(Expand(value.ref, ordered), statement.span), tuple(axes)

    def report_not_a(
        self,
        name: ast.Identifier,
        entity: Entity | None,
        expected: str,
        known_names: tuple[str, ...],
        hint: str,
    ) -> None:
        """Report a name that is unknown, or that denotes something else than expected."""
        if entity is None:
            self.problems.add(UnknownName(name.span, name.name, known_names))
        else:
            actual = f"the {entity.what} `{name.name}`"
            self.problems.add(WrongKind(name.span, actual, expected, hint))
