"""Kernels in C for tensors in the memory of the CPU, and when they are used.

`native` stands above the functions of generated modules. A call goes to the kernels where the
tensors are plain ones on the CPU and nothing looks on; under `torch.compile`, `torch.export`,
`torch.func` or forward-mode differentiation, on other devices and for odd layouts the function
itself runs, which is plain torch.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from metanorm.runtime.native.build import CannotBuild
from metanorm.runtime.native.calls import Kernels
from metanorm.runtime.native.fit import plain, served
from metanorm.runtime.native.gradient import Call, Normalized
from metanorm.runtime.native.layout import Unfit
from metanorm.runtime.native.matrices import named_matrices
from metanorm.runtime.native.table import Table, source_of, tables
from metanorm.runtime.native.warning import warn_once

F = TypeVar("F", bound=Callable[..., Any])
Choice = Literal["auto", "native", "torch"]

_choice: Choice = "auto"


class _Use:
    """What `use` returns: already in force, and undone at the end of a `with`."""

    def __init__(self, before: Choice) -> None:
        self.before = before

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        global _choice
        _choice = self.before


def use(target: Choice) -> _Use:
    """Choose what generated norms run on: `"torch"`, `"native"`, or `"auto"`, which picks per call.

    Holds until the next call, or to the end of a `with` statement. With `"native"`, a call that
    kernels cannot serve raises `RuntimeError` instead of running on torch.
    """
    global _choice
    if target not in ("auto", "native", "torch"):
        raise ValueError(f"use() takes 'auto', 'native' or 'torch', got {target!r}")
    before, _choice = _choice, target
    return _Use(before)


def native(function: F) -> F:
    """Run a function of a generated module on the kernels in the C file beside the module."""
    return functools.wraps(function)(_Dispatch(function))  # type: ignore[return-value]


class _Dispatch:
    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.names = tuple(inspect.signature(function).parameters)
        self._kernels: Kernels | None = None
        self._failed = ""

    def __call__(self, *args: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():
            return self.function(*args, **named)
        x = args[0] if args else named.get(self.names[0])
        if _choice == "torch" or not served(x):
            return self._otherwise("is not a plain tensor on the CPU", args, named)
        given = {**dict(zip(self.names, args)), **named}
        if given.keys() != set(self.names):
            return self.function(*args, **named)  # which says what is wrong
        values = {name: given[name] for name in self.names}
        try:
            return self._natively(values)
        except Unfit as reason:
            return self._otherwise(f"has {reason}", args, named)
        except CannotBuild as problem:
            self._failed = f"{problem.reason}; {problem.remedy}"
            warn_once(self._failed)
            return self._otherwise(f"has no kernels: {self._failed}", args, named)

    def _otherwise(self, reason: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if _choice == "native":
            raise RuntimeError(f"{self.function.__name__} cannot run natively: the call {reason}")
        return self.function(*args, **named)

    def _natively(self, values: dict[str, Any]) -> Any:
        if self._failed:  # a build that fails takes its time at every call
            raise Unfit(f"no kernels: {self._failed}")
        kernels = self._kernels or self._load()
        table = kernels.table
        arm = _arm(table, values)
        tensors: dict[str, Tensor | None] = {}
        others: dict[str, Any] = {}
        for name, value in values.items():
            if value is None or isinstance(value, Tensor):
                if value is not None and not plain(value):
                    raise Unfit("a tensor that is not a plain one on the CPU")
                if value is not None and name in table.momenta:
                    others[name] = 1 / value.item()
                elif value is not None and name not in table.tensors:
                    raise Unfit("a tensor where a number is expected")
                else:
                    tensors[name] = value
            else:
                others[name] = value
        first = tensors[self.names[0]]
        assert first is not None
        if first.numel() == 0:
            raise Unfit("no elements")
        extra = _groups(table, tensors, others, first) | named_matrices(table, values, first)
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            buffer = name in table.buffers
            if buffer and (tensor.requires_grad or not tensor.is_contiguous()):
                raise Unfit("a buffer that is strided or has a gradient")
            if not tensor.is_contiguous() and not _is_wide(table, name):
                tensors[name] = tensor.contiguous()
        call = Call(kernels, self.function, arm, tuple(tensors), others, extra)
        given = tuple(tensors.values())
        prepared = kernels.prepared(arm, "forward", call.values(given))
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given):
            outputs = Normalized.apply(call, prepared, *given)  # type: ignore[no-untyped-call]
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        else:
            outputs, _ = call.forward(prepared, call.values(given), keep=False)
        if arm == "train":  # so that autograd knows that they are not what they were
            changed = [t for n, t in tensors.items() if t is not None and n in kernels.written]
            torch.autograd.graph.increment_version(changed)
        if table.results is None:
            return outputs[0]
        return self.function.__globals__[table.results](*outputs)

    def _load(self) -> Kernels:
        source = source_of(self.function.__globals__.get("__file__", ""))
        table = tables(source).get(self.function.__name__)
        if table is None:
            module = self.function.__globals__.get("__name__", "")
            raise CannotBuild(
                f"the C file of module {module} is not beside it",
                "copy it there, or list *.c files as package data",
            )
        self._kernels = Kernels(source, table)
        return self._kernels


def _arm(table: Table, values: dict[str, Any]) -> str:
    """Which way the modes go in this call."""
    if "eval" not in table.arms or values.get("training"):
        return "train"
    if not table.tracked or values.get(table.tracked[0]) is not None:
        return "eval"
    return table.without_statistics


def _is_wide(table: Table, name: str) -> bool:
    entry = next(iter(table.arms.values()))["forward"]
    return any(f.kind == "wide" and f.name == name for f in entry.fields)


def _groups(
    table: Table, tensors: dict[str, Tensor | None], others: dict[str, Any], x: Tensor
) -> dict[str, Any]:
    """The numbers of groups of an index, which is checked here: kernels trust it."""
    fields = next(iter(table.arms.values()))["forward"].fields
    extra: dict[str, Any] = {}
    for field in fields:
        if field.kind != "groups":
            continue
        name = field.name.removesuffix(".count")
        index = tensors.get(name)
        size = others.get(f"{name}_size")
        tensors.pop(f"{name}_size", None)
        others.setdefault(f"{name}_size", size)
        if index is None:
            extra[field.name] = 1
            continue
        if index.dtype != torch.int64:
            raise Unfit("an index that is not of int64")
        if size is not None and not isinstance(size, int):
            raise Unfit("a number of groups that is not whole")
        low, high = (int(bound) for bound in torch.aminmax(index))
        count = high + 1 if size is None else size
        if low < 0 or high >= count:
            raise Unfit("labels out of range")  # of which the torch target says more
        extra[field.name] = count
    return extra
