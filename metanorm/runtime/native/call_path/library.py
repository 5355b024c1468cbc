"""The call path in C as a library."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.kernels.gradient import gradients_of
from metanorm.runtime.kernels.route import Gradients, Route
from metanorm.runtime.kernels.routes import Routes
from metanorm.runtime.native.build import build
from metanorm.runtime.native.call_path.plans import Forward, backward_plan, forward_plan
from metanorm.runtime.native.call_path.records import route_of
from metanorm.runtime.native.call_path.symbols import Torch, Unverified, verified
from metanorm.runtime.native.calls import FAILURES, Prepared
from metanorm.runtime.native.compiler import HEADERS

SOURCE = HEADERS / "call_path" / "call_path.c"

OBJECT, ADDRESS, NUMBER = ctypes.py_object, ctypes.c_void_p, ctypes.c_int
# The functions of the library: what they return, and take.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "begin": (NUMBER, ctypes.POINTER(Torch), OBJECT, OBJECT, OBJECT),
    "forked": (None,),
    "norm": (OBJECT, OBJECT),
    "function": (OBJECT, OBJECT),
    "forward": (OBJECT, OBJECT),
    "backward": (OBJECT, OBJECT),
    "plan": (OBJECT, ctypes.c_char_p, OBJECT, OBJECT),
    "add": (NUMBER, OBJECT, OBJECT, OBJECT),
    "add_backward": (NUMBER, OBJECT, ctypes.c_char_p),
}


class NotServed(Exception):
    """Raised by C through `Function.apply`: the call goes through Python instead."""


@dataclass(frozen=True)
class Planned:
    """What the Python side of a plan knows: a route of calls that look like it."""

    routes: Routes
    route: Route

    def forward(self, args: Sequence[Any]) -> Forward | None:
        """The plan of calls like this one, if C can serve such."""
        return forward_plan(self.routes, self.route, args)


class Library:
    """The call path in C. Raises `CannotBuild` and `Unverified`."""

    def __init__(self, choice: ContextVar[str], automatic: str, native: str) -> None:
        torch_ = verified(choice, automatic, native)
        self._alive = (choice, automatic, native)  # C has their addresses
        library = ctypes.PyDLL(str(build(SOURCE.read_text(encoding="utf-8"))))
        self._functions = {}
        for name, (result, *arguments) in FUNCTIONS.items():
            function = self._functions[name] = getattr(library, f"metanorm_{name}")
            function.restype, function.argtypes = result, arguments
        if ctypes.c_int64.in_dll(library, "metanorm_size").value != ctypes.sizeof(Torch):
            raise Unverified("the call path in C was built for another structure")
        begun = self._functions["begin"](
            ctypes.byref(torch_), self._serve_backward, _raise_failure, NotServed
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

    def add(self, norm: Any, made: Forward, planned: Planned) -> bool:
        """Give a norm a plan; whether another one was forgotten for it."""
        plan = self._functions["plan"](made.words, planned, planned.route.results)
        function = type(
            _node_name(planned.route.function.__name__),
            (torch.autograd.Function,),
            {name: self._functions[name](plan) for name in ("forward", "backward")},
        )
        # `Function.apply` itself would look for transforms of `torch.func` once more.
        apply = super(torch.autograd.Function, function).apply
        return bool(self._functions["add"](norm, plan, apply))

    def _serve_backward(
        self, plan: Any, planned: Planned, saved: tuple[Tensor | None, ...],
        needed: tuple[bool, ...], record: bytes, *gradients: Tensor,
    ) -> tuple[Tensor | None, ...]:  # fmt: skip
        """The gradients of a call that has no plan for its backward pass, which gets one."""
        route = route_of(record, planned.route)
        found: Gradients = gradients_of(route, saved, needed, gradients)
        planned.route.failed = route.failed
        for prepared in route.backward.values():  # what kernels were called with, if they were
            if isinstance(prepared, Prepared):
                words = backward_plan(
                    planned.routes, route, prepared, saved[:-1], gradients, needed
                )
                if words is not None:
                    self._functions["add_backward"](plan, words)
        return tuple(found)


def _raise_failure(outcome: int) -> None:
    raise FAILURES[outcome]


def _node_name(function: str) -> str:
    """`LayerNorm` for `layer_norm`: autograd calls its node `LayerNormBackward`."""
    return "".join(word.capitalize() for word in function.split("_"))
