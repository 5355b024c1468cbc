"""The call path in C as a library."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.demands import Demand
from metanorm.runtime.identity import RUNTIME
from metanorm.runtime.kernels.gradient import gradients_of, serves
from metanorm.runtime.kernels.refusals import CannotBuild, Unfit
from metanorm.runtime.kernels.route import Operands, Route
from metanorm.runtime.kernels.routes import Routes
from metanorm.runtime.native.build import build
from metanorm.runtime.native.call_path.plans import BACKWARD, FORWARD, Forward, backward_plan
from metanorm.runtime.native.call_path.records import route_of
from metanorm.runtime.native.call_path.symbols import Torch, Unverified, verified
from metanorm.runtime.native.calls import FAILURES, Prepared
from metanorm.runtime.native.compiler import HEADERS

SOURCE = HEADERS / "call_path" / "call_path.c"

OBJECT, ADDRESS, NUMBER = ctypes.py_object, ctypes.c_void_p, ctypes.c_int
# The functions of the library: what they return, and take.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "begin": (NUMBER, ctypes.POINTER(Torch), OBJECT, OBJECT, OBJECT, OBJECT),
    "forked": (None,),
    "norm": (OBJECT, OBJECT),
    "function": (OBJECT, OBJECT),
    "forward": (OBJECT, OBJECT),
    "backward": (OBJECT, OBJECT),
    "plan": (OBJECT, ctypes.c_char_p, OBJECT, OBJECT),
    "add": (OBJECT, OBJECT, OBJECT, OBJECT),
    "add_backward": (NUMBER, OBJECT, ctypes.c_char_p),
}


class NotServed(Exception):
    """Raised by C through `Function.apply`: the call goes through Python instead."""


@dataclass(frozen=True)
class Planned:
    """What the Python side of a plan knows: a route of calls that look like it."""

    routes: Routes
    route: Route
    key: tuple[Any, ...]  # by which plans are the same
    prepared: list[Prepared] = field(default_factory=list)  # to whose numbers plans point


class Library:
    """The call path in C. Raises `CannotBuild` and `Unverified`."""

    def __init__(self, demand: ContextVar[Demand], allowing: tuple[Demand, Demand]) -> None:
        torch_ = verified(demand, allowing)
        self._alive = (demand, allowing)  # C has their addresses
        # The library has state: another runtime in this process loads a file of its own.
        source = f"/* for {RUNTIME} */\n{SOURCE.read_text(encoding='utf-8')}"
        library = ctypes.PyDLL(str(build(source)))
        self._functions = {}
        for name, (result, *arguments) in FUNCTIONS.items():
            function = self._functions[name] = getattr(library, f"metanorm_{name}")
            function.restype, function.argtypes = result, arguments
        sizes = (ctypes.c_int64 * 3).in_dll(library, "metanorm_sizes")
        if tuple(sizes) != (ctypes.sizeof(Torch), 8 * FORWARD, 8 * BACKWARD):
            raise Unverified("the call path in C was built for other structures")
        begun = self._functions["begin"](
            ctypes.byref(torch_), self._learn_backward, _serve_backward, _raise_failure, NotServed
        )
        if not begun:
            raise Unverified("the types of the call path cannot be made")
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._functions["forked"])

    def norm(self, slow: Any) -> Any:
        """A norm without plans, all of whose calls go to `slow`."""
        return self._functions["norm"](slow)

    def function(self, norm: Any) -> Any:
        """What is called instead of the function of a norm."""
        return self._functions["function"](norm)

    def add(self, norm: Any, made: Forward, planned: Planned) -> Planned | None:
        """Give a norm a plan, and return that which was forgotten for it."""
        plan = self._functions["plan"](made.words, planned, planned.route.results)
        forward, backward = (self._functions[name](plan) for name in ("forward", "backward"))
        name = _node_name(planned.route.function.__name__)
        base: Any = torch.autograd.Function
        methods = {"forward": forward, "backward": staticmethod(_backward_of(planned))}
        function: Any = type(base)(name, (base,), methods)
        node: Any = getattr(function, "_backward_cls", None)
        if isinstance(node, type):  # of a node, whose method only asks which function to call
            node.apply = _as_method(backward)  # type: ignore[attr-defined]
        # `Function.apply` itself would look for transforms of `torch.func` once more.
        apply = super(base, function).apply  # type: ignore[misc]
        forgotten: Planned | None = self._functions["add"](norm, plan, apply)
        return forgotten

    def _learn_backward(
        self, plan: Any, planned: Planned, saved: Operands, needed: Sequence[bool], record: bytes,
        *gradients: Tensor,
    ) -> bool:  # fmt: skip
        """Add a plan for backward calls like this one; whether there is a new one."""
        route = route_of(record, planned.route)
        *operands, kept = saved
        route.demand_saved(operands, kept, gradients[0].device)
        try:
            if not serves(route, gradients):
                return False
            prepared, read = route.backward_call(operands, gradients, needed)
        except (Unfit, CannotBuild):
            return False
        words = backward_plan(planned.routes, route, prepared, operands, read, needed)
        if words is None or not self._functions["add_backward"](plan, words):
            return False
        planned.prepared.append(prepared)
        return True


def _serve_backward(
    planned: Planned, saved: Operands, needed: Sequence[bool], record: bytes, *gradients: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients of a call that no plan serves."""
    route = route_of(record, planned.route)
    found = gradients_of(route, saved, needed, gradients)
    planned.route.failed = route.failed
    return tuple(found)


def _backward_of(planned: Planned) -> Callable[..., tuple[Tensor | None, ...]]:
    """The backward pass in Python. Compiled autograd follows it; otherwise that in C is called."""

    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad
        return _serve_backward(planned, saved, needed, ctx.call_record, *gradients)

    return backward


def _as_method(function: Any) -> Any:
    """The builtin function as a method of a class, which it is not by itself."""
    new = ctypes.pythonapi.PyInstanceMethod_New
    new.restype, new.argtypes = OBJECT, (OBJECT,)
    return new(function)


def _raise_failure(outcome: int) -> None:
    raise FAILURES[outcome]


def _node_name(function: str) -> str:
    """`LayerNorm` for `layer_norm`: autograd calls its node `LayerNormBackward`."""
    return "".join(word.capitalize() for word in function.split("_"))
