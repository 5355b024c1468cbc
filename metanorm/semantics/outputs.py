"""Lowering of the outputs of one norm: their values, names, dimensions and dtypes."""

from __future__ import annotations

from typing import NamedTuple

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

    The dtype is `None` for that of the first input.
    """

    name: str
    tensor: Tensor
    item: ast.OutputItem
    dims: tuple[str, ...]
    dtype: Dtype | None = None


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
            value = self.expressions.value(item.value)
            if isinstance(value, Poison):
                continue
            tensor = self.expressions.as_number(value, item.value)
            if tensor is not None:
                name = self._name(item, position)
                lowered.append((item, tensor, name, self._dtype(item, name)))
        if len(lowered) != len(statement.items):
            return None
        orders = OutputOrders(self.low)
        return [
            NormOutput(name, tensor, item, self._dims(item, tensor, orders), dtype)
            for item, tensor, name, dtype in lowered
        ]

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

    def _dims(self, item: ast.OutputItem, tensor: Tensor, orders: OutputOrders) -> tuple[str, ...]:
        """The dimensions of an output in the order in which it is returned."""
        name = item.value.name if isinstance(item.value, ast.Name) else ""
        entity = self.scope.names.find(name) if name in self.scope.names else None
        if entity is not None and entity.axes:
            return self.low.table.space.unsplit(entity.axes)
        return orders.unsplit(tensor.ref)

    def _name(self, item: ast.OutputItem, position: int) -> str:
        if item.name is not None:
            check_name(item.name, self.low.problems)
            return item.name.name
        match item.value:
            case ast.Name():
                return item.value.name
            case ast.FieldOf():
                return item.value.field.name
            case _:
                return "output" if position == 0 else f"output_{position}"
