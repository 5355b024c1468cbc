"""Rows of a table that no label chooses, and groups without members: they leave no trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

import metanorm
from metanorm import runtime
from metanorm.runtime.targets import Target

F64 = torch.float64
LABEL = torch.tensor([0, 3, 3, 0, 5, 3])  # nobody chooses 1, 2 and 4
COUNTS = torch.tensor([2, 0, 0, 3, 0, 1], dtype=F64)
# A statistic of as many equal values, by hand.
OF_EQUAL: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": lambda q, n: q,
    "max": lambda q, n: q,
    "min": lambda q, n: q,
    "sum": lambda q, n: n * q,
    "l1": lambda q, n: n * q.abs(),
    "l2": lambda q, n: n.sqrt() * q.abs(),
    "rms": lambda q, n: q.abs(),
    "var": lambda q, n: 0 * q,
}


def agrees(target: Target, text: str, names: tuple[str, ...], right: Callable[..., Tensor]) -> None:
    """Output and gradients of a norm, of `x` and these parameters, are those written by hand."""
    rows = [6] if "num_rows" in text else []
    norm, count = metanorm.loads(text).A(*rows).double(), [] if rows else [6]
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(0.5, 1.5)
    x = torch.randn(6, 4, dtype=F64, requires_grad=True)
    by = (x, *(getattr(norm, name) for name in names))
    with runtime.use(target):
        y = norm(x, LABEL, *count)
        wanted = right(*by)
        torch.testing.assert_close(y, wanted)
        seed = torch.randn_like(y)
        gradients = torch.autograd.grad(y, by, seed)
    for ours, theirs in zip(gradients, torch.autograd.grad(wanted, by, seed)):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("target", ["native", "torch"])
@pytest.mark.parametrize("statistic", OF_EQUAL)
def test_rows_that_nobody_chooses(statistic: str, target: Target) -> None:
    """What is computed of all rows, and reaches what all rows share."""
    text = f"""norm A {{
  input x[N, D], label: index[N] of K = num_rows
  param table[K] = 1, p = 1
  let   m = mean(max(table[label], p) over N)
  output x * {statistic}(table[label] / (m^2 + 1) over N: label)
}}"""

    def right(x: Tensor, table: Tensor, p: Tensor) -> Tensor:
        m = torch.maximum(table[LABEL], p).mean()
        chosen = (table / (m**2 + 1))[LABEL]
        return x * OF_EQUAL[statistic](chosen, COUNTS[LABEL])[:, None]

    agrees(target, text, ("table", "p"), right)


@pytest.mark.parametrize("target", ["native", "torch"])
@pytest.mark.parametrize(
    "divisor",
    ["p * var", "p * (var + mean^2)", "sqrt(p * var)", "(p * var)^(1.5)", "log(1 + p * var) * var"],
)
def test_groups_without_members(divisor: str, target: Target) -> None:
    """Their variance is zero, and everybody's parameter is divided by it."""
    text = f"""norm A {{
  input x[N, D], label: index[N]
  param p = 1
  let   mean = mean(x over N: label, D)
  let   var = var(x over N: label, D)
  output x / ({divisor})
}}"""

    def right(x: Tensor, p: Tensor) -> Tensor:
        groups = [x[label == LABEL] for label in LABEL]
        mean = torch.stack([group.mean() for group in groups])[:, None]
        var = torch.stack([group.var(correction=0) for group in groups])[:, None]
        formula = divisor.replace("^", "**").replace("sqrt", "torch.sqrt")
        scope = {"p": p, "var": var, "mean": mean, "torch": torch, "log": torch.log}
        quotient: Tensor = x / eval(formula, scope)
        return quotient

    agrees(target, text, ("p",), right)
