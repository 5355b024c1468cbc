"""Backward passes that norms state: gradients of inputs, and updates of buffers, in training.

`with_backward` decorates the function of such a norm. To the function itself, the inputs with
stated gradients are constants, so that all other gradients are derived as ever. Their own gradients
join in where the outputs leave the function.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from metanorm.runtime.distributed import replicated_beside
from metanorm.runtime.graph_nodes import between_graphs
from metanorm.runtime.tensors import is_transformed

F = TypeVar("F", bound=Callable[..., Any])


def with_backward(
    function: Callable[..., Any],
    *,
    of: Sequence[str] = (),
    arriving: Sequence[str],
    buffers: Sequence[str] = (),
    before: Mapping[str, str] = {},
) -> Callable[[F], F]:
    """A decorator that gives a norm's function the backward pass `function`, in training.

    `of` names the inputs whose gradients `function` returns, in order. Its parameters are those of
    the norm's function by name, the gradients of the outputs in the order of `arriving`, and
    `before` by buffer the name of its contents before the call. Those in `buffers` it reads and
    stores into when the backward pass runs. The gradients of parameters and of other inputs are
    derived. Under `torch.func` or forward-mode differentiation a call in training raises
    `RuntimeError`, and so does differentiating a stated gradient.
    """
    stated = _Stated(function, tuple(of), tuple(arriving), frozenset(buffers), dict(before))

    def decorate(forward: F) -> F:
        signature = inspect.signature(forward)

        @functools.wraps(forward)
        def call(*args: Any, **named: Any) -> Any:
            arguments = dict(zip(signature.parameters, args)) | named
            if not arguments.get("training", True) or torch.compiler.is_exporting():
                return forward(*args, **named)
            # A graph would copy a buffer for the backward pass only there, behind its update.
            if torch.compiler.is_compiling():
                return outside(*args, **named)
            if is_transformed() or torch._C._get_tracing_state() is not None:
                raise RuntimeError(
                    f"{forward.__name__} states its own backward pass, which transforms of torch "
                    "do not know: call it in eval mode, or differentiate with `backward()`"
                )
            # In the order of the parameters, whatever the call names; or a `TypeError`, as ever.
            return stated.attached(forward, signature.bind(*args, **named).arguments)

        reason = f"{forward.__name__} states its own backward pass, which no graph can hold"
        outside = between_graphs(call, forward.__name__, reason)
        return cast(F, call)

    return decorate


@dataclass(frozen=True)
class _Stated:
    """The backward pass of a norm: its function, and what that is given."""

    function: Callable[..., Any]
    of: tuple[str, ...]
    arriving: tuple[str, ...]
    buffers: frozenset[str]
    before: Mapping[str, str]

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The parameters of the function."""
        return tuple(inspect.signature(self.function).parameters)

    def attached(self, forward: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """The result of the norm's function, with this backward pass."""
        inputs = [arguments[name] for name in self.of]
        if not torch.is_grad_enabled() or next(iter(arguments.values())).numel() == 0:
            return forward(**arguments)
        values = {new: arguments[name].detach().clone() for name, new in self.before.items()}
        values |= {name: arguments[name] for name in self.names if name in arguments}
        constants = {name: x.detach() for name, x in zip(self.of, inputs) if x is not None}
        result = forward(**{**arguments, **constants})
        outputs = result if isinstance(result, tuple) else (result,)
        if not any(x is not None and x.requires_grad for x in (*outputs, *inputs)):
            return result
        call = _Call(self, forward.__name__, values, len(outputs))
        attached = _WithBackward.apply(call, *outputs, *inputs)  # type: ignore[no-untyped-call]
        return type(result)(*attached) if isinstance(result, tuple) else attached[0]


@dataclass
class _Call:
    """One call: the arguments of its backward pass, without the arriving gradients."""

    stated: _Stated
    name: str
    arguments: dict[str, Any]
    output_count: int

    def saved(self) -> dict[str, Tensor]:
        """The tensors to save. Buffers that the backward pass moves are read where they are."""
        buffers = self.stated.buffers
        return {
            name: value
            for name, value in self.arguments.items()
            if isinstance(value, Tensor) and name not in buffers
        }

    def gradients(self, saved: Mapping[str, Tensor], arriving: Sequence[Tensor]) -> tuple[Any, ...]:
        """The stated gradients, one for each input. It stores into the buffers."""
        # Nothing multiplies eight bits, which an output may have.
        wide = (grad.float() if grad.dtype.itemsize == 1 else grad for grad in arriving)
        grads = dict(zip(self.stated.arriving, wide))
        values = {**self.arguments, **saved, **grads}
        with torch.no_grad(), replicated_beside(arriving[0]):
            result = self.stated.function(**{name: values[name] for name in self.stated.names})
        return result if isinstance(result, tuple) else (result,)[: len(self.stated.of)]


class _WithBackward(torch.autograd.Function):
    """Passes the outputs on. In the backward pass, the inputs get their stated gradients."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        saved = call.saved()
        ctx.names = tuple(saved)
        ctx.save_for_backward(*saved.values())
        call.arguments = {n: value for n, value in call.arguments.items() if n not in saved}
        ctx.call = call
        # Not as views, which nothing could then change in place.
        return tuple(
            output.detach() for output in tensors[: call.output_count] if output is not None
        )

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        needed = ctx.needs_input_grad[1 + call.output_count :]
        saved = dict(zip(ctx.names, ctx.saved_tensors))
        gradients = call.gradients(saved, arriving)
        if torch.is_grad_enabled():  # the graph is kept, to be differentiated again
            sources = [x for x in (*arriving, *saved.values()) if x.requires_grad]
            gradients = tuple(
                _NotDerivable.apply(call.name, gradient, *sources)  # type: ignore[no-untyped-call]
                for gradient in gradients
            )
        wanted = (g if is_needed else None for g, is_needed in zip(gradients, needed))
        return (None, *arriving, *wanted)


class _NotDerivable(torch.autograd.Function):
    """Passes a stated gradient on, and raises where it is differentiated."""

    @staticmethod
    def forward(ctx: Any, name: str, gradient: Tensor, *sources: Tensor) -> Tensor:
        ctx.name = name
        return gradient.detach()

    @staticmethod
    def backward(ctx: Any, *arriving: Tensor) -> None:
        raise RuntimeError(
            f"{ctx.name} states its own backward pass, which cannot be differentiated: take no "
            "gradient of its gradient"
        )
