"""Numbers that follow from arguments and lengths of a call, as the table of kernels has them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, Union

from metanorm.runtime.kernels.errors import Unsupported

# A number, the name of an argument, `["size", dimension]`, or a function and its arguments.
Scalar = Union[float, str, "list[Any]"]

# Those of `metanorm.ir.scalar` that lengths are computed with.
FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "floordiv": operator.floordiv,
    "floor": math.floor,
    "ceil": math.ceil,
    "pow": operator.pow,
    "neg": operator.neg,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "abs": abs,
    "min": min,
    "max": max,
}


def whole_number(scalar: Scalar, values: Mapping[str, Any], sizes: Mapping[str, int]) -> int:
    """The value of a scalar that is a length. Raises `Unsupported` if it is none."""
    try:
        number = _evaluate(scalar, values, sizes)
        if number == int(number) and number >= 0:
            return int(number)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise Unsupported("a length that cannot be computed") from error
    raise Unsupported("a length that is not a whole number")


def reads_lengths(scalar: Scalar) -> bool:
    """Whether a scalar depends on the length of a dimension."""
    if not isinstance(scalar, list):
        return False
    function, *arguments = scalar
    return function == "size" or any(map(reads_lengths, arguments))


def _evaluate(scalar: Scalar, values: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    if isinstance(scalar, str):
        return values[scalar]
    if isinstance(scalar, (int, float)):
        return scalar
    function, *arguments = scalar
    if function == "size":
        return sizes[arguments[0]]
    return FUNCTIONS[function](*(_evaluate(a, values, sizes) for a in arguments))
