"""Whitening by Newton's iteration, on matrix products, as the authors of these norms write it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metanorm.bench.peers.by_hand.parameters import move, ones, zeros


def inverse_root(matrix: Tensor, steps: int) -> Tensor:
    """What a matrix with a trace of one has for an inverse root: shape [*, D, D]."""
    root = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
    for _ in range(steps):
        root = torch.baddbmm(root, torch.matrix_power(root, 3), matrix, beta=1.5, alpha=-0.5)
    return root


def coupled_inverse_root(matrix: Tensor, steps: int) -> Tensor:
    """The same by the coupled iteration, which takes a root along."""
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
    root, inverse = matrix, eye
    for _ in range(steps):
        step = torch.baddbmm(eye, inverse, root, beta=1.5, alpha=-0.5)
        root, inverse = root @ step, step @ inverse
    return inverse


def _with_eps(covariance: Tensor, eps: float) -> Tensor:
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return covariance + eps * eye


def _trace(matrix: Tensor, eps: float) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=eps)[..., None, None]


class IterNorm(nn.Module):
    """All samples whitened together, within groups of channels."""

    def __init__(
        self, channels: int, groups: int, steps: int, eps: float = 1e-5,
        momentum: float = 0.1, coupled: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.groups, self.steps, self.eps, self.momentum = groups, steps, eps, momentum
        self.root = coupled_inverse_root if coupled else inverse_root
        self.weight, self.bias = ones(channels), zeros(channels)
        size = channels // groups
        self.register_buffer("running_mean", torch.zeros(groups, size, 1))
        self.register_buffer("running_cov", torch.eye(size).repeat(groups, 1, 1))
        self.running_mean: Tensor
        self.running_cov: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Takes [N, C, *]."""
        turned = x.transpose(0, 1)
        columns = turned.reshape(self.groups, -1, x.numel() // x.shape[1])
        if self.training:
            mean = columns.mean(-1, keepdim=True)
            centred = columns - mean
            cov = centred @ centred.mT / columns.shape[-1]
            move(self.running_mean, mean, self.momentum)
            move(self.running_cov, cov, self.momentum)
        else:
            centred, cov = columns - self.running_mean, self.running_cov
        sigma = _with_eps(cov, self.eps)
        trace = _trace(sigma, self.eps)
        whitening = self.root(sigma / trace, self.steps) * trace.rsqrt()
        weight, bias = (p.view(self.groups, -1, 1) for p in (self.weight, self.bias))
        return torch.baddbmm(bias, weight * whitening, centred).view_as(turned).transpose(0, 1)


class SwitchableWhitening(nn.Module):
    """Whitening by a mixture of the covariances of the batch and of each sample.

    With five weights, variances of both and of a sample as a whole are in the mixture, too.
    """

    def __init__(
        self, channels: int, grouped: int, steps: int, weights: int,
        eps: float = 1e-5, momentum: float = 0.01,
    ) -> None:  # fmt: skip
        super().__init__()
        self.grouped, self.steps, self.eps, self.momentum = grouped, steps, eps, momentum
        self.weight, self.bias = ones(channels), zeros(channels)
        self.sw_mean_weight, self.sw_var_weight = ones(weights), ones(weights)
        groups = channels // grouped
        self.register_buffer("running_mean", torch.zeros(groups, grouped, 1))
        self.register_buffer("running_cov", torch.eye(grouped).repeat(groups, 1, 1))
        self.running_mean: Tensor
        self.running_cov: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Takes [N, C, *]."""
        columns = x.reshape(len(x), -1, self.grouped, x[0, 0].numel())  # N, G, D, pixels
        inst = columns.mean(-1, keepdim=True)
        centred = columns - inst
        inst_cov = centred @ centred.mT / columns.shape[-1]
        if self.training:
            batch = inst.mean(0)
            apart = inst - batch
            batch_cov = inst_cov.mean(0) + (apart @ apart.mT).mean(0)
            move(self.running_mean, batch, self.momentum)
            move(self.running_cov, batch_cov, self.momentum)
        else:
            batch, batch_cov = self.running_mean, self.running_cov
        mean, cov = self._mixed(batch, inst, batch_cov, inst_cov)
        sigma = _with_eps(cov, self.eps).flatten(0, 1)
        trace = _trace(sigma, self.eps)
        whitening = inverse_root(sigma / trace, self.steps) * trace.rsqrt()
        weight, bias = (p.view(-1, self.grouped, 1) for p in (self.weight, self.bias))
        scale = weight * whitening.view_as(cov)
        shift = bias - scale @ mean
        y = torch.baddbmm(shift.flatten(0, 1), scale.flatten(0, 1), columns.flatten(0, 1))
        return y.view_as(x)

    def _mixed(
        self, batch: Tensor, inst: Tensor, batch_cov: Tensor, inst_cov: Tensor
    ) -> tuple[Tensor, Tensor]:
        of_mean, of_cov = self.sw_mean_weight.softmax(0), self.sw_var_weight.softmax(0)
        if len(of_mean) == 2:
            mean = of_mean[0] * batch + of_mean[1] * inst
            return mean, of_cov[0] * batch_cov + of_cov[1] * inst_cov
        eye = torch.eye(self.grouped, dtype=inst.dtype, device=inst.device)
        layer_mean = inst.mean((1, 2), keepdim=True)
        variances = inst_cov.diagonal(dim1=-2, dim2=-1)[..., None] + inst.square()
        layer_var = variances.mean((1, 2), keepdim=True) - layer_mean.square()
        mean = (of_mean[0] + of_mean[2]) * batch + (of_mean[1] + of_mean[3]) * inst
        cov = (of_cov[0] + of_cov[2] * eye) * batch_cov + (of_cov[1] + of_cov[3] * eye) * inst_cov
        return mean + of_mean[4] * layer_mean, cov + of_cov[4] * layer_var * eye
