"""The statements of a nest. Each is executed per element of the data, or per cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard, Union

from metanorm.ir.aggregation import Reach
from metanorm.ir.nodes import AxisMap, Let, Op, Recurrence, Ref
from metanorm.ir.nodes import Pool as PoolOp


@dataclass(frozen=True, slots=True)
class Load:
    """Read the element of an array at the current position."""

    let: Let
    array: str


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute an elementwise function of values at the current position, or a number that follows
    from lengths."""

    let: Let


@dataclass(frozen=True, slots=True)
class Gather:
    """Read a per-cell value at another position along one axis: a fixed row, a renamed axis, or a
    run of its positions."""

    let: Let


@dataclass(frozen=True, slots=True)
class Pool:
    """Compute a statistic of per-cell values, or their softmax along an axis."""

    let: Let


@dataclass(frozen=True, slots=True)
class Scan:
    """Compute a statistic over the neighbourhood of each position along one axis, of cells or of
    elements, where pools overlap; or a state that moves along the axis."""

    let: Let

    @property
    def axis(self) -> str:
        """The axis along which a worker needs all positions."""
        if isinstance(self.let.op, Recurrence):
            return self.let.op.axis
        scan = reach_of(self.let.op)
        assert scan is not None
        return scan[0]


def reach_of(op: Op) -> tuple[str, Reach] | None:
    """The axis of a scan and its reach along that axis; `None` for other operations."""
    over = op.over if isinstance(op, PoolOp) else ()
    return next(((axis, m) for axis, m in over if isinstance(m, Reach)), None)


def is_sparsestmax(op: Op) -> TypeGuard[AxisMap]:
    """Whether an operation is sparsestmax or its adjoint, which are of whole lines."""
    return isinstance(op, AxisMap) and op.function == "sparsestmax"


@dataclass(frozen=True, slots=True)
class Accumulate:
    """Accumulate the current element into the cells of a reduction, given by its number."""

    reduction: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Read the finished statistic of a reduction, per cell."""

    let: Let
    reduction: int
    statistic: str


@dataclass(frozen=True, slots=True)
class Store:
    """Write a value to an array."""

    array: str
    value: Ref


@dataclass(frozen=True, slots=True)
class Update:
    """Write a value to a buffer, or with a `momentum` move the buffer towards the value."""

    array: str
    value: Ref
    momentum: str | None = None


Statement = Union[Load, Compute, Gather, Pool, Scan, Accumulate, Finish, Store, Update]
