"""The members of the structures that kernels share, as the header and `setup.py` declare them."""

from __future__ import annotations

from metanorm.targets.native.cir import Element, Expr, Name, Number, address, arrow, dot

VALUES_POINTER, RANGE = Name("v"), Name("r")
CALL = arrow(VALUES_POINTER, "call")
GROUPS = dot(arrow(VALUES_POINTER, "shape"), "groups")
GROUPS_POINTER = address(GROUPS)
WORKER = arrow(RANGE, "worker")


def shared(name: str) -> Expr:
    """`v->name`: what all functions of a kernel share."""
    return arrow(VALUES_POINTER, name)


def argument(name: str) -> Expr:
    """`v->call->name`: what a call brings."""
    return arrow(CALL, name)


def first_of(axis: Expr) -> Expr:
    """`r->lo[axis]`: the first position along an axis in the range of a worker."""
    return Element(arrow(RANGE, "lo"), axis)


def end_of(axis: Expr) -> Expr:
    """`r->hi[axis]`: the end of the positions along an axis in the range of a worker."""
    return Element(arrow(RANGE, "hi"), axis)


def accumulator(number: int) -> Expr:
    """`a[number]`: the accumulator of a reduction."""
    return Element(Name("a"), Number(number))
