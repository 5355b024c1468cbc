"""Parameters that a program computes with before they meet an input.

The program widens inputs to float32 first, so results with them are float32, too. A parameter in
half precision keeps its dtype until then: a softmax of parameters alone would be rounded. So would
the gradient of a statistic of a parameter, and it nearly cancels the gradient of the parameter
beside its own mean.
"""

from __future__ import annotations

from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Cast,
    Detach,
    Expand,
    Input,
    Let,
    Lookup,
    Map,
    Param,
    Piece,
    Pool,
    Program,
    Ref,
    Rename,
    Repeat,
)
from metanorm.ir.operands import operands

MOVING_OPS = (Rename, Piece, Expand, Detach, Lookup)


def params_to_widen(program: Program) -> set[str]:
    """The names of parameters to widen: those of which a program takes a statistic, or computes a
    function without inputs and buffers."""
    depends_on_data: set[Ref] = set()  # values of inputs or buffers, which are wide
    param_by_ref: dict[Ref, str] = {}  # values that only rearrange a parameter
    names: set[str] = set()

    def walk(lets: tuple[Let, ...]) -> None:
        for let in lets:
            op, operands_read = let.op, operands(let.op)
            if isinstance(op, Repeat):
                carried = tuple(zip(op.inside, op.initial))
                depends_on_data.update(inside for inside, ref in carried if ref in depends_on_data)
                param_by_ref.update(
                    (inside, param_by_ref[ref]) for inside, ref in carried if ref in param_by_ref
                )
                walk(op.body)
            if isinstance(op, Param):
                param_by_ref[let.name] = op.name
            elif isinstance(op, MOVING_OPS) and operands_read[0] in param_by_ref:
                # The index of a lookup is an operand, too, but does not make the row wide.
                param_by_ref[let.name] = param_by_ref[operands_read[0]]
            else:
                is_wide = isinstance(op, (Input, Buffer)) or any(
                    ref in depends_on_data for ref in operands_read
                )
                if is_wide:
                    depends_on_data.add(let.name)
                if isinstance(op, (AxisMap, Cast, Pool)) or (isinstance(op, Map) and not is_wide):
                    names.update(param_by_ref[ref] for ref in operands_read if ref in param_by_ref)

    walk(program.body)
    return names
