"""Norms of the library that state their backward pass, against the code of their authors.

The references are autograd functions written by hand: results, gradients of the input and of
parameters, and buffers, after each of several steps of training.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metanorm import runtime

F64 = torch.float64
STEPS = 9


class PowerFunction(torch.autograd.Function):
    """As in `mask_powernorm.py` of sIncerass/powernorm, on [N, T, D], behind its group scaling."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, keep: Tensor, state: PowerNorm) -> Tensor:
        i = state.iters
        phi = u[keep].square().mean(0)
        z = u / ((phi if i <= state.warmup else state.running_phi) + state.eps).sqrt()
        ctx.save_for_backward(z, phi)
        ctx.state = state
        if i < state.warmup:
            state.running_phi = state.running_phi * (i - 1) / i + phi / i
        state.running_phi = 0.9 * state.running_phi + (1 - 0.9) * phi
        return state.weight * z + state.bias

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        z, phi = ctx.saved_tensors
        state: PowerNorm = ctx.state
        g = grad * state.weight - (1 - state.alpha_bkw) * state.ema_gz * z
        state.ema_gz = state.ema_gz + (g * z).mean((0, 1))
        state.weight_grad, state.bias_grad = (grad * z).sum((0, 1)), grad.sum((0, 1))
        return g / (phi + state.eps).sqrt(), None, None


class PowerNorm:
    def __init__(self, norm: nn.Module, warmup: int, groups: int, alpha_bkw: float) -> None:
        self.weight, self.bias = norm.weight.detach(), norm.bias.detach()
        self.warmup, self.groups, self.alpha_bkw, self.eps = warmup, groups, alpha_bkw, 1e-5
        self.running_phi, self.ema_gz = torch.ones(6, dtype=F64), torch.zeros(6, dtype=F64)
        self.iters = 0

    def __call__(self, x: Tensor, keep: Tensor) -> Tensor:
        self.iters += 1
        grouped = x.unflatten(2, (self.groups, -1))
        u = grouped / (grouped.square().mean(3, keepdim=True) + self.eps).sqrt()
        return PowerFunction.apply(u.flatten(2), keep, self)  # type: ignore[no-any-return]

    @property
    def buffers(self) -> dict[str, Tensor]:
        return {"running_phi": self.running_phi, "ema_gz": self.ema_gz}


