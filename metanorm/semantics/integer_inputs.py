"""Index inputs of which the numbers are read: lengths that positions are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import Count, Input, InputDecl, Let, Lookup, Map, Pool, Repeat
from metanorm.semantics.lowering import Lowering


def with_integer_inputs(low: Lowering) -> list[InputDecl]:
    """The inputs. One that is compared has to be given, since no number stands for it.

    One that is compared and neither pools nor chooses is a tensor of whole numbers: it has no
    number of groups, and what it holds has no upper bound.
    """
    lets = list(_every(low.body))
    numbers = {let.name: let.op.name for let in lets if isinstance(let.op, Input)}
    compared: set[str] = set()
    names: set[str] = set()  # those that stand for groups or rows
    for let in lets:
        if isinstance(let.op, Map):
            compared |= {numbers[ref] for ref in let.op.arguments if ref in numbers}
        elif isinstance(let.op, Lookup) and isinstance(let.op.index, str):
            names.add(numbers[let.op.index])
        elif isinstance(let.op, (Pool, Count)):
            names |= {m.index for _, m in let.op.over if isinstance(m, ByIndex)}
    done = []
    for decl in low.inputs:
        if decl.sort == "index" and decl.name in compared:
            sort = decl.sort if decl.name in names or decl.table is not None else "whole"
            decl = replace(decl, sort=sort, required=True)
        done.append(decl)
    return done


def _every(body: Iterable[Let]) -> Iterator[Let]:
    for let in body:
        if isinstance(let.op, Repeat):
            yield from _every(let.op.body)
        yield let
