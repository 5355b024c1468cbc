"""The bindings of a call of a norm: values for its inputs, axes of the caller for its axes."""

from __future__ import annotations

from collections.abc import Mapping

from metanorm.diagnostics.calls import CallMismatch, WrongArguments
from metanorm.diagnostics.syntax import GivenTwice
from metanorm.ir.scalar import Const, SizeOf
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.matching import Matching
from metanorm.semantics.output_axes import OutputOrders
from metanorm.semantics.pieces import cut_axis
from metanorm.semantics.pools import PoolLowering
from metanorm.semantics.values import POISON, Entity, PoolOnly, Tensor, Value
from metanorm.syntax import ast, build

POOLING_SORTS = ("edges", "matrix")  # sorts of inputs that only pool
INDEX_SORTS = ("index", "offsets")  # sorts of inputs whose values name groups or rows


def inputs_of(norm: ast.Norm) -> list[ast.InputItem]:
    """The inputs of a norm, in the order of their declaration."""
    inputs = (s for s in norm.statements if isinstance(s, ast.Input))
    return [item for statement in inputs for item in statement.items]


def named_inputs(call: ast.Call, norm: ast.Norm) -> dict[str, ast.Keyword]:
    """What a call gives for inputs of a norm by name. A name that an axis has, too, is the axis."""
    items = inputs_of(norm)
    axes = {dim.axis.name for item in items for dim in item.dims}
    names = {item.name.name for item in items} - axes
    keywords = (k for k in call.keywords if k.name in names and not k.labelled)
    return {keyword.name: keyword for keyword in keywords}


