"""Everything that multiplies or shifts a wide value becomes one map: y = A x + B, A and B narrow.

A map that is not affine (an activation, a product of wide values) and a coefficient that would
be as wide as the value itself (layer norm's weight) end a chain and begin the next.
"""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.nodes import Let, Op, Program, Ref
from metanorm.ir.operands import operands
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
        self.pending: dict[Ref, tuple[Form, Let]] = {}  # old name: a form that is not bound yet

    def run(self) -> Program:
        for let in self.program.body:
            self.b.span = let.span
            if not self._defer(let):
                self._bind_operands(let.op)
                if not self._defer(let):
                    self.b.copy(let)
        outputs = [(name, self._bound(ref)) for name, ref in self.program.outputs]
        updates = [replace(u, value=self._bound(u.value)) for u in self.program.updates]
        return self.b.finish(outputs, updates)

    def _defer(self, let: Let) -> bool:
        """Keep an affine function of a wide value as a form, under a name that is bound later."""
        for ref in operands(let.op):
            if ref in self.pending and self.pending[ref][1].type.axes != let.type.axes:
                self._bound(ref)  # wide beside its own input, a coefficient here
        form = self.affine.derive(map_operands(let.op, self.b.value_map))
        if form is None or form.trivial:
            return False
        waiting = f"?{let.name}"
        self.pending[let.name] = (form, let)
        self.affine.forms[waiting] = form
        self.b.types[waiting] = self.b.types[form.source]
        self.b.value_map[let.name] = waiting
        return True

    def _bind_operands(self, op: Op) -> None:
        for ref in operands(op):
            self._bound(ref)

    def _bound(self, old: Ref) -> Ref:
        """The new name of an old value, which is bound now if it was only a form."""
        if old in self.pending:
            form, let = self.pending.pop(old)
            del self.affine.forms[f"?{old}"], self.b.types[f"?{old}"]
            self.b.span = let.span
            self.b.value_map[old] = self.affine.bind(form, let.name)
        return self.b.value_map.get(old, old)
