"""How Triton joins partial statistics: a row for each rule of `metanorm.ir.accumulation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from metanorm.ir.accumulation import ACCUMULATIONS, Accumulation, Finish, Part, Rule
from metanorm.targets.python.pyir import Expr, Literal
from metanorm.targets.triton.terms import ZERO, call, infix


@dataclass(frozen=True, slots=True)
class JoinRule:
    """The functions of `arithmetic` for one rule.

    `pair` joins two numbers, or is empty for the operator `+`. `tile` joins the numbers of a tile.
    """

    pair: str
    tile: str
    functions_by_part_count: Mapping[int, str]  # by how many parts an accumulation has


JOIN_RULES: Mapping[Rule, JoinRule] = {
    "add": JoinRule("", "added", {1: "sum_of_parts", 2: "mean_of_parts"}),
    "moments": JoinRule("", "joined", {3: "moments_of_parts"}),
    "max": JoinRule("largest", "largest_of", {2: "largest_of_parts"}),
    "min": JoinRule("smallest", "smallest_of", {2: "smallest_of_parts"}),
}


# The functions that make a statistic of a total and a weight, by how the accumulation is finished.
FINISH_FUNCTIONS: Mapping[str, str] = {
    "total over weight": "arithmetic.over",
    "total if weighed": "arithmetic.if_weighed",
}


def joined(part: Part, left: Expr, right: Expr) -> Expr:
    """The expression that joins two numbers of a part."""
    function = JOIN_RULES[part.rule].pair
    return call(f"arithmetic.{function}", left, right) if function else infix("+", left, right)


def joined_in_tile(part: Part, value: Expr, *arguments: Expr) -> Expr:
    """The expression that joins the numbers of a tile. `arguments` select the sides."""
    return call(f"arithmetic.{JOIN_RULES[part.rule].tile}", value, *arguments)


def identity(part: Part) -> Expr:
    """The initial value of a part."""
    return ZERO if part.identity == 0 else call("float", Literal(str(part.identity)))


def joining_function(row: Accumulation) -> str:
    """The function that joins the parts that tiles have stored."""
    return JOIN_RULES[row.rule].functions_by_part_count[len(row.parts)]


assert all(
    len(row.parts) in JOIN_RULES[row.rule].functions_by_part_count for row in ACCUMULATIONS.values()
), "a rule joins another number of parts"
assert {"total", *FINISH_FUNCTIONS} == {*get_args(Finish)}, "a result without a function"
