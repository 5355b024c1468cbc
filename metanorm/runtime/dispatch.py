"""When kernels are used: those in C for tensors of the CPU, those in Triton for tensors of a GPU.

`native` stands above the functions of generated modules. A call goes to the kernels where the
tensors are plain ones on the CPU, or on a GPU those of `metanorm.runtime.triton`, and nothing
looks on; under `torch.compile`, `torch.export`, `torch.func` or forward-mode differentiation, on
other devices and for odd layouts the function itself runs, which is plain torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, overload

import torch

from metanorm.runtime.demands import ALLOWING_C, DEMAND, Choice
from metanorm.runtime.graph_nodes import compiled
from metanorm.runtime.kernels.gradient import normalized
from metanorm.runtime.kernels.operation import operation_of
from metanorm.runtime.kernels.refusals import CannotBuild, Unfit, warn_once
from metanorm.runtime.kernels.routes import Routes
from metanorm.runtime.native.call_path.path import CallPath, CallPaths, Entry
from metanorm.runtime.native.routes import NativeRoutes
from metanorm.runtime.on_torch import OnTorch
from metanorm.runtime.tensors import watched

F = TypeVar("F", bound=Callable[..., Any])
KERNELS: Mapping[str, Choice] = {"cpu": "native", "cuda": "triton"}  # of each type of device
NOWHERE = "has no kernels to go to: `metanorm explain` says why of a norm"
WAYS = {"native": "natively", "triton": "on Triton kernels"}

_call_paths = CallPaths(DEMAND, ALLOWING_C)


class NotServed(RuntimeError):
    """A call that kernels were demanded for, and that they cannot serve."""


def call_path() -> CallPath:
    """The path that calls on kernels in C take in this process, through C or through Python, and
    in the second case the reason."""
    return _call_paths.path()


class Decorator(Protocol):
    """What stands above a function of a generated module, maybe with the sorts of its inputs."""

    @overload
    def __call__(self, function: F, /) -> F: ...

    @overload
    def __call__(self, /, **sorts: str) -> Callable[[F], F]: ...


def _decorator(dispatched: Callable[[OnTorch], Any]) -> Decorator:
    """A decorator for functions whose tensors are of a floating-point type, but for those of the
    given sorts: `@native` and `@native(mask="mask")`."""

    def decorate(function: Any = None, /, **sorts: str) -> Any:
        if function is None:
            return functools.partial(decorate, **sorts)
        return functools.wraps(function)(dispatched(OnTorch(function, sorts)))

    return decorate


def _not_served(name: str, reason: str) -> NotServed:
    return NotServed(f"{name} cannot run {WAYS[DEMAND.get().target]}: the call {reason}")


class _Dispatch:
    def __init__(self, on_torch: OnTorch, only: str = "") -> None:
        self.on_torch = on_torch
        self.function = on_torch.function
        self.only = only
        self.signature = on_torch.signature
        self.arity = len(self.signature.parameters)
        self.compiled = (
            compiled(on_torch) if only else compiled(on_torch, self._as_operation, self._eagerly)
        )
        self._routes: dict[str, Routes] = {}  # by what they run on
        self._failed: dict[str, str] = {}
        self._entry: Entry | None = None  # to the path through C, once kernels in C are there
        self._enter: Callable[..., Any] = self._in_python

    def __call__(self, *args: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():
            return self.compiled(*args, **named)
        return self._enter(*args, **named) if named else self._enter(*args)

    def _in_python(self, *args: Any, **named: Any) -> Any:
        """Any call. The first one of a kind that kernels in C serve leaves a plan for the path
        through C, and goes there with it."""
        if named or len(args) != self.arity:
            try:
                args = self.signature.bind(*args, **named).args
            except TypeError:
                return self.function(*args, **named)  # which says what is wrong
        if DEMAND.get().target == "torch":
            return self.on_torch(*args)
        if watched():
            return self._otherwise("is watched by a transform of torch", args)
        target = self._target(args)
        if self.only and target != self.only:
            return self._otherwise("is one that C has no kernels for", args)
        if target in self._failed:
            return self._otherwise(f"has no kernels: {self._failed[target]}", args)
        try:
            routes = self._routes.get(target) or self._load(target)
            route, operands, momenta = routes.of(args)
            if target == "native" and torch._C._len_torch_dispatch_stack():
                operation = operation_of(self.function, routes)
                if operation is not None and operation.takes(args):
                    return operation(*args)  # which dispatch modes see
            entry = self._entry if target == "native" and DEMAND.get().through_c else None
            if entry is not None and entry.learn(routes, route, args):
                return entry.function(*args)
            return normalized(route, operands, momenta)
        except Unfit as misfit:
            return self._otherwise(f"has {misfit}", args)
        except CannotBuild as problem:  # a build that fails takes its time at every call
            self._failed[target] = f"{problem.reason}; {problem.remedy}"
            warn_once(self._failed[target])
            return self._otherwise(f"has no kernels: {self._failed[target]}", args)

    def _eagerly(self, *args: Any, **named: Any) -> Any:
        return self._enter(*args, **named)

    def _as_operation(self, *args: Any) -> Any:
        """A call on kernels in C that is an operation of torch. Raises `NotServed`."""
        try:
            routes = self._routes.get("native") or self._load("native")
            operation = operation_of(self.function, routes)
            if operation is None or not operation.takes(args):
                raise Unfit("an argument that no operation of torch takes, such as a matrix")
            return operation(*args)
        except (Unfit, CannotBuild) as reason:
            raise _not_served(self.function.__name__, f"has {reason}") from reason

    def _target(self, args: tuple[Any, ...]) -> str:
        """What a call is to run on: as was chosen, or as the device of its first tensor has it."""
        target = DEMAND.get().target
        if target != "auto":
            return target
        device = getattr(args[0], "device", None)
        return KERNELS.get(device.type, "native") if device is not None else "native"

    def __reduce__(self) -> str:
        """Copied and pickled as the function of the module that it stands for."""
        return self.function.__qualname__

    def _otherwise(self, reason: str, args: tuple[Any, ...]) -> Any:
        if DEMAND.get().target in WAYS and args[0].numel():  # nothing runs on anything
            raise _not_served(self.function.__name__, reason)
        return self.on_torch(*args)

    def _load(self, target: str) -> Routes:
        names = tuple(self.signature.parameters)
        file = self.function.__globals__.get("__file__", "")
        if target == "triton":
            from metanorm.runtime.triton.routes import TritonRoutes  # what asks for triton

            self._routes[target] = TritonRoutes(self.function, names, file)
        else:
            self._routes[target] = NativeRoutes(self.function, names, file)
            self._entry = _call_paths.entry(self._in_python)
            if self._entry is not None:
                self._enter = self._entry.function
        return self._routes[target]


def _without_kernels(on_torch: OnTorch) -> Callable[..., Any]:
    """A function that only runs where no kernels are demanded."""

    recorded = compiled(on_torch)

    def run(*args: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():
            return recorded(*args, **named)
        demanded = DEMAND.get().target in WAYS
        if demanded and not (args and args[0].numel() == 0):  # nothing runs on anything
            raise _not_served(on_torch.function.__name__, NOWHERE)
        return on_torch(*args, **named)

    return run


def _among_processes(on_torch: OnTorch) -> Callable[..., Any]:
    """A function of divided axes: on torch, on all processes alike."""

    def run(*args: Any, **named: Any) -> Any:
        if not torch.compiler.is_compiling() and DEMAND.get().target in WAYS:
            raise _not_served(on_torch.function.__name__, "is of axes divided among processes")
        return on_torch(*args, **named)

    return run


# On the kernels in the C file beside a module; on those in Triton alone; on torch alone.
native = _decorator(_Dispatch)
gpu = _decorator(functools.partial(_Dispatch, only="triton"))
torch_only = _decorator(_without_kernels)
among_processes = _decorator(_among_processes)
