"""Sums of products against loops over every index, however torch is asked to multiply."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from metanorm import runtime

# An equation, the shapes of its factors, and whether the data is multiplied as it lies.
EQUATIONS = {
    "a matrix for each group": ("gde,nge...->ngd...", ((2, 3, 3), (4, 2, 3, 5, 7)), True),
    "factors of a matrix": ("gde,g,nge...->ngd...", ((2, 3, 3), (2,), (4, 2, 3, 5, 7)), True),
    "what the others sum alone": (
        "gdez,z,nge...->ngd...",
        ((2, 3, 3, 2), (2,), (4, 2, 3, 40)),
        True,
    ),
    "two dimensions lead": ("de,nte...->ntd...", ((3, 3), (4, 2, 3, 40)), True),
    "few columns": ("gde,nge...->ngd...", ((2, 3, 3), (4, 2, 3, 5)), False),
    "no columns": ("kc,nc->nk", ((3, 40), (50, 40)), False),
    "a covariance": ("ngd...,nge...->ngde", ((4, 2, 3, 5, 7), (4, 2, 3, 5, 7)), False),
    "a covariance of fewer dimensions": ("gd...,nge...->ngde", ((2, 3, 7), (4, 2, 3, 5, 7)), False),
    "a product of small ones": ("gdf,gfh,ghi->gdi", ((2, 3, 3),) * 3, False),
    "a vector": ("nm,m->n", ((40, 50), (50,)), False),
    "everything": ("nc...,nc...->", ((4, 2, 3, 5), (4, 2, 3, 5)), False),
}


def tensors(shapes: tuple[tuple[int, ...], ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    made = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return [t.requires_grad_() for t in made]


def by_broadcasting(equation: str, factors: list[Tensor]) -> Tensor:
    """The product of all factors on all dimensions, summed over those that the result lacks."""
    operands, result = equation.split("->")
    most = max(f.dim() - len(t.replace("...", "")) for t, f in zip(operands.split(","), factors))
    group = "ABCDEFG"[:most]
    letters = sorted({*operands.replace("...", group)} - {","})
    product = torch.ones((), dtype=torch.float64)
    for term, factor in zip(operands.split(","), factors):
        count = factor.dim() - len(term.replace("...", ""))
        labels = term.replace("...", group[most - count :])
        order = sorted(range(len(labels)), key=lambda i: labels[i])
        sizes = dict(zip(labels, factor.shape))
        product = product * factor.permute(order).reshape([sizes.get(a, 1) for a in letters])
    kept = result.replace("...", group)
    summed = product.sum([i for i, a in enumerate(letters) if a not in kept] or 0)
    left = [a for a in letters if a in kept]
    return summed.permute([left.index(a) for a in kept]) if kept else product.sum()


@pytest.mark.parametrize("what", EQUATIONS)
def test_values_and_gradients(what: str) -> None:
    equation, shapes, _ = EQUATIONS[what]
    factors = tensors(shapes)
    actual, wanted = runtime.contracted(equation, *factors), by_broadcasting(equation, factors)
    torch.testing.assert_close(actual, wanted)
    arriving = torch.randn(wanted.shape, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(actual, factors, arriving),
        torch.autograd.grad(wanted, factors, arriving),
    )


@pytest.mark.parametrize("what", EQUATIONS)
def test_a_sum_with_something_added(what: str) -> None:
    """`plus` broadcasts: it is as large as the result, or has one number for each row."""
    equation, shapes, _ = EQUATIONS[what]
    factors = tensors(shapes)
    product = by_broadcasting(equation, factors)
    rows = [*product.shape[:-2], 1, 1] if "..." in equation.split("->")[1] else product.shape
    for shape, beta, alpha in ((product.shape, 0.5, -2.0), (rows, 1, 1), (rows, -1, 3)):
        plus = torch.randn(torch.Size(shape), dtype=torch.float64).requires_grad_()
        actual = runtime.contracted(equation, *factors, plus=plus, beta=beta, alpha=alpha)
        wanted = beta * plus + alpha * product
        torch.testing.assert_close(actual, wanted)
        leaves = [plus, *factors]
        torch.testing.assert_close(
            torch.autograd.grad(actual.square().sum(), leaves),
            torch.autograd.grad(wanted.square().sum(), leaves, retain_graph=True),
        )


def test_a_square_matrix_times_itself_is_no_covariance() -> None:
    (x,) = tensors(((4, 4),))
    for equation, wanted in (
        ("ab,bc->ac", x @ x),
        ("ab,ca->bc", x.mT @ x.mT),
        ("ab,cb->ac", x @ x.mT),
        ("ba,bc->ac", x.mT @ x),
    ):
        actual = runtime.contracted(equation, x, x)
        torch.testing.assert_close(actual, wanted)
        arriving = torch.arange(16.0, dtype=torch.float64).reshape(4, 4)
        (by_x,) = torch.autograd.grad(actual, x, arriving)
        torch.testing.assert_close(by_x, torch.autograd.grad(wanted, x, arriving)[0])


def test_second_derivatives_of_a_covariance() -> None:
    (x,) = tensors(((2, 3, 4),))
    assert torch.autograd.gradgradcheck(lambda x: runtime.contracted("nab,ncb->nac", x, x), (x,))


def copied(equation: str, factors: list[Tensor]) -> int:
    """How many elements are copied on the way."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        runtime.contracted(equation, *factors)
    copies = (event for event in seen.events() if event.name == "aten::copy_")
    return sum(torch.Size(event.input_shapes[0]).numel() for event in copies)


@pytest.mark.parametrize("what", [what for what in EQUATIONS if EQUATIONS[what][2]])
def test_the_data_is_not_copied(what: str) -> None:
    """Repeated factors are, which are small."""
    equation, shapes, _ = EQUATIONS[what]
    factors = tensors(shapes)
    assert copied(equation, factors) < factors[-1].numel()


def test_a_covariance_copies_nothing() -> None:
    equation, shapes, _ = EQUATIONS["a covariance"]
    assert copied(equation, tensors(shapes)) == 0


@pytest.mark.parametrize("what", EQUATIONS)
def test_under_vmap(what: str) -> None:
    equation, shapes, _ = EQUATIONS[what]
    factors = [f.detach() for f in tensors(shapes)]
    stacked = [torch.stack((f, 2 * f)) for f in factors]
    actual = torch.vmap(lambda *each: runtime.contracted(equation, *each))(*stacked)
    for number, scale in enumerate((1.0, 2.0 ** len(factors))):
        torch.testing.assert_close(actual[number], scale * by_broadcasting(equation, factors))
