"""`runtime.scan` beside a loop over all steps."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.export import Dim, export

from metanorm.runtime import scan, state_before

WAYS = list(itertools.product((False, True), (False, True)))


def by_steps(
    x: Tensor, decay: Tensor, start: Tensor, dim: int, reverse: bool, before: bool
) -> Tensor:
    """The recurrence, step by step."""
    shape = torch.broadcast_shapes(x.shape, decay.shape, start.shape)
    values, decays = x.expand(shape).unbind(dim), decay.expand(shape).unbind(dim)
    state = start.expand([1 if d == dim else n for d, n in enumerate(shape)]).squeeze(dim)
    states: list[Tensor] = []
    for step in reversed(range(len(values))) if reverse else range(len(values)):
        begun, state = state, decays[step] * state + values[step]
        states.append(begun if before else state)
    return torch.stack(states[::-1] if reverse else states, dim)


def operands(
    length: int, constant: bool = False, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(2, length, 3, dtype=dtype)
    decay = torch.rand(1 if constant else length, 1, dtype=dtype) * 1.2 - 0.2
    return x, decay, torch.randn(2, 1, 1, dtype=dtype)


@pytest.mark.parametrize(("reverse", "before"), WAYS)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 65])
def test_values_and_gradients_are_those_of_a_loop(
    length: int, constant: bool, reverse: bool, before: bool
) -> None:
    inputs = [t.requires_grad_() for t in operands(length, constant)]
    ours = scan(*inputs, 1, reverse, before)
    theirs = by_steps(*inputs, 1, reverse, before)
    torch.testing.assert_close(ours, theirs)
    grad = torch.randn_like(theirs)
    gradients = torch.autograd.grad(ours, inputs, grad, allow_unused=True, materialize_grads=True)
    wanted = torch.autograd.grad(theirs, inputs, grad, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(gradients, wanted)


@pytest.mark.parametrize(("reverse", "before"), WAYS)
def test_derivatives_of_all_orders_and_modes(reverse: bool, before: bool) -> None:
    inputs = [t.requires_grad_() for t in operands(5)]

    def function(x: Tensor, decay: Tensor, start: Tensor) -> Tensor:
        return scan(x, decay, start, 1, reverse, before)

    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_small_decays_and_zeros_divide_nothing() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 500, 3)
    decay = torch.where(torch.rand(500, 1) < 0.1, 0.0, 10.0 ** -(torch.rand(500, 1) * 30))
    start = torch.randn(1, 1, 3)
    exact = by_steps(*(t.double() for t in (x, decay, start)), 1, False, False)
    torch.testing.assert_close(scan(x, decay, start, 1), exact.float())


def test_what_is_not_finite_reaches_no_earlier_position() -> None:
    x, decay, start = operands(20)
    x[:, 11] = torch.nan
    states = scan(x, decay, start, 1)
    assert states[:, :11].isfinite().all() and states[:, 11:].isnan().all()
    recorded = torch.compile(scan, backend="eager")(x, decay, start, 1)
    assert recorded[:, :11].isfinite().all() and recorded[:, 11:].isnan().all()


def test_numbers_broadcast_and_no_positions_give_no_states() -> None:
    x = torch.randn(4, 6)
    torch.testing.assert_close(scan(x, 1.0, 0.0, -1), x.cumsum(-1))
    assert scan(x[:, :0], 0.5, 0.0, 1).shape == (4, 0)
    assert state_before(x[:, :0], 0.0, 1).shape == (4, 0)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_state_before_is_that_after_the_last_step(reverse: bool) -> None:
    x, decay, start = operands(9)
    after = scan(x, decay, start, 1, reverse)
    wanted = by_steps(x, decay, start, 1, reverse, True)
    torch.testing.assert_close(state_before(after, start, 1, reverse), wanted)


def test_it_can_be_batched() -> None:
    x, decay, start = operands(9)
    ours = torch.func.vmap(lambda x, start: scan(x, decay, start, 0))(x, start)
    torch.testing.assert_close(ours, by_steps(x, decay, start, 1, False, False))


class Scanned(torch.nn.Module):
    """A module to export."""

    def forward(self, x: Tensor, decay: Tensor, start: Tensor) -> Tensor:
        return scan(x, decay, start, 1, reverse=True)


@pytest.mark.parametrize("constant", [False, True])
def test_an_exported_program_holds_for_any_length(constant: bool) -> None:
    length = Dim("length", min=2)
    shapes = {"x": {1: length}, "decay": None if constant else {0: length}, "start": None}
    program = export(Scanned(), operands(40, constant), dynamic_shapes=shapes).module()
    for length in (2, 3, 64, 4099):
        inputs = operands(length, constant)
        torch.testing.assert_close(program(*inputs), by_steps(*inputs, 1, True, False))
