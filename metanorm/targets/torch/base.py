"""The class of torch that a generated class derives from, where the norm is that layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union


@dataclass(frozen=True)
class RenamedAttribute:
    """An attribute of the layer that the norm keeps under another name."""

    argument: str


@dataclass(frozen=True)
class FixedAttribute:
    """An attribute of the layer that is the same in each of these norms."""

    value: float | bool | None


@dataclass(frozen=True)
class ShapeAttribute:
    """A shape whose lengths are arguments or numbers."""

    lengths: tuple[str | int, ...]


BaseAttribute = Union[RenamedAttribute, FixedAttribute, ShapeAttribute]


@dataclass(frozen=True)
class TorchBase:
    """A class of torch, and how what it reads is served where that is not an argument's name."""

    name: str
    attributes: Mapping[str, BaseAttribute] = field(default_factory=dict)
    no_parameters: tuple[str, ...] = ()  # what the layer has and the norm never learns
    no_buffers: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether the base finds all that it reads as the layer's own constructor leaves it."""
        return all(isinstance(attribute, FixedAttribute) for attribute in self.attributes.values())
