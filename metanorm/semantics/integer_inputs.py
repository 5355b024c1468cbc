"""Index inputs that a norm compares, such as lengths with positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from metanorm.ir.aggregation import index_of
from metanorm.ir.nodes import Count, Input, Let, Lookup, Map, Pool, Repeat
from metanorm.ir.program import InputDecl
from metanorm.semantics.lowering import Lowering


def with_integer_inputs(low: Lowering) -> list[InputDecl]:
    """The inputs, with adapted declarations of indices that the norm compares.

    A call must give such an index, since it has no default. If it neither pools nor chooses rows,
    it is a tensor of integers (`whole`): it has no number of groups, and no upper bound.
    """
    lets = list(_every_let(low.body))
    input_by_ref = {let.name: let.op.name for let in lets if isinstance(let.op, Input)}
    compared: set[str] = set()
    grouping_names: set[str] = set()  # indices of groups or rows
    for let in lets:
        if isinstance(let.op, Map):
            compared |= {input_by_ref[ref] for ref in let.op.arguments if ref in input_by_ref}
        elif isinstance(let.op, Lookup) and isinstance(let.op.index, str):
            grouping_names.add(input_by_ref.get(let.op.index, ""))  # or a permutation
        elif isinstance(let.op, (Pool, Count)):
            grouping_names |= {index for _, m in let.op.over if (index := index_of(m))}
    inputs = []
    for decl in low.inputs:
        if decl.sort == "index" and decl.name in compared:
            names_rows = decl.name in grouping_names or decl.table is not None or decl.offsets
            decl = replace(decl, sort=decl.sort if names_rows else "whole", required=True)
        inputs.append(decl)
    return inputs


def _every_let(body: Iterable[Let]) -> Iterator[Let]:
    for let in body:
        if isinstance(let.op, Repeat):
            yield from _every_let(let.op.body)
        yield let
