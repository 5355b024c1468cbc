"""References written by hand: a spec of a few lines, and the same in plain torch."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from comparing import gradients, leaf_of, outputs_of, programs_of
from drawn_calls import counted
from torch import Tensor

from metanorm import loads, runtime
from metanorm.explain.kernels import execution_status
from metanorm.passes.pipeline import optimize
from metanorm.runtime.dispatch import NotServed

F64 = torch.float64
Tensors = dict[str, "tuple[int, ...] | Tensor | None"]


@dataclass(frozen=True)
class Reference:
    """A norm, what it computes, and a call: shapes of random tensors, or tensors.

    The function takes inputs and parameters by name, and `training` where it matters. Both
    directions run on kernels in C, unless `torch_only` says why they cannot: words of the reason
    that the compiler or the call gives.
    """

    text: str
    function: Callable[..., Any]
    tensors: Tensors
    arguments: dict[str, Any] = field(default_factory=dict)
    torch_only: str = ""

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
        self, text: str, /, arguments: dict[str, Any] | None = None, torch_only: str = "",
        **tensors: tuple[int, ...] | Tensor | None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # fmt: skip
        """A decorator: the function below it is the reference of a text."""

        def add(function: Callable[..., Any]) -> Callable[..., Any]:
            self.append(Reference(text, function, tensors, arguments or {}, torch_only))
            return function

        return add

    @property
    def module(self) -> ModuleType:
        if self._module is None:
            self._module = loads(self.text)
        return self._module

    @property
    def text(self) -> str:
        """The norms of all references, as one file."""
        lines = "\n".join(r.text for r in self).split("\n")
        uses = [line for line in lines if line.startswith("use ")]
        return "\n".join((*uses, *(n for n in lines if n not in uses)))

    def names(self) -> list[str]:
        return [r.name for r in self]

    def check(self, name: str, target: str) -> None:
        """Outputs and gradients agree, in training and in evaluation where they differ."""
        reference = next(r for r in self if r.name == name)
        route = "auto" if reference.torch_only else target
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
            reference_inputs = {n: leaf_of(t) for n, t in inputs.items() if t is not None}
            arguments = {n: leaf_of(t) for n, t in inputs.items() if t is not None}
            params = dict(module.named_parameters())
            reference_inputs |= {n: p.detach().clone().requires_grad_() for n, p in params.items()}
            extra = {"training": training} if "training" in wanted else {}
            right = outputs_of(reference.function(**reference_inputs, **extra))
            with runtime.use(route), counted() as kernels:  # type: ignore[arg-type]
                actual = outputs_of(module.train(training)(**arguments))
                cotangents = [torch.randn_like(r) for r in right]
                leaves = [n for n, t in reference_inputs.items() if t.requires_grad]
                got = gradients(actual, [{**arguments, **params}[n] for n in leaves], cotangents)
            assert len(actual) == len(right)
            for one, other in zip(actual, right):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
            expected = gradients(right, [reference_inputs[n] for n in leaves], cotangents)
            for leaf, one, other in zip(leaves, got, expected):
                torch.testing.assert_close(
                    one, other, rtol=1e-9, atol=1e-9, msg=lambda m, n=leaf: f"gradient of {n}: {m}"
                )
            if route == "native":
                assert kernels.forward == kernels.backward == 1, "it did not run on kernels"
            elif target == "native":
                self._assert_not_served(reference, module, arguments)

    def _assert_not_served(
        self, reference: Reference, module: torch.nn.Module, arguments: dict[str, Tensor]
    ) -> None:
        """Kernels refuse the call for the reason that the reference states."""
        with runtime.use("native"), pytest.raises(NotServed) as refusal:
            module(**arguments)
        program = programs_of(self.text)[reference.name]
        reasons = f"{refusal.value}; {execution_status(optimize(program))}"
        assert reference.torch_only in reasons, reasons
