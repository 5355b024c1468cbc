"""Losses of the outputs of layers, collected over a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.runtime.hooks import Attached


class Collected(Attached):
    """The losses of the outputs of layers, from one forward pass of a model.

    Each pass starts with no terms, and only layers in training mode have some. `terms` has a list
    of losses for each layer, by name, since a layer may be called several times. `remove()`, or the
    end of a `with` statement, removes the hooks.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Tensor], Any],
        layers: type[nn.Module] | tuple[type[nn.Module], ...],
    ) -> None:
        self.of = loss
        self.terms: dict[str, list[Tensor]] = {}
        handles = [model.register_forward_pre_hook(lambda *_: self.terms.clear())]
        for name, layer in model.named_modules():
            if isinstance(layer, layers):
                handles.append(layer.register_forward_hook(self._output_hook(name)))
        super().__init__(handles)

    def loss(self) -> Tensor:
        """The sum of all terms, a scalar; zero where there are none."""
        terms = [term for layer_terms in self.terms.values() for term in layer_terms]
        return (
            torch.stack([t.to(terms[0].device) for t in terms]).sum() if terms else torch.zeros(())
        )

    def _output_hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def add_term(layer: nn.Module, _: Any, output: Any) -> None:
            if not layer.training:
                return
            if not isinstance(output, Tensor):
                kind = type(output).__name__
                raise TypeError(f"the output of {name or 'the model'} is no tensor but a {kind}")
            result = self.of(output)
            term = result if isinstance(result, Tensor) else result[0]
            self.terms.setdefault(name, []).append(term)

        return add_term


def collect(
    model: nn.Module,
    loss: Callable[[Tensor], Any],
    layers: type[nn.Module] | tuple[type[nn.Module], ...],
) -> Collected:
    """Have a loss of the output of every layer of these types taken as the model is called.

    `loss` is a norm for a loss, or any function from a tensor to a scalar; of several outputs the
    first counts. Raises `ValueError` if the model has no such layer::

        with runtime.collect(model, StandardizationLoss(), (nn.Linear, nn.Conv2d)) as collected:
            task = criterion(model(x), labels)
            (task + 0.01 * collected.loss()).backward()
    """
    collected = Collected(model, loss, layers)
    if len(collected) == 1:  # the hook that clears the terms, and no other
        collected.remove()
        raise ValueError(f"the model has no layer of type {_class_names(layers)}")
    return collected


def _class_names(layers: type[nn.Module] | tuple[type[nn.Module], ...]) -> str:
    kinds = layers if isinstance(layers, tuple) else (layers,)
    return ", ".join(kind.__name__ for kind in kinds)
