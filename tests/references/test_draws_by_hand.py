"""Random numbers of calls, by hand in plain torch with what torch draws from the same seed."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils.checkpoint import checkpoint

from metanorm import loads, runtime

F64 = torch.float64
SPEC = """
norm Dropped(p = 0.25) { input x[N, C]
  let kept = bernoulli(1 - p per N, C)
  output mode(train: where(kept, x / (1 - p), 0), eval: x) }
norm Noisy(std = 0.1) { input x[N, C, *S]
  output x * (1 + mode(train: normal(1, std per N, *S), eval: 0)) }
norm Rescaled { input x[N, C]
  output x * mode(train: uniform(0.5, 1.5 per C), eval: 1) }
norm OfBlocks(groups: int = 2) { input x[N, C]
  axis C = (G = groups, D)
  output mode(train: x * bernoulli(0.5 per N, G), eval: x) }
norm Counted { input x[N, C]
  let kept = bernoulli(0.5 per N)
  output x - mode(train: mean(x over N where kept), eval: 0) }
norm Twice { input x[N, C]
  output x + mode(train: normal(0, 1 per N, C) + normal(0, 1 per N, C), eval: 0) }
norm Called { input x[N, C]
  let y = Dropped(x, p = 0.5)
  output Dropped(2 * y, p = 0.75) }
norm Sized { input x[N, C]
  output mode(train: x + normal(0, 1 / size(N) per N, C), eval: x) }
norm Stored { input x[N, C = c]
  buffer seen[C] = 0
  update seen = seen + uniform(0, 1 per C)
  output x - seen }
norm Scaled { input x[N, C = c]
  param scale[C] = 2
  output mode(train: x + scale * normal(0, 1 per N, C), eval: x) }
norm Reversed { input x[N, C]
  output x
  entry  disturbed(y[N, C]) { output y + mode(train: normal(0, 1 per N, C), eval: 0) } }
norm Loss for loss { input x[N, C]
  output mean(mode(train: x * bernoulli(0.5 per N), eval: x) over N, C) }
norm Stated { input x[N, C]
  let noise = normal(0, 1 per N, C)
  output mode(train: x * noise, eval: x)
  backward { gradient x = 2 * grad * noise } }
norm Renamed { input x[N, C], drawn[N, C]
  output mode(train: drawn * normal(0, 1 per N, C) + x, eval: x) }
