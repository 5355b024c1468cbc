"""Norms of whole matrices, by iterations."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DoublyStochastic(nn.Module):
    """Sinkhorn's iteration in its symmetric form, on products of the kernel with a vector."""

    def __init__(self, steps: int, bandwidth: float = 1) -> None:
        super().__init__()
        self.steps, self.bandwidth = steps, bandwidth

    def forward(self, distance: Tensor) -> Tensor:
        """Takes a square matrix of distances, whose diagonal is left out."""
        exponent = distance.square() / -self.bandwidth
        kernel = exponent.fill_diagonal_(-torch.inf).exp()
        d = kernel.new_ones(len(kernel))
        for _ in range(self.steps):
            d = (d / (kernel @ d)).sqrt()
        return d[:, None] * kernel * d


class Muon(nn.Module):
    """`zeropower_via_newtonschulz5` of the authors, in the type of the gradient: a tall matrix is
    turned, for which products are smaller."""

    def __init__(self, steps: int, eps: float = 1e-7) -> None:
        super().__init__()
        self.steps, self.eps = steps, eps

    def forward(self, grad: Tensor) -> Tensor:
        """Takes the gradient of a matrix, or of a kernel, whose later axes are one."""
        rows, columns = grad.shape[0], grad[0].numel()
        x = grad.reshape(rows, columns)
        x = x.mT if rows > columns else x
        x = x / (x.norm() + self.eps)
        for _ in range(self.steps):
            a = x @ x.mT
            b = torch.addmm(a, a, a, beta=-4.7750, alpha=2.0315)
            x = torch.addmm(x, b, x, beta=3.4445)
        x = x.mT if rows > columns else x
        return x.reshape(grad.shape).mul(max(1, rows / columns) ** 0.5)
