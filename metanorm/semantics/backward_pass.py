"""Backward passes that norms state: the gradients of inputs, and updates of buffers.

The block is lowered behind the norm, whose values it reads, and becomes a program of its own. That
program computes the values again from what the call was given.
"""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.diagnostics.backward import EmptyBackward, GradientAxes
from metanorm.diagnostics.names import DuplicateName
from metanorm.diagnostics.structure import NotForTarget
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.nodes import Buffer, Input, Ref
from metanorm.ir.program import InputDecl, Program
from metanorm.ir.stated import GRAD, StatedPass, stated_backward
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.outputs import NormOutput
from metanorm.semantics.statements import Statements
from metanorm.semantics.values import Entity, Outputs, Tensor, Value
from metanorm.source import Span
from metanorm.syntax import ast, build


def backward_block(norm: ast.Norm) -> ast.Backward | None:
    """The backward pass that a norm states; further ones are reported as clauses are."""
    return next((s for s in norm.statements if isinstance(s, ast.Backward)), None)


class BackwardLowering:
    """Lowers the backward pass of one norm. `statements` lowers the statements in it."""

    def __init__(self, statements: Statements, low: Lowering, scope: CallScope) -> None:
        self.statements = statements
        self.low = low
        self.scope = scope
        self.problems = low.problems
        self.gradients: dict[str, Ref] = {}
        self.declared: dict[str, str] = {}  # the parameters and buffers of the norm

    def lower(self, block: ast.Backward, outputs: Sequence[NormOutput]) -> StatedPass | None:
        """What the block states; `None` after a report. Everything else is as it was before."""
        keyword = build.keyword_span(block)
        if self.low.target != "activation":
            hint = "only norms for activations state a backward pass"
            self.problems.add(NotForTarget(keyword, self.low.target, "no `backward`", hint))
            return None
        if not any(isinstance(s, (ast.Gradient, ast.Update)) for s in block.statements):
            self.problems.add(EmptyBackward(keyword))
            return None
        if GRAD in self.scope.names:
            taken = self.scope.names.find(GRAD)
            assert taken is not None
            what = "the arriving gradient"
            self.problems.add(DuplicateName(keyword, GRAD, taken.span, what=what))
            return None
        start, inputs, updates = len(self.low.body), list(self.low.inputs), self.low.updates
        self.declared = self._declared()
        before = {name: e.value for name, e in self.scope.names if e.role == "buffer"}
        self.low.updates = []
        arriving = self._arriving(outputs, keyword)
        self._read_buffers_anew()
        for statement in block.statements:
            self._statement(statement)
            self._report_declared(statement)
        stated = StatedPass(
            start,
            tuple(self.low.body[start:]),
            tuple(arriving),
            tuple(self.gradients.items()),
            tuple(self.low.updates),
        )
        for name, value in before.items():
            self.scope.names.replace(name, value)
        del self.low.body[start:]
        self.low.inputs, self.low.updates = inputs, updates
        return stated

    def _arriving(self, outputs: Sequence[NormOutput], span: Span) -> list[InputDecl]:
        """The arriving gradients of the outputs, which `grad` names from here on."""
        space, taken = self.low.table.space, {*self.scope.names.all(), *self.low.table.arguments}
        by_output: list[tuple[str, Tensor]] = []
        declared = []
        for output in outputs:
            dims = output.dims or space.unsplit(
                space.ordered(space.base(a) for a in output.tensor.type.axes)
            )
            name = GRAD if len(outputs) == 1 else f"{GRAD}_{output.name}"
            while name in taken:
                name += "_"
            decl = InputDecl(name, "tensor", dims)
            self.low.inputs.append(decl)
            declared.append(decl)
            by_output.append((output.name, self.low.emit(Input(name), span, name)))
        value: Value = Outputs(tuple(by_output))
        self.scope.names.enter(GRAD, Entity("value", span, value, warns=False))
        return declared

    def _read_buffers_anew(self) -> None:
        """Let names of buffers mean what they hold when the backward pass runs."""
        for name, entity in self.scope.names:
            if entity.role == "buffer" and isinstance(entity.value, Tensor):
                op = self.low.ops[entity.value.ref]
                if isinstance(op, Buffer):
                    self.scope.names.replace(name, self.low.emit(op, entity.span))

    def _statement(self, statement: ast.AnyStatement) -> None:
        match statement:
            case ast.Gradient():
                self._gradient(statement)
            case ast.Update(mode=ast.Identifier() as mode):
                hint = "an update in `backward` happens in each backward pass"
                actual, expected = f"an update in `{mode.name}`", "no mode"
                self.problems.add(WrongKind(mode.span, actual, expected, hint))
            case _:
                self.statements.lower(statement)

    def _declared(self) -> dict[str, str]:
        """What the norm learns and keeps so far, by name."""
        params = {param.name: "parameter" for param in self.low.params}
        return params | {buffer.name: "buffer" for buffer in self.low.buffers}

    def _report_declared(self, statement: ast.AnyStatement) -> None:
        """Report what a statement would have to add to the norm, once for each statement."""
        declared = self._declared()
        added = [name for name in declared if name not in self.declared]
        if added:
            hint = "declare it in the norm, or leave it out: `affine = false`, no `track`"
            actual = f"the {declared[added[0]]} `{added[0]}`"
            expected = "what the norm has declared"
            self.problems.add(WrongKind(statement.span, actual, expected, hint))
        self.declared = declared

    def _gradient(self, statement: ast.Gradient) -> None:
        name = statement.name.name
        entity = self.scope.names.find(name)
        value = self.statements.expressions.number(statement.value)
        decls = {i.name: i for i in self.low.inputs if i.sort == "tensor"}
        if entity is None or entity.role != "input" or name not in decls:
            inputs = tuple(n for n, e in self.scope.names if e.role == "input" and n in decls)
            hint = "those of parameters are derived: a gradient is stated of an input"
            expected = "an input that has a gradient"
            self.statements.report_not_a(statement.name, entity, expected, inputs, hint)
            return
        if value is None:
            return
        space = self.low.table.space
        expected_axes = self.low.declarations().axes(decls[name].dims)
        actual_axes = space.ordered(space.base(a) for a in value.type.axes)
        if actual_axes != expected_axes:
            wanted = tuple(map(self.low.table.shown, expected_axes))
            actual_names = tuple(map(self.low.table.shown, actual_axes))
            problem = GradientAxes(statement.value.span, name, wanted, actual_names, entity.span)
            self.problems.add(problem)
            return
        if name in self.gradients:
            actual, expected = f"a second one of `{name}`", "one `gradient` for each input"
            self.problems.add(WrongKind(statement.span, actual, expected, "make them one sum"))
            return
        self.gradients[name] = value.ref


def with_backward(program: Program, stated: StatedPass | None) -> Program:
    """The program with the backward pass that its norm states."""
    return program if stated is None else stated_backward(program, stated)
