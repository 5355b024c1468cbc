"""Arithmetic of Python numbers as tensors have it: infinite or NaN where Python raises.

Lengths may be symbolic, so every function tests what makes it go on with Python's own.
"""

from __future__ import annotations

import math

NAN, INF = math.nan, math.inf


def quotient(a: float, b: float) -> float:
    """a / b: infinite where b is zero, and NaN where both are."""
    if b != 0:
        return a / b
    return NAN if a == 0 or a != a else math.copysign(INF, a) * math.copysign(1.0, b)


def power(a: float, b: float) -> float:
    """a to the power of b: infinite where it is too large, NaN where it would be complex."""
    if a == 0 and b < 0:
        return INF
    if a < 0 and b != int(b):
        return NAN
    try:
        result: float = a**b
        return result
    except OverflowError:
        return -INF if a < 0 and b % 2 else INF


def square_root(a: float) -> float:
    """The square root: NaN of what is negative."""
    return a**0.5 if a >= 0 else NAN  # `math.sqrt` takes no symbolic length


def logarithm(a: float) -> float:
    """The natural logarithm: minus infinity of zero, NaN of what is negative."""
    if a > 0:
        return math.log(a)
    return -INF if a == 0 else NAN


def exponential(a: float) -> float:
    """The exponential: infinite where it is too large."""
    try:
        return math.exp(a)
    except OverflowError:
        return INF
