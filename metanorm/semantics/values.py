"""The values of expressions during lowering, and the table of names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Union

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.names import DuplicateName
from metanorm.ir.nodes import Ref, Type
from metanorm.source import Span


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the IR."""

    ref: Ref
    type: Type


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and variance of the same pools."""

    mean: Tensor
    var: Tensor


@dataclass(frozen=True, slots=True)
class Outputs:
    """The outputs of a call of a norm with several. As a number, it is the first."""

    by_name: tuple[tuple[str, Tensor], ...]

    @property
    def first(self) -> Tensor:
        """The output that stands for the call in arithmetic."""
        return self.by_name[0][1]


@dataclass(frozen=True, slots=True)
class PoolOnly:
    """A value that can only pool: a matrix or an edge list."""

    what: str
    name: str
    axis: str


@dataclass(frozen=True, slots=True)
class Text:
    """A string, which can only be compared."""

    text: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A hyperparameter of the compiled norm that is one of several strings."""

    argument: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Poison:
    """The value of an expression with an error. Operations on it report nothing further."""


Value = Union[Tensor, Moments, Outputs, PoolOnly, Text, Choice, Poison]
POISON = Poison()


EntityRole = Literal["hyperparameter", "input", "parameter", "buffer", "value"]


@dataclass(slots=True)
class Entity:
    """A name in scope."""

    role: EntityRole
    span: Span
    value: Value
    used: bool = False
    warns: bool = True  # whether to warn if nothing uses it
    axes: tuple[str, ...] = ()  # of a value: the axes of its `let`, in order


class NameTable:
    """The names of one norm, in the order of their introduction."""

    def __init__(self, problems: Collector) -> None:
        self.problems = problems
        self._entities: dict[str, Entity] = {}
        self.duplicates: set[str] = set()

    def __iter__(self) -> Iterator[tuple[str, Entity]]:
        return iter(self._entities.items())

    def __contains__(self, name: str) -> bool:
        return name in self._entities

    def enter(self, name: str, entity: Entity) -> bool:
        """Introduce a name. Reports a duplicate, and poisons the name."""
        if name in self._entities:
            self.problems.add(DuplicateName(entity.span, name, self._entities[name].span))
            self._entities[name].value = POISON
            self.duplicates.add(name)
            return False
        self._entities[name] = entity
        return True

    def find(self, name: str) -> Entity | None:
        """The entity of a name, which counts as used from now on."""
        entity = self._entities.get(name)
        if entity is not None:
            entity.used = True
        return entity

    def replace(self, name: str, value: Value) -> None:
        """Give a name a new value (in a `repeat`)."""
        self._entities[name].value = value

    def leave(self, name: str) -> None:
        """Remove a name, such as that of a value local to a run of a loop."""
        self._entities.pop(name, None)

    def all(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self._entities)
