"""Numbers that a call computes of hyperparameters and lengths are what tensors of them would be:
infinite or NaN where Python raises an error, and never complex."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from metanorm import loads, runtime

VALUES = (0.0, 1.0, 2.0, 3.5, 900.0)
# An expression of the hyperparameter g, and the same of a tensor.
EXPRESSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "2 / (g - 1)": lambda g: 2 / (g - 1),
    "(1 - g) / (g - 1)": lambda g: (1 - g) / (g - 1),
    "(g - 1)^-1": lambda g: (g - 1) ** -1,
    "(g - 1)^0.5": lambda g: (g - 1) ** 0.5,
    "(1 - g)^g": lambda g: (1 - g) ** g,
    "(g - 2)^3": lambda g: (g - 2) ** 3,
    "sqrt(g - 2)": lambda g: (g - 2).sqrt(),
    "rsqrt(g - 1)": lambda g: (g - 1).rsqrt(),
    "log(g - 1)": lambda g: (g - 1).log(),
    "exp(g)": lambda g: g.exp(),
    "exp(exp(g))": lambda g: g.exp().exp(),
    "g^(g * g)": lambda g: g ** (g * g),
}


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(
        "\n".join(
            f"norm Numbers{i}(g = 1.0) {{\n  input x[N, C]\n  output x * ({expression})\n}}"
            for i, expression in enumerate(EXPRESSIONS)
        )
        + "\nnorm Lengths {\n  input x[N, C, *S]\n"
        "  output y = x / (size(*S) - 1), r = x * sqrt(1 - size(*S)), p = x * (size(*S) - 2)^0.5 }"
    )


@pytest.mark.parametrize("target", ["torch", "auto"])
@pytest.mark.parametrize("number", range(len(EXPRESSIONS)), ids=list(EXPRESSIONS))
def test_of_hyperparameters(number: int, target: str, norms: ModuleType) -> None:
    by_tensor = list(EXPRESSIONS.values())[number]
    x = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    for g in VALUES:
        with runtime.use(target):
            y = getattr(norms, f"Numbers{number}")(g=g)(x)
        wanted = x * by_tensor(torch.tensor(g, dtype=torch.float64))
        torch.testing.assert_close(y, wanted, equal_nan=True, msg=lambda m, g=g: f"g = {g}: {m}")


@pytest.mark.parametrize("target", ["torch", "auto"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_of_lengths(length: int, target: str, norms: ModuleType) -> None:
    x = torch.randn(2, 3, length, dtype=torch.float64)
    with runtime.use(target):
        outputs = norms.Lengths()(x)
    n = torch.tensor(float(length), dtype=torch.float64)
    wanted = (x / (n - 1), x * (1 - n).sqrt(), x * (n - 2) ** 0.5)
    for actual, right in zip(outputs, wanted):
        torch.testing.assert_close(actual, right, equal_nan=True)


def test_lengths_stay_symbolic_in_exported_programs(norms: ModuleType) -> None:
    x = torch.randn(2, 3, 5)
    dims = {0: torch.export.Dim.AUTO, 2: torch.export.Dim("S", min=3, max=64)}
    program = torch.export.export(norms.Lengths(), (x,), dynamic_shapes={"x": dims}).module()
    other = torch.randn(4, 3, 9)
    for actual, right in zip(program(other), norms.Lengths()(other)):
        torch.testing.assert_close(actual, right, equal_nan=True)
