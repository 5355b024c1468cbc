"""SparsestMax of one vector, as the paper has it (Shao et al., 2019, arXiv 1903.03793)."""

from __future__ import annotations

import math
from collections.abc import Sequence

Vector = Sequence[float]


def sparsestmax(x: Vector, radius: float, centre: Vector | None = None) -> Vector:
    """The projection on the simplex, pushed out of a circle about the centre of its face.

    A point in the very centre has no way out and stays.
    """
    point = sparsemax(x)
    kept = sum(share > 0 for share in point)
    if not kept:  # a NaN stays one
        return point
    middle = [(share > 0) / kept for share in point]
    if centre is not None:
        radius = math.sqrt(max(0.0, radius**2 - math.dist(middle, centre) ** 2))
    distance = math.dist(point, middle)
    if not 1e-14 < distance < radius:
        return point
    out = [m + radius * (p - m) / distance for p, m in zip(point, middle)]
    return out if min(out) >= 0 else sparsestmax(out, radius, middle)


def sparsemax(x: Vector) -> Vector:
    """The Euclidean projection on the simplex: what would be negative is left out, repeatedly."""
    if not all(map(math.isfinite, x)):
        return [math.nan] * len(x)
    kept = [True] * len(x)
    while True:
        level = (sum(v for v, keeps in zip(x, kept) if keeps) - 1) / sum(kept)
        point = [v - level if keeps else 0.0 for v, keeps in zip(x, kept)]
        if min(point) >= 0:
            return point
        kept = [keeps and share > 0 for keeps, share in zip(kept, point)]
