"""Errors of generated modules at construction and at a call."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from numbers import Real

from torch import Tensor


class ShapeError(ValueError, RuntimeError):
    """A shape that a module cannot take.

    Both a `ValueError` and a `RuntimeError`: torch's own layers raise now one, now the other,
    and a drop-in must be caught where they are.
    """


class SingleValueError(ShapeError):
    """Pools of a single value each, of which a variance was to be taken."""


def shape_text(x: Tensor) -> str:
    """A shape as errors show it: `[2, 3]`."""
    return f"[{', '.join(str(n) for n in x.shape)}]"


def shape_error(owner: str, name: str, axes: str, x: Tensor, **sizes: object) -> ShapeError:
    """The error for an input of the wrong shape: which axes were expected, and how long."""
    lengths = ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
    return ShapeError(
        f"{owner}: {name} has shape {shape_text(x)}, expected [{axes}]"
        + (f" with {lengths}" if lengths else "")
    )


def demand_several(owner: str, x: Tensor, count: int, axes: str) -> None:
    """Refuse a variance of a single value, which is always zero, in the words of torch's layers.

    An input without elements is as good as any.
    """
    if count == 1 and x.numel():
        raise SingleValueError(f"{owner}: Expected more than 1 value in each pool over {axes}")


def numel(shape: Sequence[int]) -> int:
    """How many elements a shape has.

    Not `shape.numel()`, which takes a length that an exported program leaves open for a number.
    """
    count = 1
    for length in shape:
        count *= length
    return count


def not_divisible(owner: str, axis: str, size: int, by: str, divisor: int) -> ShapeError:
    """The error for an axis that cannot be cut into equal parts."""
    return ShapeError(f"{owner}: {axis} = {size} is not divisible by {by} = {divisor}")


def demand_room(owner: str, axis: str, size: int, length: int) -> None:
    """Refuse an axis that is shorter than the runs that it is cut into: `ShapeError`."""
    if not 0 <= length <= size:
        raise ShapeError(f"{owner}: {axis} = {size} has no run of {length} positions")


def not_equal(owner: str, first: str, size: int, second: str, other: int) -> ShapeError:
    """The error for two axes that must have the same length."""
    return ShapeError(f"{owner}: {first} = {size} and {second} = {other} must be equal")


def as_shape(shape: int | Sequence[int], name: str = "shape") -> tuple[int, ...]:
    """A shape argument as torch's layers take it: one length (of any integer type), or several.

    Raises `TypeError` where a length is not a whole number, `ValueError` where it is negative.
    """
    lengths = shape if isinstance(shape, Sequence) and not isinstance(shape, str) else (shape,)
    return tuple(as_length(length, name) for length in lengths)


def as_length(length: int, name: str) -> int:
    """The length of one axis, of any integer type.

    Raises `TypeError` where it is not a whole number, `ValueError` where it is negative.
    """
    length_ = as_whole(length, name)
    if length_ < 0:
        raise ValueError(f"{name} is a length, which cannot be {length_}")
    return length_


def as_choice(value: str, name: str, choices: Sequence[str]) -> str:
    """A constructor argument that is one of several strings. Raises `ValueError` if it is not."""
    if isinstance(value, str) and value in choices:
        return value
    options = " or ".join(map(repr, choices))
    raise ValueError(f"{name} must be {options}, got {value!r}")


def as_whole(number: int, name: str) -> int:
    """A whole number, of any integer type. Raises `TypeError` for all else, flags included."""
    if not isinstance(number, bool):
        try:
            return operator.index(number)
        except TypeError:
            pass
    raise TypeError(f"{name} is a whole number, and cannot be {number!r}")


def as_number(number: float, name: str) -> float:
    """A real number, of any type of Python or NumPy. Raises `TypeError` for all else."""
    if not isinstance(number, Real) or isinstance(number, bool):
        raise TypeError(f"{name} is a number, and cannot be {number!r}")
    return number if isinstance(number, (int, float)) else float(number)


def as_number_or_none(number: float | None, name: str) -> float | None:
    """A real number, or `None`. Raises `TypeError` for all else."""
    return None if number is None else as_number(number, name)
