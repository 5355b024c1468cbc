"""What norms for gradients keep of each parameter, in the optimizer, by hand in plain torch."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from metanorm import loads

F64 = torch.float64
SPEC = """
# Divides rows by a moving average of their mean squares, this step included.
norm Rows(beta = 0.9, eps = 1e-8) for gradient {
  input  grad[O, *I]
  buffer v[O] = 0, count = 0
  let    seen = beta * v + (1 - beta) * mean(grad^2 over *I)
  update v = seen
  update count = count + 1
  output grad / (sqrt(seen) + eps)
}

# Begins with what a first gradient and the weight are.
norm Begun for gradient {
  input  grad[O, *I], weight[O, *I]
  buffer first[O] = init l2(grad over *I), start = init l2(weight over O, *I)
  output grad * first * start
}
"""


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(SPEC)


def net(dtype: torch.dtype = F64) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)).to(dtype)


def unscaled(loss: Tensor) -> Tensor:
    return loss


def backward(model: nn.Module, seed: int, scaled: Callable[[Tensor], Tensor] = unscaled) -> None:
    model.zero_grad()
    dtype = next(model.parameters()).dtype
    x = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)
    scaled(model(x).sin().sum()).backward()


class RowsByHand:
    """The same for tensors in lists."""

    def __init__(self, beta: float = 0.9, eps: float = 1e-8) -> None:
        self.beta, self.eps = beta, eps
        self.v: dict[Tensor, Tensor] = {}

    def __call__(self, parameter: Tensor) -> None:
        grad = parameter.grad
        if grad is None or grad.dim() < 2:
            return
        old = self.v.get(parameter, grad.new_zeros(len(grad)))
        now = grad.flatten(1).square().mean(1)
        self.v[parameter] = self.beta * old + (1 - self.beta) * now
        along = (-1, *[1] * (grad.dim() - 1))
        grad.div_(self.v[parameter].sqrt().view(along) + self.eps)


def assert_same(ours: nn.Module, theirs: nn.Module, tolerance: float = 1e-11) -> None:
    for our, their in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(our, their, rtol=tolerance, atol=tolerance)


OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "Adam, foreach": lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "Adamax": lambda p: torch.optim.Adamax(p, lr=0.1),
}
EACH_OPTIMIZER = pytest.mark.parametrize("name", OPTIMIZERS)


@EACH_OPTIMIZER
def test_each_parameter_has_its_own(name: str, norms: ModuleType) -> None:
    ours, theirs, by_hand = net(), net(), RowsByHand()
    optimizer, plain = OPTIMIZERS[name](ours.parameters()), OPTIMIZERS[name](theirs.parameters())
    attached = norms.Rows().attach(optimizer)
    assert attached.skipped == ("1", "3")
    for seed in range(4):
        backward(ours, seed)
        optimizer.step()
        backward(theirs, seed)
        for parameter in theirs.parameters():
            by_hand(parameter)
        plain.step()
    assert_same(ours, theirs)
    for our, their in zip(ours.parameters(), theirs.parameters()):
        state = optimizer.state[our]
        if our.dim() > 1:
            torch.testing.assert_close(state["Rows.v"], by_hand.v[their], rtol=1e-11, atol=1e-11)
            assert state["Rows.count"] == 4
        else:
            assert "Rows.v" not in state


def test_norms_that_begin_with_the_gradient_and_the_weight(norms: ModuleType) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    norms.Begun().attach(optimizer)
    first: Tensor | None = None
    for seed in range(2):
        backward(model, seed)
        grad = model[3].weight.grad.clone()
        first = grad.norm(2, 1, keepdim=True) if first is None else first
        optimizer.step()
        wanted = grad * first * model[3].weight.norm()
        torch.testing.assert_close(model[3].weight.grad, wanted, rtol=1e-12, atol=1e-12)


def saved(optimizer: Optimizer) -> Any:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("order", ["attach, then load", "load, then attach"])
@EACH_OPTIMIZER
def test_checkpoints_go_on(name: str, order: str, norms: ModuleType) -> None:
    """Trained for five steps at once, or with a checkpoint behind the second one."""
    whole = net()
    optimizer = OPTIMIZERS[name](whole.parameters())
    norms.Rows().attach(optimizer)
    for seed in range(2):
        backward(whole, seed)
        optimizer.step()
    again = copy.deepcopy(whole)
    later = OPTIMIZERS[name](again.parameters())
    for step in order.split(", then "):
        if step == "load":
            later.load_state_dict(saved(optimizer))
        else:
            norms.Rows().attach(later)
    for seed in range(2, 5):
        for model, each in ((whole, optimizer), (again, later)):
            backward(model, seed)
            each.step()
    assert_same(again, whole, 0.0)


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_of_optimizers_go_on(how: str, norms: ModuleType) -> None:
    """A copy has the state but no hooks, as torch has it: attach a norm to it again."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    norms.Rows().attach(optimizer)
    backward(model, 0)
    optimizer.step()
    pair = model, optimizer
    again, copied = copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))
    norms.Rows().attach(copied)
    for each, steps in ((model, optimizer), (again, copied)):
        backward(each, 1)
        steps.step()
    assert_same(again, model, 0.0)
    (kept,) = (s for p, s in copied.state.items() if p is again[3].weight)
    assert (
        kept["Rows.count"] == 2 and kept["Rows.v"] is not optimizer.state[model[3].weight]["Rows.v"]
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_state_of_half_precision_is_in_float32(dtype: torch.dtype, norms: ModuleType) -> None:
    """A moving average in half precision stands still; torch would round it when it is loaded."""
    parameter = nn.Parameter(torch.randn(3, 8).to(dtype))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    norms.Rows(beta=0.999).attach(optimizer)
    wanted = torch.zeros(3, dtype=F64)
    for _ in range(30):
        parameter.grad = torch.randn(3, 8).to(dtype)
        wanted = 0.999 * wanted + 0.001 * parameter.grad.double().square().mean(1)
        optimizer.step()
    v = optimizer.state[parameter]["Rows.v"]
    assert v.dtype == torch.float32
    torch.testing.assert_close(v.double(), wanted, rtol=1e-5, atol=0.0)
    state = saved(optimizer)
    optimizer.load_state_dict(state)
    loaded = optimizer.state[parameter]["Rows.v"]
    assert loaded.dtype == torch.float32 and torch.equal(loaded, v)
    parameter.grad = torch.randn(3, 8).to(dtype)
    optimizer.step()
    assert torch.equal(state["state"][0]["Rows.v"], v), "a step changed the checkpoint"


def test_a_checkpoint_without_it_begins_anew(norms: ModuleType) -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    backward(model, 0)
    optimizer.step()
    before = saved(optimizer)
    norms.Rows().attach(optimizer)
    for _ in range(2):
        optimizer.step()
    optimizer.load_state_dict(before)
    optimizer.step()
    assert optimizer.state[model[3].weight]["Rows.count"] == 1


def test_groups_that_come_later_and_parameters_that_rest(norms: ModuleType) -> None:
    first, second = (nn.Parameter(torch.ones(2, 3)) for _ in range(2))
    optimizer = torch.optim.Adam([first])
    norms.Rows().attach(optimizer)
    first.grad = torch.ones(2, 3)
    optimizer.step()
    optimizer.add_param_group({"params": [second]})
    optimizer.step()  # the second one has no gradient yet
    assert optimizer.state[first]["Rows.count"] == 2 and not optimizer.state.get(second)
    second.grad, first.grad = torch.ones(2, 3), None
    optimizer.step()
    assert optimizer.state[second]["Rows.count"] == 1 and "exp_avg" in optimizer.state[second]
    assert optimizer.state[first]["Rows.count"] == 2


def test_two_norms_do_not_share_what_they_keep(norms: ModuleType) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    convolutions = norms.Rows(beta=0.9).attach(optimizer, where=lambda p: p.dim() == 4)
    norms.Rows(beta=0.5).attach(optimizer, where=lambda p: p.dim() == 2)  # for others: fine
    with pytest.raises(ValueError, match=r"another norm keeps `Rows\.v` of a parameter"):
        norms.Rows().attach(optimizer)
    norms.Rows(beta=0.3).attach(optimizer, where=lambda p: p.dim() == 2, name="Second")
    backward(model, 0)
    grad = model[3].weight.grad.clone()
    optimizer.step()
    once = grad / ((0.5 * grad.square().mean(1, keepdim=True)).sqrt() + 1e-8)
    twice = once / ((0.7 * once.square().mean(1, keepdim=True)).sqrt() + 1e-8)
    torch.testing.assert_close(model[3].weight.grad, twice, rtol=1e-12, atol=1e-12)
    assert {"Rows.v", "Second.v"} <= set(optimizer.state[model[3].weight])
    convolutions.remove()
    norms.Rows().attach(optimizer, where=lambda p: p.dim() == 4)  # its place is free again


def test_what_is_taken_off_leaves_nothing(norms: ModuleType) -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    with norms.Rows().attach(optimizer) as attached:
        backward(model, 0)
        optimizer.step()
    attached.remove()
    kept = optimizer.state[model[3].weight]
    assert set(kept) == {"step", "exp_avg", "exp_avg_sq"}
    norms.Rows().attach(optimizer)
    optimizer.step()
    assert kept["Rows.count"] == 1


def test_several_optimizers_of_one_norm(norms: ModuleType) -> None:
    first, second = net(), net()
    norm = norms.Rows()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (first, second)]
    for optimizer in optimizers:
        norm.attach(optimizer)
    for count in range(3):
        backward(first, count)
        optimizers[0].step()
    backward(second, 0)
    optimizers[1].step()
    assert optimizers[0].state[first[3].weight]["Rows.count"] == 3
    assert optimizers[1].state[second[3].weight]["Rows.count"] == 1
    assert not norm.v.numel(), "the norm's own buffers are for calls by itself"


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.LBFGS])
def test_closures_move_it_each_time(kind: type[Optimizer], norms: ModuleType) -> None:
    ours, theirs, by_hand, calls = net(), net(), RowsByHand(), 0
    optimizer, plain = kind(ours.parameters(), lr=0.01), kind(theirs.parameters(), lr=0.01)
    norms.Rows().attach(optimizer)

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        backward(ours, 0)
        return ours(torch.ones(1, 2, 3, 3, dtype=F64)).sum().detach()

    def closure_by_hand() -> Tensor:
        backward(theirs, 0)
        for parameter in theirs.parameters():
            by_hand(parameter)
        return theirs(torch.ones(1, 2, 3, 3, dtype=F64)).sum().detach()

    for _ in range(2):
        optimizer.step(closure)
        plain.step(closure_by_hand)
    assert_same(ours, theirs, 1e-9)
    assert optimizer.state[ours[3].weight]["Rows.count"] == calls


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscales", [False, True])
def test_gradients_that_are_scaled(fused: bool, unscales: bool, norms: ModuleType) -> None:
    """Fused optimizers divide by the scale in their kernel, behind what hooks see."""
    ours, theirs, by_hand = net(torch.float32), net(torch.float32), RowsByHand()
    optimizer = torch.optim.Adam(ours.parameters(), fused=fused)
    plain = torch.optim.Adam(theirs.parameters(), fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=10**6)
    norms.Rows().attach(optimizer)
    for seed in range(5):
        backward(ours, seed, scaler.scale)
        if seed == 2:  # a step that is left out
            ours[3].weight.grad[0, 0] = float("inf")
        if unscales:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        if seed != 2:
            backward(theirs, seed)
            for parameter in theirs.parameters():
                by_hand(parameter)
            plain.step()
    assert_same(ours, theirs, 1e-5)
    assert optimizer.state[ours[3].weight]["Rows.count"] == 4


