"""Values that are found along the axis of rows in groups, from what each group looks up.

A kernel works on groups side by side, so that a value along all rows must not be found by one
worker from what others have not computed yet.
"""

from __future__ import annotations

import pytest
import torch

from metanorm import loads, runtime

F64 = torch.float64
LABEL = torch.tensor([2, 0, 2, 0, 0, 2, 0])  # no row is in the group 1
ALONG_ROWS = {
    "softmax({} over N)": lambda v: torch.softmax(v, 0),
    "max({} over N)": lambda v: v.max(),
    "sum({} over N)": lambda v: v.sum(),
    "var({} over N)": lambda v: v.var(correction=0),
}
LOOKED_UP = {
    "table[label]": lambda t: t,
    "sigmoid(table[label])": torch.sigmoid,
    "(table[label] * u + 1)^2": lambda t: (t * U + 1) ** 2,
}
U = torch.linspace(-1, 1, 7, dtype=F64)


@pytest.mark.parametrize("value", LOOKED_UP)
@pytest.mark.parametrize("statistic", ALONG_ROWS)
def test_a_statistic_along_rows_in_groups(statistic: str, value: str) -> None:
    """Beside statistics of groups, and of rows alone."""
    norm = loads(
        "norm AlongRows() { input x[N, C], u[N], label: index[N] of K = 3 param table[K] = 0.5 "
        f"output mean(x over C) * {statistic.format(value)} + mean(x over N: label) }}"
    ).AlongRows()
    torch.manual_seed(0)
    norm = norm.double()
    with torch.no_grad():
        norm.table.normal_()
    x = torch.randn(7, 4, dtype=F64, requires_grad=True)
    with runtime.use("native"):
        actual = norm(x, U, LABEL)
    along = ALONG_ROWS[statistic](LOOKED_UP[value](norm.table[LABEL])).reshape(-1, 1)
    of_groups = torch.stack([x[label == LABEL].mean(0) for label in LABEL])
    expected = x.mean(1, keepdim=True) * along + of_groups
    torch.testing.assert_close(actual, expected)
    leaves = (x, norm.table)
    actual, expected = (torch.autograd.grad(y.sin().sum(), leaves) for y in (actual, expected))
    torch.testing.assert_close(actual, expected)
