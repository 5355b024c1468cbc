"""Dtypes that a spec names: of outputs, and of what is rounded on the way."""

from __future__ import annotations

from metanorm.diagnostics.dtypes import UnknownDtype
from metanorm.diagnostics.names import UnknownName
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.nodes import DTYPES, Dtype, Input, Param
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.values import Poison, Tensor
from metanorm.syntax import ast

HAVING = ("input", "parameter")  # what has a dtype that a spec can name


def dtype_from_ast(given: ast.Dtype, scope: CallScope, low: Lowering) -> Dtype | None:
    """`like residual` or `as float32`; `None` after a report.

    In a norm that is called, an input may be any value; its dtype is that of the first input.
    """
    name = given.name.name
    if not given.like:
        if name in DTYPES:
            return Dtype(name, like=False)
        is_tensor = name in scope.names
        low.problems.add(UnknownDtype(given.name.span, name, DTYPES, is_tensor))
        return None
    entity = scope.names.find(name)
    if entity is None:
        known = tuple(n for n, e in scope.names if e.what in HAVING)
        low.problems.add(UnknownName(given.name.span, name, known))
        return None
    if isinstance(entity.value, Poison):
        return None
    is_tensor = isinstance(entity.value, Tensor) and entity.value.type.kind == "real"
    if entity.what not in HAVING or not isinstance(entity.value, Tensor) or not is_tensor:
        expected = "a tensor with a floating-point dtype"
        hint = "an input or a parameter has one: `like x`; one by its name is written `as float32`"
        found = f"the {entity.what} `{name}`"
        low.problems.add(WrongKind(given.name.span, found, expected, hint))
        return None
    op = low.operation(entity.value)
    if isinstance(op, Input) or (isinstance(op, Param) and low.target != "weight"):
        return Dtype(op.name)
    return Dtype(low.inputs[0].name)


def first_dtype(low: Lowering) -> Dtype:
    """That of the first input, which everything has that says nothing else."""
    return Dtype(low.inputs[0].name)
