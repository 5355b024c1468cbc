"""What norms run on in a thread or task, and which path their calls take."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Literal, NamedTuple, get_args

from metanorm.runtime import torch_scatter
from metanorm.runtime.targets import CALL_PATH_TARGET, GRAPH_TARGET, KERNEL_TARGETS, TARGETS, Target

SumBackend = Literal["auto", "torch", "torch-scatter"]
SUM_BACKENDS: tuple[SumBackend, ...] = get_args(SumBackend)


class BackendChoice(NamedTuple):
    """The target of calls, and whether those of kernels in C may take the path through C."""

    target: Target
    through_c: bool


# The path through C compares these objects by identity.
BACKEND_CHOICES = {
    (target, c): BackendChoice(target, c) for target in TARGETS for c in (True, False)
}
ALLOWING_CALL_PATH = (BACKEND_CHOICES["auto", True], BACKEND_CHOICES[CALL_PATH_TARGET.name, True])
# Each thread and each task has its own.
BACKEND: ContextVar[BackendChoice] = ContextVar(
    "metanorm.runtime.use", default=BACKEND_CHOICES["auto", True]
)
# What sums groups of rows if norms run on torch.
SUMS: ContextVar[SumBackend] = ContextVar("metanorm.runtime.use.sums", default="auto")

# `torch.compile` guards this; it cannot follow a context variable.
_this_thread = threading.local()


def demands_kernels() -> bool:
    """Whether `use` asks for kernels, so that a call that has none fails."""
    return BACKEND.get().target in KERNEL_TARGETS


def kernels_in_graphs() -> bool:
    """Whether the graphs that this thread compiles call kernels."""
    return getattr(_this_thread, "kernels_in_graphs", False)


class Use:
    """A choice that holds already; the end of a `with` statement restores the one before."""

    def __init__(self, choice: BackendChoice, sums: SumBackend | None = None) -> None:
        self.before = BACKEND.get(), SUMS.get()
        self._set(choice, sums or SUMS.get())

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._set(*self.before)

    def _set(self, choice: BackendChoice, sums: SumBackend) -> None:
        BACKEND.set(choice)
        SUMS.set(sums)
        _this_thread.kernels_in_graphs = choice.target == GRAPH_TARGET.name


def use(target: Target, sums: SumBackend | None = None) -> Use:
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
    if target not in TARGETS:
        raise ValueError(f"use() takes {_listed(TARGETS)}, got {target!r}")
    if sums is not None and sums not in SUM_BACKENDS:
        raise ValueError(f"sums are {_listed(SUM_BACKENDS)}, got {sums!r}")
    if sums == "torch-scatter" and torch_scatter.problem():
        raise RuntimeError(f"{torch_scatter.problem()}: {torch_scatter.REMEDY}")
    return Use(BACKEND_CHOICES[target, BACKEND.get().through_c], sums)


def _listed(words: tuple[str, ...]) -> str:
    *first, last = map(repr, words)
    return f"{', '.join(first)} or {last}"


def through_python() -> Use:
    """Let calls of kernels in C take the path through Python.

    For tests and benchmarks. Holds as long as `use` does.
    """
    return Use(BACKEND_CHOICES[BACKEND.get().target, False])
