"""Fold chains of affine maps of a wide value into one map y = A x + B, with A and B narrow.

Two things end a chain and begin the next: a map that is not affine, such as an activation or a
product of wide values, and a coefficient that would be as wide as the value, such as layer norm's
weight.
"""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.nodes import Let, Op, Ref
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.passes.affine import Affine, Form
from metanorm.passes.builder import Builder


def fold(program: Program) -> Program:
    """The program with chains of affine maps folded."""
    return _Fold(program).run()


class _Fold:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.b = Builder(program)
        self.affine = Affine(self.b)
        self.deferred: dict[Ref, tuple[Form, Let]] = {}  # by old name: a form that is not bound yet

    def run(self) -> Program:
        for let in self.program.body:
            self.b.span = let.span
            if not self._defer(let):
                self._bind_operands(let.op)
                if not self._defer(let):
                    self.b.copy(let)
        outputs = [(name, self._bind(ref)) for name, ref in self.program.outputs]
        updates = [replace(u, value=self._bind(u.value)) for u in self.program.updates]
        return self.b.finish(outputs, updates)

    def _defer(self, let: Let) -> bool:
        """Defer the form of an affine map of a wide value; false for any other binding."""
        for ref in operands(let.op):
            if ref in self.deferred and self.deferred[ref][1].type.axes != let.type.axes:
                self._bind(ref)  # it may be a narrow coefficient here
        form = self.affine.derive(map_operands(let.op, self.b.value_map))
        if form is None or form.trivial:
            return False
        placeholder = f"?{let.name}"
        self.deferred[let.name] = (form, let)
        self.affine.forms[placeholder] = form
        self.b.types[placeholder] = self.b.types[form.source]
        self.b.value_map[let.name] = placeholder
        return True

    def _bind_operands(self, op: Op) -> None:
        for ref in operands(op):
            self._bind(ref)

    def _bind(self, old: Ref) -> Ref:
        """The new value of an old one; bind it now if it was deferred."""
        if old in self.deferred:
            form, let = self.deferred.pop(old)
            del self.affine.forms[f"?{old}"], self.b.types[f"?{old}"]
            self.b.span = let.span
            self.b.value_map[old] = self.affine.bind(form, let.name)
        return self.b.value_map.get(old, old)