class Bindings:
    """Binds the inputs of one call. `caller` is the norm that calls, `callee` the one called."""

    def __init__(self, low: Lowering, call: ast.Call, caller: CallScope, callee: CallScope) -> None:
        self.low = low
        self.problems = low.problems
        self.call = call
        self.caller, self.callee = caller, callee
        self.pools = PoolLowering(low, caller)
        self.items = inputs_of(callee.norm)
        self.named = named_inputs(call, callee.norm)
        assert callee.axes is not None
        self.axes = callee.axes

    def bind(self, arguments: list[Value], named: Mapping[str, Value]) -> bool:
        """Bind all inputs, given in order and by name; false after a report."""
        if not self._check_count(arguments) or not self._bind_named_axes():
            return False
        argument_by_name = dict(zip((item.name.name for item in self.items), arguments))
        for name in named:
            if name in argument_by_name:
                self.problems.add(GivenTwice(self.named[name].span, name))
                return False
        argument_by_name |= named
        others = [item for item in self.items if item.name.name not in argument_by_name]
        return (
            all(
                self._bind(i, argument_by_name[i.name.name])
                for i in self.items
                if i.name.name in argument_by_name
            )
            and all(map(self._bind_default, others))  # defaults may be other inputs
            and self._bind_splits()
        )

    def _check_count(self, arguments: list[Value]) -> bool:
        optional = [i for i in self.items if i.default is not None or _is_optional(i)]
        required = len(self.items) - len(optional)
        if self.named and len(arguments) <= len(self.items):
            return True  # `_bind_default` names what is missing
        if required <= len(arguments) <= len(self.items):
            return True
        name = self.callee.norm.name.name
        parameters = [i.name.name for i in self.items]
        parameters += [f"{h.name.name} = ..." for h in self.callee.norm.hypers if h.default is None]
        usage = f"{name}({', '.join(parameters)})"
        wanted = f"{required} to {len(self.items)}" if optional else required
        plural = "s" if wanted != 1 else ""
        wrong = f"takes {wanted} input{plural}, and got {len(arguments) or 'none'}"
        self.problems.add(WrongArguments(self.call.span, name, usage, wrong))
        return False

    def _mismatch(self, reason: str, item: ast.InputItem | None = None, hint: str = "") -> bool:
        declared = item.span if item is not None else None
        name = self.callee.norm.name.name
        more = {"hint": hint} if hint else {}
        keyword = self.named.get(item.name.name) if item is not None else None
        span = self.call.span if keyword is None else keyword.span
        self.problems.add(CallMismatch(span, name, reason, declared, **more))
        return False

    # ---- axes that the call names

    def input_axes(self) -> dict[str, ast.AxisRef]:
        """The axes of the inputs of the callee, which a call may bind by name."""
        return {dim.axis.name: dim.axis for item in self.items for dim in item.dims}

    def _bind_named_axes(self) -> bool:
        """Bind axes that the call names, as in `Inner(x, D = (H, E))`; false after a report."""
        input_axes = self.input_axes()
        hypers = {h.name.name for h in self.callee.norm.hypers}
        for keyword in self.call.keywords:
            axis = input_axes.get(keyword.name)
            if axis is None or keyword.name in hypers or keyword.labelled:
                continue
            axes = self._axes_of(keyword.value)
            if axes is None:
                return False
            single = len(axes) == 1 and not self.low.table.space[axes[0]].variadic
            if not axis.variadic and not single:
                return self._mismatch(
                    f"`{axis.name}` is a single axis, and several are given for it"
                )
            self.axes[axis.name] = axes
        return True

    def _axes_of(self, value: ast.Expr) -> tuple[str, ...] | None:
        refs: tuple[ast.AxisRef, ...]
        match value:
            case ast.AxisList(axes=axes):
                refs = axes
            case ast.Name() | ast.Spread():
                refs = (build.axis_ref(value),)
            case _:
                self._mismatch("an axis stands for an axis", hint="write `D = C` or `D = (H, W)`")
                return None
        resolved: list[str] = []
        for ref in refs:
            leaves = self.pools.resolve(ref)
            if leaves is None:
                return None
            resolved += leaves
        return tuple(resolved)

    # ---- inputs

    def _bind(self, item: ast.InputItem, argument: Value) -> bool:
        sort = item.sort.name if item.sort is not None else "tensor"
        if sort in POOLING_SORTS or isinstance(argument, PoolOnly):
            return self._bind_pooling(item, sort, argument)
        assert isinstance(argument, Tensor)
        name, kind = item.name.name, argument.type.kind
        if (sort in INDEX_SORTS) != (kind == "int"):
            wanted = "an index" if sort in INDEX_SORTS else f"a {sort}"
            actual = "an index" if kind == "int" else "none"
            reason = f"input `{name}` is {wanted}, and the value is {actual}"
            return self._mismatch(reason, item)
        if sort == "offsets" and not self.low.has_offsets(argument.ref):
            hint = "declare it as `offsets` here, too"
            return self._mismatch(f"input `{name}` is of sort `offsets`", item, hint)
        if sort == "mask" and kind != "bool":
            return self._mismatch(f"input `{name}` is a mask, and the value is no condition", item)
        order = self._ordered_axes(argument)
        matching = Matching(self.low.table, order, self._caller_axes(), self.axes)
        matched = matching.matched_dims(item.dims)
        if matched is None:
            return self._report_no_match(item, argument, matching)
        for axis, taken in matched.items():
            if self.axes.setdefault(axis, taken) != taken:
                return self._mismatch(f"axis `{axis}` would stand for two different axes", item)
        if item.table is not None and not self._bind_table(item, item.table, argument):
            return False
        self._bind_sizes(item)
        entity = Entity("input", item.span, argument, warns=False)
        self.callee.names.enter(name, entity)
        return True

    def _ordered_axes(self, argument: Tensor) -> tuple[str, ...]:
        """The axes of a value in the order of its dimensions, as users see it."""
        space, axes = self.low.table.space, argument.type.axes
        if any(space[axis].cells_of for axis in axes):
            return axes
        dims = OutputOrders(self.low).unsplit(argument.ref)
        return tuple(leaf for dim in dims for leaf in space.leaves(dim))

    def _report_no_match(self, item: ast.InputItem, argument: Tensor, matching: Matching) -> bool:
        dims = [self.low.table.shown(a) for a in self.low.dims(self._ordered_axes(argument))]
        expected = ", ".join(f"{'*' * d.axis.variadic}{d.axis.name}" for d in item.dims)
        reason = f"its input has axes [{expected}], the value has [{', '.join(dims)}]"
        open_groups = [
            d.axis for d in item.dims if d.axis.variadic and d.axis.name not in matching.matched
        ]
        if len(open_groups) < 2 or not dims:
            return self._mismatch(reason, item)
        name, last = self.callee.norm.name.name, open_groups[-1].name
        arguments = ", ".join(_argument_text(a) for a in self.call.arguments)
        hint = f"say which are meant: `{name}({arguments}, {last} = {dims[-1]})`"
        return self._mismatch(reason, item, hint)

    def _bind_table(self, item: ast.InputItem, table: ast.Dim, argument: Tensor) -> bool:
        """Bind the table axis of an index to that of the caller's index; false after a report."""
        rows = next(i.table for i in self.low.inputs if i.name == argument.ref)
        if rows is None:
            reason = f"input `{item.name.name}` chooses rows of a table, and the index has none"
            return self._mismatch(reason, item)
        self.axes[table.axis.name] = (rows,)
        if isinstance(table.size, ast.Identifier):
            self.callee.hypers.setdefault(table.size.name, SizeOf(rows))
            self.callee.hyper_sorts.setdefault(table.size.name, "int")
        return True

    def _bind_pooling(self, item: ast.InputItem, sort: str, argument: Value) -> bool:
        """Bind edges or a matrix of the caller; false after a report."""
        wanted = {"edges": "edges", "matrix": "a matrix"}.get(sort)
        if not isinstance(argument, PoolOnly) or argument.what != wanted:
            actual = argument.what if isinstance(argument, PoolOnly) else "a tensor"
            reason = f"input `{item.name.name}` is of sort `{sort}`, and the value is {actual}"
            return self._mismatch(reason, item)
        for dim in item.dims:
            if self.axes.setdefault(dim.axis.name, (argument.axis,)) != (argument.axis,):
                reason = f"axis `{dim.axis.name}` would stand for two different axes"
                return self._mismatch(reason, item)
        self.callee.names.enter(item.name.name, Entity("input", item.span, argument, warns=False))
        return True

    def _caller_axes(self) -> Mapping[str, tuple[str, ...]]:
        """The axes of the program for each name of an axis of the caller."""
        if self.caller.axes is not None:
            return self.caller.axes
        return {name: self.low.table.space.leaves(name) for name in self.low.table.declared}

    def _bind_sizes(self, item: ast.InputItem) -> None:
        """Bind names of lengths, such as `C = num_features`, to lengths of the caller's axes."""
        for dim in item.dims:
            axes = self.axes.get(dim.axis.name, ())
            if isinstance(dim.size, ast.Identifier) and len(axes) == 1:
                self.callee.hypers.setdefault(dim.size.name, SizeOf(axes[0]))
                self.callee.hyper_sorts.setdefault(dim.size.name, "int")

    def _bind_default(self, item: ast.InputItem) -> bool:
        name = item.name.name
        value = self._default(item)
        if value is None:
            return self._mismatch(f"input `{name}` must be given", item)
        if isinstance(item.default, ast.Name) and isinstance(value, Tensor) and value.type.axes:
            return self._bind(item, value)
        self.callee.names.enter(name, Entity("input", item.span, value, warns=False))
        return True

    def _default(self, item: ast.InputItem) -> Value | None:
        """The value of an input that the call leaves out; `None` if there is none."""
        span = self.call.span
        match item.default:
            case ast.Name(name="true" | "false" as word):
                number = self.low.number(Const(float(word == "true")), span)
                mask = self.low.map("gt", number, self.low.number(0, span), span=span)
                if word == "true":
                    self.low.always_true.add(mask.ref)
                return mask
            case ast.Name(name=other):
                entity = self.callee.names.find(other)
                return entity.value if entity is not None else None
            case ast.Number(value=value):
                return self.low.number(Const(value), span)
            case ast.Negative(operand=ast.Number(value=value)):
                return self.low.number(Const(-value), span)
            case None if _is_optional(item):
                axes = self.axes.get(item.dims[0].axis.name, ())
                return PoolOnly("one group", item.name.name, axes[0]) if len(axes) == 1 else POISON
            case _:
                return None

    def _bind_splits(self) -> bool:
        """Bind the parts of split axes, which the caller must split alike; false after a report."""
        for statement in self.callee.norm.statements:
            if isinstance(statement, ast.AxisCut) and not cut_axis(
                statement, self.callee, self.low
            ):
                return False
            if isinstance(statement, ast.AxisSplit):
                axes = self.axes.get(statement.axis.name, ())
                if len(axes) != len(statement.parts):
                    reason = f"it splits axis `{statement.axis.name}`, which is not split here"
                    name = self.callee.norm.name.name
                    self.problems.add(CallMismatch(self.call.span, name, reason, statement.span))
                    return False
                for part, axis in zip(statement.parts, axes):
                    self.axes[part.axis.name] = (axis,)
        return True


def _is_optional(item: ast.InputItem) -> bool:
    """Whether an input is an index that only pools: without it, all positions are one group."""
    is_index = item.sort is not None and item.sort.name in INDEX_SORTS
    return is_index and item.table is None and len(item.dims) == 1


def _argument_text(expr: ast.Expr) -> str:
    return expr.name if isinstance(expr, ast.Name) else "..."
