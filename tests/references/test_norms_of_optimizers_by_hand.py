"""Norms that are optimizers beside plain SGD, or work beside any, as their code says, in plain torch."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from comparing import route_of
from conftest import PROGRAMS, ROOT
from torch import Tensor, nn

from metanorm import load, runtime

F64 = torch.float64
SHAPES = [(6, 4), (3, 5), (4, 2, 3, 3)]
TARGETS = pytest.mark.parametrize("target", ["torch", "native"])


def newton_schulz(g: Tensor, steps: int = 5) -> Tensor:
    x = g / (g.norm() + 1e-7)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


class NorMuonByHand:
    """`normuon_update` of zichongli5/NorMuon, in one precision, with kernels as rows of a matrix."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.momentum = torch.zeros(shape, dtype=F64)
        self.second = torch.zeros(shape[0], 1, dtype=F64)

    def __call__(self, grad: Tensor, beta: float = 0.95, beta2: float = 0.95) -> Tensor:
        self.momentum.lerp_(grad, 1 - beta)
        update = newton_schulz(grad.lerp(self.momentum, beta).flatten(1))
        length = update.norm()
        self.second.lerp_(update.square().mean(1, keepdim=True), 1 - beta2)
        update = update / (self.second.sqrt() + 1e-10)
        update = update * (length / (update.norm() + 1e-10))
        rows, columns = update.shape
        return (update * max(1, rows / columns) ** 0.5).view(grad.shape)


class AdaGCByHand:
    """Algorithm 1 of the paper for one tensor, the warm-up with a length of its own."""

    def __init__(self, _: tuple[int, ...]) -> None:
        self.average, self.steps = None, 0

    def __call__(self, grad: Tensor, warmup: int = 3) -> Tensor:
        length = float(grad.norm())
        if self.steps < warmup:
            clipped = grad * min(1.0 / length, 1.0)
            seen = float(clipped.norm())
            self.average = seen if self.average is None else min(self.average, seen)
        else:
            clipped = grad * min(1.05 * self.average / length, 1.0)
            self.average = 0.98 * self.average + 0.02 * float(clipped.norm())
        self.steps += 1
        return clipped


class AdaMuonByHand:
    """Algorithm 1 of the paper: Nesterov's momentum, signs, elementwise second moments of the update, and a quadratic
    mean of 0.2."""

    def __init__(self, shape: tuple[int, ...], signs: bool = True) -> None:
        self.momentum = torch.zeros(shape, dtype=F64)
        self.second = torch.zeros(shape, dtype=F64).flatten(1)
        self.signs = signs

    def __call__(self, grad: Tensor, beta: float = 0.95) -> Tensor:
        self.momentum.mul_(beta).add_(grad)
        ahead = grad.add(self.momentum, alpha=beta).flatten(1)
        update = newton_schulz(ahead.sign() if self.signs else ahead)
        self.second.mul_(beta).addcmul_(update, update, value=1 - beta)
        update = update / (self.second.sqrt() + 1e-8)
        scale = 0.2 * update.numel() ** 0.5 / (update.norm() + 1e-8)
        return (scale * update).view(grad.shape)


class AdaGOByHand:
    """Algorithm 1 of the paper, with its step by the learning rate and a smallest one of 0.3."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.momentum, self.squares = torch.zeros(shape, dtype=F64), 0.5

    def __call__(self, grad: Tensor, gamma: float = 2.0) -> Tensor:
        self.momentum.lerp_(grad, 1 - 0.95)
        length = min(float(grad.norm()), gamma)
        self.squares += length**2
        step = max(0.3, length / self.squares**0.5)
        return step * newton_schulz(self.momentum.flatten(1)).view(grad.shape)


ADA_GO = {"gamma": 2, "floor": 0.3, "initial": 0.5}
BY_HAND = {
    "NorMuon": ("nor_muon", NorMuonByHand, {}),
    "AdaGC": ("ada_gc", AdaGCByHand, {"warmup": 3}),
    "AdaMuon": ("ada_muon", AdaMuonByHand, {}),
    "AdaMuon, no signs": ("ada_muon", partial(AdaMuonByHand, signs=False), {"signs": False}),
    "AdaGO": ("ada_muon", AdaGOByHand, ADA_GO),
}


MATRIX_PRODUCTS = "matrix products, which torch's BLAS does as fast"
TORCH_ONLY = dict.fromkeys(("NorMuon", "AdaMuon", "AdaGO"), MATRIX_PRODUCTS)


@TARGETS
@pytest.mark.parametrize("name", BY_HAND)
def test_steps_of_sgd(name: str, target: str) -> None:
    file, by_hand, arguments = BY_HAND[name]
    norm_name = name.partition(",")[0]
    if norm_name in TORCH_ONLY:
        target = route_of(target, PROGRAMS[norm_name], TORCH_ONLY[norm_name])
    norm = getattr(load(ROOT / "specs" / f"{file}.norm"), norm_name)(**arguments)
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, dtype=F64)) for shape in SHAPES]
    wanted = [p.detach().clone() for p in parameters]
    states = [by_hand(shape) for shape in SHAPES]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    norm.attach(optimizer)
    for step in range(7):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter) * (3 if step % 2 else 0.2)
        grads = [p.grad.clone() for p in parameters]
        with runtime.use(target):
            optimizer.step()
        for parameter, weight, state, grad in zip(parameters, wanted, states, grads):
            weight -= 0.1 * state(grad)
            torch.testing.assert_close(parameter.detach(), weight, rtol=1e-9, atol=1e-9)
