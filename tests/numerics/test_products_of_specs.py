"""Sums of products in specs against `einsum`, and where a NaN goes when they are rewritten."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metanorm import loads

F64 = torch.float64
LENGTHS = {"N": 3, "C": 4, "K": 2, "M": 5}


def factors(dims: str) -> list[Tensor]:
    """A tensor for each term of an equation."""
    return [
        torch.randn([LENGTHS[d] for d in term], dtype=F64, requires_grad=True)
        for term in dims.split(",")
    ]


# How the factors a, b, c and d are multiplied, and the axes that each has.
CHAINS = {
    "a chain": ("a * b * c", "NK,KM,MC"),
    "turned factors": ("a * b * c", "KN,MK,CM"),
    "in another order": ("c * (a * b)", "NK,KM,MC"),
    "an axis that three factors share": ("b * (a * c) * d", "NK,KM,KC,MK"),
    "an axis that four factors share": ("b * (a * c) * d", "NK,MK,KC,KM"),
    "an axis of the result that two share": ("b * (a * c)", "NK,KN,NC"),
}


@pytest.mark.parametrize("what", CHAINS)
def test_chains_of_matrices(what: str) -> None:
    product, terms = CHAINS[what]
    names = "abcd"[: terms.count(",") + 1]
    summed = [axis for axis in "KM" if axis in terms]
    inputs = ", ".join(f"{n}[{', '.join(t)}]" for n, t in zip(names, terms.split(",")))
    text = (
        f"norm T {{ input x[N, C], {inputs} output sum({product} over {', '.join(summed)}) + x }}"
    )
    x, others = torch.randn(3, 4, dtype=F64), factors(terms)
    y, wanted = loads(text).T()(x, *others), torch.einsum(f"{terms}->NC", *others) + x
    torch.testing.assert_close(y, wanted)
    pairs = [torch.autograd.grad(z.sin().sum(), others) for z in (y, wanted)]
    torch.testing.assert_close(*pairs)


# Steps of v[K] from m[M, K] and w[M]: products of a matrix and a vector, and others.
STEPS = {
    "a vector on either side": (
        "v = tanh(sum(m * sum(m * v over K) over M))",
        lambda m, w, v: torch.tanh((m @ v) @ m),
    ),
    "a sum of all": ("v = v + sum(m * v over M, K)", lambda m, w, v: v + (m * v).sum()),
    "a vector along the other axis": (
        "v = tanh(v * sum(m * w over M))",
        lambda m, w, v: torch.tanh(v * (w @ m)),
    ),
    "an outer product": (
        "v = tanh(sum(sum(m * u over M) * v over J))",
        lambda m, w, v: torch.tanh(m.sum(0) * 2 * v),
    ),
}


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("what", STEPS)
def test_products_in_loops(what: str, count: int) -> None:
    step, right = STEPS[what]
    text = f"""
        norm T {{
          input x[N, C], m[M, K], w[M], v0[K], u[J]
          let v[K] = v0
          repeat {count} {{ {step} }}
          output x, v
        }}
    """
    m, w, v0 = factors("MK,M,K")
    x, u = torch.randn(3, 4, dtype=F64), torch.ones(2, dtype=F64)
    actual, wanted = loads(text).T()(x, m, w, v0, u)[1], v0
    for _ in range(count):
        wanted = right(m, w, wanted)
    torch.testing.assert_close(actual, wanted)
    pairs = [
        torch.autograd.grad(z.sin().sum(), (m, w, v0), allow_unused=True) for z in (actual, wanted)
    ]
    for ours, theirs in zip(*pairs):
        torch.testing.assert_close(*(0 if g is None else g.sum() for g in (ours, theirs)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "outputs",
    [
        "v = var(x over N, *S), p = cov",  # a variance beside a covariance of the same pools
        "v = sum(m * (x - a)[C -> D] over D), p = cov",  # a product about another centre
        "v = sum(m * (x - a)[C -> D] over D) + mode(train: 0, eval: sum(cov over D)), p = cov",
    ],
)
def test_what_a_covariance_would_spread_stays_in_its_place(outputs: str, bad: float) -> None:
    norm = loads(f"""
        norm T {{
          input x[N, C, *S], m[C, D], a[C]
          let mu = mean(x over N, *S)
          let cov = sum((x - mu) * (x - mu)[C -> D] over N, *S)
          output x, {outputs}
        }}
    """).T()
    x, m, a = (torch.randn(shape, dtype=F64) for shape in ((3, 4, 2), (4, 4), (4,)))
    wanted = norm(x, m, a).v
    x[0, 1, 0] = bad
    actual = norm(x, m, a).v
    untouched = actual[1:] if actual.dim() == 3 else actual[[0, 2, 3]]
    torch.testing.assert_close(untouched, wanted[1:] if actual.dim() == 3 else wanted[[0, 2, 3]])
