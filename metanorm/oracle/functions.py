"""The reference meaning of every elementwise operation, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from metanorm.ir.ops import ELEMENTWISE
from metanorm.oracle.dense import F64


def root(x: Tensor) -> Tensor:
    """The square root, with the gradient zero at zero."""
    is_zero = x == 0
    return torch.where(is_zero, 0.0, torch.sqrt(torch.where(is_zero, 1.0, x)))


def unbiased(variance: Tensor, count: Tensor) -> Tensor:
    """A variance made unbiased: times n / (n - 1), or unchanged for n of at most one."""
    is_several = count > 1
    return variance * torch.where(is_several, count / torch.where(is_several, count - 1, 1.0), 1.0)


def straight_through_round(x: Tensor) -> Tensor:
    """The nearest whole number, with the gradient of x."""
    rounded = torch.round(x)
    return torch.where(torch.isfinite(x), x - (x - rounded).detach(), x)


# The reference meaning of every elementwise row of the operation table.
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "neg": lambda a: -a,
    "lt": lambda a, b: (a < b).to(F64),
    "le": lambda a, b: (a <= b).to(F64),
    "eq": lambda a, b: (a == b).to(F64),
    "ne": lambda a, b: (a != b).to(F64),
    "ge": lambda a, b: (a >= b).to(F64),
    "gt": lambda a, b: (a > b).to(F64),
    "sqrt": torch.sqrt,
    "rsqrt": lambda a: 1 / torch.sqrt(a),
    "exp": torch.exp,
    "log": torch.log,
    "abs": torch.abs,
    "sign": torch.sign,
    "round": straight_through_round,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "softplus": lambda a: torch.logaddexp(a, torch.zeros_like(a)),
    "relu": lambda a: torch.where(a > 0, a, 0 * a),
    "silu": lambda a: a * torch.sigmoid(a),
    "gelu": lambda a: a * (1 + torch.erf(a / math.sqrt(2))) / 2,
    "clamp_min": torch.clamp_min,
    "clamp_max": torch.clamp_max,
    "min": torch.minimum,
    "max": torch.maximum,
    "where": lambda c, a, b: torch.where(c != 0, a, b),
    "rescale": lambda x, m, b, *a: (x - m) * math.prod(a) + b,
    "root": root,
    "unbiased": unbiased,
}
assert FUNCTIONS.keys() == ELEMENTWISE.keys(), FUNCTIONS.keys() ^ ELEMENTWISE.keys()
