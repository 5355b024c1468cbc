"""References written by hand: a spec of a few lines, and the same in plain torch."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from drawn_calls import counted
from torch import Tensor

from metanorm import loads, runtime

F64 = torch.float64
Tensors = dict[str, "tuple[int, ...] | Tensor | None"]


@dataclass(frozen=True)
class Reference:
    """A norm, what it computes, and a call: shapes of random tensors, or tensors.

    The function takes inputs and parameters by name, and `training` where it matters. `kernels`
    says that both directions run on kernels in C.
    """

    text: str
    function: Callable[..., Any]
    tensors: Tensors
    arguments: dict[str, Any] = field(default_factory=dict)
    kernels: bool = False

    @property
    def name(self) -> str:
        """The class: that of the last norm of the text."""
        return re.findall(r"norm (\w+)", self.text)[-1]


class References(list[Reference]):
    """The references of a file, compiled together."""

    def __init__(self) -> None:
        super().__init__()
        self._module: ModuleType | None = None

    def __call__(
        self, text: str, /, arguments: dict[str, Any] | None = None, kernels: bool = False,
        **tensors: tuple[int, ...] | Tensor | None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # fmt: skip
        """A decorator: the function below it is the reference of a text."""

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            self.append(Reference(text, function, tensors, arguments or {}, kernels))
            return function

        return add

    @property
    def module(self) -> ModuleType:
        if self._module is None:
            lines = "\n".join(r.text for r in self).split("\n")
            uses = [line for line in lines if line.startswith("use ")]
            self._module = loads("\n".join((*uses, *(n for n in lines if n not in uses))))
        return self._module

    def names(self) -> list[str]:
        return [r.name for r in self]

    def check(self, name: str, target: str) -> None:
        """Outputs and gradients agree, in training and in evaluation where they differ."""
        reference = next(r for r in self if r.name == name)
        torch.manual_seed(1)
        cls = getattr(self.module, name)
        has_dtype = "dtype" in inspect.signature(cls).parameters
        module = cls(**reference.arguments, **({"dtype": F64} if has_dtype else {}))
        wanted = inspect.signature(reference.function).parameters
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, 0.6, 0.5)
        inputs = {
            n: torch.randn(t, dtype=F64) if isinstance(t, tuple) else t
            for n, t in reference.tensors.items()
        }
        for training in (True, False) if "training" in wanted else (True,):
            reference_inputs = {n: _leaf(t) for n, t in inputs.items() if t is not None}
            arguments = {n: _leaf(t) for n, t in inputs.items() if t is not None}
            params = dict(module.named_parameters())
            reference_inputs |= {n: p.detach().clone().requires_grad_() for n, p in params.items()}
            extra = {"training": training} if "training" in wanted else {}
            right = _together(reference.function(**reference_inputs, **extra))
            with runtime.use(target), counted() as kernels:  # type: ignore[arg-type]
                actual = _together(module.train(training)(**arguments))
                cotangents = [torch.randn_like(r) for r in right]
                leaves = [n for n, t in reference_inputs.items() if t.requires_grad]
                got = _gradients(actual, [{**arguments, **params}[n] for n in leaves], cotangents)
            assert len(actual) == len(right)
            for one, other in zip(actual, right):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
            expected = _gradients(right, [reference_inputs[n] for n in leaves], cotangents)
            for leaf, one, other in zip(leaves, got, expected):
                torch.testing.assert_close(
                    one, other, rtol=1e-9, atol=1e-9, msg=lambda m, n=leaf: f"gradient of {n}: {m}"
                )
            if reference.kernels and target == "auto":
                assert kernels.forward == kernels.backward == 1, "it did not run on kernels"


def _leaf(tensor: Tensor) -> Tensor:
    leaf = tensor.detach().clone()
    return leaf.requires_grad_() if leaf.is_floating_point() else leaf


def _together(result: Any) -> tuple[Tensor, ...]:
    return tuple(result) if isinstance(result, tuple) else (result,)


def _gradients(
    outputs: tuple[Tensor, ...], leaves: list[Tensor], cotangents: list[Tensor]
) -> list[Tensor]:
    pairs = [(o, c) for o, c in zip(outputs, cotangents) if o.requires_grad]
    if not pairs:
        return [torch.zeros_like(leaf) for leaf in leaves]
    gradients = torch.autograd.grad(
        [o for o, _ in pairs], leaves, [c for _, c in pairs], allow_unused=True
    )
    return [torch.zeros_like(t) if g is None else g for g, t in zip(gradients, leaves)]
