"""The torch expression of each elementwise function, and the Python expression of scalars."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from metanorm.ir.ops import ELEMENTWISE
from metanorm.ir.ranges import Range, range_of_scalar
from metanorm.ir.scalar import Apply, Const, Hyper, Scalar, SizeOf, leaves
from metanorm.targets.python.pyir import Binary, Expr, IfElse, Literal, Name, Unary
from metanorm.targets.python.scalars import SCALAR_FUNCTIONS
from metanorm.targets.torch.layout import call, integer


def _binary(operator: str) -> Callable[..., Expr]:
    return lambda a, b: Binary(operator, (a, b))


def _function(name: str) -> Callable[..., Expr]:
    return lambda *arguments: call(name, *arguments)


# The expression of tensors, for each elementwise function of the operation table.
TENSOR_FUNCTIONS: Mapping[str, Callable[..., Expr]] = {
    **{name: SCALAR_FUNCTIONS[name] for name in ("add", "sub", "mul", "div", "pow", "neg")},
    "lt": _binary("<"),
    "le": _binary("<="),
    "eq": _binary("=="),
    "ne": _binary("!="),
    "ge": _binary(">="),
    "gt": _binary(">"),
    "sqrt": _function("torch.sqrt"),
    # Not torch.rsqrt: its derivative cubes the result, which underflows in float32 from 1e13 on.
    "rsqrt": lambda a: Binary("/", (Literal(1), call("torch.sqrt", a))),
    "exp": _function("torch.exp"),
    "log": _function("torch.log"),
    "abs": _function("torch.abs"),
    "sign": _function("torch.sign"),
    "round": _function("runtime.straight_through_round"),
    "sin": _function("torch.sin"),
    "cos": _function("torch.cos"),
    "tanh": _function("torch.tanh"),
    "erf": _function("torch.erf"),
    "sigmoid": _function("torch.sigmoid"),
    # torch switches to the identity at 20 by default, which float64 can tell.
    "softplus": lambda a: call("nn.functional.softplus", a, threshold=integer(40)),
    "relu": _function("torch.relu"),
    "silu": _function("nn.functional.silu"),
    "gelu": _function("nn.functional.gelu"),
    "clamp_min": lambda a, bound: call("torch.clamp", a, min=bound),
    "clamp_max": lambda a, bound: call("torch.clamp", a, max=bound),
    "min": _function("runtime.minimum"),
    "max": _function("runtime.maximum"),
    "where": _function("torch.where"),
    "rescale": _function("runtime.rescale"),
    "root": _function("runtime.root"),
    "unbiased": _function("runtime.unbiased"),
}

# Functions of tensors whose slope depends on an argument, for `runtime.guarded`.
FUNCTIONS_WITH_SLOPE: Mapping[str, str] = {
    **{name: f"torch.{name}" for name in ("mul", "div", "pow", "sqrt", "exp", "log", "abs")},
    **{name: f"torch.{name}" for name in ("sin", "cos", "tanh", "erf", "sigmoid", "square")},
    **{name: f"nn.functional.{name}" for name in ("softplus", "silu", "gelu")},
    "root": "runtime.root",
}
# Functions that need no guard: their slope is a constant or a choice, or they guard themselves.
FUNCTIONS_WITHOUT_SLOPE = frozenset(
    "add sub neg lt le eq ne ge gt sign round relu clamp_min clamp_max min max where rescale "
    "unbiased".split()
)
# `square` is printed for a product, and `rsqrt` is guarded as a quotient.
CLASSIFIED = {*FUNCTIONS_WITH_SLOPE, "rsqrt", *FUNCTIONS_WITHOUT_SLOPE} - {"square"}
assert ELEMENTWISE.keys() == TENSOR_FUNCTIONS.keys(), TENSOR_FUNCTIONS.keys() ^ ELEMENTWISE.keys()
assert ELEMENTWISE.keys() == CLASSIFIED, CLASSIFIED ^ ELEMENTWISE.keys()


def guarded(function: str, *arguments: Expr) -> Expr:
    """An elementwise function whose arguments may be NaN where no gradient arrives."""
    if function == "rsqrt":
        return guarded_inverse(guarded("sqrt", *arguments))
    further = (integer(1), integer(40)) if function == "softplus" else ()
    return call("runtime.guarded", Name(FUNCTIONS_WITH_SLOPE[function]), *arguments, *further)


def guarded_inverse(divisor: Expr) -> Expr:
    """The inverse of a tensor that may be NaN where no gradient arrives."""
    return call("runtime.guarded", Name("torch.reciprocal"), divisor)


# The expression of Python numbers. Other functions of numbers use tensors of one element.
NUMBER_FUNCTIONS: Mapping[str, Callable[..., Expr]] = {
    **SCALAR_FUNCTIONS,
    **{name: TENSOR_FUNCTIONS[name] for name in ("lt", "le", "eq", "ne", "ge", "gt")},
    "rsqrt": lambda a: Binary("/", (Literal(1), call("math.sqrt", a))),
    "sign": lambda a: Binary("-", (Binary(">", (a, Literal(0))), Binary("<", (a, Literal(0))))),
    "sin": _function("math.sin"),
    "cos": _function("math.cos"),
    "tanh": _function("math.tanh"),
    "erf": _function("math.erf"),
    # Both are in forms that do not overflow.
    "sigmoid": lambda a: Binary(
        "/",
        (Binary("+", (Literal(1), call("math.tanh", Binary("/", (a, Literal(2)))))), Literal(2)),
    ),
    "softplus": lambda a: Binary(
        "+",
        (
            call("max", a, Literal(0)),
            call("math.log1p", call("math.exp", Unary("-", call("abs", a)))),
        ),
    ),
    "relu": lambda a: call("max", a, Literal(0)),
    "where": lambda c, a, b: IfElse(c, a, b),
    "root": _function("math.sqrt"),
}


# A length is symbolic in exported programs: it supports powers, but not `math.sqrt`.
LENGTH_FUNCTIONS: Mapping[str, Callable[..., Expr]] = {
    "sqrt": lambda a: Binary("**", (a, Literal(0.5))),
    "rsqrt": lambda a: Binary("**", (a, Literal(-0.5))),
}


@dataclass(frozen=True)
class _Partial:
    """A function that raises, or is complex, for some numbers: whether it is sure not to for
    arguments in these ranges, and the function of the runtime that gives what a tensor would."""

    is_safe: Callable[..., bool]
    expr: Callable[..., Expr]


def _is_safe_power(base: Range, exponent: Range) -> bool:
    if exponent.low != exponent.high:
        return False  # the power may be too large
    return base.positive or exponent.low in range(100)


PARTIAL_FUNCTIONS: Mapping[str, _Partial] = {
    "div": _Partial(lambda a, b: b.positive or b.high < 0, _function("runtime.quotient")),
    "pow": _Partial(_is_safe_power, _function("runtime.power")),
    "sqrt": _Partial(lambda a: a.low >= 0, _function("runtime.square_root")),
    "rsqrt": _Partial(
        lambda a: a.positive,
        lambda a: call("runtime.quotient", integer(1), call("runtime.square_root", a)),
    ),
    "log": _Partial(lambda a: a.positive, _function("runtime.logarithm")),
    "exp": _Partial(lambda a: a.high <= LARGEST_EXPONENT, _function("runtime.exponential")),
}
LARGEST_EXPONENT = 700.0


def number_expr(
    scalar: Scalar, size: Callable[[str], Expr], names: str = "", read: bool = False
) -> Expr:
    """The expression of a scalar.

    `size` gives the expression of an axis's length; `names` is the prefix of hyperparameters. With
    `read`, lengths come from tensors and may be symbolic.
    """
    match scalar:
        case Const(value):
            return number_expr_of(value)
        case Hyper(name):
            return Name(f"{names}{name}")
        case SizeOf(axis):
            return size(axis)
        case Apply(function, arguments):
            exprs = [number_expr(a, size, names, read) for a in arguments]
            argument_ranges = [range_of_scalar(a) for a in arguments]
            if read and any(isinstance(leaf, SizeOf) for leaf in leaves(scalar)):
                return of_numbers(function, exprs, argument_ranges, LENGTH_FUNCTIONS)
            return of_numbers(function, exprs, argument_ranges)


def of_numbers(
    function: str,
    exprs: Sequence[Expr],
    ranges: Sequence[Range],
    functions: Mapping[str, Callable[..., Expr]] = {},
) -> Expr:
    """A function of Python numbers in these ranges; `functions` has those that are printed
    otherwise."""
    partial = PARTIAL_FUNCTIONS.get(function)
    if partial and not partial.is_safe(*ranges):
        return partial.expr(*exprs)
    return {**NUMBER_FUNCTIONS, **functions}[function](*exprs)


def number_expr_of(value: float) -> Expr:
    """The literal of a number, an integer if it has no fraction."""
    if not math.isfinite(value):
        positive = Name("torch.nan" if math.isnan(value) else "torch.inf")
        return positive if not value < 0 else Unary("-", positive)
    is_integer = value == int(value) and abs(value) < 2**53
    return Literal(int(value)) if is_integer else Literal(value)
