"""Scalars, which do not depend on data: constants, hyperparameters, lengths, functions of these.

They are the sizes of groupings (`blocks(num_groups)`), initial values, bounds and momenta, and the
scalar leaves of the IR.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Union


@dataclass(frozen=True, slots=True)
class Const:
    """A literal number."""

    value: float


@dataclass(frozen=True, slots=True)
class Hyper:
    """A hyperparameter or other constructor argument, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class SizeOf:
    """The length of an axis; of a variadic one, the product of its lengths."""

    axis: str


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator or function of `FUNCTIONS` on scalars."""

    function: str
    arguments: tuple[Scalar, ...]
    # The number of leaves and applications.
    size: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", 1 + sum(size_of(a) for a in self.arguments))


Scalar = Union[Const, Hyper, SizeOf, Apply]

# The maximum size of a scalar. A scalar is a tree that repeats shared parts, so repeated sums of a
# scalar with itself double its size. The lowering makes larger ones values of the IR.
MAX_SCALAR_SIZE = 100


def size_of(scalar: Scalar) -> int:
    """The number of leaves and applications in a scalar."""
    return scalar.size if isinstance(scalar, Apply) else 1


FUNCTIONS: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    # Only lengths and shares of lengths use these; the language has no operator for them.
    "floordiv": lambda a, b: a // b,
    "floor": math.floor,
    "ceil": math.ceil,
    "pow": lambda a, b: a**b,
    "neg": lambda a: -a,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "abs": abs,
    "min": min,
    "max": max,
}


def evaluate(scalar: Scalar, names: Mapping[str, float], sizes: Mapping[str, int]) -> float:
    """The value of a scalar.

    Raises `KeyError` for an unknown name or axis, and `ArithmeticError` or `ValueError` if there is
    no value, such as the root of a negative number.
    """
    if isinstance(scalar, Const):
        return scalar.value
    if isinstance(scalar, Hyper):
        return names[scalar.name]
    if isinstance(scalar, SizeOf):
        return sizes[scalar.axis]
    return FUNCTIONS[scalar.function](*(evaluate(a, names, sizes) for a in scalar.arguments))


def leaves(scalar: Scalar) -> Iterator[Scalar]:
    """The constants, hyperparameters and lengths in a scalar."""
    if isinstance(scalar, Apply):
        for argument in scalar.arguments:
            yield from leaves(argument)
    else:
        yield scalar


def hyperparameters_in(node: object) -> Iterator[str]:
    """The names of the hyperparameters that a node of the IR reads, in whichever field."""
    if isinstance(node, Hyper):
        yield node.name
    elif isinstance(node, tuple):
        for part in node:
            yield from hyperparameters_in(part)
    elif is_dataclass(node):
        for of_node in fields(node):
            yield from hyperparameters_in(getattr(node, of_node.name))


def apply(function: str, *arguments: Scalar) -> Scalar:
    """An application, folded if all arguments are constants."""
    values = [float(a.value) for a in arguments if isinstance(a, Const)]
    return (
        Const(_computed(function, values))
        if len(values) == len(arguments)
        else Apply(function, arguments)
    )


def _computed(function: str, values: Sequence[float]) -> float:
    """The result as a tensor would have it: infinite or NaN where Python raises an error."""
    try:
        value = FUNCTIONS[function](*values)
    except OverflowError:
        is_negative = function == "pow" and values[0] < 0 and values[1] % 2 == 1
        return -math.inf if is_negative else math.inf
    except ZeroDivisionError:  # 0^-1, too
        numerator = 1.0 if function == "pow" else values[0]
        return math.copysign(math.inf, numerator) if numerator else math.nan
    except ValueError:
        return -math.inf if function == "log" and values[0] == 0 else math.nan
    return float(value) if isinstance(value, (int, float)) else math.nan  # a complex one is NaN


SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "pow": "^"}


def scalar_text(scalar: Scalar) -> str:
    """The scalar as the language writes it."""
    if isinstance(scalar, Const):
        return number_text(scalar.value)
    if isinstance(scalar, Hyper):
        return scalar.name
    if isinstance(scalar, SizeOf):
        return f"size({scalar.axis})"
    inner = [scalar_text(a) for a in scalar.arguments]
    if scalar.function in SYMBOLS:
        return f"({inner[0]} {SYMBOLS[scalar.function]} {inner[1]})"
    return f"{'-' if scalar.function == 'neg' else scalar.function}({', '.join(inner)})"


def number_text(value: float) -> str:
    """A number as short as it can be written: `1`, `0.5`, `1e-05`."""
    if not math.isfinite(value):
        return str(value)
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
