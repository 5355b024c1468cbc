"""The kernels of a norm as a custom operation of torch, for graphs and dispatch modes.

`torch.ops.metanorm.layer_norm_2f1c7a09` takes the arguments of the function `layer_norm` of the
module with this digest, and returns its results, what the backward kernel needs, and the new values
of the buffers that it updates: an operation with a gradient may change nothing. Its gradient is the
operation of the same name with `_backward` behind it.

Torch traces operations with fake tensors. The layouts of results are then those of a call plan for
real tensors with the same layout, whose memory is never touched.
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
from metanorm.runtime.kernels.autograd import differentiable_gradients, gradients_of
from metanorm.runtime.kernels.call_plan import CallPlan, Gradients
from metanorm.runtime.kernels.errors import Unsupported
from metanorm.runtime.kernels.fake_tensors import (
    example_for,
    fake_result,
    has_static_layout,
    in_fake_layout,
    is_fake,
    without_tracing,
)  # fmt: skip
from metanorm.runtime.kernels.plan_cache import PlanCache
from metanorm.runtime.saving import demand_unchanged
from metanorm.runtime.tensors import is_batched, is_transformed

# The type of an argument in a schema, by its annotation; of a union, the part that kernels take.
SCHEMA_TYPES: Mapping[str, str] = {
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
# The strides in a graph must be those of the call: results are laid out by them.
TAGS = tuple(
    getattr(torch.Tag, name) for name in ("needs_exact_strides",) if hasattr(torch.Tag, name)
)

_operations: dict[str, Operation | None] = {}  # by name: modules of the same text share them
_lock = threading.Lock()


def operation_for(function: Callable[..., Any], plans: PlanCache) -> Operation | None:
    """The operation of a norm's function; `None` if no schema can have its arguments."""
    name = f"{function.__name__}_{plans.library.digest}"
    with _lock:
        if name not in _operations:
            _operations[name] = _register(name, function, plans)
        return _operations[name]


def _register(name: str, function: Callable[..., Any], plans: PlanCache) -> Operation | None:
    parameters = inspect.signature(function).parameters.values()
    types = [SCHEMA_TYPES.get(str(parameter.annotation)) for parameter in parameters]
    known_types = [type_ for type_ in types if type_ is not None]
    if len(known_types) < len(types):
        return None
    return Operation(name, function, plans, known_types)


def _namespace() -> Any:
    return getattr(torch.ops, NAMESPACE)


