"""MN0206: inputs, parameters, values and hyperparameters that nothing depends on."""

from __future__ import annotations

from collections.abc import Iterator

from metanorm.diagnostics.model import Problem
from metanorm.diagnostics.names import Unused
from metanorm.ir.nodes import Program, Ref, Repeat
from metanorm.ir.reachable import reachable
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.values import Moments, Outputs, PoolOnly, Tensor


def unused(program: Program, low: Lowering, scope: CallScope) -> Iterator[Problem]:
    """One warning for each name of the spec that does not reach an output or an update."""
    reached = reachable(program)
    reached |= {let.name for kept in program.state for let in (*kept.from_weight, *kept.first)}
    reached |= _carried(low, reached)
    for name, entity in scope.names:
        called_again = name in scope.let_scopes and entity.used
        if not entity.warns or called_again:
            continue
        match entity.value:
            case Tensor(ref) if entity.what != "hyperparameter":
                live = ref in reached or (entity.used and ref.startswith("%"))
            case Moments(mean, var):
                live = mean.ref in reached or var.ref in reached
            case Outputs(by_name):
                live = any(tensor.ref in reached for _, tensor in by_name)
            case PoolOnly() | Tensor():
                live = entity.used
            case _:
                live = True
        if not live:
            yield Unused(entity.span, name, entity.what)


def _carried(low: Lowering, reached: set[Ref]) -> set[Ref]:
    """What a `repeat` carries from step to step beside a result that is used."""
    loops = [(let.name, let.op.results) for let in low.body if isinstance(let.op, Repeat)]
    live = {results for name, results in loops if name in reached}
    return {name for name, results in loops if results in live}
