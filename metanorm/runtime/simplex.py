"""Maps of weights onto the simplex that leave most of them at zero."""

from __future__ import annotations

import torch
from torch import Tensor


def sparsestmax(x: Tensor, radius: float, dim: int) -> Tensor:
    """Weights along `dim` that sum to one and are at least `radius` away from all alike.

    With a radius of zero this is the sparsest point of the simplex that is nearest to `x`
    (sparsemax: Martins & Astudillo, 2016, arXiv 1602.02068). From sqrt((k - 1) / k) on, k weights
    always are one and zeros (Shao et al., 2019, "SSN", arXiv 1903.03793). In between, weights are
    pushed out of the circle about the centre of the face they lie on; those that would become
    negative are zero from then on.

    Where weights on a face are all alike there is no way out, and they stay. Gradients are those of
    the smooth piece that the weights lie on, and always finite.
    """
    x = x - x.detach().amax(dim, keepdim=True)  # the same weights, of numbers that are not large
    weights = _projected(x, dim, torch.ones_like(x, dtype=torch.bool))
    centre, squared_radius = None, torch.full_like(x.narrow(dim, 0, 1), float(radius) ** 2)
    for _ in range(x.shape[dim] - 1):  # each step leaves a weight at zero, or is the last
        support = weights > 0
        previous, centre = centre, support / support.sum(dim, keepdim=True).clamp_min(1).to(x.dtype)
        if previous is not None:
            squared_radius = (
                squared_radius - (centre - previous).square().sum(dim, keepdim=True)
            ).clamp_min(0)
        squared_distance = (weights - centre).square().sum(dim, keepdim=True)
        inside = (squared_distance < squared_radius) & (
            squared_distance > (16 * torch.finfo(x.dtype).eps) ** 2
        )
        stretch = (squared_radius / squared_distance.masked_fill(~inside, 1)).masked_fill(
            ~inside, 1
        )
        pushed = torch.where(inside, centre + (weights - centre) * stretch.sqrt(), weights)
        weights = torch.where(inside, _projected(pushed, dim, support), weights)
    return weights


def _projected(x: Tensor, dim: int, support: Tensor) -> Tensor:
    """The nearest point of a face of the simplex, with its derivative."""
    ordered = x.detach().masked_fill(~support, -torch.inf).sort(dim, descending=True).values
    shape = [1] * x.dim()
    shape[dim] = -1
    ranks = torch.arange(1, x.shape[dim] + 1, dtype=x.dtype, device=x.device).view(shape)
    sums = ordered.masked_fill(ordered == -torch.inf, 0).cumsum(dim)
    count = (1 + ranks * ordered > sums).sum(dim, keepdim=True).clamp_min(1)
    threshold = ordered.gather(dim, count - 1)
    new_support = support & ~(x < threshold)  # beside a NaN all are kept, and lost
    total = torch.where(new_support, x, 0).sum(dim, keepdim=True)
    shift = (total - 1) / new_support.sum(dim, keepdim=True).clamp_min(1).to(x.dtype)
    return torch.where(new_support, x - shift, 0)
