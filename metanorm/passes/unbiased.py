"""Take variances that divide by n - 1 apart: one that divides by n, a count, and their quotient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from metanorm.ir.nodes import Count, Let, Map, Pool, Ref, Repeat, Type
from metanorm.ir.operands import every_let
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.ir.typing import type_of
from metanorm.passes.builder import Builder


def unbiased(program: Program) -> Program:
    """The program in which no statistic has `ddof`."""
    lets = every_let(program.body)
    with_ddof = any(isinstance(let.op, Pool) and let.op.ddof for let in lets)
    return _Unbiased(program).run() if with_ddof else program


class _Unbiased:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.b = Builder(program)
        # Of loops: old body to rewritten one.
        self.bodies: dict[tuple[Let, ...], tuple[Let, ...]] = {}

    def run(self) -> Program:
        for let in self.program.body:
            op = map_operands(let.op, self.b.value_map)
            if isinstance(op, Pool) and op.ddof:
                self.b.span = let.span
                variance, count = self.b.emit(replace(op, ddof=0)), self.b.emit(_count(op))
                self.b.substitute(let, self.b.map("unbiased", variance, count))
                continue
            if isinstance(op, Repeat):
                op = replace(op, body=self._body(op, self.b.types))
            self.b.copy(let, op)
        return self.b.finish()

    def _body(self, op: Repeat, outside: Mapping[Ref, Type]) -> tuple[Let, ...]:
        """The body of a loop without `ddof`; the rest stays."""
        if op.body in self.bodies:
            return self.bodies[op.body]
        carried = {name: outside[initial] for name, initial in zip(op.inside, op.initial)}
        types = {**outside, **carried}
        lets: list[Let] = []
        for let in op.body:
            types[let.name] = let.type
            inner = let.op
            if isinstance(inner, Repeat):
                inner = replace(inner, body=self._body(inner, types))
            elif isinstance(inner, Pool) and inner.ddof:
                variance, count = self.b.fresh_name("%var"), self.b.fresh_name("%count")
                type_ = type_of(_count(inner), types, self.b.declarations)
                lets.append(replace(let, name=variance, op=replace(inner, ddof=0)))
                lets.append(replace(let, name=count, op=_count(inner), type=type_))
                inner = Map("unbiased", (variance, count))
            lets.append(replace(let, op=inner))
        self.bodies[op.body] = tuple(lets)
        return self.bodies[op.body]


def _count(op: Pool) -> Count:
    """How many elements each pool of a statistic has, by weight where they have weights."""
    return Count(op.over, op.where, op.weight)