class Operation:
    """The operations of both directions; `schema_types` has the type of each argument."""

    def __init__(
        self, name: str, function: Callable[..., Any], plans: PlanCache, schema_types: Sequence[str]
    ) -> None:
        self.function = function
        self.plans = plans
        self.names = plans.names
        arguments = ", ".join(f"{type_} {name}" for type_, name in zip(schema_types, self.names))
        self.types = [type_.removesuffix("?") for type_ in schema_types]
        library: Any = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
        self.library = library  # its operations end with it
        definitions = {
            name: (f"({arguments}) -> Tensor[]", self._forward, self._fake_forward),
            f"{name}_backward": (
                f"({arguments}, Tensor saved, Tensor[] gradients, bool[] needed) -> Tensor[]",
                self._backward, self._fake_backward,
            ),
        }  # fmt: skip
        for operation, (schema, kernel, fake) in definitions.items():
            library.define(f"{operation}{schema}", tags=TAGS)
            library.impl(operation, kernel, "CPU")
            torch.library.register_fake(f"{NAMESPACE}::{operation}", fake, lib=library)
        torch.library.register_autograd(
            f"{NAMESPACE}::{name}", self._gradients, setup_context=self._setup_context, lib=library
        )
        self._operation = getattr(_namespace(), name).default
        self._backward_operation = getattr(_namespace(), f"{name}_backward").default

    def accepts(self, args: Sequence[Any]) -> bool:
        """Whether the schema allows these arguments."""
        return len(args) == len(self.types) and all(
            value is None or (type_ == "Tensor") == isinstance(value, Tensor)
            for value, type_ in zip(args, self.types)
        )

    def __call__(self, *args: Any) -> Any:
        """The result of a call, with all buffers updated. Raises `Unsupported`."""
        operands = _tensors(args)
        if not all(map(has_static_layout, operands)):  # C decides how many elements are saved
            raise Unsupported(
                "lengths that are open while a graph is made: compile with dynamic=False"
            )
        plan = self._plan(args)
        results = self._operation(*args)
        count = len(plan.prepared.results)
        with torch.no_grad():
            for number, value in zip(plan.mutated, results[count + 1 :]):
                operands[number].copy_(value)
        outputs = results[:count]
        return outputs[0] if plan.output_class is None else plan.output_class(*outputs)

    def _plan(self, args: Sequence[Any]) -> CallPlan:
        """The plan of a call, also of one with fake tensors. Raises `Unsupported`."""
        if not any(map(is_fake, _tensors(args))):
            return self._lookup(args)[0]
        values = dict(zip(self.names, args))
        if any(values[n] is not None and values[f"{n}_size"] is None for n in self.plans.indices):
            raise Unsupported("a number of groups that is in the data: pass it beside the labels")
        with without_tracing():
            return self._lookup([example_for(value) for value in args])[0]

    def _lookup(self, args: Sequence[Any]) -> tuple[CallPlan, list[Tensor], list[float]]:
        """The plan of a call, its operands and its momenta. Raises `Unsupported`."""
        return self.plans.lookup(tuple(map(_as_kernel_argument, args)))

    def _forward(self, *args: Any) -> list[Tensor]:
        """The outputs, what the backward kernel reads, and the new values of buffers."""
        written = self.plans.buffers_written(self.plans.variant_of(dict(zip(self.names, args))))
        args = tuple(
            value.clone() if name in written and value is not None else value
            for name, value in zip(self.names, args)
        )
        buffers = [v for name, v in zip(self.names, args) if name in written and v is not None]
        try:
            plan, operands, momenta = self._lookup(args)
            outputs, saved = plan.forward(operands, momenta, save=True)
        except Unsupported:  # the graph was made for another signature
            outputs, saved = _as_tuple(self.function(*args)), None
        return [*outputs, args[0].new_empty(0) if saved is None else saved, *buffers]

    def _fake_forward(self, *args: Any) -> list[Tensor]:
        """Fake tensors in the layouts of the results of `_forward`."""
        plan = self._plan(args)
        operands = _tensors(args)
        outputs = [fake_result(slot, operands) for slot in plan.prepared.results]
        numel: Any = plan.prepared.saved_numel
        if numel and not all(map(has_static_layout, operands)):
            numel = torch.library.get_ctx().new_dynamic_size()
        saved = operands[0].new_empty(numel, dtype=plan.prepared.real)
        return [*outputs, saved, *(torch.empty_like(operands[n]) for n in plan.mutated)]

    def _setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        """Save the same tensors as `Normalized.forward`, in the same order: checkpoints count."""
        plan = ctx.plan = self._plan(inputs)
        count = len(plan.prepared.results)
        ctx.scalars = [None if isinstance(value, Tensor) else value for value in inputs]
        ctx.positions = [i for i, value in enumerate(inputs) if isinstance(value, Tensor)]
        ctx.outputs = [(o.shape, o.dtype) for o in output[:count]]
        ctx.layouts = [(t.shape, t.stride(), t.dtype) for t in _tensors(inputs)]
        to_save: Gradients = list(_tensors(inputs))
        for number in plan.cloned:  # this call, or the next one, changes it in place
            to_save[number] = to_save[number].clone()  # type: ignore[union-attr]
        for number in plan.unsaved:
            to_save[number] = None
        ctx.save_for_backward(*to_save, output[count] if plan.prepared.saved_numel else None)

    def _gradients(self, ctx: Any, gradients: Sequence[Tensor | None]) -> tuple[Any, ...]:
        """The gradients of all arguments."""
        *operands, saved = ctx.saved_tensors
        like = next(tensor for tensor in (*gradients, *operands) if tensor is not None)
        for tensor, (shape, _, dtype) in zip(operands, ctx.layouts):
            if tensor is not None and not is_fake(tensor):
                demand_unchanged(tensor, shape, dtype, like.device)
        output_gradients = [
            like.new_zeros(shape, dtype=dtype) if g is None else g
            for g, (shape, dtype) in zip(gradients, ctx.outputs)
        ]
        needed = [ctx.needs_input_grad[position] for position in ctx.positions]
        if torch.is_grad_enabled() or is_transformed() or any(map(is_batched, output_gradients)):
            # Only torch differentiates these.
            input_gradients = differentiable_gradients(ctx.plan, operands, needed, output_gradients)
        else:
            args = list(ctx.scalars)
            for position, tensor, layout in zip(ctx.positions, operands, ctx.layouts):
                # Of a tensor that was not saved, only the layout is read.
                shape, strides, dtype = layout
                unread = like.new_empty_strided(shape, strides, dtype=dtype)
                args[position] = unread if tensor is None else tensor
            saved = like.new_empty(0) if saved is None else saved
            results = self._backward_operation(*args, saved, output_gradients, needed)
            input_gradients = _one_per_operand(results, needed)
        by_position: list[Tensor | None] = [None] * len(ctx.scalars)
        for position, gradient in zip(ctx.positions, input_gradients):
            by_position[position] = gradient
        return tuple(by_position)

    def _backward(self, *args: Any) -> list[Tensor]:
        """The gradients of those tensors that need one."""
        *inputs, saved, gradients, needed = args
        try:
            plan, operands, _ = self._lookup(inputs)
        except Unsupported:
            input_gradients = self._backward_on_torch(inputs, gradients, needed)
        else:
            saved_tensors: list[Tensor | None] = list(operands)
            for number in plan.unsaved:
                saved_tensors[number] = None
            saved_tensors.append(saved if saved.numel() else None)
            input_gradients = gradients_of(plan, saved_tensors, needed, gradients)
        triples = zip(input_gradients, _tensors(inputs), needed)
        return [in_fake_layout(gradient, x) for gradient, x, need in triples if need]

    def _backward_on_torch(
        self, inputs: Sequence[Any], gradients: Sequence[Tensor], needed: Sequence[bool]
    ) -> Gradients:
        """The gradients of all tensors, by torch."""
        needs = iter(needed)
        args = [
            value.detach().clone().requires_grad_(next(needs)) if isinstance(value, Tensor)
            else value
            for value in inputs
        ]  # fmt: skip
        with torch.enable_grad():
            outputs = _as_tuple(self.function(*args))
        wanted = [tensor for tensor in _tensors(args) if tensor.requires_grad]
        pairs = [(o, g) for o, g in zip(outputs, gradients) if o.requires_grad]
        needed_gradients = torch.autograd.grad(
            [o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True
        )
        return _one_per_operand(needed_gradients, needed)

    def _fake_backward(self, *args: Any) -> list[Tensor]:
        """Fake tensors in the layouts of the results of `_backward`."""
        *inputs, _, _, needed = args
        return [torch.empty_like(x) for x, need in zip(_tensors(inputs), needed) if need]


def _as_kernel_argument(value: Any) -> Any:
    """An argument as kernels take it: a list as a tuple, a tensor of a subclass as a plain one."""
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, Tensor) and type(value) is not Tensor and type(value) is not Parameter:
        return value.as_subclass(Tensor)
    return value


def _tensors(args: Iterable[Any]) -> list[Tensor]:
    return [value for value in args if isinstance(value, Tensor)]


def _as_tuple(result: Any) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _one_per_operand(gradients: Iterable[Tensor | None], needed: Sequence[bool]) -> Gradients:
    """The gradients of those operands that need one, with `None` for the others."""
    remaining = iter(gradients)
    return [next(remaining) if need else None for need in needed]
