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
    Mode,
    Op,
    Param,
    Piece,
    Pool,
    Recurrence,
    Ref,
    Rename,
    Repeat,
)
from metanorm.ir.operands import operands
from metanorm.ir.program import Program

MOVING_OPS = (Rename, Piece, Expand, Detach, Lookup)


def params_to_widen(program: Program) -> set[str]:
    """The names of parameters to widen: those of which a program takes a statistic, or computes a
    function without inputs and buffers, in any mode and with any flags."""
    return _Precision(program).widened_params


def values_in_own_dtype(program: Program) -> set[Ref]:
    """The values that may be a parameter in its own dtype, whole or in part. All others are in the
    dtype of statistics."""
    precision = _Precision(program)
    return {
        ref
        for ref, names in precision.params_by_ref.items()
        if not names <= precision.widened_params
    }


class _Precision:
    def __init__(self, program: Program) -> None:
        self.wide: set[Ref] = set()  # computed with inputs or buffers, whatever is chosen
        self.params_by_ref: dict[Ref, set[str]] = {}  # the parameters that a value may be
        self.widened_params: set[str] = set()
        self._walk(program.body)

    def _walk(self, lets: tuple[Let, ...]) -> None:
        for let in lets:
            op = let.op
            if isinstance(op, Repeat):
                for inside, initial in zip(op.inside, op.initial):
                    if initial in self.wide:
                        self.wide.add(inside)
                    self.params_by_ref[inside] = self.params_by_ref.get(initial, set())
                self._walk(op.body)
            if isinstance(op, Param):
                self.params_by_ref[let.name] = {op.name}
            else:
                self._visit(let)

    def _visit(self, let: Let) -> None:
        op, taken = let.op, _taken_unchanged(let.op)
        for ref in taken:
            params = self.params_by_ref.setdefault(let.name, set())
            params.update(self.params_by_ref.get(ref, ()))
        is_computed = isinstance(op, (AxisMap, Recurrence, Cast, Pool, Map)) and not taken
        if taken:
            is_wide = all(ref in self.wide for ref in taken)
        else:
            is_wide = isinstance(op, (Input, Buffer)) or any(r in self.wide for r in operands(op))
        if is_wide:
            self.wide.add(let.name)
        if is_computed and not (isinstance(op, Map) and is_wide):
            alone = (n for r in operands(op) for n in self.params_by_ref.get(r, ()))
            self.widened_params.update(alone)


def _taken_unchanged(op: Op) -> tuple[Ref, ...]:
    """The operands that a value may be, as they are but for their axes; none of what is computed.

    A condition and the index of a lookup are operands, too, but do not make the result wide. A
    condition may be a flag, by which Python chooses and torch promotes nothing.
    """
    if isinstance(op, MOVING_OPS):
        return operands(op)[:1]
    if isinstance(op, Mode):
        return (op.train, op.eval)
    if isinstance(op, Map) and op.function == "where":
        return op.arguments[1:]
    return ()
