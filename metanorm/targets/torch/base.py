"""The torch layer that a generated class derives from, if the norm is equal to that layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union


@dataclass(frozen=True)
class RenamedAttribute:
    """An attribute of the layer that the norm has under another name."""

    argument: str


@dataclass(frozen=True)
class FixedAttribute:
    """An attribute of the layer that has one value for this norm."""

    value: float | bool | None


@dataclass(frozen=True)
class ShapeAttribute:
    """An attribute that is a shape. Its lengths are constructor arguments or numbers."""

    lengths: tuple[str | int, ...]


BaseAttribute = Union[RenamedAttribute, FixedAttribute, ShapeAttribute]


@dataclass(frozen=True)
class TorchBase:
    """A layer of torch, and its attributes that are not constructor arguments of the norm."""

    name: str
    attributes: Mapping[str, BaseAttribute] = field(default_factory=dict)
    no_parameters: tuple[str, ...] = ()  # parameters of the layer that the norm lacks
    no_buffers: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether every attribute has the value that the layer's own constructor would set."""
        return all(isinstance(attribute, FixedAttribute) for attribute in self.attributes.values())
