"""The kernels of a norm as an operation of torch, whole in graphs and by name to dispatch modes.

`torch.ops.metanorm.layer_norm_2f1c7a09` takes the arguments of the function `layer_norm` of the
module with this digest, and returns its results, what the backward kernel needs, and the new values
of the buffers that it updates: an operation with a gradient may change nothing. Its gradient is the
operation of the same name with `_backward` behind it.

Torch traces operations by tensors without memory. What the results of a call look like is asked of
tensors that lie alike, in memory that is never touched.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from metanorm.runtime.identity import NAMESPACE
from metanorm.runtime.kernels.gradient import differentiable_gradients, gradients_of
from metanorm.runtime.kernels.refusals import Unfit
from metanorm.runtime.kernels.route import Gradients, Route
from metanorm.runtime.kernels.routes import Routes
from metanorm.runtime.kernels.traced import (
    is_closed,
    is_traced,
    laid_out_like,
    outside_of_traces,
    stand_in,
    without_values,
)  # fmt: skip
from metanorm.runtime.tensors import is_batched, transformed

# What a schema calls the types of arguments; of several, those that kernels take.
TYPES: Mapping[str, str] = {
    "Tensor": "Tensor",
    "Tensor | None": "Tensor?",
    "float": "float",
    "float | None": "float?",
    "float | Tensor": "float",
    "int": "int",
    "int | None": "int?",
    "bool": "bool",
    "str": "str",
    "str | Tensor": "str",
    "tuple[int, ...]": "int[]",
}
# How tensors lie in a graph is how they come, as their results were foreseen.
TAGS = tuple(
    getattr(torch.Tag, name) for name in ("needs_exact_strides",) if hasattr(torch.Tag, name)
)

_operations: dict[str, Operation | None] = {}  # by name: modules of the same text share them
_lock = threading.Lock()


def operation_of(function: Callable[..., Any], routes: Routes) -> Operation | None:
    """The operation of a norm's function, or `None` where it has arguments that no operation of
    torch can take."""
    name = f"{function.__name__}_{routes.library.digest}"
    with _lock:
        if name not in _operations:
            _operations[name] = _registered(name, function, routes)
        return _operations[name]


def _registered(name: str, function: Callable[..., Any], routes: Routes) -> Operation | None:
    kinds = [TYPES.get(str(p.annotation)) for p in inspect.signature(function).parameters.values()]
    known = [kind for kind in kinds if kind is not None]
    return Operation(name, function, routes, known) if len(known) == len(kinds) else None


def _namespace() -> Any:
    return getattr(torch.ops, NAMESPACE)


class Operation:
    """The operations of both directions."""

    def __init__(
        self, name: str, function: Callable[..., Any], routes: Routes, kinds: Sequence[str]
    ) -> None:
        self.function = function
        self.routes = routes
        self.names = routes.names
        arguments = ", ".join(f"{kind} {name}" for kind, name in zip(kinds, self.names))
        self.kinds = [kind.removesuffix("?") for kind in kinds]
        library: Any = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
        self.library = library  # which ends its operations with it
        both = {
            name: (f"({arguments}) -> Tensor[]", self._forward, self._shapes),
            f"{name}_backward": (
                f"({arguments}, Tensor kept, Tensor[] gradients, bool[] needed) -> Tensor[]",
                self._backward, self._gradient_shapes,
            ),
        }  # fmt: skip
        for own, (schema, kernel, shapes) in both.items():
            library.define(f"{own}{schema}", tags=TAGS)
            library.impl(own, kernel, "CPU")
            torch.library.register_fake(f"{NAMESPACE}::{own}", shapes, lib=library)
        torch.library.register_autograd(
            f"{NAMESPACE}::{name}", self._gradients, setup_context=self._save, lib=library
        )
        self._operation = getattr(_namespace(), name).default
        self._backward_operation = getattr(_namespace(), f"{name}_backward").default

    def takes(self, args: Sequence[Any]) -> bool:
        """Whether all arguments are of the kinds that the operation has in its schema."""
        return len(args) == len(self.kinds) and all(
            value is None or (kind == "Tensor") == isinstance(value, Tensor)
            for value, kind in zip(args, self.kinds)
        )

    def __call__(self, *args: Any) -> Any:
        """The result of a call, with all buffers updated. Raises `Unfit`."""
        operands = _tensors(args)
        if not all(map(is_closed, operands)):  # what is kept has as many elements as C says
            raise Unfit("lengths that are open while a graph is made: compile with dynamic=False")
        route = self._route(args)
        found = self._operation(*args)
        count = len(route.prepared.results)
        with torch.no_grad():
            for number, new in zip(route.changed, found[count + 1 :]):
                operands[number].copy_(new)
        outputs = found[:count]
        return outputs[0] if route.results is None else route.results(*outputs)

    def _route(self, args: Sequence[Any]) -> Route:
        """What calls like this one have in common, maybe while a graph is made. Raises `Unfit`."""
        if not any(map(is_traced, _tensors(args))):
            return self._real_call(args)[0]
        values = dict(zip(self.names, args))
        if any(values[n] is not None and values[f"{n}_size"] is None for n in self.routes.indices):
            raise Unfit("a number of groups that is in the data: pass it beside the labels")
        with outside_of_traces():
            return self._real_call([stand_in(value) for value in args])[0]

    def _real_call(self, args: Sequence[Any]) -> tuple[Route, list[Tensor], list[float]]:
        """What calls like this one have in common, its tensors and its momenta. Raises `Unfit`."""
        return self.routes.of(tuple(map(_as_called, args)))

    def _forward(self, *args: Any) -> list[Tensor]:
        """The results, what the backward kernel needs, and the new values of buffers."""
        arm = self.routes.arm(dict(zip(self.names, args)))
        written = self.routes.written(arm)
        args = tuple(
            value.clone() if name in written and value is not None else value
            for name, value in zip(self.names, args)
        )
        changed = [v for name, v in zip(self.names, args) if name in written and v is not None]
        try:
            route, operands, momenta = self._real_call(args)
            outputs, kept = route.forward(operands, momenta, keep=True)
        except Unfit:  # this call is not like the one of which the graph was made
            outputs, kept = _each(self.function(*args)), None
        return [*outputs, args[0].new_empty(0) if kept is None else kept, *changed]

    def _shapes(self, *args: Any) -> list[Tensor]:
        """Results of `_forward` without their values."""
        route = self._route(args)
        operands = _tensors(args)
        outputs = [without_values(place, operands) for place in route.prepared.results]
        count: Any = route.prepared.kept
        if count and not all(map(is_closed, operands)):
            count = torch.library.get_ctx().new_dynamic_size()
        kept = operands[0].new_empty(count, dtype=route.prepared.real)
        return [*outputs, kept, *(torch.empty_like(operands[n]) for n in route.changed)]

    def _save(self, ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        """Save what the other ways of a call save, in the same order: checkpoints count it."""
        route = ctx.route = self._route(inputs)
        outputs = len(route.prepared.results)
        ctx.others = [None if isinstance(value, Tensor) else value for value in inputs]
        ctx.places = [i for i, value in enumerate(inputs) if isinstance(value, Tensor)]
        ctx.outputs = [(o.shape, o.dtype) for o in output[:outputs]]
        ctx.layouts = [(t.shape, t.stride(), t.dtype) for t in _tensors(inputs)]
        saved: Gradients = list(_tensors(inputs))
        for number in route.copied:  # as it is now: this call, or the next one, changes it
            saved[number] = saved[number].clone()  # type: ignore[union-attr]
        for number in route.unread:
            saved[number] = None
        ctx.save_for_backward(*saved, output[outputs] if route.prepared.kept else None)

    def _gradients(self, ctx: Any, gradients: Sequence[Tensor | None]) -> tuple[Any, ...]:
        """The gradients of all arguments."""
        *saved, kept = ctx.saved_tensors
        some = next(tensor for tensor in (*gradients, *saved) if tensor is not None)
        arrived = [
            some.new_zeros(shape, dtype=dtype) if g is None else g
            for g, (shape, dtype) in zip(gradients, ctx.outputs)
        ]
        needed = [ctx.needs_input_grad[place] for place in ctx.places]
        # What nothing but equations serves.
        if torch.is_grad_enabled() or transformed() or any(map(is_batched, arrived)):
            own = differentiable_gradients(ctx.route, saved, needed, arrived)
        else:
            args = list(ctx.others)
            for place, tensor, (shape, strides, dtype) in zip(ctx.places, saved, ctx.layouts):
                # Nobody reads what was not saved, but for how it lies.
                lies_alike = some.new_empty_strided(shape, strides, dtype=dtype)
                args[place] = lies_alike if tensor is None else tensor
            kept = some.new_empty(0) if kept is None else kept
            own = _spread(self._backward_operation(*args, kept, arrived, needed), needed)
        found: list[Tensor | None] = [None] * len(ctx.others)
        for place, gradient in zip(ctx.places, own):
            found[place] = gradient
        return tuple(found)

    def _backward(self, *args: Any) -> list[Tensor]:
        """The gradients of those tensors that need one."""
        *inputs, kept, gradients, needed = args
        try:
            route, operands, _ = self._real_call(inputs)
        except Unfit:
            found = self._gradients_of_equations(inputs, gradients, needed)
        else:
            saved: list[Tensor | None] = list(operands)
            for number in route.unread:
                saved[number] = None
            saved.append(kept if kept.numel() else None)
            found = gradients_of(route, saved, needed, gradients)
        pairs = zip(found, _tensors(inputs), needed)
        return [laid_out_like(gradient, x) for gradient, x, need in pairs if need]

    def _gradients_of_equations(
        self, inputs: Sequence[Any], gradients: Sequence[Tensor], needed: Sequence[bool]
    ) -> Gradients:
        """The gradients of all tensors by torch."""
        needs = iter(needed)
        args = [
            value.detach().clone().requires_grad_(next(needs)) if isinstance(value, Tensor)
            else value
            for value in inputs
        ]  # fmt: skip
        with torch.enable_grad():
            outputs = _each(self.function(*args))
        wanted = [tensor for tensor in _tensors(args) if tensor.requires_grad]
        pairs = [(o, g) for o, g in zip(outputs, gradients) if o.requires_grad]
        found = torch.autograd.grad(
            [o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True
        )
        return _spread(found, needed)

    def _gradient_shapes(self, *args: Any) -> list[Tensor]:
        """Results of `_backward` without their values."""
        *inputs, _, _, needed = args
        return [torch.empty_like(x) for x, need in zip(_tensors(inputs), needed) if need]


def _as_called(value: Any) -> Any:
    """An argument as kernels take it: a sequence as it was called, a tensor of no other class."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, Tensor) and type(value) is not Tensor and type(value) is not Parameter:
        return value.as_subclass(Tensor)
    return value


def _tensors(args: Iterable[Any]) -> list[Tensor]:
    return [value for value in args if isinstance(value, Tensor)]


def _each(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _spread(found: Iterable[Tensor | None], needed: Sequence[bool]) -> Gradients:
    rest = iter(found)
    return [next(rest) if need else None for need in needed]
