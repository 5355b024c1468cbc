"""Lowering of dtypes that a spec names, of outputs and of casts."""

from __future__ import annotations

from metanorm.diagnostics.dtypes import UnknownDtype
from metanorm.diagnostics.names import UnknownName
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.nodes import DTYPES, Dtype, Input, Param
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.values import EntityRole, Poison, Tensor
from metanorm.syntax import ast

# Entities whose dtype a spec can name.
ENTITIES_WITH_DTYPE: tuple[EntityRole, ...] = ("input", "parameter")


def dtype_from_ast(node: ast.Dtype, scope: CallScope, low: Lowering) -> Dtype | None:
    """`like residual` or `as float32`; `None` after a report.

    In a norm that is called, an input may be any value; its dtype is that of the first input.
    """
    name = node.name.name
    if not node.like:
        if name in DTYPES:
            return Dtype(name, like=False)
        is_tensor = name in scope.names
        low.problems.add(UnknownDtype(node.name.span, name, DTYPES, is_tensor))
        return None
    entity = scope.names.find(name)
    if entity is None:
        names_with_dtype = tuple(n for n, e in scope.names if e.role in ENTITIES_WITH_DTYPE)
        low.problems.add(UnknownName(node.name.span, name, names_with_dtype))
        return None
    if isinstance(entity.value, Poison):
        return None
    is_tensor = isinstance(entity.value, Tensor) and entity.value.type.kind == "real"
    if (
        entity.role not in ENTITIES_WITH_DTYPE
        or not isinstance(entity.value, Tensor)
        or not is_tensor
    ):
        expected = "a tensor with a floating-point dtype"
        hint = "an input or a parameter has one: `like x`; one by its name is written `as float32`"
        actual = f"the {entity.role} `{name}`"
        low.problems.add(WrongKind(node.name.span, actual, expected, hint))
        return None
    op = low.operation(entity.value)
    if isinstance(op, Input) or (isinstance(op, Param) and low.target != "weight"):
        return Dtype(op.name)
    return Dtype(low.inputs[0].name)


def first_dtype(low: Lowering) -> Dtype:
    """The dtype of the first input, which is the default."""
    return Dtype(low.inputs[0].name)