class MABNFunction(torch.autograd.Function):
    """As in `MABN.py` of megvii-model/MABN, on [N, C, *S]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, state: MABN) -> Tensor:
        i, dims = state.iters, (0, *range(2, x.dim()))
        state.buffer_x2[i % state.size] = x2 = x.square().mean(dims)
        from_batch = i <= state.size or i < state.warmup
        var = x2 if from_batch else state.buffer_x2.mean(0)
        r = ((var + state.eps).sqrt() / (state.running_var + state.eps).sqrt()).clamp(1 / 5, 5)
        if i <= max(state.correct_after, state.warmup):
            r = torch.ones_like(r)
        z = x / per_channel(var + state.eps, x).sqrt()
        ctx.save_for_backward(z, var, r)
        ctx.state, ctx.iter, ctx.from_batch = state, i, from_batch
        state.running_var = 0.98 * state.running_var + (1 - 0.98) * var
        return per_channel(state.weight * r, x) * z + per_channel(state.bias, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        z, var, r = ctx.saved_tensors
        state: MABN = ctx.state
        dims = (0, *range(2, z.dim()))
        g = grad * per_channel(state.weight * r, z)
        state.buffer_gz[ctx.iter % state.size] = gz = (g * z).mean(dims)
        mean_gz = gz if ctx.from_batch else state.buffer_gz.mean(0)
        state.weight_grad = (grad * per_channel(r, z) * z).sum(dims)
        state.bias_grad = grad.sum(dims)
        return (g - z * per_channel(mean_gz, z)) / per_channel(var + state.eps, z).sqrt(), None


class MABN:
    def __init__(self, norm: nn.Module, size: int, warmup: int, correct_after: int) -> None:
        self.weight, self.bias = norm.weight.detach(), norm.bias.detach()
        self.size, self.warmup, self.correct_after, self.eps = size, warmup, correct_after, 1e-5
        self.running_var = torch.ones(3, dtype=F64)
        self.buffer_x2, self.buffer_gz = (torch.zeros(size, 3, dtype=F64) for _ in range(2))
        self.iters = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.iters += 1
        return MABNFunction.apply(x, self)  # type: ignore[no-any-return]

    @property
    def buffers(self) -> dict[str, Tensor]:
        # Theirs begins to fill its slots with the second.
        rings = (self.buffer_x2.roll(-1, 0), self.buffer_gz.roll(-1, 0))
        return dict(zip(("buffer_x2", "buffer_gz"), rings), running_var=self.running_var)


class UNFunction(torch.autograd.Function):
    """As in `unified_normalization.py` of hikvision-research, on [N, T, C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, state: UN) -> Tensor:
        i, slot, skip = state.iters, state.iters % state.size, state.size == 1
        x2 = x[keep].square().mean(0)
        recorded = state.buffer_x2.sqrt().var()
        state.buffer_x2[slot] = x2
        if i >= state.warmup and state.filters:
            excess = state.buffer_x2.mean(0) - state.buffer_x2.log().mean(0).exp()
            if (excess > recorded * state.size).any():
                state.buffer_x2[slot] = state.running_var
                skip = True
                state.skip_counter += 1
        from_batch = i <= state.size or i < state.warmup or skip
        var = x2 if from_batch else state.buffer_x2.log().mean(0).exp()
        r = ((var + state.eps).sqrt() / (state.running_var + state.eps).sqrt()).clamp(1 / 5, 5)
        if i <= max(state.correct_after, state.warmup) or skip:
            r = torch.ones_like(r)
        z = x / (var + state.eps).sqrt()
        ctx.save_for_backward(z, var, r)
        ctx.state, ctx.slot, ctx.skip, ctx.from_batch = state, slot, skip, from_batch
        state.running_var = 0.9 * state.running_var + (1 - 0.9) * var
        return state.weight * z + state.bias

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        z, var, r = ctx.saved_tensors
        state: UN = ctx.state
        g = grad * state.weight * r
        gz = (g * z).mean((0, 1))
        state.buffer_gz[ctx.slot] = state.ema_gz if ctx.skip else gz
        mean_gz = gz if ctx.from_batch else state.buffer_gz.mean(0)
        state.ema_gz = 0.9 * state.ema_gz + (1 - 0.9) * mean_gz
        state.weight_grad, state.bias_grad = (grad * r * z).sum((0, 1)), grad.sum((0, 1))
        control = mean_gz if ctx.skip else state.ema_gz
        return (g - control * z) / (var + state.eps).sqrt(), None, None


class UN:
    def __init__(
        self, norm: nn.Module, size: int, warmup: int, correct_after: int, filters: bool
    ) -> None:
        self.weight, self.bias = norm.weight.detach(), norm.bias.detach()
        self.size, self.warmup, self.correct_after, self.eps = size, warmup, correct_after, 1e-5
        self.filters, self.iters, self.skip_counter = filters, 0, torch.zeros((), dtype=F64)
        self.running_var, self.ema_gz = torch.ones(3, dtype=F64), torch.zeros(3, dtype=F64)
        self.buffer_x2, self.buffer_gz = (torch.zeros(size, 3, dtype=F64) for _ in range(2))

    def __call__(self, x: Tensor, keep: Tensor) -> Tensor:
        self.iters += 1
        return UNFunction.apply(x, keep, self)  # type: ignore[no-any-return]

    @property
    def buffers(self) -> dict[str, Tensor]:
        # Theirs begins to fill its slots with the second.
        rings = (self.buffer_x2.roll(-1, 0), self.buffer_gz.roll(-1, 0))
        names = ("running_var", "ema_gz", "skip_counter")
        return {
            **dict(zip(("buffer_x2", "buffer_gz"), rings)),
            **{name: getattr(self, name) for name in names},
        }


