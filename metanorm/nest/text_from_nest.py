"""A nest as text, for `metanorm inspect --stage nest` and for tests."""

from __future__ import annotations

from metanorm.ir.dump import op_text, over_text, type_text
from metanorm.nest.nest import Array, Block, Nest
from metanorm.nest.statements import (
    Accumulate,
    Compute,
    Finish,
    Gather,
    Load,
    Pool,
    Scan,
    Statement,
    Store,
    Update,
)
from metanorm.plan.sweeps import Reduction

VERBS = {Compute: "compute", Gather: "gather", Pool: "pool", Scan: "scan"}


def text_from_nest(nest: Nest) -> str:
    """The loops, arrays and non-empty blocks of a nest, in order."""
    name, vector = nest.program.name, nest.layout.vector_axis
    lines = [f"nest {name}, {nest.variant}, {nest.direction}, rows along {vector}"]
    lines.append(f"  loops {', '.join('*'.join(group) for group in nest.loops)}")
    lines.append(f"  islands {', '.join(nest.islands) or 'one'}")
    if nest.group_index is not None:
        lines.append(
            f"  groups of {nest.grouped_axis} by {nest.group_index}, along {nest.group_axis}"
        )
    lines += [f"  {_array(array)}" for array in nest.arrays]
    number = 0
    for block in nest.blocks:
        number += block.when == "sweep"
        if block.statements:
            lines.append(f"  {_title(block, nest, number)}")
            lines += [f"    {_statement(statement, nest)}" for statement in block.statements]
    return "\n".join(lines) + "\n"


def _title(block: Block, nest: Nest, number: int) -> str:
    each = f", for each {', '.join(nest.islands)}" if nest.islands else ""
    match block.when:
        case "begin":
            return "begin"
        case "sweep":
            return f"sweep {number} over {', '.join(nest.data_axes)}"
        case "between":
            return f"after sweep {number}{each}"
        case "end":
            return "end"
        case when:
            return f"{when} all sweeps{each}"


def _array(array: Array) -> str:
    kind = "" if array.kind == "real" else f"{array.kind} "
    absent = f", {array.absent:g} where it is not given" if array.optional else ""
    return f"{array.role} {kind}{array.name}[{', '.join(array.axes)}]{absent}"


def _statement(statement: Statement, nest: Nest) -> str:
    match statement:
        case Load(let, array):
            return f"load {let.name} : {type_text(let.type)} = {array}"
        case Compute(let) | Gather(let) | Pool(let) | Scan(let):
            verb = VERBS[type(statement)]
            return f"{verb} {let.name} : {type_text(let.type)} = {op_text(let.op)}"
        case Accumulate(number):
            return f"accumulate {number}: {_reduction(nest.reductions[number])}"
        case Finish(let, number, name):
            return f"finish {let.name} : {type_text(let.type)} = {name} of {number}"
        case Store(array, value):
            return f"store {array} = {value}"
        case Update(array, value, momentum):
            by = f" by {momentum}" if momentum is not None else ""
            return f"update {array} <- {value}{by}"


def _reduction(r: Reduction) -> str:
    where = f" where {r.where}" if r.where else ""
    weight = f" weight {r.weight}" if r.weight else ""
    cells = ", ".join(r.cells) or "all"
    return f"{r.row.title} of {r.value} over {over_text(r.over)}{where}{weight}, per {cells}"
