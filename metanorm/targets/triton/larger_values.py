"""Values that an element has several of, along axes that the data lacks.

Statistics of them are taken by a kernel of their own, whose programs also cover these axes. All
other kernels of a sweep go along the data, and a pool over these axes is a loop for each tile.
"""

from __future__ import annotations

from collections.abc import Collection

from metanorm.ir.accumulation import ACCUMULATIONS
from metanorm.ir.index import closure
from metanorm.ir.nodes import Pool, Ref
from metanorm.ir.operands import operands
from metanorm.nest.nest import Block
from metanorm.nest.statements import Accumulate, Compute, Gather, Load, Scan, Statement, Store
from metanorm.nest.statements import Pool as PoolStatement
from metanorm.targets.python.pyir import Assign, Name, Tuple
from metanorm.targets.triton.context import KernelContext
from metanorm.targets.triton.joining import FINISH_FUNCTIONS, identity, joined
from metanorm.targets.triton.scope import Scope
from metanorm.targets.triton.terms import ONE, ZERO, as_tile, call, cast


def is_larger(context: KernelContext, ref: Ref) -> bool:
    """Whether an element of the data has several values of these."""
    return not {*context.nest.extra_axes}.isdisjoint(context.lets[ref].type.axes)


def pools_larger_value(context: KernelContext, ref: Ref) -> bool:
    """Whether a value is a statistic of several values of each element."""
    op = context.lets[ref].op
    return isinstance(op, Pool) and context.is_wide(ref) and is_larger(context, op.value)


def kernels_of_sweep(context: KernelContext, sweep: Block) -> list[Block]:
    """A sweep as blocks that have a kernel each: one, but where it measures larger values."""
    if not context.nest.extra_axes:
        return [sweep]
    larger = [n for n in sweep.measures if is_larger(context, context.reductions[n].value)]
    others = [n for n in sweep.measures if n not in larger]
    blocks = []
    if larger:
        blocks.append(_part(context, sweep, larger, ()))
    if others or sweep.writes:
        blocks.append(_part(context, sweep, others, [ref for _, ref in sweep.writes]))
    return blocks


def _part(
    context: KernelContext, sweep: Block, reductions: Collection[int], written: Collection[Ref]
) -> Block:
    """The statements of a sweep that some of its statistics and results need."""
    heads = [*written]
    for number in reductions:
        r = context.reductions[number]
        heads += [ref for ref in (r.value, r.where, r.weight) if ref is not None]

    def read(ref: Ref) -> tuple[Ref, ...]:
        return () if pools_larger_value(context, ref) else operands(context.lets[ref].op)

    needed = closure(heads, read)
    statements: list[Statement] = []
    for statement in sweep.statements:
        match statement:
            case Accumulate(number):
                keep = number in reductions
            case Store(value=ref):
                keep = ref in written
            case (
                Load(let=let)
                | Compute(let=let)
                | Gather(let=let)
                | PoolStatement(let=let)
                | Scan(let=let)
            ):
                keep = let.name in needed
            case _:
                keep = True
        if keep:
            statements.append(statement)
    return Block(sweep.when, tuple(statements))


def pool_of_element(scope: Scope, ref: Ref, op: Pool) -> Name:
    """Print the loop that takes a statistic of several values of each element of a tile."""
    row, ctx, fresh = ACCUMULATIONS[op.statistic], scope.ctx, scope.arguments.names.fresh
    part = row.parts[-1]
    sides = scope.sides_of(ctx.lets[ref].type.axes)
    lengths = ("ROWS" if "row" in sides else "", "BLOCK" if "column" in sides else "")
    shape = Tuple(tuple(Name(length) if length else ONE for length in lengths))
    result = Name(fresh(scope.preferred_name(ref)))
    scope.body.append(Assign((result,), call("tl.full", shape, identity(part), Name("REAL"))))
    axes = ctx.leaves(axis for axis, _ in op.over)
    variables = {axis: fresh(axis.lower()) for axis in axes}
    for axis, variable in variables.items():
        scope.enter_loop((axis,))
        scope.set_position(axis, cast(as_tile(Name(variable)), "INDEX"), frozenset())
    scope.body.append(Assign((result,), joined(part, result, scope.value(op.value))))
    for axis, variable in reversed(variables.items()):
        scope.leave_loop(variable, (ZERO, ctx.size(scope.arguments, (axis,))))
    if row.finish in FINISH_FUNCTIONS:
        count = as_tile(ctx.size(scope.arguments, axes))
        scope.body.append(Assign((result,), call(FINISH_FUNCTIONS[row.finish], result, count)))
    return result
