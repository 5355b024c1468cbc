"""Print recurrences: states that move along an axis, one for each cell of a phase.

A state is in float64, as sums of a whole axis would lose digits in float32. Cells are side by side,
steps one after the other.
"""

from __future__ import annotations

from metanorm.ir.nodes import Recurrence, Ref
from metanorm.targets.python.pyir import Assign, Expr, Name, Tuple
from metanorm.targets.triton.scope import Array, Scope, stored_array
from metanorm.targets.triton.terms import ONE, ZERO, call, cast, minus, plus, times

STATE_DTYPE = "tl.float64"


def print_states(scope: Scope, ref: Ref, op: Recurrence) -> Array:
    """Print the loop along the axis, which stores the state of each step. Returns the array.

    The cells of the phase are the columns of the tile; the axis of the recurrence is none of them.
    """
    names, column = scope.arguments.names, scope.masks.get("column")
    has_cells = any(scope.sides.values())
    if not has_cells:  # a single state, which needs no mask
        column = None
    state = Name(names.fresh("state"))
    shape = Tuple((ONE, Name("CELLS") if has_cells else ONE))
    zeros = call("tl.zeros", shape, Name(STATE_DTYPE))
    scope.body.append(Assign((state,), plus(scope.value(op.start), zeros)))
    length = scope.ctx.size(scope.arguments, (op.axis,))
    scope.enter_loop((op.axis,))
    step, position = names.fresh("step"), Name(names.fresh(op.axis.lower()))
    place: Expr = Name(step)
    if op.reverse:
        place = minus(minus(length, ONE), place)
    as_indices = call("tl.full", Tuple((ONE, ONE)), place, Name("INDEX"))
    scope.body.append(Assign((position,), as_indices))
    scope.set_position(op.axis, position, frozenset())
    scope.masks = {} if column is None else {"column": column, "both": column}
    value, decay = scope.value(op.value), scope.value(op.decay)
    move_state = Assign((state,), plus(times(decay, state), value))
    if not op.before:
        scope.body.append(move_state)
    array = stored_array(scope, ref, cast(state, "REAL"))
    if op.before:
        scope.body.append(move_state)
    scope.leave_loop(step, (ZERO, length))
    return array
