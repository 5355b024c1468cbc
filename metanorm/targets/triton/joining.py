"""How Triton joins parts of statistics: one row for each rule of `metanorm.ir.accumulation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metanorm.ir.accumulation import ACCUMULATIONS, Accumulation, Part, Rule
from metanorm.targets.python.pyir import Expr, Literal
from metanorm.targets.triton.terms import ZERO, call, infix


@dataclass(frozen=True, slots=True)
class Joining:
    """A row: the function of `arithmetic` that joins two numbers, if it is no operator, and the one
    that joins those of a tile."""

    pair: str
    tile: str
    of_parts: Mapping[int, str]  # by how many parts an accumulation has


JOINING: Mapping[Rule, Joining] = {
    "add": Joining("", "added", {1: "sum_of_parts", 2: "mean_of_parts"}),
    "moments": Joining("", "joined", {3: "moments_of_parts"}),
    "max": Joining("largest", "largest_of", {2: "largest_of_parts"}),
    "min": Joining("smallest", "smallest_of", {2: "smallest_of_parts"}),
}


def joined(part: Part, left: Expr, right: Expr) -> Expr:
    """Two numbers of a part as one."""
    function = JOINING[part.rule].pair
    return call(f"arithmetic.{function}", left, right) if function else infix("+", left, right)


def joined_in_tile(part: Part, value: Expr, *told: Expr) -> Expr:
    """The numbers of a tile as one; `told` says along which sides."""
    return call(f"arithmetic.{JOINING[part.rule].tile}", value, *told)


def identity(part: Part) -> Expr:
    """What a part begins with."""
    return ZERO if part.identity == 0 else call("float", Literal(str(part.identity)))


def of_parts(row: Accumulation) -> str:
    """The function that joins what tiles have left."""
    return JOINING[row.rule].of_parts[len(row.parts)]


assert all(len(row.parts) in JOINING[row.rule].of_parts for row in ACCUMULATIONS.values())
