"""What a thread or task demands of norms: what they run on, and which path their calls take."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Literal, NamedTuple

from metanorm.runtime import torch_scatter

Choice = Literal["auto", "native", "triton", "torch"]
CHOICES: tuple[Choice, ...] = ("auto", "native", "triton", "torch")
Sums = Literal["auto", "torch", "torch-scatter"]
EVERY_SUMS: tuple[Sums, ...] = ("auto", "torch", "torch-scatter")


class Demand(NamedTuple):
    """What calls run on, and whether those on kernels in C may go there through C."""

    target: Choice
    through_c: bool


# One object for each, which the path through C compares.
DEMANDS = {(target, c): Demand(target, c) for target in CHOICES for c in (True, False)}
ALLOWING_C = (DEMANDS["auto", True], DEMANDS["native", True])
# Of a context: what one thread or task demands is nothing to the others.
DEMAND: ContextVar[Demand] = ContextVar("metanorm.runtime.use", default=DEMANDS["auto", True])
# Who takes sums over groups of rows where norms run on torch.
SUMS: ContextVar[Sums] = ContextVar("metanorm.runtime.use.sums", default="auto")

# What `torch.compile` guards, which cannot follow a variable of a context.
_this_thread = threading.local()


def kernels_in_graphs() -> bool:
    """Whether graphs that this thread makes are to call kernels."""
    return getattr(_this_thread, "target", "auto") == "native"


class Use:
    """A demand that is in force already; the end of a `with` takes it back."""

    def __init__(self, demand: Demand, sums: Sums | None = None) -> None:
        self.before = DEMAND.get(), SUMS.get()
        self._set(demand, sums or SUMS.get())

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._set(*self.before)

    def _set(self, demand: Demand, sums: Sums) -> None:
        DEMAND.set(demand)
        SUMS.set(sums)
        _this_thread.target = demand.target


def use(target: Choice, sums: Sums | None = None) -> Use:
    """Choose what generated norms run on: `"torch"`, `"native"` (the CPU), `"triton"` (a GPU), or
    `"auto"`, which picks per call.

    Holds until the next call, or to the end of a `with` statement, and in the thread or task that
    calls it alone. With `"native"` or `"triton"`, a call that such kernels cannot serve raises
    `RuntimeError` instead of running on torch. Raises `ValueError` for another target.

    `sums` says who adds up groups of rows with sorted labels, as graphs of a batch are, where norms
    run on torch: `"torch"`, `"torch-scatter"`, or `"auto"`, which takes torch-scatter on a GPU,
    where its sums are the same in every run. `None` leaves it as it was. Raises `RuntimeError`
    where torch-scatter is asked for and cannot be used.

    A graph of `torch.compile` holds the equations of a norm, which its backend makes one with what
    stands beside them. With `"native"` it calls the kernels, as an operation
    `torch.ops.metanorm.NAME_DIGEST` that no backend looks into. Graphs go by the last choice of
    their thread, for torch cannot guard that of a task.
    """
    if target not in CHOICES:
        raise ValueError(f"use() takes 'auto', 'native', 'triton' or 'torch', got {target!r}")
    if sums is not None and sums not in EVERY_SUMS:
        raise ValueError(f"sums are 'auto', 'torch' or 'torch-scatter', got {sums!r}")
    if sums == "torch-scatter" and torch_scatter.problem():
        raise RuntimeError(f"{torch_scatter.problem()}: {torch_scatter.REMEDY}")
    return Use(DEMANDS[target, DEMAND.get().through_c], sums)


def through_python() -> Use:
    """Have calls go to kernels in C through Python, as where the path through C cannot be taken.

    For tests and benchmarks. Holds as long as `use` does.
    """
    return Use(DEMANDS[DEMAND.get().target, False])
