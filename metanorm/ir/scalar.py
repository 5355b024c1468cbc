"""Numbers known before a tensor is seen: constants, hyperparameters, axis sizes, their sums.

They set up pools (`blocks(num_groups)`), initial values, bounds and momenta,
and are the scalar leaves of the IR.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    size: int = field(init=False, compare=False, repr=False)  # leaves and applications in it

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", 1 + sum(size_of(a) for a in self.arguments))


Scalar = Union[Const, Hyper, SizeOf, Apply]

# How large a scalar may be. It is a tree, in which a part that is used twice stands twice: sums of
# sums of itself would double with each line. What is larger is a value like any other.
MAX_SCALAR_SIZE = 100


def size_of(scalar: Scalar) -> int:
    """The number of leaves and applications in a scalar."""
    return scalar.size if isinstance(scalar, Apply) else 1


FUNCTIONS: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    # The language has no sign for these: of lengths, and of shares of lengths.
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
    """The number. `KeyError` for an unknown name or axis, `ArithmeticError` or `ValueError`
    where there is none (a root of a negative number, say)."""
    if isinstance(scalar, Const):
        return scalar.value
    if isinstance(scalar, Hyper):
        return names[scalar.name]
    if isinstance(scalar, SizeOf):
        return sizes[scalar.axis]
    return FUNCTIONS[scalar.function](*(evaluate(a, names, sizes) for a in scalar.arguments))


def leaves(scalar: Scalar) -> Iterator[Scalar]:
    """The constants, hyperparameters and sizes in it."""
    if isinstance(scalar, Apply):
        for argument in scalar.arguments:
            yield from leaves(argument)
    else:
        yield scalar


def apply(function: str, *arguments: Scalar) -> Scalar:
    """An application, computed at once where all arguments are constants."""
    values = [float(a.value) for a in arguments if isinstance(a, Const)]
    return (
        Const(_computed(function, values))
        if len(values) == len(arguments)
        else Apply(function, arguments)
    )


def _computed(function: str, values: Sequence[float]) -> float:
    """The result as tensors have it: infinite or NaN where Python raises an error."""
    try:
        value = FUNCTIONS[function](*values)
    except OverflowError:
        odd = function == "pow" and values[0] < 0 and values[1] % 2 == 1
        return -math.inf if odd else math.inf
    except ZeroDivisionError:  # 0^-1 is one, too
        top = 1.0 if function == "pow" else values[0]
        return math.copysign(math.inf, top) if top else math.nan
    except ValueError:
        return -math.inf if function == "log" and values[0] == 0 else math.nan
    return float(value) if isinstance(value, (int, float)) else math.nan  # not a complex one


SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "/", "pow": "^"}


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
