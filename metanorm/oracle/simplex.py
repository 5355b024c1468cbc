"""SparsestMax of one vector, as the paper has it (Shao et al., 2019, arXiv 1903.03793)."""

from __future__ import annotations

import torch
from torch import Tensor


def along(x: Tensor, radius: float, dim: int) -> Tensor:
    """SparsestMax of each vector along a dimension."""
    rows = x.movedim(dim, -1)
    done = [_of_finite(row, radius) for row in rows.reshape(-1, rows.shape[-1])]
    shares = torch.stack(done) if done else rows
    return shares.reshape(rows.shape).movedim(-1, dim)


def adjoint(x: Tensor, radius: float, dim: int, d: Tensor) -> Tensor:
    """What of an adjoint of the weights arrives at the values, by autograd."""
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(along(leaf, radius, dim), leaf, d)
    return gradient


def _of_finite(x: Tensor, radius: float) -> Tensor:
    """SparsestMax of one vector. Beside a NaN, or what is infinitely larger than all else, weights
    and their gradients are NaN."""
    below = x - x.detach().amax() if len(x) else x
    return below * torch.nan if bool(below.isnan().any()) else sparsestmax(below, radius)


def sparsestmax(x: Tensor, radius: float, centre: Tensor | None = None) -> Tensor:
    """The projection on the simplex, pushed out of a circle about the centre of its face.

    A point in the very centre has no way out and stays, where the authors' code divides by zero.
    """
    point = sparsemax(x)
    face = (point > 0).to(x.dtype)
    middle = face / face.sum()
    if centre is not None:
        radius = max(0.0, radius**2 - float(((middle - centre) ** 2).sum())) ** 0.5
    distance = torch.linalg.vector_norm((point - middle).detach())
    if not 1e-14 < distance < radius:
        return point
    away = point - middle
    out = middle + radius * away / torch.sqrt((away * away).sum())
    return out if bool((out >= 0).all()) else sparsestmax(out, radius, middle)


def sparsemax(x: Tensor) -> Tensor:
    """The Euclidean projection on the simplex: what would be negative is left out, again and again
    (Michelot, 1986)."""
    kept = x != -torch.inf
    while True:
        level = (x[kept].sum() - 1) / kept.sum()
        point = torch.where(kept, x - level, 0.0)
        if not bool((point < 0).any()):
            return point
        kept = kept & (point > 0)
