"""Norms for steps: weights that an optimizer's step leaves somewhere else, by hand in torch."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from metanorm import loads, runtime

F64 = torch.float64
LOOKAHEAD = """
# Every second step goes half of the way back to where the last one of these ended.
norm Lookahead(every: int = 2, share = 0.5) for step {
  input  weight[*P]
  buffer slow[*P] = init weight, count = 0
  let    now = count + 1
  let    due = now == every
  let    next = where(due, slow + share * (weight - slow), weight)
  update slow = where(due, next, slow)
  update count = where(due, 0, now)
  output next
}
"""


def net(dtype: torch.dtype = F64) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).to(dtype)


def backward(model: nn.Module, seed: int) -> Tensor:
    model.zero_grad()
    weight = next(model.parameters())
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(seed), dtype=F64)
    loss: Tensor = model(x.to(weight.dtype)).sin().sum()
    loss.backward()
    return loss.detach()


def rows(w: Tensor) -> Tensor:
    return F.normalize(w, dim=1)


def columns(w: Tensor) -> Tensor:
    return F.normalize(w, dim=0)


def forced(w: Tensor) -> Tensor:
    """`normalize` of NVlabs/edm2."""
    norm = torch.linalg.vector_norm(w, dim=list(range(1, w.ndim)), keepdim=True)
    norm = 1e-4 + norm * (norm.numel() / w.numel()) ** 0.5
    return w / norm


OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "AdamW, foreach": lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
    "Adam, fused": lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
}
STATELESS = {"UnitRows": rows, "UnitColumns": columns, "ForcedRows": forced}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", STATELESS)
def test_at_once_and_after_each_step(name: str, optimizer: str, library: ModuleType) -> None:
    ours, theirs = net(), net()
    by_hand = STATELESS[name]

    def project() -> None:
        with torch.no_grad():
            for layer in (theirs[0], theirs[2]):
                layer.weight.copy_(by_hand(layer.weight))

    steps = OPTIMIZERS[optimizer](ours.parameters())
    plain = OPTIMIZERS[optimizer](theirs.parameters())
    attached = getattr(library, name)().attach(steps, where=lambda p: p.dim() > 1)
    assert attached.skipped == ("1", "3")
    project()
    for seed in range(4):
        for our, their in zip(ours.parameters(), theirs.parameters()):
            torch.testing.assert_close(our, their, rtol=1e-11, atol=1e-11)
        for model, each in ((ours, steps), (theirs, plain)):
            backward(model, seed)
            each.step()
        project()
    attached.remove()
    for model, each in ((ours, steps), (theirs, plain)):
        backward(model, 4)
        each.step()
    for our, their in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(our, their, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_hyperball_turns_by_one_angle(optimizer: str, library: ModuleType) -> None:
    ours, theirs = net(), net()
    steps = OPTIMIZERS[optimizer](ours.parameters())
    plain = OPTIMIZERS[optimizer](theirs.parameters())
    norm = library.Hyperball(rate=0.05)
    norm.attach(steps, where=lambda p: p.dim() > 1)
    weights = theirs[0].weight, theirs[2].weight
    radii = [w.detach().norm() for w in weights]
    for seed in range(4):
        norm.rate = 0.05 / (1 + seed)  # a schedule
        for model, each in ((ours, steps), (theirs, plain)):
            before = [w.detach().clone() for w in weights]
            backward(model, seed)
            each.step()
        with torch.no_grad():
            for weight, old, radius in zip(weights, before, radii):
                step = weight - old
                moved = old + norm.rate * radius * step / step.norm()
                weight.copy_(radius * moved / moved.norm())
    for our, their in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(our, their, rtol=1e-11, atol=1e-11)


class LookaheadByHand:
    def __init__(self, parameters: list[Tensor], every: int = 2, share: float = 0.5) -> None:
        self.parameters, self.every, self.share, self.count = parameters, every, share, 0
        self.slow = [p.detach().clone() for p in parameters]

    def __call__(self) -> None:
        self.count += 1
        if self.count % self.every == 0:
            with torch.no_grad():
                for parameter, slow in zip(self.parameters, self.slow):
                    slow.lerp_(parameter, self.share)
                    parameter.copy_(slow)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_keeps_state_for_each_parameter(optimizer: str) -> None:
    ours, theirs = net(), net()
    steps = OPTIMIZERS[optimizer](ours.parameters())
    plain = OPTIMIZERS[optimizer](theirs.parameters())
    loads(LOOKAHEAD).Lookahead().attach(steps)
    by_hand = LookaheadByHand(list(theirs.parameters()))
    for our, their in zip(ours.parameters(), theirs.parameters()):
        assert torch.equal(our, their), "at once nothing changes, and nothing is counted"
    for seed in range(5):
        for model, each in ((ours, steps), (theirs, plain)):
            backward(model, seed)
            each.step()
        by_hand()
        for our, their in zip(ours.parameters(), theirs.parameters()):
            torch.testing.assert_close(our, their, rtol=1e-11, atol=1e-11)
    assert steps.state[ours[0].bias]["Lookahead.count"] == 1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("attaches_first", [True, False])
def test_checkpoints_go_on(optimizer: str, attaches_first: bool) -> None:
    module = loads(LOOKAHEAD)
    whole = net()
    steps = OPTIMIZERS[optimizer](whole.parameters())
    module.Lookahead(every=3).attach(steps)
    for seed in range(2):
        backward(whole, seed)
        steps.step()
    file = io.BytesIO()
    torch.save((whole.state_dict(), steps.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    again = net()
    later = OPTIMIZERS[optimizer](again.parameters())
    if attaches_first:
        module.Lookahead(every=3).attach(later)
    again.load_state_dict(weights)
    later.load_state_dict(state)
    if not attaches_first:
        module.Lookahead(every=3).attach(later)
    for seed in range(2, 5):
        for model, each in ((whole, steps), (again, later)):
            backward(model, seed)
            each.step()
    for our, their in zip(again.parameters(), whole.parameters()):
        assert torch.equal(our, their)


def test_parameters_that_are_not_stepped_with_stay(library: ModuleType) -> None:
    idle, frozen = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(2, 3), False)
    turned = nn.Parameter(torch.randn(2, 2, dtype=torch.complex64))
    moved = nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.SGD([idle, frozen, turned, moved], lr=0.1)
    before = turned.detach().clone()
    library.UnitRows().attach(optimizer)
    torch.testing.assert_close(idle.norm(2, 1), torch.ones(2))
    assert torch.equal(frozen, torch.ones(2, 3)) and torch.equal(turned, before)
    with torch.no_grad():
        idle.fill_(1)
    moved.grad = torch.ones(2, 3)
    optimizer.step()
    torch.testing.assert_close(moved.norm(2, 1), torch.ones(2))
    assert torch.equal(idle, torch.ones(2, 3))


@pytest.mark.parametrize(
    "kind", [torch.optim.SGD, lambda p, lr: torch.optim.LBFGS(p, lr=lr, max_iter=3)]
)
def test_closures_belong_to_one_step(kind: Callable[..., Optimizer], library: ModuleType) -> None:
    """The norm is taken once, when the step has ended."""
    ours, theirs = net(), net()
    optimizer, plain = kind(ours.parameters(), lr=0.1), kind(theirs.parameters(), lr=0.1)
    library.UnitRows().attach(optimizer)
    for seed in range(2):
        with torch.no_grad():
            for p in theirs.parameters():
                p.copy_(F.normalize(p, dim=1) if p.dim() > 1 else p)
        optimizer.step(lambda seed=seed: backward(ours, seed))
        plain.step(lambda seed=seed: backward(theirs, seed))
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(F.normalize(p, dim=1) if p.dim() > 1 else p)
    for our, their in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(our, their, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_are_left_out_change_nothing(fused: bool) -> None:
    model = net(torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)
    loads(LOOKAHEAD).Lookahead().attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for seed in range(3):
        model.zero_grad()
        scaler.scale(model(torch.randn(7, 6)).sum()).backward()
        if seed == 1:
            model[0].weight.grad[0, 0] = float("nan")
        before = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model.state_dict())
        scaler.step(optimizer)
        scaler.update()
        if seed == 1:
            assert str(before) == str((optimizer.state_dict(), model.state_dict()))
    assert optimizer.state[model[0].weight]["Lookahead.count"] == 0  # of two


def test_half_precision(library: ModuleType) -> None:
    weight = nn.Parameter(torch.randn(4, 6).bfloat16())
    optimizer = torch.optim.SGD([weight], lr=0.1)
    library.Hyperball().attach(optimizer)
    radius = weight.detach().float().norm()
    weight.grad = torch.randn(4, 6).bfloat16()
    optimizer.step()
    assert weight.dtype == torch.bfloat16
    kept = optimizer.state[weight]["Hyperball.radius"]
    assert kept.dtype == torch.float32
    torch.testing.assert_close(kept, radius, rtol=1e-2, atol=0.0)


def test_a_step_that_is_compiled(library: ModuleType) -> None:
    ours, theirs = net(), net()
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in (ours, theirs)]
    for optimizer in optimizers:
        library.Hyperball().attach(optimizer, where=lambda p: p.dim() > 1)
    compiled = torch.compile(optimizers[0].step, backend="eager")
    for seed in range(3):
        for model, step in ((ours, compiled), (theirs, optimizers[1].step)):
            backward(model, seed)
            step()
    for our, their in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(our, their, rtol=1e-12, atol=1e-12)


def test_only_optimizers_step(library: ModuleType) -> None:
    with pytest.raises(TypeError, match="expected an optimizer, got Sequential"):
        library.UnitRows().attach(net())
    named = torch.optim.SGD(net().named_parameters(), lr=0.1)
    assert library.UnitRows().attach(named, skip="*.bias").skipped == ("0.bias", "2.bias")
    assert isinstance(library.UnitRows(), runtime.StepNorm)
