"""The names that nameless values get in generated code: by what reads them, or what they sum."""

from __future__ import annotations

from metanorm.ir.nodes import Map, Pool, Ref
from metanorm.ir.program import Program

RESCALING = ("centre", "shift", "scale", "weight")  # the operands of `rescale` behind its first
BESIDE_DATA = {"mul": "scale", "add": "shift"}  # a narrow operand of what is as large as the data


def roles(program: Program) -> dict[Ref, str]:
    """The roles of nameless values that have one: `scale` of what multiplies in a normalization,
    `d.output_sum` of a sum of `d.output`."""
    types, space = program.index.types, program.index.space
    data_axes = {leaf for dim in program.inputs[0].dims for leaf in space.leaves(dim)}
    by_ref: dict[Ref, str] = {}
    for let in program.body:
        match let.op:
            case Map("rescale", (_, *operands)):
                for ref, role in zip(operands, RESCALING):
                    by_ref.setdefault(ref, role)
            case Map(function, operands) if function in BESIDE_DATA:
                narrow = [ref for ref in operands if not data_axes <= {*types[ref].axes}]
                if len(narrow) == 1:
                    by_ref.setdefault(narrow[0], BESIDE_DATA[function])
            case Pool(statistic, value) if not value.startswith("%"):
                by_ref.setdefault(let.name, f"{value}_{statistic}")
    return {ref: role for ref, role in by_ref.items() if ref.startswith("%")}
