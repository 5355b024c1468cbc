"""Momenta whose names equations read as well, by hand in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from metanorm import loads, runtime

F64 = torch.float64
TARGETS = pytest.mark.parametrize("target", ["torch", "native"])
SPEC = """
norm Both(momentum = 0.4) { input x[N, C = c]
  output momentum * x - mean(x over N track momentum) }
norm Other(momentum = 0.3, decay = 0.2) { input x[N, C = c]
  output momentum * x - mean(x over N track decay) }
norm Second(momentum_2 = 0.3, decay = 0.2) { input x[N, C = c]
  output momentum_2 * x - mean(x over N track momentum_2) + max(x over N track decay) }
norm Third(momentum = 0.3, momentum_2 = 0.5, decay = 0.2) { input x[N, C = c]
  output momentum * momentum_2 * x - mean(x over N track decay) }
norm Computed(momentum = 0.1) { input x[N, C = c]
  buffer calls = 3
  update calls = calls + 1
  output x - mean(x over N track momentum * calls) }
norm Waiting(momentum = 0.1) { input x[N, C = c]
  buffer left = 2
  update left = max(left - 1, 0)
  output x - mean(x over N track where(left > 0, 0, momentum)) }
"""


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(SPEC)


def moved(before: Tensor, x: Tensor, by: float) -> Tensor:
    return before + by * (x.mean(0) - before)


# The result with a mean and a largest value, and how the running mean moves in call 0, 1, ...
RULES: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], Callable[[int], float]]] = {
    "Both": (lambda x, mean, top: 0.4 * x - mean, lambda call: 0.4),
    "Other": (lambda x, mean, top: 0.3 * x - mean, lambda call: 0.2),
    "Second": (lambda x, mean, top: 0.3 * x - mean + top, lambda call: 0.3),
    "Third": (lambda x, mean, top: 0.15 * x - mean, lambda call: 0.2),
    "Computed": (lambda x, mean, top: x - mean, lambda call: 0.1 * (3 + call)),
    "Waiting": (lambda x, mean, top: x - mean, lambda call: 0.0 if call < 2 else 0.1),
}


@TARGETS
@pytest.mark.parametrize("name", RULES)
def test_running_means_move_by_their_own_momentum(
    norms: ModuleType, name: str, target: str
) -> None:
    torch.manual_seed(0)
    result, momentum = RULES[name]
    norm = getattr(norms, name)(3, dtype=F64)
    mean, top = torch.zeros(3, dtype=F64), torch.ones(3, dtype=F64)
    with runtime.use(target):
        for call in range(4):
            x = torch.randn(5, 3, dtype=F64) + call
            torch.testing.assert_close(norm(x), result(x, x.mean(0), x.amax(0)))
            mean = moved(mean, x, momentum(call))
            top = top + 0.2 * (x.amax(0) - top)
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.eval()(x), result(x, mean, top))