"""
Formula = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(SPEC)


def randn_of(x: Tensor, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=x.dtype)


def keep(p: float, *shape: int) -> Tensor:
    return torch.rand(shape) < p


def called(x: Tensor) -> Tensor:
    y = torch.where(keep(0.5, *x.shape), x / 0.5, 0)
    return torch.where(keep(0.25, *x.shape), 2 * y / 0.25, 0)


def counted(x: Tensor) -> Tensor:
    kept = keep(0.5, len(x))
    return x - x[kept].mean(0)


# What a call in training computes of x [6, 4], in the order in which it draws.
TRAINING: dict[str, Formula] = {
    "Dropped": lambda x: torch.where(keep(0.75, 6, 4), x / 0.75, 0),
    "Rescaled": lambda x: x * (torch.rand(4, dtype=x.dtype) + 0.5),
    "OfBlocks": lambda x: x * keep(0.5, 6, 2).repeat_interleave(2, 1),
    "Counted": counted,
    "Twice": lambda x: x + randn_of(x, 6, 4) + randn_of(x, 6, 4),
    "Called": called,
    "Sized": lambda x: x + randn_of(x, 6, 4) / 6,
    "Loss": lambda x: (x * keep(0.5, 6)[:, None]).mean(),
}


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", TRAINING)
def test_training(name: str, dtype: torch.dtype, target: Any, norms: ModuleType) -> None:
    norm, x = getattr(norms, name)(), torch.randn(6, 4).to(dtype)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.manual_seed(7)
    with runtime.use(target):
        y = norm(ours)
        y.sum().backward()
    torch.manual_seed(7)
    expected = TRAINING[name](theirs)
    expected.sum().backward()
    close = {} if dtype != torch.bfloat16 else {"rtol": 0.04, "atol": 0.04}
    torch.testing.assert_close(y, expected, **close)
    torch.testing.assert_close(ours.grad, theirs.grad, **close)


@pytest.mark.parametrize("name", [*TRAINING, "Noisy"])
def test_evaluation_draws_nothing(name: str, norms: ModuleType) -> None:
    norm, x = getattr(norms, name)().eval(), torch.randn(6, 4)
    before = torch.get_rng_state()
    y = norm(x)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(y, x.mean() if name == "Loss" else 2 * x if name == "Called" else x)


def test_groups_of_axes_and_layouts(norms: ModuleType) -> None:
    norm = norms.Noisy(std=0.5)
    for shape in ((3, 4), (3, 4, 5), (3, 4, 5, 2)):
        x = torch.randn(shape)
        torch.manual_seed(1)
        y = norm(x)
        torch.manual_seed(1)
        factor = 2 + 0.5 * torch.randn(3, *shape[2:])
        torch.testing.assert_close(y, x * factor.unsqueeze(1))
    drop = loads(
        "norm Drop { input x[N, C, H, W]\n"
        "output mode(train: where(bernoulli(0.5 per N, C, H, W), x, 0), eval: x) }"
    ).Drop()
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    torch.manual_seed(1)
    y = drop(x)
    torch.manual_seed(1)  # as torch.rand_like and dropout go through memory
    torch.testing.assert_close(y, torch.where(torch.rand_like(x) < 0.5, x, 0))


def test_gradients_reach_what_multiplies_it(norms: ModuleType) -> None:
    norm, x = norms.Scaled(4), torch.randn(6, 4)
    torch.manual_seed(3)
    norm(x).sum().backward()
    torch.manual_seed(3)
    torch.testing.assert_close(norm.scale.grad, torch.randn(6, 4).sum(0))


def test_second_derivatives_have_the_same_numbers(norms: ModuleType) -> None:
    x = torch.randn(6, 4, dtype=F64, requires_grad=True)
    torch.manual_seed(3)
    (gradient,) = torch.autograd.grad(norms.Dropped()(x**3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), x)
    torch.manual_seed(3)
    kept = torch.rand(6, 4) < 0.75
    torch.testing.assert_close(second, torch.where(kept, 6 * x / 0.75, 0))


def test_what_is_stored(norms: ModuleType) -> None:
    norm = norms.Stored(4)
    torch.manual_seed(3)
    norm(torch.randn(2, 4))
    torch.manual_seed(3)
    torch.randn(2, 4)
    torch.testing.assert_close(norm.seen, torch.rand(4))


def test_entries_and_names(norms: ModuleType) -> None:
    x = torch.randn(6, 4)
    torch.manual_seed(3)
    y = norms.Reversed().disturbed(x)
    torch.manual_seed(3)
    torch.testing.assert_close(y, x + torch.randn(6, 4))
    other = torch.randn(6, 4)
    torch.manual_seed(3)
    y = norms.Renamed()(x, other)
    torch.manual_seed(3)
    torch.testing.assert_close(y, other * torch.randn(6, 4) + x)


def test_a_stated_backward_pass_reads_the_same_numbers(norms: ModuleType) -> None:
    x = torch.randn(6, 4, requires_grad=True)
    torch.manual_seed(3)
    norms.Stated()(x).sum().backward()
    torch.manual_seed(3)
    torch.testing.assert_close(x.grad, 2 * torch.randn(6, 4))


def test_checkpoints_draw_again(norms: ModuleType) -> None:
    norm, x = norms.Dropped(), torch.randn(6, 4)
    for reentrant in (True, False):
        plain, again = x.clone().requires_grad_(), x.clone().requires_grad_()
        torch.manual_seed(3)
        norm(plain).sum().backward()
        torch.manual_seed(3)
        checkpoint(norm, again, use_reentrant=reentrant).sum().backward()
        assert plain.grad is not None and again.grad is not None
        assert torch.equal(plain.grad, again.grad)


def test_vmap_follows_its_randomness(norms: ModuleType) -> None:
    norm, x = norms.Dropped(), torch.ones(5, 30, 4)
    same, other = vmap(norm, randomness="same")(x), vmap(norm, randomness="different")(x)
    assert torch.equal(same[0], same[1])
    assert not torch.equal(other[0], other[1])
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(norm)(x)


def test_autocast_leaves_it_in_the_dtype_of_the_input(norms: ModuleType) -> None:
    x = torch.randn(6, 4)
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        y = norms.Twice()(x)
    torch.manual_seed(3)
    torch.testing.assert_close(y, x + torch.randn(6, 4) + torch.randn(6, 4))


@pytest.mark.parametrize("name", ["Dropped", "Rescaled", "Counted"])
def test_compiled_and_exported(name: str, norms: ModuleType) -> None:
    norm, x = getattr(norms, name)(), torch.randn(6, 4)
    torch._dynamo.reset()
    compiled = torch.compile(norm, fullgraph=True, backend="aot_eager")
    torch.manual_seed(3)
    y = compiled(x)
    torch.manual_seed(3)
    torch.testing.assert_close(y, norm(x))
    program = torch.export.export(norm, (x,)).module()
    torch.manual_seed(3)
    y = program(x)
    torch.manual_seed(3)
    torch.testing.assert_close(y, norm(x))
    still = torch.export.export(copy.deepcopy(norm).eval(), (x,))
    assert "rand" not in str(still.graph)


def test_traced(norms: ModuleType) -> None:
    model = torch.fx.symbolic_trace(norms.Rescaled())
    x = torch.randn(6, 4)
    torch.manual_seed(3)
    y = model(x)
    torch.manual_seed(3)
    torch.testing.assert_close(y, x * (torch.rand(4) + 0.5))


def test_functions_take_the_numbers(norms: ModuleType) -> None:
    x, kept = torch.randn(6, 4), torch.rand(6, 4) < 0.5
    norm = norms.Dropped(p=0.5)
    function = norm.forward.__globals__["dropped"]
    torch.testing.assert_close(function(x, kept, 0.5, True), torch.where(kept, 2 * x, 0))
    torch.testing.assert_close(function(x, None, 0.5, False), x)
    with pytest.raises(TypeError, match="Dropped: training needs the random numbers `kept`"):
        function(x, None, 0.5, True)


def test_state_dicts_and_copies_have_none_of_it(norms: ModuleType) -> None:
    norm = norms.Dropped()
    assert not norm.state_dict()
    file = io.BytesIO()
    torch.save(norm.state_dict(), file)
    assert isinstance(functional_call(norm, {}, (torch.randn(2, 4),)), Tensor)


@pytest.mark.parametrize(
    ("name", "argument", "said"),
    [("Dropped", {"p": 2}, "bernoulli: a probability"), ("Noisy", {"std": -1}, "must not be neg")],
)
def test_arguments_without_a_meaning(
    name: str, argument: dict[str, Any], said: str, norms: ModuleType
) -> None:
    with pytest.raises(ValueError, match=said):
        getattr(norms, name)(**argument)(torch.randn(6, 4))


@pytest.mark.parametrize("draw", ["normal(2, 3", "uniform(-1, 5", "bernoulli(0.3"])
def test_moments(draw: str) -> None:
    text = f"norm Of {{ input x[N, C]\noutput x + mode(train: {draw} per N, C), eval: 0) }}"
    torch.manual_seed(5)
    y = loads(text).Of()(torch.zeros(2000, 500, dtype=F64))
    mean, std = {"n": (2, 3), "u": (2, 3**0.5), "b": (0.3, 0.21**0.5)}[draw[0]]
    assert abs(float(y.mean()) - mean) < 0.02
    assert abs(float(y.std()) - std) < 0.02


# ---- norms of the library


def both(norm: nn.Module, reference: Callable[..., Any], *inputs: Tensor) -> None:
    """Values and gradients of a norm in training against a formula, with the same draws."""
    results = []
    for function in (norm, reference):
        leaves = [x.clone().requires_grad_() for x in inputs]
        torch.manual_seed(11)
        outputs = function(*leaves)
        outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
        total = sum((y * torch.linspace(-1, 2, y.numel()).view(y.shape)).sum() for y in outputs)
        results.append([*outputs, *torch.autograd.grad(total, leaves)])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("target", ["torch", "native"])
def test_stoch_norm(target: Any, library: ModuleType) -> None:
    norm = library.StochNorm(4, p=0.4).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 1.5)
    start = copy.deepcopy(norm)
    x = torch.randn(6, 4, 5, dtype=F64)

    def by_hand(x: Tensor) -> Tensor:
        takes_running = torch.rand(4) < 0.4
        state = (start.running_mean, start.running_var)
        fixed = nn.functional.batch_norm(x, *state, norm.weight, norm.bias)
        of_batch = nn.functional.batch_norm(x, None, None, norm.weight, norm.bias, training=True)
        return torch.where(takes_running[:, None], fixed, of_batch)

    with runtime.use(target):
        both(norm, by_hand, x)
    mean, var = x.mean((0, 2)), x.var((0, 2))
    torch.testing.assert_close(norm.running_mean, start.running_mean.lerp(mean, 0.1))
    torch.testing.assert_close(norm.running_var, start.running_var.lerp(var, 0.1))
    norm.eval()
    state = (norm.running_mean, norm.running_var)
    wanted = nn.functional.batch_norm(x, *state, norm.weight, norm.bias)
    torch.testing.assert_close(norm(x), wanted)


@pytest.mark.parametrize("target", ["torch", "native"])
def test_distribution_uncertainty(target: Any, library: ModuleType) -> None:
    """As `DistributionUncertainty` of the authors, but for the choice of samples."""

    def by_hand(x: Tensor) -> Tensor:
        mean = x.mean([2, 3])
        std = (x.var([2, 3]) + 1e-6).sqrt()
        mean_spread = (mean.var(0, keepdim=True) + 1e-6).sqrt()
        std_spread = (std.var(0, keepdim=True) + 1e-6).sqrt()
        beta = mean + torch.randn(6, 3, dtype=F64) * mean_spread
        gamma = std + torch.randn(6, 3, dtype=F64) * std_spread
        changed = torch.rand(6) < 0.5
        moved = (x - mean[:, :, None, None]) / std[:, :, None, None]
        moved = moved * gamma[:, :, None, None] + beta[:, :, None, None]
        return torch.where(changed[:, None, None, None], moved, x)

    x = torch.randn(6, 3, 4, 5, dtype=F64)
    with runtime.use(target):
        both(library.DistributionUncertainty(), by_hand, x)
        assert torch.equal(library.DistributionUncertainty().eval()(x), x)


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("kind", ["Layer", "RMS"])
def test_dropout_add_norm(kind: str, target: Any, library: ModuleType) -> None:
    norm = getattr(library, f"DropoutAdd{kind}Norm")(8, p=0.3).double()
    nn.init.uniform_(norm.weight, 0.5, 1.5)

    def by_hand(x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        h = residual + torch.where(torch.rand(2, 5, 8) < 0.7, x / 0.7, 0)
        if kind == "Layer":
            return nn.functional.layer_norm(h, (8,), norm.weight, norm.bias), h
        return nn.functional.rms_norm(h, (8,), norm.weight, 1e-6), h

    x, residual = torch.randn(2, 2, 5, 8, dtype=F64)
    with runtime.use(target):
        both(norm, by_hand, x, residual)
        _, h = norm.eval()(x, residual)
    assert torch.equal(h, x + residual)
    torch.testing.assert_close(library.DropoutAddLayerNorm(8, p=1)(x, residual).residual, residual)
