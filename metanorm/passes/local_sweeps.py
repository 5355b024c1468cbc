"""The sweeps of a norm among processes: one pass over the data each, without a message in it.

What is as large as the data is computed in sweeps, each of which is a program of its own, with a
function and kernels. What lies between them, messages included, is narrow and stays in the program
of the norm. So kernels change nothing about messages, and a process that has none for a call sends
the same.

A sweep hands out local statistics in float64. Sums of powers would cancel in kernels that compute
in float32, and so would their gradients. So a sweep measures means and variances, and the sums that
are sent follow from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from metanorm.ir.aggregation import Ones
from metanorm.ir.division import message_depths
from metanorm.ir.dump import operation_name
from metanorm.ir.mode_placement import ModeBranch, mode_placement
from metanorm.ir.nodes import (
    Count,
    Input,
    Let,
    Near,
    Pool,
    Ref,
    Swept,
    ToSum,
)
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.passes.builder import without_dead_code
from metanorm.passes.gradients_of_messages import with_gradients_of
from metanorm.passes.sweep_programs import DividedNorm, LocalSweep, NotInSweeps, SweepBuilder

EXACT = {"gaps": "exact_mean", "squares": "exact_var"}  # what sums about a number follow from
IN_FLOAT64 = (*EXACT, "ties")  # statistics that a sweep has in float64


@dataclass(frozen=True)
class LocalSweeps:
    """The program of a norm between sweeps, and its sweeps."""

    program: Program
    sweeps: tuple[LocalSweep, ...]


def local_sweeps(program: Program) -> LocalSweeps:
    """The sweeps of a program for divided axes. Raises `NotInSweeps`."""
    return _LocalSweeps(program).run()


class _LocalSweeps:
    def __init__(self, program: Program) -> None:
        self.program, self.index = program, program.index
        self.norm = DividedNorm(program)
        self.placement = mode_placement(program)
        self.depth: dict[Ref, int] = {}
        self.replaced: dict[Ref, list[Let]] = {}  # a binding of the norm to those in its place

    def run(self) -> LocalSweeps:
        """Number the sweeps by depth: the depth of a value is how many of them it waits for."""
        for let in self.program.body:
            depth = max((self.depth[ref] for ref in operands(let.op)), default=0)
            self.depth[let.name] = depth + self._is_measured(let)
        sweeps = [self._statistics(n, lets) for n, lets in enumerate(self._measured(), 1)]
        written = {
            name: ref
            for name, ref in self.program.outputs
            if self.norm.is_wide(ref) and not isinstance(self.index.ops[ref], Input)
        }
        if written:
            sweeps.append(self._results(len(sweeps) + 1, written))
        body = [new for let in self.program.body for new in self.replaced.get(let.name, [let])]
        between = without_dead_code(replace(self.program, body=tuple(body)))
        for let in between.body:
            is_swept = isinstance(let.op, (Swept, Input))
            if self.norm.is_wide(let.name) and not is_swept:
                raise NotInSweeps(f"a {operation_name(let.op)} of all data between sweeps")
        if not sweeps:
            raise NotInSweeps("nothing that is as large as the input")
        return LocalSweeps(with_gradients_of(self.program, between, sweeps), tuple(sweeps))

    def _is_measured(self, let: Let) -> bool:
        """Whether a value is a statistic of the data."""
        is_pool = isinstance(let.op, Pool) and self.norm.is_wide(let.op.value)
        return is_pool and not self.norm.is_wide(let.name)

    def _measured(self) -> list[list[Let]]:
        """The statistics of each sweep: those that wait for as many, and are needed together.

        They wait for as many messages, too, or what one sends would wait for what another reads.
        """
        messages = message_depths(self.program)
        groups: dict[tuple[int, int, ModeBranch | None], list[Let]] = {}
        for let in self.program.body:
            if self._is_measured(let):
                key = (self.depth[let.name], messages[let.name], self.placement[let.name])
                groups.setdefault(key, []).append(let)
        return [groups[key] for key in sorted(groups, key=lambda key: key[:2])]

    # ---- the two kinds of sweeps

    def _statistics(self, number: int, lets: Sequence[Let]) -> LocalSweep:
        """A sweep that measures the data, and what it measures in the program of the norm."""
        sweep = SweepBuilder(self.norm, number)
        for let in lets:
            op = let.op
            assert isinstance(op, Pool)
            if any(grouping != Ones() for _, grouping in op.over):
                raise NotInSweeps("pools of groups of positions")
            if op.weight is not None:
                raise NotInSweeps("statistics with weights, whose sum may be zero")
            is_about_mean = op.about is not None and isinstance(self.index.ops[op.about], Near)
            if op.statistic in EXACT and (is_about_mean or self._partner(op, lets)):
                self._from_moments(let, op, sweep)
                continue
            name = sweep.output_name(op, op.statistic)
            sweep.measure(name, let, op, exact=op.statistic in IN_FLOAT64)
            self.replaced[let.name] = [replace(let, op=sweep.swept(name, let))]
        return sweep.finished(writes=False)

    def _partner(self, op: Pool, lets: Sequence[Let]) -> bool:
        """Whether the sums of both powers are measured, about the same number."""
        wanted = {replace(op, statistic=statistic) for statistic in EXACT}
        return wanted <= {let.op for let in lets}

    def _from_moments(self, let: Let, op: Pool, sweep: SweepBuilder) -> None:
        """A sum about a number, from the moments of the same elements."""
        count = Count(op.over, op.where, op.weight)
        counts = [other.name for other in self.program.body if other.op == count]
        if not counts:
            raise NotInSweeps("a sum about a number whose elements are not counted")
        wanted = ["exact_mean"] if op.statistic == "gaps" else [*EXACT.values()]
        moments = [_moment(let, op, name, sweep) for name in wanted]
        bindings = [new for _, news in moments for new in news]
        parts = (counts[0], *(ref for ref, _ in moments))
        to_sum = ToSum("gaps" if op.statistic == "gaps" else "squares", parts, op.about)
        self.replaced[let.name] = [*bindings, replace(let, op=to_sum)]

    def _results(self, number: int, written: Mapping[str, Ref]) -> LocalSweep:
        """The sweep that writes what is as large as the data."""
        sweep = SweepBuilder(self.norm, number)
        for name, ref in written.items():
            let = self.index.lets[ref]
            sweep.take_in([ref])
            if ref not in sweep.outputs.values():
                sweep.outputs[name] = ref
                self.replaced[ref] = [replace(let, op=sweep.swept(name, let))]
        return sweep.finished(writes=True)


def _moment(let: Let, op: Pool, statistic: str, sweep: SweepBuilder) -> tuple[Ref, list[Let]]:
    """A moment of the elements of a sum, and its binding unless it has one already."""
    moment = replace(op, statistic=statistic, about=None)
    for ref in sweep.outputs.values():
        if sweep.lets[ref].op == moment:
            return ref, []
    name = sweep.output_name(op, statistic)
    bound = replace(let, name=f"%{name}.sweep{sweep.number}")
    sweep.measure(name, bound, moment, exact=True)
    return bound.name, [replace(bound, op=sweep.swept(name, let))]
