"""Permutations of positions and one number for a call, by hand with what torch draws."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.utils.checkpoint import checkpoint

from metanorm import loads, runtime
from metanorm.frontend import check
from metanorm.passes.divided import divided
from metanorm.passes.pipeline import optimize
from metanorm.source import Source

F64 = torch.float64
SPEC = """
norm Shuffled { input x[N, C]
  output mode(train: x[permutation(per C)], eval: x) }
norm Averaged { input x[N, C, *S]
  let m = mean(x over *S)
  let other = permutation(per N)
  output mode(train: x + m[other], eval: x) }
norm Both { input x[N, C, *S]
  let m = mean(x over *S)
  let rows = permutation(per N)
  let columns = permutation(per C)
  output mode(train: x * m[rows][columns], eval: x) }
norm Again { input x[N, C]
  let first = permutation(per N)
  let second = permutation(per N)
  output mode(train: x[first][second] - x[first], eval: x) }
norm OfBlocks(groups: int = 2) { input x[N, C]
  axis C = (G = groups, D)
  output mode(train: x[permutation(per G)], eval: x) }
norm Compared { input x[N, C]
  output mode(train: where(permutation(per N) < 2, x, 0), eval: x) }
norm Repeated { input x[N, C]
  let other = permutation(per N)
  let y = x
  repeat 3 { y = y[other] }
  output mode(train: y, eval: x) }
norm Masked { input x[N, C], keep: mask[N]
  output mode(train: where(keep[permutation(per N)], x, 0), eval: x) }
norm OneNumber { input x[N, C]
  output mode(train: x * normal(1, 2 per call), eval: x) }
norm Switched(p = 0.5) { input x[N, C]
  output mode(train: where(bernoulli(p per call), x, 0), eval: x) }
norm NamedSo { input x[N, call]
  output mode(train: x * normal(0, 1 per call), eval: x) }
norm Outer { input x[N, C]
  output mode(train: OneNumber(x) + Inner(x), eval: x) }
norm Inner { input x[T, C]
  output mode(train: x[permutation(per T)], eval: x) }
