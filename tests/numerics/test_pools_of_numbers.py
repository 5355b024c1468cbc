"""Pools of a value that is one number, since all cells of an axis are as long."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import metanorm
from metanorm import runtime

NUMBER = math.log(3)  # log(1 + count(over C: chunks(2)))
LENGTH = 4
NEAR = torch.tensor([[1, 0.5, 0, 2], [0, 0, 0, 0], [0.25, 1, 1, 0], [0, 0, 0, 3.0]]).double()
POSITION = torch.arange(LENGTH)
OVER = {
    "C": torch.ones(LENGTH, LENGTH),
    "C: near": NEAR,
    "C: window(3)": ((POSITION[:, None] - POSITION).abs() <= 1),
    "C: causal": torch.ones(LENGTH, LENGTH).tril(),
    "C: blocks(2)": torch.kron(torch.eye(2), torch.ones(2, 2)),
    "C: chunks(2)": torch.kron(torch.eye(2), torch.ones(2, 2)),
}
FURTHER = ("", " weight w", " where keep")
KEEP = torch.tensor([True, False, True, False])
WEIGHT = torch.tensor([0.5, 0, 2, 0.25]).double()


def statistics(weights: Tensor) -> dict[str, Tensor]:
    """By the total weight of each pool; of an empty one everything is zero."""
    value = torch.where(weights == 0, 0, torch.full_like(weights, NUMBER))
    return {
        "sum": weights * NUMBER,
        "l1": weights * NUMBER,
        "l2": weights.sqrt() * NUMBER,
        **dict.fromkeys(("mean", "rms", "max", "min"), value),
        **dict.fromkeys(("var", "std"), torch.zeros_like(value)),
    }


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    texts = []
    for i, over in enumerate(OVER):
        for j, further in enumerate(FURTHER):
            pools = (
                f"s{k} = {statistic}(log(1 + count(over C: chunks(2))) over {over}{further})"
                for k, statistic in enumerate(statistics(WEIGHT))
            )
            texts.append(
                f"# allow: MN0702, MN0205\nnorm Pools{i}{j} {{\n"
                "  input x[N, C], near: matrix[C, C], w[C], keep: mask[C]\n"
                f"  output x, {', '.join(pools)}\n}}\n"
            )
    return metanorm.loads("\n".join(texts))


@pytest.mark.parametrize("target", ["torch", "auto"])
@pytest.mark.parametrize("further", FURTHER)
@pytest.mark.parametrize("over", OVER)
def test_a_number_is_pooled_once_for_each_position(
    over: str, further: str, target: Any, norms: ModuleType
) -> None:
    norm = getattr(norms, f"Pools{list(OVER).index(over)}{FURTHER.index(further)}")()
    matrix = OVER[over].double() * {"": 1, " weight w": WEIGHT, " where keep": KEEP}[further]
    with runtime.use(target):
        result = norm(torch.zeros(2, LENGTH, dtype=torch.float64), NEAR, WEIGHT, KEEP)
    for k, right in enumerate(statistics(matrix.sum(1)).values()):
        actual = getattr(result, f"s{k}").expand(LENGTH)
        torch.testing.assert_close(actual, right)
