"""Lowering of forms such as `affine`, `mode` and `softmax`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from metanorm.diagnostics.calls import UnknownArgument, WrongArguments
from metanorm.diagnostics.names import DuplicateName
from metanorm.diagnostics.statistics import BadOption, NeedsOver
from metanorm.diagnostics.syntax import MisplacedPart
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import AxisMap, Cast, Detach, Dtype, Expand, Mode, Param, Position
from metanorm.ir.ops import FORMS, Operation
from metanorm.ir.program import ParamDecl, Switch
from metanorm.ir.scalar import Const, Scalar, SizeOf, apply
from metanorm.semantics.dtypes import dtype_from_ast, first_dtype
from metanorm.semantics.function_calls import wrong_arguments
from metanorm.semantics.pieces import concat
from metanorm.semantics.scalars import scalar_from_ast
from metanorm.semantics.scan import OPTIONS as SCAN_OPTIONS
from metanorm.semantics.scan import scan
from metanorm.semantics.values import POISON, Entity, Tensor, Value
from metanorm.syntax import ast

if TYPE_CHECKING:
    from metanorm.semantics.expressions import Expressions


class Forms:
    """Lowers the calls of one norm that are no plain statistics."""

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions
        self.low = expressions.low
        self.problems = expressions.problems

    def lower(self, call: ast.Call) -> Value:
        """Lower a form of the operation table."""
        name = call.function.name
        takes_over = FORMS[name].takes_over
        if (call.over is not None) != takes_over:
            self.problems.add(NeedsOver(call.function.span, name, takes_over))
            return POISON
        if call.per is not None and name != "affine":
            self._report_wrong(call, FORMS[name], "takes no `per`")
            return POISON
        if call.dtype is not None and name != "cast":
            self._report_wrong(call, FORMS[name], "takes no dtype")
            return POISON
        return LOWERINGS[name](self, call)

    # ---- arguments

    def _report_wrong(self, call: ast.Call, row: Operation, problem: str) -> None:
        self.problems.add(wrong_arguments(call, row, problem))

    def only_argument(self, call: ast.Call) -> Tensor | None:
        """The one argument of a statistic or form, as a number; `None` after a report."""
        for keyword in call.keywords:
            self.problems.add(UnknownArgument(keyword.span, keyword.name, call.function.name, ()))
        if len(call.arguments) != 1:
            name = call.function.name
            count = len(call.arguments) or "none"
            usage = FORMS[name].usage if name in FORMS else f"{name}(x over P)"
            wrong = WrongArguments(call.span, name, usage, f"takes one argument, and got {count}")
            self.problems.add(wrong)
            return None
        return self.expressions.number(call.arguments[0])

    # ---- forms

    def _count(self, call: ast.Call) -> Value:
        assert call.over is not None
        if call.arguments or call.keywords:
            self._report_wrong(call, FORMS["count"], "takes no arguments, only `over`")
            return POISON
        pool = self.expressions.pool(call.over, None)
        return POISON if pool is None else self.expressions.statistics.count(pool)

    def _mode(self, call: ast.Call) -> Value:
        branches = {k.name: k.value for k in call.keywords if k.labelled}
        if call.arguments or branches.keys() != {"train", "eval"} or len(call.keywords) != 2:
            self._report_wrong(
                call, FORMS["mode"], "takes one value for `train:` and one for `eval:`"
            )
            return POISON
        train, evaluated = (
            self.expressions.number(branches["train"]),
            self.expressions.number(branches["eval"]),
        )
        if train is None or evaluated is None:
            return POISON
        return self.low.emit(Mode(train.ref, evaluated.ref), call.span)

    def _detach(self, call: ast.Call) -> Value:
        value = self.only_argument(call)
        return POISON if value is None else self.low.emit(Detach(value.ref), call.span)

    def _cast(self, call: ast.Call) -> Value:
        value = self.only_argument(call)
        to: Dtype | None = first_dtype(self.low)
        if call.dtype is not None:
            to = dtype_from_ast(call.dtype, self.expressions.scope, self.low)
        if value is None or to is None:
            return POISON
        return self.low.emit(Cast(value.ref, to), call.span)

    def _cells(self, call: ast.Call) -> Value:
        """Report `cells` anywhere but around an output, which does not come here."""
        hint = "it is how an output of a norm for activations is returned: `output y, m = cells(m)`"
        self.problems.add(MisplacedPart(call.function.span, "`cells`", hint))
        return POISON

    def _axis_argument(self, call: ast.Call) -> tuple[str, ...] | None:
        if len(call.arguments) != 1 or call.keywords:
            self._report_wrong(call, FORMS[call.function.name], "takes one axis")
            return None
        return self.expressions.axis(call.arguments[0])

    def _size(self, call: ast.Call) -> Value:
        axes = self._axis_argument(call)
        if axes is None:
            return POISON
        size: Scalar = Const(1.0) if not axes else SizeOf(axes[0])
        for axis in axes[1:]:
            size = apply("mul", size, SizeOf(axis))
        return self.low.number(size, call.span)

    def _position(self, call: ast.Call) -> Value:
        axes = self._axis_argument(call)
        if axes is None:
            return POISON
        if len(axes) != 1 or self.low.table.space[axes[0]].variadic:
            hint = "positions are counted along one axis: `position(T)`"
            problem = WrongKind(call.arguments[0].span, "several axes", "a single axis", hint)
            self.problems.add(problem)
            return POISON
        return self.low.emit(Position(axes[0]), call.span)

    def _axis_map(self, call: ast.Call) -> Value:
        """Lower `softmax` or `sparsestmax`, which map along one axis."""
        assert call.over is not None
        name = call.function.name
        value = self.only_argument(call)
        pool = self.expressions.pool(call.over, value)
        if value is None or pool is None:
            return POISON
        allowed = ("radius",) if name == "sparsestmax" else ()
        options = self.expressions.pools.options(pool, name, allowed)
        is_single_axis = (
            len(pool.over) == 1 and isinstance(pool.over[0][1], Ones) and pool.is_unweighted
        )
        axis = pool.over[0][0]
        space = self.low.table.space
        value_axes = value.type.axes
        if axis not in value_axes and axis in {
            space.base(a) for a in value_axes
        }:  # a value of cells is expanded to the axis
            value = self.low.emit(Expand(value.ref, (axis,)), call.span)
        if not is_single_axis or axis not in value.type.axes or space[axis].variadic:
            hint = f"write `{name}(x over K)`"
            self.problems.add(WrongKind(call.over.span, "a pool", "a single axis", hint))
            return POISON
        radius: Scalar | None = None
        if "radius" in options:
            radius = scalar_from_ast(
                options["radius"].value,
                self.expressions.scope,
                self.low,
                "the radius of `sparsestmax`",
            )
        elif name == "sparsestmax":
            hint = "write `sparsestmax(x over K, radius = r)`"
            reason = "`sparsestmax` needs a `radius`"
            self.problems.add(BadOption(call.span, "radius", name, reason, hint=hint))
            return POISON
        return self.low.emit(AxisMap(name, value.ref, axis, radius), call.span)

    def _concat(self, call: ast.Call) -> Value:
        assert call.over is not None
        for keyword in call.keywords:
            self.problems.add(UnknownArgument(keyword.span, keyword.name, "concat", ()))
        values = [self.expressions.number(argument) for argument in call.arguments]
        pool = self.expressions.pool(call.over, None)
        if pool is not None:
            self.expressions.pools.options(pool, "concat", ())
        return concat(call, values, pool, self.low)

    def _scan(self, call: ast.Call) -> Value:
        assert call.over is not None
        value = self.only_argument(call)
        pool = self.expressions.pool(call.over, value)
        if value is None or pool is None:
            return POISON
        options = self.expressions.pools.options(pool, "scan", SCAN_OPTIONS)
        return scan(call, value, pool, options, self.expressions.number, self.low)

    # ---- affine

    def _affine(self, call: ast.Call) -> Value:
        value = self.only_argument(call)
        if call.per is None:
            self._report_wrong(call, FORMS["affine"], "needs `per` and the axes of weight and bias")
            return POISON
        is_left_out = self.expressions.scope.leaves_out("affine", call.per.off)
        affine_axes = self._affine_axes(call.per, is_left_out)
        if value is None or affine_axes is None:
            return POISON
        self.expressions.scope.switched.add("affine")
        if is_left_out:
            return value
        switches = self._switches(call.per, affine_axes)
        for part, function, neutral in (("weight", "mul", 1.0), ("bias", "add", 0.0)):
            if part in affine_axes:
                operand = self._affine_param(part, affine_axes[part], neutral, switches[part], call)
                value = self.low.map(function, value, operand, span=call.span)
        return value

    def _affine_axes(
        self, affine: ast.Affine, is_left_out: bool
    ) -> dict[str, tuple[str, ...]] | None:
        """The axes of weight and bias, as far as they are learned; `None` after a report."""
        affine_axes: dict[str, tuple[str, ...]] = {}
        refs = [axis for term in affine.terms for axis in term.axes if term.only is None]
        ok = self.low.table.are_distinct(refs)
        for term in affine.terms:
            names = ("weight", "bias") if term.only is None else (term.only.name,)
            if term.only is not None and term.only.name not in ("weight", "bias"):
                parts = ("weight", "bias")
                problem = UnknownArgument(term.only.span, term.only.name, "affine", parts)
                self.problems.add(problem)
                return None
            axes: list[str] = []
            for ref in term.axes:
                resolved = self.expressions.pools.resolve(ref)
                if resolved is None:
                    ok = False
                    continue
                for axis in () if is_left_out else resolved:
                    self.low.table.require_fixed(axis, "an affine parameter", ref.span)
                axes += resolved
            for name in names:
                affine_axes[name] = self.low.table.space.ordered(axes)
        return affine_axes if ok else None

    def _switches(
        self, affine: ast.Affine, affine_axes: dict[str, tuple[str, ...]]
    ) -> dict[str, tuple[str, ...]]:
        """The constructor arguments that turn weight and bias on, named as in torch's layers.

        They are `elementwise_affine` and `bias` if pools and `affine` have the same axes (layer
        norm), else `affine`, and `bias` by keyword.
        """
        if self.expressions.scope.is_called:
            return {"weight": (), "bias": ()}
        axes = next(iter(affine_axes.values()))
        pools = self.low.pools()
        elementwise = bool(pools) and all(
            {a for a, _ in pool.over} == set(axes)
            and all(isinstance(m, Ones) for _, m in pool.over)
            for pool in pools
        )
        affine_switch = "elementwise_affine" if elementwise else "affine"
        names = {s.name for s in self.low.switches}
        if names & {"affine", "elementwise_affine"}:
            affine_switch = next(iter(names & {"affine", "elementwise_affine"}))
        if affine_axes.keys() == {"bias"}:
            self._add_switch(Switch("bias", not affine.off))
            return {"bias": ("bias",)}
        self._add_switch(Switch(affine_switch, not affine.off))
        if "bias" in affine_axes:
            self._add_switch(Switch("bias", True, keyword_only=affine_switch == "affine"))
        return {"weight": (affine_switch,), "bias": (affine_switch, "bias")}

    def _add_switch(self, switch: Switch) -> None:
        if switch.name not in {s.name for s in self.low.switches}:
            self.low.switches.append(switch)

    def _affine_param(
        self,
        part: str,
        axes: tuple[str, ...],
        neutral: float,
        switches: tuple[str, ...],
        call: ast.Call,
    ) -> Tensor:
        scope = self.expressions.scope
        if scope.first_call is not None:
            name = scope.first_call.affine_params[len(scope.affine_params)]
            scope.affine_params.append(name)
            decl = next(p for p in self.low.params if p.name == name)
            if self.low.dims(axes) != decl.dims:
                self.low.report_shared(scope, part, decl.dims)
            return self.low.emit(Param(name), call.span)
        name = f"{scope.prefix}{part}"
        param_names = {p.name for p in self.low.params}
        if name in param_names and scope.let_name:
            name = f"{scope.prefix}{scope.let_name}_{part}"
        if name in param_names or name in scope.names:
            self.problems.add(DuplicateName(call.span, name, None))
            scope.names.duplicates.add(name)
            name = self.low.unique(name)
        scope.affine_params.append(name)
        absent = neutral if switches else None
        decl = ParamDecl(
            name, self.low.dims(axes), Const(neutral), switches=switches, absent=absent
        )
        self.low.params.append(decl)
        tensor = self.low.emit(Param(name), call.span, name)
        if not scope.is_called and name not in scope.names:
            scope.names.enter(name, Entity("parameter", call.span, tensor, True, warns=False))
        return tensor


LOWERINGS: Mapping[str, Callable[[Forms, ast.Call], Value]] = {
    "count": Forms._count,
    "moments": lambda forms, call: forms.expressions.statistic(call),
    "normalize": lambda forms, call: forms.expressions.statistic(call),
    "affine": Forms._affine,
    "mode": Forms._mode,
    "stop": Forms._detach,
    "cast": Forms._cast,
    "cells": Forms._cells,
    "size": Forms._size,
    "position": Forms._position,
    "softmax": Forms._axis_map,
    "sparsestmax": Forms._axis_map,
    "concat": Forms._concat,
    "scan": Forms._scan,
}
assert LOWERINGS.keys() == FORMS.keys(), LOWERINGS.keys() ^ FORMS.keys()
