"""Every elementwise operation on Python's floats, which here are what those of torch are.

Python raises an error where IEEE arithmetic has an infinity or a NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from metanorm.ir.ops import ELEMENTWISE

NAN, INF = math.nan, math.inf


def quotient(a: float, b: float) -> float:
    """a / b, infinite or NaN if b is zero."""
    if b:
        return a / b
    return math.copysign(INF, a) * math.copysign(1.0, b) if a == a and a else NAN


def power(a: float, b: float) -> float:
    """a to the power of b."""
    odd = b % 2 == 1 if math.isfinite(b) else False
    if a == 0 and b < 0:
        return math.copysign(INF, a) if odd else INF
    try:
        return math.pow(a, b)
    except OverflowError:
        return -INF if a < 0 and odd else INF
    except ValueError:
        return NAN


def exponential(a: float) -> float:
    """exp(a), infinite where a is large."""
    try:
        return math.exp(a)
    except OverflowError:
        return INF


def logarithm(a: float) -> float:
    """log(a), NaN where a is negative."""
    return math.log(a) if a > 0 else -INF if a == 0 else NAN


def square_root(a: float) -> float:
    """sqrt(a), NaN where a is negative."""
    return math.sqrt(a) if a >= 0 else NAN


def sigmoid(a: float) -> float:
    """1 / (1 + exp(-a))."""
    return 1 / (1 + exponential(-a))


def smaller(a: float, b: float) -> float:
    """The smaller one; NaN if one is."""
    return a + b if a != a or b != b else min(a, b)


def larger(a: float, b: float) -> float:
    """The larger one; NaN if one is."""
    return a + b if a != a or b != b else max(a, b)


def unbiased(variance: float, count: float) -> float:
    """A variance made unbiased: times n / (n - 1), or unchanged for n of at most one."""
    return variance * (count / (count - 1)) if count > 1 else variance


def _of_finite(function: Callable[[float], float]) -> Callable[[float], float]:
    """The sine or the cosine, NaN of what is infinite."""
    return lambda a: function(a) if math.isfinite(a) else NAN


FUNCTIONS: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": quotient,
    "pow": power,
    "neg": lambda a: -a,
    "lt": lambda a, b: float(a < b),
    "le": lambda a, b: float(a <= b),
    "eq": lambda a, b: float(a == b),
    "ne": lambda a, b: float(a != b),
    "ge": lambda a, b: float(a >= b),
    "gt": lambda a, b: float(a > b),
    "sqrt": square_root,
    "rsqrt": lambda a: quotient(1.0, square_root(a)),
    "exp": exponential,
    "log": logarithm,
    "abs": abs,
    "sign": lambda a: float((a > 0) - (a < 0)),
    "round": lambda a: float(round(a)) if math.isfinite(a) else a,
    "sin": _of_finite(math.sin),
    "cos": _of_finite(math.cos),
    "tanh": math.tanh,
    "erf": math.erf,
    "sigmoid": sigmoid,
    "softplus": lambda a: larger(a, 0.0) + math.log1p(exponential(-abs(a))),
    "relu": lambda a: a if a > 0 else 0 * a,
    "silu": lambda a: a * sigmoid(a),
    "gelu": lambda a: a * (1 + math.erf(a / math.sqrt(2))) / 2,
    "clamp_min": larger,
    "clamp_max": smaller,
    "min": smaller,
    "max": larger,
    "where": lambda c, a, b: a if c else b,
    "rescale": lambda x, m, b, *a: (x - m) * math.prod(a) + b,
    "root": lambda a: square_root(a) if a else 0.0,
    "unbiased": unbiased,
}
assert FUNCTIONS.keys() == ELEMENTWISE.keys(), FUNCTIONS.keys() ^ ELEMENTWISE.keys()
