"""MN0206: inputs, parameters, values and hyperparameters that nothing depends on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from metanorm.diagnostics.model import Problem
from metanorm.diagnostics.names import Unused
from metanorm.ir.nodes import Buffer, Param, Recurrence, Ref, Repeat
from metanorm.ir.program import Program
from metanorm.ir.reachable import reachable
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.values import Moments, Outputs, PoolOnly, Tensor
from metanorm.source import Span


def unused(program: Program, low: Lowering, scope: CallScope) -> Iterator[Problem]:
    """One warning for each name of the spec that does not reach an output or an update."""
    live_refs = reachable(program)
    live_refs |= {let.name for decl in program.state for let in (*decl.from_weight, *decl.first)}
    live_refs |= {let.op.name for entry in program.entries for let in entry.body
                  if isinstance(let.op, (Param, Buffer))}  # fmt: skip
    if program.backward is not None:
        live_refs |= _read_backward(program.backward.program)
    live_refs |= _carried(low, live_refs) | _read_before(low, live_refs)
    for name, entity in scope.names:
        called_again = name in scope.let_scopes and entity.used
        if not entity.warns or called_again:
            continue
        match entity.value:
            case Tensor(ref) if entity.role != "hyperparameter":
                is_live = ref in live_refs or (entity.used and ref.startswith("%"))
            case Moments(mean, var):
                is_live = mean.ref in live_refs or var.ref in live_refs
            case Outputs(by_name):
                is_live = any(tensor.ref in live_refs for _, tensor in by_name)
            case PoolOnly() | Tensor():
                is_live = entity.used
            case _:
                is_live = True
        if not is_live:
            yield Unused(entity.span, name, entity.role)
    yield from _unused_halves(scope, live_refs)


def _read_backward(program: Program) -> set[Ref]:
    """What a stated backward pass reads or stores, buffers by their names."""
    stored = {update.buffer for update in program.updates}
    return reachable(program) | {let.op.name for let in program.body
                                 if isinstance(let.op, Buffer)} | stored  # fmt: skip


def _unused_halves(scope: CallScope, live_refs: set[Ref]) -> Iterator[Problem]:
    """The weight or the bias of an affine map of which the spec uses the other one alone.

    If it uses neither, the clause or the value has a report already.
    """
    live_by_map: dict[Span, dict[str, bool]] = {}
    for name, entity in scope.names:
        if entity.role == "parameter" and not entity.warns and isinstance(entity.value, Tensor):
            live_by_map.setdefault(entity.span, {})[name] = entity.value.ref in live_refs
    for span, live_by_name in live_by_map.items():
        if any(live_by_name.values()):
            unused_names = (name for name, live in live_by_name.items() if not live)
            yield from (Unused(span, name, "parameter") for name in unused_names)


def _read_before(low: Lowering, live_refs: set[Ref]) -> set[Ref]:
    """The scans of which only the states before each position are used."""
    scans = {ref: op for ref, op in low.ops.items() if isinstance(op, Recurrence)}
    read = {
        replace(op, before=False) for ref, op in scans.items() if op.before and ref in live_refs
    }
    return {ref for ref, op in scans.items() if op in read}


def _carried(low: Lowering, live_refs: set[Ref]) -> set[Ref]:
    """The other results of each `repeat` that has a used one: the loop carries them all."""
    loops = [(let.name, let.op.results) for let in low.body if isinstance(let.op, Repeat)]
    live_results = {results for name, results in loops if name in live_refs}
    return {name for name, results in loops if results in live_results}
