"""Lowering of the inputs of one norm: their sorts, axes and defaults."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.diagnostics.axes import AmbiguousAxes
from metanorm.diagnostics.names import UnknownSort
from metanorm.diagnostics.values import BadDefault, WrongKind
from metanorm.ir.nodes import Input
from metanorm.ir.program import InputDecl
from metanorm.semantics.declared_axes import DeclaredAxes
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.reserved import check_name
from metanorm.semantics.values import POISON, Entity, PoolOnly, Value
from metanorm.syntax import ast

INPUT_SORTS = ("index", "offsets", "mask", "edges", "matrix")


class InputLowering:
    """Declares the inputs of one norm, and binds their names once splits of axes are known."""

    def __init__(self, low: Lowering, scope: CallScope, axes: DeclaredAxes) -> None:
        self.low = low
        self.scope = scope
        self.axes = axes
        self.problems = low.problems
        self._declared_inputs: list[tuple[ast.InputItem, InputDecl]] = []
        self._wrong_inputs: set[str] = set()  # inputs whose axes are wrong
        self._given_axes: set[str] = set()

    def note_lengths(self, items: Sequence[ast.InputItem]) -> None:
        """Note the axes whose lengths every call gives, by a tensor that has them."""
        required = [item for item in items if item.sort is None and item.default is None]
        self._given_axes = {dim.axis.name for item in required for dim in item.dims}

    def declare(self, item: ast.InputItem, first: bool) -> None:
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
        table = self.axes.introduce(item.table) if item.table else None
        if table is not None and table not in self._given_axes:
            self.low.table.require_fixed(table, "a table", item.span)
        default = self._default(item, first)
        optional = item.default is not None or (sort == "index" and table is None)
        required = not optional
        decl = InputDecl(name, sort, dims, table, default, required, offsets)  # type: ignore[arg-type]
        self.low.inputs.append(decl)
        self._declared_inputs.append((item, decl))

    def bind(self) -> None:
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

    def _input_dims(self, item: ast.InputItem, sort: str) -> tuple[str, ...]:
        table = self.low.table
        if sort == "matrix" and len(item.dims) == 2 and item.dims[0].axis == item.dims[1].axis:
            return (self.axes.introduce(item.dims[0]),) * 2
        if not table.are_distinct([dim.axis for dim in item.dims], item.name.name):
            self._wrong_inputs.add(item.name.name)
        dims = tuple(self.axes.introduce(dim) for dim in item.dims)
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
