"""Print once what the variants of a norm among processes have in common.

What a variant refuses, and how it passes the state of the module to its function, depends on the
divided axes for few norms. What the function computes does, or there would be one variant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from metanorm.passes.divided import DividedVariant
from metanorm.targets.python.pyir import Expr, Function, Name, Parameter, Stmt, names_in, renamed
from metanorm.targets.torch.layout import call


class PrintedVariant(NamedTuple):
    """The functions of a variant: one that refuses calls, one that computes, and `forward`, which
    calls both and has no docstring yet."""

    norm: str
    variant: DividedVariant
    check: Function
    function: Function
    forward: Function


def shared_definitions(
    variants: Sequence[PrintedVariant],
) -> tuple[list[Stmt], list[tuple[Expr, DividedVariant]]]:
    """The definitions of the variants of a norm, and each variant with what calls it."""
    definitions: list[Stmt] = []
    checks: dict[Function, str] = {}
    alike: dict[Function, list[PrintedVariant]] = {}
    for printed in variants:
        unnamed_check = replace(printed.check, name="")
        if unnamed_check not in checks:
            checks[unnamed_check] = printed.check.name
            definitions.append(printed.check)
        definitions.append(printed.function)
        check = {printed.check.name: checks[unnamed_check]}
        printed = printed._replace(forward=renamed(printed.forward, check))
        alike.setdefault(_of_any_function(printed), []).append(printed)
    callers: list[tuple[Expr, DividedVariant]] = []
    for shared, group in alike.items():
        first = group[0]
        forward = first.forward if len(group) == 1 else replace(shared, name=first.forward.name)
        axes = " or ".join(", ".join(printed.variant.axes) for printed in group)
        doc = f"`{first.norm}.forward` for one of the processes that have pieces of {axes}."
        definitions.append(replace(forward, doc=(doc,)))
        name = Name(forward.name)
        for printed in group:
            function = Name(printed.function.name)
            caller = name if len(group) == 1 else call("functools.partial", name, function)
            callers.append((caller, printed.variant))
    return definitions, callers


def _of_any_function(printed: PrintedVariant) -> Function:
    """A `forward` without a name, which takes the function that it calls as its first argument."""
    forward, parameter = printed.forward, "function"
    while parameter in names_in(forward.body) or parameter in {p.name for p in forward.parameters}:
        parameter += "_"
    function = Parameter(parameter, f"Callable[..., {forward.returns}]")
    body = renamed(forward.body, {printed.function.name: parameter})
    return replace(forward, name="", parameters=(function, *forward.parameters), body=body)
