"""A state that moves along a dimension: m[t] = decay[t] * m[t - 1] + x[t].

Two steps are one step with the product of their decays. So a scan takes pairs of steps together,
finds the state behind each pair, and goes on from there to the states in between: as many rounds as
the length has binary digits, and twice the work of a loop in all. Nothing is divided, as it would
be by a quotient of running products, so that decays may be small, zero or negative.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.padding import padded
from metanorm.runtime.saving import save, saved
from metanorm.runtime.tensors import must_decompose

BLOCK = 64  # positions, in a program that is recorded and holds for any length


def scan(
    x: Tensor,
    decay: Tensor | float,
    start: Tensor | float,
    dim: int,
    reverse: bool = False,
    before: bool = False,
) -> Tensor:
    """The state after each position of `dim`; before the first one it is `start`.

    With `before`, the state that each position begins with; with `reverse`, steps go from the last
    position to the first. All three broadcast against each other, and `start` has length one along
    `dim`. The result has the shape that they have together.
    """
    tensors = [v if isinstance(v, Tensor) else x.new_tensor(v) for v in (x, decay, start)]
    dtype = torch.promote_types(torch.promote_types(x.dtype, tensors[1].dtype), tensors[2].dtype)
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))  # type: ignore[no-untyped-call]
    x, decay, start = (tensor.to(dtype) for tensor in tensors)
    x, dim = x.expand(shape), dim % len(shape)
    decay, start = (v.reshape((1,) * (len(shape) - v.dim()) + v.shape) for v in (decay, start))
    if must_decompose(x):
        return _scanned(x, decay, start, dim, reverse, before)
    states: Tensor = _Scan.apply(x, decay, start, dim, reverse, before)  # type: ignore[no-untyped-call]
    return states


def state_before(states: Tensor, start: Tensor | float, dim: int, reverse: bool = False) -> Tensor:
    """The state that each position of `dim` begins with, from the states after each.

    `start` broadcasts against `states`, and has length one along `dim`.
    """
    if not states.shape[dim]:
        return states
    start = states.new_tensor(start) if not isinstance(start, Tensor) else start.to(states.dtype)
    first, others = start.expand_as(states.narrow(dim, 0, 1)), states.shape[dim] - 1
    if reverse:
        return padded(states, dim, -1, 1, 0.0) + padded(first, dim, others, 0, 0.0)
    return padded(states, dim, 1, -1, 0.0) + padded(first, dim, 0, others, 0.0)


class _Scan(torch.autograd.Function):
    """The adjoint of a scan is a scan in the other direction, and so is its own.

    The adjoint of the state after a position is what arrives there, and what arrives behind it,
    decayed. It saves the decays, the start and the states.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, decay: Tensor, start: Tensor, dim: int, reverse: bool, before: bool
    ) -> Tensor:
        return _scanned(x, decay, start, dim, reverse, before)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, decay, start, ctx.dim, ctx.reverse, ctx.before = inputs
        save(ctx, decay, start, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        decay, start, states = saved(ctx)
        (g,), dim, reverse = gradients, ctx.dim, ctx.reverse
        arriving = g if ctx.before else decay * g
        adjoint = scan(arriving, decay, 0.0, dim, not reverse, before=True)
        x_gradient = adjoint if ctx.before else g + adjoint
        decay_gradient = start_gradient = None
        if ctx.needs_input_grad[1]:
            begun = states if ctx.before else state_before(states, start, dim, reverse)
            decay_gradient = (x_gradient * begun).sum_to_size(decay.shape)
        if ctx.needs_input_grad[2]:
            first = _first(decay * x_gradient + (g if ctx.before else 0), dim, reverse)
            start_gradient = first.sum_to_size(start.shape)
        return x_gradient, decay_gradient, start_gradient, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        decay, start, states = saved(ctx)
        dx, ddecay, dstart = tangents[:3]
        change = torch.zeros_like(states) if dx is None else dx
        if ddecay is not None:
            begun = states if ctx.before else state_before(states, start, ctx.dim, ctx.reverse)
            change = change + ddecay * begun
        dstart = 0.0 if dstart is None else dstart
        return scan(change, decay, dstart, ctx.dim, ctx.reverse, ctx.before)


def _scanned(
    x: Tensor, decay: Tensor, start: Tensor, dim: int, reverse: bool, before: bool
) -> Tensor:
    """A scan by operations of torch."""
    if reverse:
        states = _scanned(x.flip(dim), decay.flip(dim), start, dim, False, before)
        return states.flip(dim)
    length = x.shape[dim]
    if not must_decompose(x) and not length:
        return x.clone()
    x = x + padded(decay.narrow(dim, 0, 1) * start, dim, 0, length - 1, 0.0)
    is_known = isinstance(length, int) and not torch.compiler.is_dynamo_compiling()
    states = (_states if is_known else _states_of_blocks)(x, decay, dim)
    return state_before(states, start, dim) if before else states


def _states(x: Tensor, decay: Tensor, dim: int) -> Tensor:
    """The states after zero, by rounds that take pairs of steps together."""
    length, is_constant = x.shape[dim], decay.shape[dim] == 1
    if length < 2:
        return x
    if length % 2:
        x = padded(x, dim, 0, 1, 0.0)
        decay = decay if is_constant else padded(decay, dim, 0, 1, 1.0)
    even_x, odd_x = torch.unflatten(x, dim, ((length + 1) // 2, 2)).unbind(dim + 1)
    even_decay, odd_decay = decay, decay
    if not is_constant:
        even_decay, odd_decay = torch.unflatten(decay, dim, ((length + 1) // 2, 2)).unbind(dim + 1)
    pairs = torch.addcmul(odd_x, odd_decay, even_x)
    after_pairs = _states(pairs, even_decay * odd_decay, dim)
    between = torch.addcmul(even_x, even_decay, padded(after_pairs, dim, 1, -1, 0.0))
    states = torch.stack([between, after_pairs], dim + 1).flatten(dim, dim + 1)
    return states.narrow(dim, 0, length)


def _states_of_blocks(x: Tensor, decay: Tensor, dim: int) -> Tensor:
    """The same in a program that holds for any length: rounds in blocks of a fixed length, and
    sums of all earlier blocks."""
    length, is_constant = x.shape[dim], decay.shape[dim] == 1
    count = (length + BLOCK - 1) // BLOCK + 1  # never one, which programs would be made for
    missing = count * BLOCK - length
    blocks = _blocks(padded(x, dim, 0, missing, 0.0), dim)
    if is_constant:
        decays = decay.unsqueeze(dim).expand(*decay.shape[:dim], 1, BLOCK, *decay.shape[dim + 1 :])
    else:
        decays = _blocks(padded(decay, dim, 0, missing, 1.0), dim)
    inner, decay_since = dim + 1, decays.cumprod(dim + 1)
    within = _states(blocks, decays, inner)
    ends = _states_by_products(within.select(inner, -1), decay_since.select(inner, -1), dim)
    begun = padded(ends, dim, 1, -1, 0.0).unsqueeze(inner)
    states = torch.addcmul(within, decay_since, begun).flatten(dim, inner)
    return padded(states, dim, 0, -missing, 0.0)


def _blocks(x: Tensor, dim: int) -> Tensor:
    """The dimension as two: of blocks, and of positions within them."""
    return x.unfold(dim, BLOCK, BLOCK).movedim(-1, dim + 1)


def _states_by_products(x: Tensor, decay: Tensor, dim: int) -> Tensor:
    """The states after zero, as sums over all earlier positions times the products of decays."""
    x = x.movedim(dim, -1)
    decay = decay.movedim(dim, -1)
    decay = decay.expand(*decay.shape[:-1], x.shape[-1])
    position = torch.arange(x.shape[-1], device=x.device)
    later = position[:, None] > position
    decays = torch.where(later, decay[..., None], 1).cumprod(-2)
    taken_in = torch.where(position[:, None] >= position, decays * x[..., None, :], 0)
    return taken_in.sum(-1).movedim(-1, dim)


def _first(x: Tensor, dim: int, reverse: bool) -> Tensor:
    """The position that a scan begins with."""
    return x.narrow(dim, x.shape[dim] - 1 if reverse else 0, 1)