"""
Formula = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(SPEC)


def averaged(x: Tensor) -> Tensor:
    return x + x.mean(2)[torch.randperm(6)].unsqueeze(2)


def both(x: Tensor) -> Tensor:
    rows, columns = torch.randperm(6), torch.randperm(4)
    return x * x.mean(2)[rows][:, columns].unsqueeze(2)


def again(x: Tensor) -> Tensor:
    first, second = torch.randperm(6), torch.randperm(6)
    return x[first][second] - x[first]


def repeated(x: Tensor) -> Tensor:
    other = torch.randperm(6)
    return x[other][other][other]


def one_number(x: Tensor) -> Tensor:
    return x * (2 * torch.randn((), dtype=x.dtype) + 1)


# What a call in training computes of x [6, 4] or [6, 4, 5], in the order in which it draws.
TRAINING: dict[str, Formula] = {
    "Shuffled": lambda x: x[:, torch.randperm(4)],
    "Averaged": averaged,
    "Both": both,
    "Again": again,
    "OfBlocks": lambda x: x.view(6, 2, 2)[:, torch.randperm(2)].view(6, 4),
    "Compared": lambda x: x * (torch.randperm(6) < 2)[:, None],
    "Repeated": repeated,
    "OneNumber": one_number,
    "Switched": lambda x: x * (torch.rand(()) < 0.5),
    "NamedSo": lambda x: x * torch.randn(4, dtype=x.dtype),
    "Outer": lambda x: one_number(x) + x[torch.randperm(6)],
}
MAPS = ("Averaged", "Both")
ON_TORCH = ("Shuffled", "Both", "Again", "OfBlocks", "Outer", "Repeated")  # larger values in order


def input_of(name: str, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn((6, 4, 5) if name in MAPS else (6, 4), dtype=F64).to(dtype)


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("dtype", [F64, torch.float32], ids=str)
@pytest.mark.parametrize("name", TRAINING)
def test_training(name: str, dtype: torch.dtype, target: Any, norms: ModuleType) -> None:
    if target == "native" and name in ON_TORCH:
        target = "auto"
    norm, x = getattr(norms, name)(), input_of(name, dtype)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = torch.linspace(-1, 2, x.numel(), dtype=dtype).view(x.shape)
    for seed in range(3):
        torch.manual_seed(seed)
        with runtime.use(target):
            y = norm(ours)
            (gradient,) = torch.autograd.grad(y, ours, weights)
        torch.manual_seed(seed)
        expected = TRAINING[name](theirs)
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, theirs, weights)[0])


@pytest.mark.parametrize("name", TRAINING)
def test_evaluation_draws_nothing(name: str, norms: ModuleType) -> None:
    x, before = input_of(name), torch.get_rng_state()
    torch.testing.assert_close(getattr(norms, name)().eval()(x), x)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_mask_in_another_order(norms: ModuleType) -> None:
    x, keep = torch.randn(6, 4), torch.tensor([True, False, True, True, False, False])
    torch.manual_seed(2)
    y = norms.Masked()(x, keep)
    torch.manual_seed(2)
    torch.testing.assert_close(y, x * keep[torch.randperm(6)][:, None])


def test_second_derivatives_have_the_same_order(norms: ModuleType) -> None:
    x = torch.randn(6, 4, dtype=F64, requires_grad=True)
    torch.manual_seed(3)
    (gradient,) = torch.autograd.grad((norms.Shuffled()(x**3) * x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    torch.manual_seed(3)
    order = torch.randperm(4)
    (expected,) = torch.autograd.grad(((x**3)[:, order] * x).sum(), x, create_graph=True)
    torch.testing.assert_close(second, torch.autograd.grad(expected.square().sum(), x)[0])


def test_checkpoints_and_vmap(norms: ModuleType) -> None:
    norm, x = norms.Averaged(), torch.randn(30, 4, 5)
    plain, again = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.manual_seed(3)
    norm(plain).square().sum().backward()
    torch.manual_seed(3)
    checkpoint(norm, again, use_reentrant=False).square().sum().backward()
    assert torch.equal(plain.grad, again.grad)
    alike = x.expand(3, 30, 4, 5)
    same, other = vmap(norm, randomness="same")(alike), vmap(norm, randomness="different")(alike)
    assert torch.equal(same[0], same[1])
    assert not torch.equal(other[0], other[1])


@pytest.mark.parametrize("name", ["Averaged", "Switched"])
def test_compiled_and_exported(name: str, norms: ModuleType) -> None:
    norm, x = getattr(norms, name)(), input_of(name, torch.float32)
    torch._dynamo.reset()
    compiled = torch.compile(norm, fullgraph=True, backend="aot_eager")
    exported = torch.export.export(norm, (x,)).module()
    for function in (compiled, exported):
        torch.manual_seed(3)
        y = function(x)
        torch.manual_seed(3)
        torch.testing.assert_close(y, norm(x))


def test_no_samples(norms: ModuleType) -> None:
    assert norms.Averaged()(torch.zeros(0, 4, 5)).shape == (0, 4, 5)


@pytest.mark.parametrize("target", ["torch", "native"])
def test_cross_norm(target: Any, library: ModuleType) -> None:
    """As `cn_op_2ins_space_chan` of the authors without crops, for those calls that exchange."""

    def of_sample(x: Tensor) -> tuple[Tensor, Tensor]:
        flat = x.view(6, 3, -1)
        std = (flat.var(dim=2) + 1e-5).sqrt()
        return flat.mean(dim=2).view(6, 3, 1, 1), std.view(6, 3, 1, 1)

    def by_hand(x: Tensor) -> Tensor:
        mean, std = of_sample(x)
        other = torch.randperm(6)
        other_mean, other_std = of_sample(x[other])
        return (x - mean) / std * other_std + other_mean if torch.rand(()) < 0.5 else x

    x = torch.randn(6, 3, 4, 5, dtype=F64, requires_grad=True)
    weights = torch.linspace(-1, 2, x.numel(), dtype=F64).view(x.shape)
    exchanged = 0
    for seed in range(8):
        torch.manual_seed(seed)
        with runtime.use(target):
            y = library.CrossNorm()(x)
            (gradient,) = torch.autograd.grad(y, x, weights)
        torch.manual_seed(seed)
        expected = by_hand(x)
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, x, weights)[0])
        exchanged += not torch.equal(y, x)
    assert 0 < exchanged < 8
    assert torch.equal(library.CrossNorm().eval()(x), x)


@pytest.mark.parametrize(
    ("name", "axis", "reason"),
    [
        ("Shuffled", "C", "has all positions of C, in random order"),
        ("Compared", "N", "has all positions of N, in random order"),
        ("Shuffled", "N", "has no axis N"),
        ("Switched", "N", "has no axis N"),
    ],
)
def test_what_processes_cannot_divide(name: str, axis: str, reason: str) -> None:
    checked = check({"t.norm": Source.of("t.norm", SPEC)}, ["t.norm"])
    program = next(n.program for n in checked.norms["t.norm"] if n.program.name == name)
    division = divided(optimize(program), program)
    assert division is not None
    assert reason in division.refusals[axis]
