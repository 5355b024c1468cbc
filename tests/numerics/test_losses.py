"""Norms for losses: the value, and its sum over the layers of a model."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.utils.checkpoint import checkpoint

import metanorm
from metanorm import runtime

F64 = torch.float64


def divergence(x: Tensor) -> Tensor:
    """From a normal distribution with the moments of each channel to the standard one."""
    rows = x.transpose(0, 1).flatten(1)
    fitted = Normal(rows.mean(1), rows.var(1, unbiased=False).sqrt())
    return kl_divergence(
        fitted, Normal(torch.zeros((), dtype=F64), torch.ones((), dtype=F64))
    ).mean()


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (2, 3, 4, 5)])
def test_it_is_the_divergence_from_a_standard_normal(
    shape: tuple[int, ...], library: ModuleType
) -> None:
    x = (3 * torch.randn(shape, dtype=F64) + 1).requires_grad_()
    actual, expected = library.StandardizationLoss(eps=0.0)(x), divergence(x)
    assert actual.shape == ()
    torch.testing.assert_close(actual, expected)
    (a,), (b,) = torch.autograd.grad(actual, x), torch.autograd.grad(expected, x)
    torch.testing.assert_close(a, b)


def test_it_is_finite_where_channels_are_constant(library: ModuleType) -> None:
    x = torch.full((4, 3), 2.0, requires_grad=True)
    loss = library.StandardizationLoss()(x)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(x.grad).all()


def test_nothing_is_lost_in_an_empty_batch(library: ModuleType) -> None:
    x = torch.empty(0, 3, requires_grad=True)
    loss = library.StandardizationLoss()(x)
    loss.backward()
    assert loss.shape == () and loss == 0 and x.grad.shape == (0, 3)


# ---- over a model


def net() -> nn.Sequential:
    inner = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), inner, nn.Linear(3, 2)).double()


def outputs(model: nn.Sequential, x: Tensor) -> list[Tensor]:
    """What the three linear layers put out."""
    first = model[0](x)
    second = model[2][0](first.relu())
    return [first, second, model[3](second.tanh())]


def test_the_sum_over_layers(library: ModuleType) -> None:
    model, loss = net(), library.StandardizationLoss()
    x = torch.randn(8, 5, dtype=F64)
    with runtime.collect(model, loss, nn.Linear) as collected:
        assert collected.loss() == 0
        model(x)
        assert list(collected.terms) == ["0", "2.0", "3"]
        wanted = sum(loss(y) for y in outputs(net_without_hooks(model), x))
        torch.testing.assert_close(collected.loss(), wanted)
        actual = torch.autograd.grad(collected.loss(), model.parameters())
    right = torch.autograd.grad(sum(loss(y) for y in outputs(model, x)), model.parameters())
    for a, b in zip(actual, right):
        torch.testing.assert_close(a, b)


def net_without_hooks(model: nn.Sequential) -> nn.Sequential:
    other = net()
    other.load_state_dict(model.state_dict())
    return other


def test_each_pass_begins_anew_and_evaluation_takes_no_part(library: ModuleType) -> None:
    model, x = net(), torch.randn(8, 5, dtype=F64)
    collected = runtime.collect(model, library.StandardizationLoss(), (nn.Linear,))
    model(x)
    once = collected.loss()
    model(x)
    torch.testing.assert_close(collected.loss(), once)
    model.eval()(x)
    assert collected.loss() == 0 and collected.terms == {}
    model.train()[2].eval()
    model(x)
    assert list(collected.terms) == ["0", "3"]
    collected.remove()
    model.train()(x)
    assert list(collected.terms) == ["0", "3"]


def test_a_layer_that_is_called_twice_counts_twice(library: ModuleType) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(self.layer(x))
            return y

    model, loss, x = Twice(), library.StandardizationLoss(), torch.randn(8, 3)
    with runtime.collect(model, loss, nn.Linear) as collected:
        model(x)
        assert [len(layer_terms) for layer_terms in collected.terms.values()] == [2]
        inner = nn.functional.linear(x, model.layer.weight, model.layer.bias)
        outer = nn.functional.linear(inner, model.layer.weight, model.layer.bias)
        torch.testing.assert_close(collected.loss(), loss(inner) + loss(outer))


def test_recomputed_layers_do_not_count_in_the_next_pass(library: ModuleType) -> None:
    class Checkpointed(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = checkpoint(super().forward, x, use_reentrant=False)
            return y

    model, x = Checkpointed(*net()), torch.randn(8, 5, dtype=F64)
    with runtime.collect(model, library.StandardizationLoss(), nn.Linear) as collected:
        first = model(x).sum() + collected.loss()
        first.backward()
        again = model(x).sum() + collected.loss()
    torch.testing.assert_close(again, first)


def test_what_cannot_be_collected_is_said(library: ModuleType) -> None:
    loss = library.StandardizationLoss()
    with pytest.raises(ValueError, match="the model has no layer of type Conv2d, Conv3d"):
        runtime.collect(net(), loss, (nn.Conv2d, nn.Conv3d))
    model = nn.Sequential(nn.LSTM(3, 2))
    with (
        runtime.collect(model, loss, nn.LSTM),
        pytest.raises(TypeError, match="the output of 0 is no tensor but a tuple"),
    ):
        model(torch.randn(4, 3))
    with (
        runtime.collect(net(), loss, nn.Linear),
        pytest.raises(runtime.ShapeError, match=r"expected \[N, C, \*S\]"),
    ):
        loss(torch.randn(3))


def test_the_first_of_several_outputs_is_the_loss() -> None:
    norms = metanorm.loads(
        """norm Spread for loss {
             input  x[N, C]
             let    m = moments(x over N)
             output loss = sum(m.mean^2 over C), mean = m.mean
           }"""
    )
    model, x = nn.Sequential(nn.Linear(3, 2)), torch.randn(5, 3)
    with runtime.collect(model, norms.Spread(), nn.Linear) as collected:
        y = model(x)
    torch.testing.assert_close(collected.loss(), y.mean(0).square().sum())
    result = norms.Spread()(y)
    assert result.loss.shape == () and result.mean.shape == (2,)
