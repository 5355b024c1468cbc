"""Dispatches each call of a norm: to kernels in C on the CPU, in Triton on a GPU, else to torch.

`native` decorates the functions of generated modules. Kernels take plain tensors outside of any
transform. Under `torch.compile`, `torch.export`, `torch.func` or forward-mode differentiation, on
other devices, and for layouts that no kernel supports, the function itself runs, which is torch
code.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, overload

import torch

from metanorm.runtime.backends import ALLOWING_CALL_PATH, BACKEND, demands_kernels
from metanorm.runtime.checked_function import CheckedFunction
from metanorm.runtime.graph_nodes import graph_function
from metanorm.runtime.kernels.autograd import run_plan
from metanorm.runtime.kernels.errors import CannotBuild, Unsupported, warn_once
from metanorm.runtime.kernels.operation import operation_for
from metanorm.runtime.kernels.plan_cache import PlanCache
from metanorm.runtime.native.call_path.path import CallPath, CallPaths, EntryPoint
from metanorm.runtime.processes.call import Processes
from metanorm.runtime.targets import (
    DEFAULT_TARGET,
    GRAPH_TARGET,
    KERNEL_TARGETS,
    TARGET_OF_DEVICE,
    KernelTarget,
)
from metanorm.runtime.tensors import is_traced

F = TypeVar("F", bound=Callable[..., Any])
NO_KERNELS = "has no kernels: `metanorm explain` says why its norm has none"

_this_thread = threading.local()  # has the call among processes whose sweeps run
_call_paths = CallPaths(BACKEND, ALLOWING_CALL_PATH)


class NotServed(RuntimeError):
    """A call that no kernel can run, though `use` asked for kernels."""


def call_path() -> CallPath:
    """The path of calls to kernels in C in this process: through C, or through Python and why."""
    return _call_paths.path()


class Decorator(Protocol):
    """A decorator of a generated function, with or without the sorts of its inputs."""

    @overload
    def __call__(self, function: F, /) -> F: ...

    @overload
    def __call__(self, /, **sorts: str) -> Callable[[F], F]: ...


def _decorator(dispatcher: Callable[[CheckedFunction], Any]) -> Decorator:
    """A decorator, used as `@native` or as `@native(keep="mask")`.

    Inputs without a sort are tensors of a floating-point dtype.
    """

    def decorate(function: Any = None, /, **sorts: str) -> Any:
        if function is None:
            return functools.partial(decorate, **sorts)
        return functools.wraps(function)(dispatcher(CheckedFunction(function, sorts)))

    return decorate


def _not_served(name: str, reason: str) -> NotServed:
    on_kernels = KERNEL_TARGETS[BACKEND.get().target].on_kernels
    return NotServed(f"{name} cannot run {on_kernels}: the call {reason}")


class _Dispatcher:
    """Runs each call of a generated function on kernels, or else on torch."""

    def __init__(self, on_torch: CheckedFunction, only: KernelTarget | None = None) -> None:
        self.on_torch = on_torch
        self.function = on_torch.function
        self.only = only  # the one target that has kernels
        self.signature = on_torch.signature
        self.arity = len(self.signature.parameters)
        self.in_graph = (
            graph_function(on_torch, self._as_operation, self._eagerly)
            if only in (None, GRAPH_TARGET)
            else graph_function(on_torch)
        )
        self._plan_caches: dict[KernelTarget, PlanCache] = {}
        self._build_failures: dict[KernelTarget, str] = {}
        self._entry: EntryPoint | None = None  # to the path through C, once kernels in C are loaded
        self._enter: Callable[..., Any] = self._in_python

    def __call__(self, *args: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():
            return self.in_graph(*args, **named)
        return self._enter(*args, **named) if named else self._enter(*args)

    def _in_python(self, *args: Any, **named: Any) -> Any:
        """Run any call. If kernels in C take it, leave its plan for the path through C."""
        if named or len(args) != self.arity:
            try:
                args = self.signature.bind(*args, **named).args
            except TypeError:
                return self.function(*args, **named)  # raises in the words of Python
        if BACKEND.get().target == "torch":
            return self.on_torch(*args)
        if is_traced():
            return self._fall_back("is watched by a transform of torch", args)
        target = self._target(args)
        if self.only and target is not self.only:
            return self._fall_back(f"is one that {target.language} has no kernels for", args)
        if target in self._build_failures:
            return self._fall_back(f"has no kernels: {self._build_failures[target]}", args)
        try:
            plans = self._plan_caches.get(target) or self._load(target)
            plan, operands, momenta = plans.lookup(args)
            if target.in_graphs and torch._C._len_torch_dispatch_stack():
                operation = operation_for(self.function, plans)
                if operation is not None and operation.accepts(args):
                    return operation(*args)  # dispatch modes see it
            entry = self._entry if target.through_c and BACKEND.get().through_c else None
            if entry is not None and entry.learn(plans, plan, args):
                return entry.function(*args)
            return run_plan(plan, operands, momenta)
        except Unsupported as reason:
            return self._fall_back(f"has {reason}", args)
        except CannotBuild as problem:  # a failed build would take its time at every call
            self._build_failures[target] = str(problem)
            warn_once(problem)
            return self._fall_back(f"has no kernels: {self._build_failures[target]}", args)

    def _eagerly(self, *args: Any, **named: Any) -> Any:
        return self._enter(*args, **named)

    def _as_operation(self, *args: Any) -> Any:
        """A call of kernels, as a custom operation of torch. Raises `NotServed`."""
        try:
            plans = self._plan_caches.get(GRAPH_TARGET) or self._load(GRAPH_TARGET)
            operation = operation_for(self.function, plans)
            if operation is None or not operation.accepts(args):
                raise Unsupported("an argument that no operation of torch takes, such as a matrix")
            return operation(*args)
        except (Unsupported, CannotBuild) as reason:
            raise _not_served(self.function.__name__, f"has {reason}") from reason

    def _target(self, args: tuple[Any, ...]) -> KernelTarget:
        """The target of a call: the one that `use` chose, or that of the device."""
        target = KERNEL_TARGETS.get(BACKEND.get().target)
        if target is not None:
            return target
        device = getattr(args[0], "device", None)
        return TARGET_OF_DEVICE.get(device.type if device else "", DEFAULT_TARGET)

    def __reduce__(self) -> str:
        """Copies and pickles refer to the function of the module by its name."""
        return self.function.__qualname__

    def _fall_back(self, reason: str, args: tuple[Any, ...]) -> Any:
        """Run on torch. Raises `NotServed` if `use` asked for kernels and there are elements."""
        if demands_kernels() and args[0].numel():
            raise _not_served(self.function.__name__, reason)
        return self.on_torch(*args)

    def _load(self, target: KernelTarget) -> PlanCache:
        names = tuple(self.signature.parameters)
        file = self.function.__globals__.get("__file__", "")
        self._plan_caches[target] = target.load_plans(self.function, names, file)
        if target.through_c:
            self._entry = _call_paths.entry(self._in_python)
            if self._entry is not None:
                self._enter = self._entry.function
        return self._plan_caches[target]


class _Sweep(_Dispatcher):
    """Runs each sweep of a norm among processes, on kernels or on torch.

    Where `use` asks for kernels that this process lacks, the others learn of it by the next
    message: they would wait for a process that raised an error before it.
    """

    def __call__(self, *args: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():  # the graph has the equations of the norm around it
            return self.function(*args, **named)
        return self._enter(*args, **named) if named else self._enter(*args)

    def _fall_back(self, reason: str, args: tuple[Any, ...]) -> Any:
        call = getattr(_this_thread, "call_among_processes", None)
        try:
            return super()._fall_back(reason, args)
        except NotServed as refusal:
            if call is None:
                raise
            call.refusal = call.refusal or refusal
            return self.on_torch(*args)


def _in_sweeps(on_torch: CheckedFunction) -> Callable[..., Any]:
    """A function of axes that are divided among processes, whose sweeps have kernels.

    What lies between sweeps, messages included, is torch code on any process.
    """

    def run(*args: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():
            return on_torch(*args, **named)
        call = _processes_of(args, named)
        outer = getattr(_this_thread, "call_among_processes", None)
        _this_thread.call_among_processes = call
        try:
            result = on_torch(*args, **named)
        finally:
            _this_thread.call_among_processes = outer
        if call is not None:
            call.demand_served()
        return result

    return run


def _processes_of(args: tuple[Any, ...], named: Mapping[str, Any]) -> Processes | None:
    """The processes of a call, which is one of its arguments; `None` if it sends no messages."""
    return next((a for a in (*named.values(), *args) if isinstance(a, Processes)), None)


def _without_kernels(on_torch: CheckedFunction) -> Callable[..., Any]:
    """A function that has no kernels: it raises `NotServed` if `use` asks for some."""
    in_graph = graph_function(on_torch)

    def run(*args: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():
            return in_graph(*args, **named)
        if demands_kernels() and not (args and args[0].numel() == 0):
            raise _not_served(on_torch.function.__name__, NO_KERNELS)
        return on_torch(*args, **named)

    return run


def _among_processes(on_torch: CheckedFunction) -> Callable[..., Any]:
    """A function of axes that are divided among processes: it runs on torch in all of them."""

    def run(*args: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling() or not demands_kernels():
            return on_torch(*args, **named)
        call, reason = _processes_of(args, named), "is of axes divided among processes"
        refusal = _not_served(on_torch.function.__name__, reason)
        if call is None:
            raise refusal
        call.refusal = refusal
        result = on_torch(*args, **named)
        call.demand_served()
        return result

    return run


# Kernels in all files beside a module; those for GPUs alone; no kernels.
native = _decorator(_Dispatcher)
gpu = _decorator(functools.partial(_Dispatcher, only=TARGET_OF_DEVICE["cuda"]))
torch_only = _decorator(_without_kernels)
among_processes = _decorator(_among_processes)
in_sweeps = _decorator(_in_sweeps)
sweep = _decorator(_Sweep)
