"""The library of the call path in C, and what it calls in Python."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.backends import BackendChoice
from metanorm.runtime.identity import RUNTIME
from metanorm.runtime.kernels.autograd import gradients_of, runs_on_kernel
from metanorm.runtime.kernels.call_plan import CallPlan, Operands
from metanorm.runtime.kernels.errors import CannotBuild, Unsupported
from metanorm.runtime.kernels.plan_cache import PlanCache
from metanorm.runtime.native.build import build
from metanorm.runtime.native.call_path.plans import (
    BACKWARD_WORDS,
    FORWARD_WORDS,
    EncodedPlan,
    encode_backward,
)
from metanorm.runtime.native.call_path.records import plan_from_record
from metanorm.runtime.native.call_path.symbols import Torch, Unverified, verified
from metanorm.runtime.native.calls import PreparedKernel, failure_of
from metanorm.runtime.native.compiler import HEADERS

SOURCE = HEADERS / "call_path" / "call_path.c"

OBJECT, ADDRESS, NUMBER = ctypes.py_object, ctypes.c_void_p, ctypes.c_int
# The functions of the library: the type of the result, then those of the parameters.
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


class RunInPython(Exception):
    """C raises it through `Function.apply`: the call runs in Python instead."""


@dataclass(frozen=True)
class PlanContext:
    """What Python keeps of a plan that C has."""

    plans: PlanCache
    plan: CallPlan
    key: tuple[Any, ...]  # equal for plans that serve the same calls
    prepared: list[PreparedKernel] = field(default_factory=list)  # C points to their constants


class CallPathLibrary:
    """The call path in C. Raises `CannotBuild` and `Unverified`."""

    def __init__(
        self, backend: ContextVar[BackendChoice], allowing: tuple[BackendChoice, BackendChoice]
    ) -> None:
        torch_ = verified(backend, allowing)
        self._alive = (backend, allowing)  # C has their addresses
        # The library has state: another runtime in this process loads a file of its own.
        source = f"/* for {RUNTIME} */\n{SOURCE.read_text(encoding='utf-8')}"
        library = ctypes.PyDLL(str(build(source)))
        self._functions = {}
        for name, (result, *arguments) in FUNCTIONS.items():
            function = self._functions[name] = getattr(library, f"metanorm_{name}")
            function.restype, function.argtypes = result, arguments
        sizes = (ctypes.c_int64 * 3).in_dll(library, "metanorm_sizes")
        if tuple(sizes) != (ctypes.sizeof(Torch), 8 * FORWARD_WORDS, 8 * BACKWARD_WORDS):
            raise Unverified("the call path in C was built for other structures")
        started = self._functions["begin"](
            ctypes.byref(torch_), self._learn_backward, _backward_in_python, _raise_failure,
            RunInPython,
        )  # fmt: skip
        if not started:
            raise Unverified("the types of the call path cannot be made")
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._functions["forked"])

    def norm(self, slow: Any) -> Any:
        """A norm without plans: all of its calls go to the function `slow`."""
        return self._functions["norm"](slow)

    def function(self, norm: Any) -> Any:
        """The builtin function that replaces the function of a norm."""
        return self._functions["function"](norm)

    def add(self, norm: Any, encoded: EncodedPlan, context: PlanContext) -> PlanContext | None:
        """Add a plan to a norm; returns the context of the plan that was evicted for it."""
        c_plan = self._functions["plan"](encoded.words, context, context.plan.output_class)
        forward, backward = (self._functions[name](c_plan) for name in ("forward", "backward"))
        name = _node_name(context.plan.function.__name__)
        base: Any = torch.autograd.Function
        methods = {"forward": forward, "backward": staticmethod(_python_backward(context))}
        function: Any = type(base)(name, (base,), methods)
        node: Any = getattr(function, "_backward_cls", None)
        if isinstance(node, type):  # the method of a node would only look up which function to call
            node.apply = _as_method(backward)  # type: ignore[attr-defined]
        # `Function.apply` would ask again for transforms of `torch.func`, as C has done.
        apply = super(base, function).apply  # type: ignore[misc]
        evicted: PlanContext | None = self._functions["add"](norm, c_plan, apply)
        return evicted

    def _learn_backward(
        self, c_plan: Any, context: PlanContext, saved_tensors: Operands, needed: Sequence[bool],
        record: bytes, *gradients: Tensor,
    ) -> bool:  # fmt: skip
        """Add a plan for backward calls with this signature; whether it was added."""
        plan = plan_from_record(record, context.plan)
        *operands, saved = saved_tensors
        plan.demand_unchanged(operands, saved, gradients[0].device)
        try:
            if not runs_on_kernel(plan, saved_tensors, gradients):
                return False
            prepared, gradients_read = plan.backward_call(operands, gradients, needed)
        except (Unsupported, CannotBuild):
            return False
        words = encode_backward(context.plans, plan, prepared, operands, gradients_read, needed)
        if words is None or not self._functions["add_backward"](c_plan, words):
            return False
        context.prepared.append(prepared)
        return True


def _backward_in_python(
    context: PlanContext, saved_tensors: Operands, needed: Sequence[bool], record: bytes,
    *gradients: Tensor,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradients of a call for which C has no backward plan."""
    plan = plan_from_record(record, context.plan)
    operand_gradients = gradients_of(plan, saved_tensors, needed, gradients)
    context.plan.backward_failed = plan.backward_failed
    return tuple(operand_gradients)


def _python_backward(context: PlanContext) -> Callable[..., tuple[Tensor | None, ...]]:
    """The backward method that compiled autograd traces; otherwise that in C is called."""

    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved_tensors, needed = ctx.saved_tensors, ctx.needs_input_grad
        return _backward_in_python(context, saved_tensors, needed, ctx.call_record, *gradients)

    return backward


def _as_method(function: Any) -> Any:
    """A builtin function as a method: a class attribute alone would not bind its instance."""
    new = ctypes.pythonapi.PyInstanceMethod_New
    new.restype, new.argtypes = OBJECT, (OBJECT,)
    return new(function)


def _raise_failure(status: int) -> None:
    raise failure_of(status)


def _node_name(function: str) -> str:
    """`LayerNorm` for `layer_norm`: autograd calls its node `LayerNormBackward`."""
    return "".join(word.capitalize() for word in function.split("_"))
