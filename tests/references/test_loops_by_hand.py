"""`repeat` with values of one step, and axes that change their names at once, by hand."""

from __future__ import annotations

import pytest
import torch
from by_hand import References
from torch import Tensor

references = References()
TARGETS = pytest.mark.parametrize("target", ["torch", "native"])


@references(
    """
    norm Muon(steps: int = 3, eps = 1e-7) { input x[O, I]
      let y = x / (l2(x over O, I) + eps)
      repeat steps {
        a = sum(y * y[O -> P] over I)
        b = -4.775 * a + 2.0315 * sum(a[O -> P, P -> Q] * a[P -> Q] over Q)
        y = 3.4445 * y + sum(b * y[O -> P] over P)
      }
      output y }
    """,
    x=(3, 5),
    torch_only="matrix products, which torch's BLAS does as fast",
)
def values_of_one_step(x: Tensor) -> Tensor:
    y = x / (x.norm() + 1e-7)
    for _ in range(3):
        a = y @ y.T
        b = -4.775 * a + 2.0315 * a @ a
        y = 3.4445 * y + b @ y
    return y


@references(
    """
    norm Sinkhorn(steps: int = 4) { input x[N, T, U]
      let a = exp(x - max(x over T, U))
      let seen[N] = 0
      repeat steps {
        a = a / sum(a over U)
        rows = mean(a over T, U)
        a = a / sum(a over T)
        seen = seen + rows
        rows = 2 * rows
        seen = seen - rows
      }
      output a, seen }
    """,
    x=(2, 3, 3),
    torch_only="repeat",
)
def several_assignments_to_one_name(x: Tensor) -> tuple[Tensor, Tensor]:
    a, seen = torch.exp(x - x.amax((1, 2), keepdim=True)), x.new_zeros(2)
    for _ in range(4):
        a = a / a.sum(2, keepdim=True)
        rows = a.mean((1, 2))
        a = a / a.sum(1, keepdim=True)
        seen = seen + rows - 2 * rows
    return a, seen


@references(
    """
    norm Both { input x[N, C]
      output y = 2 * x, centred = x - mean(x over C) }
    norm Damped(steps: int = 3) { input x[N, C]
      let b = Both(x)
      repeat steps { b = 0.5 * b + x }
      output b }
    """,
    x=(2, 3),
    torch_only="repeat",
)
def the_first_output_of_a_call_changes_from_step_to_step(x: Tensor) -> Tensor:
    y = 2 * x
    for _ in range(3):
        y = 0.5 * y + x
    return y


@references(
    """
    norm Turned { input x[N, C, D]
      let   t = x[C -> D, D -> C]
      let   r = sum(x * x[D -> E] over C)
      output x + 2 * t + sum(r[D -> F, E -> D] * x[D -> F] over F) }
    """,
    x=(2, 3, 3),
    torch_only="matrix products, which torch's BLAS does as fast",
)
def renames_at_once(x: Tensor) -> Tensor:
    r = torch.einsum("ncd,nce->nde", x, x)
    return x + 2 * x.transpose(1, 2) + torch.einsum("nfd,ncf->ncd", r, x)


@TARGETS
@pytest.mark.parametrize("name", references.names())
def test_reference(name: str, target: str) -> None:
    references.check(name, target)
