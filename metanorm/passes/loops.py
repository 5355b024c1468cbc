"""Compute what is the same in all steps of a loop before the loop.

That includes a scale of a sum of products: in `sum(p * q[D -> E] over D) / trace`, with `q` and
`trace` from outside the loop, it becomes part of `q`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import Draw, Let, Map, Mode, Number, Op, Pool, Ref, Repeat
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.passes.builder import Builder


def loops(program: Program) -> Program:
    """The program with loops that compute only what changes from step to step."""
    if not any(isinstance(let.op, Repeat) for let in program.body):
        return program
    builder = Builder(program)
    for let in program.body:
        if isinstance(let.op, Repeat):
            builder.span = let.span
            repeat = map_operands(let.op, builder.value_map)
            assert isinstance(repeat, Repeat)
            builder.copy(let, _Loop(builder, repeat).smaller())
        else:
            builder.copy(let)
    return builder.finish()


class _Loop:
    """One loop. `lets` has the new body."""

    def __init__(self, builder: Builder, op: Repeat) -> None:
        self.b = builder
        self.op = op
        self.outside: dict[Ref, Ref] = {}  # by binding of the body: its value before the loop
        self.lets: dict[Ref, Let] = {}
        read = [ref for let in op.body for ref in operands(let.op)]
        self.uses = Counter((*read, *op.results))

    def smaller(self) -> Repeat:
        """The loop without what is the same in all steps, which this binds before the loop."""
        for let in self.op.body:
            op = map_operands(let.op, self.outside)
            if not isinstance(op, (Draw, Mode, Repeat)) and self._are_outside(operands(op)):
                self.outside[let.name] = self._before(let, op)
            else:
                self.lets[let.name] = replace(let, op=op)
        for let in list(self.lets.values()):
            if isinstance(let.op, Map) and let.op.function in ("mul", "div"):
                self._regroup(let, let.op)
        needed = self._needed()
        return replace(
            self.op,
            body=tuple(let for let in self.lets.values() if let.name in needed),
            results=tuple(self.outside.get(ref, ref) for ref in self.op.results),
        )

    def _before(self, let: Let, op: Op) -> Ref:
        self.b.span = let.span
        if isinstance(op, Map):
            return self.b.map(op.function, *op.arguments, name=let.name)
        return self.b.emit(op, let.name)

    def _needed(self) -> set[Ref]:
        needed = set(self.op.results)
        for let in reversed(self.lets.values()):
            if let.name in needed:
                needed.update(operands(let.op))
        return needed

    def _are_outside(self, refs: tuple[Ref, ...]) -> bool:
        return all(ref in self.b.types for ref in refs)

    def _regroup(self, let: Let, op: Map) -> None:
        """Scale a factor of a sum before the loop, instead of the sum in each step."""
        pairs = (op.arguments, op.arguments[::-1]) if op.function == "mul" else (op.arguments,)
        for value, by in pairs:
            is_scale = self._are_outside((by,)) and not isinstance(self.b.ops[by], Number)
            if is_scale and value in self.lets and self._scaled(value, by, op.function):
                self.lets[let.name] = replace(let, op=self.lets[value].op)
                return

    def _scaled(self, ref: Ref, by: Ref, function: str) -> Ref | None:
        """A value with one of its factors scaled: one from outside that has all axes of the scale.

        `None` if there is none. The value is changed in `lets`, so it must have one reader, and so
        must all values between it and the factor."""
        axes = self.b.types[by].axes
        if ref not in self.lets:
            is_number = ref not in self.b.types or isinstance(self.b.ops[ref], Number)
            if is_number or not set(axes) <= set(self.b.types[ref].axes):
                return None
            return self.b.map(function, ref, by, name="%scaled")
        let = self.lets[ref]
        if self.uses[ref] != 1:
            return None
        match let.op:
            case Map("mul", (first, second)):
                if (scaled := self._scaled(first, by, function)) is not None:
                    op = Map("mul", (scaled, second))
                elif (scaled := self._scaled(second, by, function)) is not None:
                    op = Map("mul", (first, scaled))
                else:
                    return None
                self.lets[ref] = replace(let, op=op)
                return ref
            case Pool("sum", value, over, where=None, weight=None):
                whole = all(isinstance(matrix, Ones) for _, matrix in over)
                if not whole or not {axis for axis, _ in over}.isdisjoint(axes):
                    return None
                if (scaled := self._scaled(value, by, function)) is None:
                    return None
                self.lets[ref] = replace(let, op=replace(let.op, value=scaled))
                return ref
        return None
