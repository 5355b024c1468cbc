"""Symbols of a spec, and their occurrences: what editors know of a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from metanorm.source import Span


class Role(str, Enum):
    """What a name stands for."""

    NORM = "norm"
    AXIS = "axis"
    HYPER = "hyperparameter"
    INPUT = "input"
    PARAM = "parameter"
    BUFFER = "buffer"
    VALUE = "value"
    LENGTH = "length"  # an argument of the constructor: the n in `C = n`
    OUTPUT = "output"
    UNKNOWN = "unknown"  # nothing in the text introduces it; a clause may

    # Words of the language, which no spec introduces.
    FUNCTION = "function"
    MATRIX = "matrix"
    OPTION = "option"
    FIELD = "field"
    SORT = "sort"
    WORD = "word"


WORDS = frozenset({Role.FUNCTION, Role.MATRIX, Role.OPTION, Role.FIELD, Role.SORT, Role.WORD})
LITERALS = ("true", "false", "None")
OF_AXES = ("size", "position")  # functions whose argument is an axis
CALL = "call"  # behind `per` in a draw: one number for the call, unless an axis has that name


@dataclass(frozen=True)
class Symbol:
    """A name with its owner. All occurrences of one symbol denote the same thing."""

    norm: str  # the norm whose name it is; empty for a norm itself, and a word of the language
    role: Role
    name: str


@dataclass(frozen=True)
class Occurrence:
    """An occurrence of a symbol."""

    span: Span
    symbol: Symbol
    introduces: bool
    norm: str  # the norm whose text contains it


def introduced(o: Occurrence, introduced_symbols: Mapping[tuple[str, str], Symbol]) -> Symbol:
    """The symbol of an occurrence. For a name of a called norm, the one that the norm introduces.

    The text of a call does not tell an input from an output of the same name.
    `introduced_symbols` has the symbols that the norms of a text introduce, by norm and name.
    """
    symbol = o.symbol
    return (
        introduced_symbols.get((symbol.norm, symbol.name), symbol)
        if symbol.norm not in ("", o.norm)
        else symbol
    )
