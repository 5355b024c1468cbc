"""The one map that is left of a normalizer, against the formula."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from naive import F64
from torch import Tensor
from torch.autograd import forward_ad

from metanorm.runtime import rescale

NAMES = ("centre", "scale", "weight", "shift")
SHAPES = {"centre": (3, 1, 1), "scale": (3, 4, 1), "weight": (4, 1), "shift": (1,)}
SUBSETS = [s for n in range(5) for s in itertools.combinations(NAMES, n)]


def parts(names: tuple[str, ...], dtype: torch.dtype = F64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {n: torch.randn(SHAPES[n], generator=generator, dtype=dtype) for n in names}


def formula(x: Tensor, **operands: Tensor | float) -> Tensor:
    centred = x - operands.get("centre", 0)
    return operands.get("scale", 1) * operands.get("weight", 1) * centred + operands.get("shift", 0)


def wide(dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_values(names: tuple[str, ...]) -> None:
    x = wide()
    before = x.clone()
    torch.testing.assert_close(rescale(x, **parts(names)), formula(x, **parts(names)))
    assert torch.equal(x, before), "x is not written to"
    with torch.no_grad():
        torch.testing.assert_close(rescale(x, **parts(names)), formula(x, **parts(names)))


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_first_and_second_derivatives(names: tuple[str, ...]) -> None:
    leaves = [t.requires_grad_() for t in (wide(), *parts(names).values())]

    def run(x: Tensor, *operands: Tensor) -> Tensor:
        return rescale(x, **dict(zip(names, operands)))

    assert torch.autograd.gradcheck(run, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(run, leaves)


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_second_derivatives_where_no_gradient_arrives(names: tuple[str, ...]) -> None:
    """A weight of zero has a gradient, and that one has gradients."""
    some = (torch.arange(60).view(3, 4, 5) % 3 > 0).to(F64)
    actual = []
    for function in (rescale, formula):
        leaves = [t.requires_grad_() for t in (wide(), *parts(names).values(), some.clone())]
        operands: dict[str, Any] = dict(zip(names, leaves[1:-1]))
        if function is rescale:
            operands["gaps"] = True
        y = (leaves[-1] * function(leaves[0], **operands)).sum().sin()
        gradients = torch.autograd.grad(y, leaves, create_graph=True)
        total = sum((g * g.detach().cos()).sum() for g in gradients)
        actual.append(torch.autograd.grad(total, leaves))
    torch.testing.assert_close(*actual)


@pytest.mark.parametrize("fixed", ["x", *NAMES])
def test_what_needs_no_gradient_gets_none(fixed: str) -> None:
    operands = {"x": wide(), **parts(NAMES)}
    for name, tensor in operands.items():
        tensor.requires_grad_(name != fixed)
    rescale(**operands).sum().backward()
    assert {n for n, t in operands.items() if t.grad is None} == {fixed}


def test_parts_may_be_numbers() -> None:
    x = wide()
    actual = rescale(x, centre=2.0, scale=-1.5, weight=4.0, shift=1.0)
    torch.testing.assert_close(actual, -6 * (x - 2) + 1)


@pytest.mark.parametrize("grad", [True, False])
def test_the_memory_format_stays(grad: bool) -> None:
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_(grad)
    y = rescale(x, centre=torch.randn(3, 1, 1), scale=torch.randn(2, 3, 1, 1))
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_the_centre_is_subtracted_first() -> None:
    """Multiplied out, nothing would be left of these values in float32."""
    x = torch.tensor([1e7, 1e7 + 1, 1e7 + 2])
    actual = rescale(
        x, centre=torch.tensor(1e7 + 1), scale=torch.tensor(0.1), shift=torch.tensor(5.0)
    )
    torch.testing.assert_close(actual, torch.tensor([4.9, 5.0, 5.1]))


def test_only_x_is_kept_of_its_size() -> None:
    x = wide().requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        rescale(x, **parts(NAMES))
    large = {t.data_ptr() for t in kept if t.numel() == x.numel()}
    assert large == {x.data_ptr()}


def test_forward_mode_with_tangents_of_some_parts() -> None:
    x, operands = wide(), parts(NAMES)
    tangent = torch.randn(SHAPES["scale"], dtype=F64)
    with forward_ad.dual_level():
        dual = {**operands, "scale": forward_ad.make_dual(operands["scale"], tangent)}
        slope = forward_ad.unpack_dual(rescale(x, **dual)).tangent
    wanted = tangent * operands["weight"] * (x - operands["centre"])
    torch.testing.assert_close(slope, wanted)


def test_vmap_over_any_part() -> None:
    x, operands = wide(), parts(NAMES)
    scales = torch.randn(6, *SHAPES["scale"], dtype=F64)
    actual = torch.vmap(lambda scale: rescale(x, **{**operands, "scale": scale}))(scales)
    wanted = torch.stack([rescale(x, **{**operands, "scale": scale}) for scale in scales])
    torch.testing.assert_close(actual, wanted)


def test_gradients_of_samples() -> None:
    x, operands = wide(), parts(("scale", "shift"))
    weight = torch.randn(SHAPES["weight"], dtype=F64)

    def loss(weight: Tensor, one: Tensor) -> Tensor:
        return rescale(one, weight=weight, shift=operands["shift"]).square().sum()

    actual = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(weight, x)
    wanted = torch.stack([torch.func.grad(loss)(weight, one) for one in x])
    torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_numbers_are_not_hidden(value: float) -> None:
    x = torch.tensor([1.0, value])
    actual = rescale(x, centre=torch.tensor(1.0), scale=torch.tensor(0.0), shift=torch.tensor(2.0))
    assert actual[0] == 2
    assert actual[1].isnan()


def test_no_elements() -> None:
    x = torch.zeros(0, 4, requires_grad=True)
    shift = torch.ones(4, requires_grad=True)
    y = rescale(x, centre=torch.zeros(1), shift=shift)
    assert y.shape == (0, 4)
    y.sum().backward()
    assert shift.grad is not None
    assert shift.grad.eq(0).all()
