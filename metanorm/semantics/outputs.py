"""Lowering of the outputs of one norm: their values, names, dimensions and dtypes."""

from __future__ import annotations

from typing import NamedTuple

from metanorm.diagnostics.axes import NothingInCells
from metanorm.ir.nodes import Dtype
from metanorm.semantics.dtypes import dtype_from_ast, first_dtype
from metanorm.semantics.expressions import Expressions
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.output_axes import OutputOrders
from metanorm.semantics.reserved import check_name
from metanorm.semantics.values import Poison, Tensor
from metanorm.syntax import ast


class NormOutput(NamedTuple):
    """An output: its name, its value, its item in the spec, its axes in order, and its dtype.

    The dtype is `None` for that of the first input. `is_sized` says whether the spec says its axes,
    with a `let` that has some, or as one row for each cell.
    """

    name: str
    tensor: Tensor
    item: ast.OutputItem
    dims: tuple[str, ...]
    dtype: Dtype | None
    is_sized: bool


class OutputLowering:
    """Lowers the output statement of one norm."""

    def __init__(self, low: Lowering, scope: CallScope, expressions: Expressions) -> None:
        self.low = low
        self.scope = scope
        self.expressions = expressions

    def lower(self, statement: ast.Output) -> list[NormOutput] | None:
        """The outputs of a statement; `None` after a report."""
        lowered = []
        for position, item in enumerate(statement.items):
            self.scope.first_output = item.value if position == 0 else None
            tensor = self._value(item, position)
            if tensor is not None:
                name = self._name(item, position)
                lowered.append((item, tensor, name, self._dtype(item, name)))
        if len(lowered) != len(statement.items):
            return None
        orders = OutputOrders(self.low)
        outputs: list[NormOutput] = []
        for item, tensor, name, dtype in lowered:
            written = self._written_axes(item, tensor)
            is_sized = bool(written or in_cells(item))
            dims = self._dims(item, tensor, written or orders.of(tensor.ref))
            if not outputs and not (is_sized and self.low.target == "activation"):
                dims = self._dims_of_input(tensor) or dims
            outputs.append(NormOutput(name, tensor, item, dims, dtype, is_sized))
        return outputs

    def _value(self, item: ast.OutputItem, position: int) -> Tensor | None:
        """The value of an output; `None` after a report."""
        call = in_cells(item)
        if call is None or (position == 0 and self.low.target != "activation"):
            value = self.expressions.value(item.value)
            return (
                None if isinstance(value, Poison) else self.expressions.as_number(value, item.value)
            )
        tensor = self.expressions.forms.only_argument(call)
        if tensor is None:
            return None
        space = self.low.table.space
        if not any(space[axis].cells_of for axis in tensor.type.axes):
            axes = tuple(self.low.table.shown(axis) for axis in self.low.dims(tensor.type.axes))
            self.low.problems.add(NothingInCells(call.arguments[0].span, axes))
            return None
        return tensor

    def _dtype(self, item: ast.OutputItem, name: str) -> Dtype | None:
        """The dtype of an output: as written, or that of an input with its name.

        `None` for that of the first input, which is the default.
        """
        dtype: Dtype | None = None
        if item.dtype is not None:
            dtype = dtype_from_ast(item.dtype, self.scope, self.low)
        elif any(decl.name == name and decl.sort == "tensor" for decl in self.low.inputs):
            dtype = Dtype(name)
        return dtype if dtype != first_dtype(self.low) else None

    def _written_axes(self, item: ast.OutputItem, tensor: Tensor) -> tuple[str, ...]:
        """The axes of the `let` that an output returns, here or in a norm that it calls; empty if
        that has none."""
        value = _returned(item)
        name = value.name if isinstance(value, ast.Name) else ""
        entity = self.scope.names.find(name) if name in self.scope.names else None
        here = entity.axes if entity is not None else ()
        return here or self.low.written_axes.get(tensor.ref, ())

    def _dims_of_input(self, tensor: Tensor) -> tuple[str, ...]:
        """The dimensions of the first input, if a value has its axes; else empty."""
        space, first = self.low.table.space, self.low.inputs[:1]
        dims = first[0].dims if first else ()
        axes = {space.base(axis) for axis in tensor.type.axes}
        return dims if axes == {leaf for dim in dims for leaf in space.leaves(dim)} else ()

    def _dims(
        self, item: ast.OutputItem, tensor: Tensor, order: tuple[str, ...]
    ) -> tuple[str, ...]:
        """The dimensions of an output whose axes, without cells, are returned in this order."""
        space = self.low.table.space
        if in_cells(item) is not None:
            cells = {space.base(axis): axis for axis in tensor.type.axes}
            order = tuple(cells[axis] for axis in order)
        return space.unsplit(order)

    def _name(self, item: ast.OutputItem, position: int) -> str:
        if item.name is not None:
            check_name(item.name, self.low.problems)
            return item.name.name
        match value := _returned(item):
            case ast.Name():
                return value.name
            case ast.FieldOf():
                return value.field.name
            case _:
                return "output" if position == 0 else f"output_{position}"


def in_cells(item: ast.OutputItem) -> ast.Call | None:
    """The call of `cells` that an output is, if it is returned with one row for each cell."""
    value = item.value
    if not isinstance(value, ast.Call) or value.function.name != "cells":
        return None
    is_plain = value.over is None and value.per is None and value.dtype is None
    return value if is_plain else None


def _returned(item: ast.OutputItem) -> ast.Expr:
    """The value that an output returns, without `cells` around it."""
    call = in_cells(item)
    return call.arguments[0] if call is not None and call.arguments else item.value