def test_a_step_that_is_compiled(norms: ModuleType) -> None:
    ours, theirs = net(), net()
    optimizers = [OPTIMIZERS["SGD with momentum"](model.parameters()) for model in (ours, theirs)]
    for optimizer in optimizers:
        norms.Rows().attach(optimizer)
    compiled = torch.compile(optimizers[0].step, backend="eager")
    for seed in range(3):
        backward(ours, seed)
        compiled()
        backward(theirs, seed)
        optimizers[1].step()
    assert_same(ours, theirs, 1e-12)
    assert optimizers[0].state[ours[3].weight]["Rows.count"] == 3
    assert isinstance(optimizers[0].state_dict()["state"][0]["Rows.v"], Tensor)


def test_it_can_be_saved_by_itself(norms: ModuleType) -> None:
    """A call by itself keeps buffers as other modules do; a first call gives them lengths."""
    norm, grads = norms.Rows(), torch.randn(3, 4, 5, dtype=F64).unbind(0)
    for grad in grads[:2]:
        norm(grad)
    again = norms.Rows()
    again.load_state_dict(norm.state_dict())
    torch.testing.assert_close(again(grads[2]), norm(grads[2]), rtol=0, atol=0)
    with pytest.raises(ValueError, match="O"):
        norm(torch.randn(7, 5, dtype=F64))
    before = norm.v.clone()
    norm.eval()(grads[0])
    assert torch.equal(norm.v, before), "in evaluation nothing is stored"


def test_models_and_parameters_have_no_room_for_it(norms: ModuleType) -> None:
    model = net()
    for to in (model, model[3].weight):
        with pytest.raises(TypeError, match=r"Rows keeps v, count.*attach it to the optimizer"):
            norms.Rows().attach(to)
    assert not model[3].weight._backward_hooks
