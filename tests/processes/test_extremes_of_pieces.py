"""Largest and smallest values and softmax along an axis of which each process has a piece, against
plain torch on the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from team import Team
from test_routes import demand_same_messages
from test_samples import difference
from torch import Tensor

SHARDS = ((4, 4), (7, 1), (7, 0, 6, 3), (0, 0))
LARGEST = "norm A {\n input x[N, C, *S]\n output x - max(x over N, *S) / 2\n}"
RANGE = (
    "norm A {\n input x[N, C], keep: mask[N] = true\n let low = min(x over N where keep)\n"
    " output (x - low) * (max(x over N where keep) - low)\n}"
)
WEIGHED = "norm A {\n input x[N, C], w[N] = 1\n output x * max(x over N weight w)\n}"
DOMAINS = (
    "norm A {\n input x[N, C], domain: index[N] of K = 3\n output x * max(x over N: domain)\n}"
)
SHARES = "norm A {\n input x[N, C]\n output x * softmax(x over N)\n}"
QUANTIZED = (
    "norm A {\n input x[N, C]\n let s = max(max(abs(x) over N), 1e-5)\n"
    " output x / s + stop(round(x) - x)\n}"
)


def widest(x: Tensor, counted: Tensor | None = None) -> Tensor:
    """The largest value along the first dimension; zero for none. Equal ones share the gradient."""
    if counted is not None:
        x = x[counted]
    return x.amax(0) if len(x) else x.sum(0)


def with_range(x: Tensor, keep: Tensor) -> Tensor:
    low = -widest(-x, keep)
    return (x - low) * (widest(x, keep) - low)


def by_domain(x: Tensor, domain: Tensor) -> Tensor:
    actual = [widest(x, domain == k) for k in range(3)]
    return x * torch.stack(actual)[domain]


def quantized(x: Tensor) -> Tensor:
    s = widest(x.abs()).clamp_min(1e-5)
    return x / s + (x.round() - x).detach()


def of_images(x: Tensor) -> Tensor:
    largest = x.amax((0, 2)) if x.numel() else x.sum((0, 2))
    return x - largest[:, None] / 2


# Text, the same by hand, and the further inputs of a number of samples.
CASES: dict[str, tuple[str, Callable[..., Tensor], Callable[[int], dict[str, Tensor]]]] = {
    "largest": (LARGEST, of_images, lambda n: {}),
    "range": (RANGE, with_range, lambda n: {"keep": torch.arange(n) % 3 > 0}),
    "none kept": (RANGE, with_range, lambda n: {"keep": torch.zeros(n, dtype=torch.bool)}),
    "weighed": (
        WEIGHED,
        lambda x, w: x * widest(x, w != 0),
        lambda n: {"w": (torch.arange(n) % 4).double() / 2},
    ),
    "domains": (DOMAINS, by_domain, lambda n: {"domain": torch.arange(n) * 5 % 7 // 5}),
    "shares": (SHARES, lambda x: x * x.softmax(0), lambda n: {}),
    "quantized": (QUANTIZED, quantized, lambda n: {}),
}
AUTO, TORCH, NATIVE = (("auto",) * 4, ("torch",) * 4, ("native",) * 4)


def whole_of(case: str, shards: Sequence[int], dtype: torch.dtype) -> dict[str, Tensor]:
    """All inputs. There are few different numbers, so that several of them are the largest."""
    count = sum(shards)
    shape = (count, 3, 4) if case == "largest" else (count, 3)
    generator = torch.Generator().manual_seed(2)
    x = torch.randint(-3, 4, shape, generator=generator).to(dtype)
    arriving = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return {"x": x, "arriving": arriving, **CASES[case][2](count)}


def cut(whole: dict[str, Tensor], shards: Sequence[int]) -> list[dict[str, Tensor]]:
    each = {name: value.split(list(shards)) for name, value in whole.items()}
    return [{name: v[rank].clone() for name, v in each.items()} for rank in range(len(shards))]


def by_hand(case: str, whole: dict[str, Tensor]) -> dict[str, Tensor]:
    inputs = {n: v.double() if v.is_floating_point() else v for n, v in whole.items()}
    arriving, x = inputs.pop("arriving"), inputs.pop("x").clone().requires_grad_()
    y = CASES[case][1](x, **inputs)
    (y * arriving).sum().backward()
    assert x.grad is not None
    return {"y": y.detach(), "dx": x.grad}


def asked(
    team: Team, case: str, shards: Sequence[int], routes: Sequence[str] = AUTO,
    dtype: torch.dtype = torch.float64, **named: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    pieces = cut(whole_of(case, shards, dtype), shards)
    arguments = (CASES[case][0], "N", pieces, routes)
    return team.run("extremes:passed", *arguments, size=len(shards), **named)


def demand_close(
    actual: Sequence[dict[str, Any]], wanted: dict[str, Tensor], tolerance: float
) -> None:
    for name, right in wanted.items():
        assert difference(torch.cat([f[name] for f in actual]), right) <= tolerance, name


@pytest.mark.parametrize("shards", SHARDS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_pieces_have_what_the_whole_has(case: str, shards: tuple[int, ...], team: Team) -> None:
    wanted = by_hand(case, whole_of(case, shards, torch.float64))
    for routes in (AUTO, TORCH):
        demand_close(asked(team, case, shards, routes), wanted, 1e-13)


@pytest.mark.parametrize("case", CASES)
def test_all_processes_send_the_same_messages_on_every_route(case: str, team: Team) -> None:
    """One message there; one back, with the gradient and the number of ties for each value."""
    shards = (7, 0, 6, 3)
    mixed = ("torch", "auto", "auto", "torch")
    answers = [asked(team, case, shards, r, torch.float32) for r in (TORCH, AUTO, mixed)]
    lengths = [[len(m) for m in f["sent"]] for f in answers[0]]
    assert all(each == lengths[0] for each in lengths)
    count = 6 if case in ("range", "none kept") else 9 if case == "domains" else 3
    if case == "shares":  # largest values, sums, and sums back
        assert lengths[0] == [2 + 3] * 3
    else:
        assert lengths[0] == [2 + count, 2 + 2 * count]
    for answer in answers[1:]:
        demand_same_messages(answer, answers[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["largest", "range", "quantized", "shares"])
def test_kernels_in_c_take_them(case: str, team: Team) -> None:
    for shards in ((4, 4), (7, 1)):
        wanted = by_hand(case, whole_of(case, shards, torch.float32))
        demand_close(asked(team, case, shards, NATIVE, torch.float32), wanted, 2e-6)


@pytest.mark.parametrize("case", ["largest", "range", "shares"])
def test_graphs_of_torch_compile_send_them(case: str, team: Team) -> None:
    wanted = by_hand(case, whole_of(case, (7, 1), torch.float64))
    demand_close(asked(team, case, (7, 1), compiled=True), wanted, 1e-13)


@pytest.mark.parametrize("special", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_arrive_everywhere(special: float, team: Team) -> None:
    whole = whole_of("largest", (3, 2), torch.float64)
    whole["x"][4, 1, 2] = special
    whole["x"][:, 2] = -torch.inf
    wanted = by_hand("largest", whole)
    for routes in (AUTO, TORCH):
        arguments = (LARGEST, "N", cut(whole, (3, 2)), routes)
        actual = team.run("extremes:passed", *arguments, size=2)
        for name, right in wanted.items():
            torch.testing.assert_close(
                torch.cat([f[name] for f in actual]), right, equal_nan=True, rtol=0, atol=1e-13
            )


def test_transforms_of_torch_func_and_gradients_of_gradients(team: Team) -> None:
    text = "norm A {\n input x[N, C]\n output x^2 * max(x over N)\n}"
    x = torch.tensor([[1.0, 4], [3, -2], [3, 4], [0, 1]], dtype=torch.float64)
    actual = team.run("extremes:transformed", text, "N", [x[:1], x[1:]], size=2)
    whole = lambda x: x**2 * x.amax(0)  # noqa: E731
    weights = torch.cat([torch.linspace(1, 2, n, dtype=x.dtype) for n in (2, 6)]).reshape(4, 2)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((whole(leaf) ** 3).sum(), leaf, create_graph=True)
    (twice,) = torch.autograd.grad((gradient * weights).sum(), leaf)
    wanted = {
        "tangent": torch.func.jvp(whole, (x,), (weights,))[1],
        "gradient": gradient.detach(),
        "twice": twice,
    }
    demand_close(actual, wanted, 1e-13)
    mapped = torch.cat([f["mapped"] for f in actual], 1)
    assert difference(mapped, torch.vmap(whole)(torch.stack((x, 2 * x, -x)))) <= 1e-13


def test_other_norms_on_other_processes_are_noticed(team: Team) -> None:
    other = "norm A {\n input x[N, C]\n output x + max(x over N)\n}"
    same = "norm A {\n input x[N, C]\n output x - max(x over N)\n}"
    for text in team.run("extremes:out_of_step", [same, other], "N", size=2):
        assert "the processes are not at the same norm" in text and "A, over N" in text
