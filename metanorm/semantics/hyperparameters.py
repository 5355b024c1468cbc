"""Lowering of the hyperparameters of one norm: their sorts, choices and defaults."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.diagnostics.names import UnknownSort
from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.values import BadDefault, WrongKind
from metanorm.ir.ops import STRUCTURED
from metanorm.ir.program import Argument
from metanorm.ir.scalar import Hyper
from metanorm.semantics.choices import choices_from_ast
from metanorm.semantics.lowering import UNKNOWN, CallScope, Lowering
from metanorm.semantics.reserved import check_name
from metanorm.semantics.scalars import CHOICE, is_none, sort_of
from metanorm.semantics.values import POISON, Choice, Entity, PoolOnly, Value
from metanorm.syntax import ast

HYPER_SORTS = ("int", "float", "bool", "matrix")


class HyperparameterLowering:
    """Declares the hyperparameters of one norm."""

    def __init__(self, low: Lowering, scope: CallScope) -> None:
        self.low = low
        self.scope = scope
        self.problems = low.problems

    def declare(self, hypers: Sequence[ast.Hyper]) -> list[Argument]:
        """Declare the hyperparameters in the scope; the arguments of the constructor."""
        arguments = []
        for hyper in hypers:
            name = hyper.name.name
            check_name(hyper.name, self.problems, attribute=True)
            sort = sort_of(hyper)
            if hyper.type is not None and sort not in HYPER_SORTS:
                unknown_sort = UnknownSort(hyper.type.span, sort, "hyperparameter", HYPER_SORTS)
                self.problems.add(unknown_sort)
                sort = UNKNOWN
            self.scope.hyper_sorts[name] = sort
            if sort != CHOICE:
                self.scope.hypers[name] = Hyper(name)
            texts = choices_from_ast(hyper, self.low)
            default = self._default(hyper, sort) if sort != UNKNOWN else None
            axes = tuple(axis.name for axis in hyper.axes)
            required = hyper.default is None
            argument = Argument(
                name,
                sort,  # type: ignore[arg-type]
                default,
                required,
                axes,
                texts,
            )
            arguments.append(argument)
            value: Value
            if sort == "matrix":
                square = self._is_square(hyper)
                value = PoolOnly("a matrix", name, axes[0]) if square else POISON
            elif sort == CHOICE:
                value = Choice(name, texts)
            elif sort == UNKNOWN:
                value = POISON
            else:
                value = self.low.number(Hyper(name), hyper.name.span)
            self.scope.names.enter(name, Entity("hyperparameter", hyper.name.span, value))
        return arguments

    def _is_square(self, hyper: ast.Hyper) -> bool:
        """Whether the matrix pools one axis; reports one that does not."""
        square = len(hyper.axes) == 2 and hyper.axes[0].name == hyper.axes[1].name
        if not square:
            actual = f"{len(hyper.axes) or 'no'} axes" if len(hyper.axes) != 2 else "two axes"
            hint = f"a matrix pools the positions of one axis: `{hyper.name.name}: matrix[N, N]`"
            self.problems.add(WrongKind(hyper.span, actual, "one axis twice", hint))
        return square

    def _default(self, hyper: ast.Hyper, sort: str) -> float | bool | str | None:
        default, name = hyper.default, hyper.name.name
        sign = 1.0
        if isinstance(default, ast.Negative):
            default, sign = default.operand, -1.0
        match sort, default:
            case _, None | ast.Missing():
                return None
            case "matrix", ast.Name() if default.name in STRUCTURED:
                return default.name
            case "bool", ast.Name() if default.name in ("true", "false"):
                return default.name == "true"
            case "float", _ if is_none(default) and sign > 0:
                return None
            case "choice", ast.Text() if default.value in {c.value for c in hyper.choices}:
                return default.value
            case "int", ast.Number() if default.value == int(default.value):
                return int(sign * default.value)
            case "float", ast.Number():
                return sign * default.value
        expected = {
            "matrix": "`eye` or `ones`",
            "bool": "`true` or `false`",
            "int": "a whole number",
            "float": "a number or `None`",
            "choice": listing(dict.fromkeys(f'"{choice.value}"' for choice in hyper.choices), "or"),
        }[sort]
        if isinstance(default, ast.Text) and sort == "float":
            expected = f'a number, or one of several strings: `{name}: "a" | "b" = "a"`'
        assert hyper.default is not None
        self.problems.add(BadDefault(hyper.default.span, name, expected))
        return None


def check_matrix_axes(hypers: Sequence[ast.Hyper], scope: CallScope, low: Lowering) -> None:
    """Check the axes of matrix hyperparameters, now that the inputs have introduced axes."""
    for hyper in hypers:
        for axis in hyper.axes[:1]:
            if scope.hyper_sorts[hyper.name.name] == "matrix":
                low.table.resolve(ast.AxisRef(span=axis.span, name=axis.name))
