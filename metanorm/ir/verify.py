"""The verifier of programs. Tests run it after every pass, and so does `--verify-passes`."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.division import IllDivided, exchanges, parts_of
from metanorm.ir.nodes import Let, Ref, Repeat, Type
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.space import Space
from metanorm.ir.typing import Declarations, IllTyped, type_of


class IllegalProgram(Exception):
    """A pass or the lowering built an invalid program: a bug in metanorm."""


def verify(program: Program) -> None:
    """Raise `IllegalProgram` unless a program is valid.

    Each name is defined once and before its use, types are right, and what a process knows of a
    pool over a divided axis goes through one exchange before it is used as a complete value.
    """
    space = Space(program.axes)
    declarations = Declarations(space, program.inputs, program.params, program.buffers)
    if program.backward is not None:
        verify(program.backward.program)
    types: dict[Ref, Type] = {}
    _verify_body(program.body, types, declarations)
    results = [ref for _, ref in program.outputs] + [update.value for update in program.updates]
    results += [update.elements for update in program.updates if update.elements is not None]
    for ref in results:
        if ref not in types:
            raise IllegalProgram(f"{program.name}: {ref} is not defined")
    for update in program.updates:
        if update.buffer not in declarations.buffers:
            raise IllegalProgram(f"{program.name}: no buffer {update.buffer}")
    if not program.outputs and not (program.target == "backward" and program.updates):
        raise IllegalProgram(f"{program.name}: no output")
    if program.divided:
        try:
            parts_of(program)
        except IllDivided as error:
            raise IllegalProgram(f"{program.name}: {error}") from error
    elif exchanges(program):
        raise IllegalProgram(f"{program.name}: an exchange, and no axis that is divided")


def _verify_body(body: Sequence[Let], types: dict[Ref, Type], declarations: Declarations) -> None:
    for let in body:
        if let.name in types:
            raise IllegalProgram(f"{let.name} is defined twice")
        for ref in operands(let.op):
            if ref not in types:
                raise IllegalProgram(f"{let.name} reads {ref}, which is not defined before it")
        try:
            actual = type_of(let.op, types, declarations)
        except (IllTyped, KeyError) as error:
            raise IllegalProgram(f"{let.name}: {error}") from error
        if actual != let.type:
            raise IllegalProgram(f"{let.name} is declared {let.type}, but is {actual}")
        if isinstance(let.op, Repeat):
            inner = dict(types)
            inner.update(zip(let.op.inside, (types[r] for r in let.op.initial)))
            _verify_body(let.op.body, inner, declarations)
            for result, initial in zip(let.op.results, let.op.initial):
                if inner.get(result) != types[initial]:
                    raise IllegalProgram(f"{let.name}: {result} is not what it began as")
        types[let.name] = let.type