class OnlineFunction(torch.autograd.Function):
    """As in `online_norm_2d.py` of Cerebras/online-normalization, on [N, C, H, W]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, state: Online) -> Tensor:
        keep, results, scales = state.alpha_fwd, [], []
        for sample in x:
            mu, var = sample.mean((1, 2)), sample.var((1, 2), correction=0)
            scales.append((state.var + state.eps).sqrt())
            results.append((sample - state.m[:, None, None]) / scales[-1][:, None, None])
            gap = mu - state.m
            state.var = keep * state.var + (1 - keep) * var + keep * (1 - keep) * gap**2
            state.m = state.m + (1 - keep) * gap
        out = torch.stack(results)
        ctx.save_for_backward(out, torch.stack(scales))
        ctx.state = state
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad_out,) = grads
        out, scale = ctx.saved_tensors
        state, gradients = ctx.state, []
        control = 1 - state.alpha_bkw
        for i, grad in enumerate(grad_out):
            grad = grad - control * state.v[:, None, None] * out[i]
            state.v = state.v + (grad * out[i]).mean((1, 2))
            grad = grad / scale[i][:, None, None] - control * state.u[:, None, None]
            state.u = state.u + grad.mean((1, 2))
            gradients.append(grad)
        return torch.stack(gradients), None


class Online:
    def __init__(self, norm: nn.Module, ecm: str) -> None:
        self.weight, self.bias = (p.detach().requires_grad_() for p in (norm.weight, norm.bias))
        self.alpha_fwd, self.alpha_bkw, self.eps, self.ecm = 0.8, 0.7, 1e-5, ecm
        self.m, self.u, self.v = torch.zeros(3, 3, dtype=F64)
        self.var = torch.ones(3, dtype=F64)

    def __call__(self, x: Tensor) -> Tensor:
        self.weight.grad = self.bias.grad = None
        z = OnlineFunction.apply(x, self)
        return self.bounded(per_channel(self.weight, x) * z + per_channel(self.bias, x))

    def bounded(self, y: Tensor) -> Tensor:
        if self.ecm == "ac":
            return y.clamp(-1.5, 1.5)
        second = y.square().mean((1, 2, 3), keepdim=True)
        return y / (second + self.eps).sqrt() if self.ecm == "ls" else y

    @property
    def weight_grad(self) -> Tensor | None:
        return self.weight.grad

    @property
    def bias_grad(self) -> Tensor | None:
        return self.bias.grad

    @property
    def buffers(self) -> dict[str, Tensor]:
        return {"m": self.m, "var": self.var, "u": self.u, "v": self.v}


def per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (like.dim() - 2))


def randomised(norm: nn.Module) -> nn.Module:
    norm = norm.double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(0.5, 1.5)
    return norm


def step(norm: nn.Module, theirs: Any, x: Tensor, *others: Tensor) -> None:
    """One step of training for both, with everything compared behind it."""
    ours, reference = x.clone().requires_grad_(), x.clone().requires_grad_()
    norm.zero_grad()
    y, wanted = norm(ours, *others), theirs(reference, *others)
    grad = torch.randn_like(y)
    y.backward(grad)
    wanted.backward(grad)
    torch.testing.assert_close(y, wanted)
    torch.testing.assert_close(ours.grad, reference.grad)
    torch.testing.assert_close(norm.weight.grad, theirs.weight_grad)
    torch.testing.assert_close(norm.bias.grad, theirs.bias_grad)
    for name, buffer in theirs.buffers.items():
        torch.testing.assert_close(getattr(norm, name), buffer)


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("warmup", [0, 4])
def test_power_norm(library: ModuleType, warmup: int, groups: int, target: Any) -> None:
    norm = library.PowerNorm(6, alpha_bkw=0.7, warmup_iters=warmup, group_num=groups)
    theirs = PowerNorm(randomised(norm), warmup, groups, 0.7)
    with runtime.use(target):
        for _ in range(STEPS):
            keep = torch.rand(4, 5) < 0.8
            step(norm, theirs, torch.randn(4, 5, 6, dtype=F64) * 2 + 1, keep)
    norm.eval()
    x = torch.randn(4, 5, 6, dtype=F64, requires_grad=True)
    grouped = x.unflatten(2, (groups, -1))
    u = (grouped / (grouped.square().mean(3, keepdim=True) + 1e-5).sqrt()).flatten(2)
    wanted = theirs.weight * u / (theirs.running_phi + 1e-5).sqrt() + theirs.bias
    torch.testing.assert_close(norm(x), wanted)
    torch.autograd.gradcheck(norm, (x,))


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("warmup", "correct_after"), [(0, 6), (5, 0)])
def test_moving_average_batch_norm(
    library: ModuleType, size: int, warmup: int, correct_after: int, target: Any
) -> None:
    norm = library.MovingAverageBatchNorm(3, size, warmup_iters=warmup, correct_after=correct_after)
    theirs = MABN(randomised(norm), size, warmup, correct_after)
    with runtime.use(target):
        for _ in range(STEPS):
            step(norm, theirs, torch.randn(4, 3, 5, 2, dtype=F64) * 2 + 1)
    norm.eval()
    x = torch.randn(4, 3, 5, dtype=F64, requires_grad=True)
    wanted = x / per_channel(theirs.running_var + 1e-5, x).sqrt()
    wanted = per_channel(theirs.weight, x) * wanted + per_channel(theirs.bias, x)
    torch.testing.assert_close(norm(x), wanted)
    torch.autograd.gradcheck(norm, (x,))


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("filters", [False, True])
@pytest.mark.parametrize(("size", "warmup", "correct_after"), [(3, 0, 6), (3, 4, 0), (1, 2, 0)])
def test_unified_norm(
    library: ModuleType, size: int, warmup: int, correct_after: int, filters: bool, target: Any
) -> None:
    norm = library.UnifiedNorm(
        3, size, warmup_iters=warmup, correct_after=correct_after, outlier_filtration=filters
    )
    theirs = UN(randomised(norm), size, warmup, correct_after, filters)
    with runtime.use(target):
        for number in range(STEPS):
            keep = torch.rand(4, 5) < 0.8
            factor = 9 if number == STEPS - 3 else 2  # one batch fluctuates
            step(norm, theirs, torch.randn(4, 5, 3, dtype=F64) * factor + 1, keep)
    assert size == 1 or (theirs.skip_counter > 0) == filters
    norm.eval()
    x = torch.randn(4, 5, 3, dtype=F64, requires_grad=True)
    wanted = theirs.weight * x / (theirs.running_var + 1e-5).sqrt() + theirs.bias
    torch.testing.assert_close(norm(x), wanted)
    torch.autograd.gradcheck(norm, (x,))


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("ecm", ["ac", "ls", "none"])
def test_online_norm(library: ModuleType, ecm: str, target: Any) -> None:
    norm = library.OnlineNorm(3, alpha_fwd=0.8, alpha_bkw=0.7, clamp_val=1.5, ecm=ecm)
    theirs = Online(randomised(norm), ecm)
    with runtime.use(target):
        for _ in range(STEPS):
            step(norm, theirs, torch.randn(4, 3, 5, 2, dtype=F64) * 2 + 1)
    norm.eval()
    x = torch.randn(4, 3, 5, 2, dtype=F64, requires_grad=True)
    z = (x - per_channel(theirs.m, x)) / per_channel(theirs.var + 1e-5, x).sqrt()
    wanted = theirs.bounded(per_channel(theirs.weight, x) * z + per_channel(theirs.bias, x))
    torch.testing.assert_close(norm(x), wanted)
    torch.autograd.gradcheck(norm, (x,))
