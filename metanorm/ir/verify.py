"""What a legal program is. Run after every pass in tests, and by `--verify-passes`."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.division import IllDivided, exchanges, partial_sums
from metanorm.ir.nodes import Let, Program, Ref, Repeat, Type
from metanorm.ir.operands import operands
from metanorm.ir.space import Space
from metanorm.ir.typing import Declarations, IllTyped, type_of


class IllegalProgram(Exception):
    """A pass or the lowering built something that is not a program: a bug in metanorm."""


def verify(program: Program) -> None:
    """Raise `IllegalProgram` unless names are defined once and before use, types are right, and
    what is divided among processes is exchanged once before it is used as a whole."""
    space = Space(program.axes)
    known = Declarations(space, program.inputs, program.params, program.buffers)
    types: dict[Ref, Type] = {}
    _verify_body(program.body, types, known)
    used = [ref for _, ref in program.outputs] + [update.value for update in program.updates]
    used += [update.elements for update in program.updates if update.elements is not None]
    for ref in used:
        if ref not in types:
            raise IllegalProgram(f"{program.name}: {ref} is not defined")
    for update in program.updates:
        if update.buffer not in known.buffers:
            raise IllegalProgram(f"{program.name}: no buffer {update.buffer}")
    if not program.outputs:
        raise IllegalProgram(f"{program.name}: no output")
    if program.divided:
        try:
            partial_sums(program)
        except IllDivided as error:
            raise IllegalProgram(f"{program.name}: {error}") from error
    elif exchanges(program):
        raise IllegalProgram(f"{program.name}: an exchange, and no axis that is divided")


def _verify_body(body: Sequence[Let], types: dict[Ref, Type], known: Declarations) -> None:
    for let in body:
        if let.name in types:
            raise IllegalProgram(f"{let.name} is defined twice")
        for ref in operands(let.op):
            if ref not in types:
                raise IllegalProgram(f"{let.name} reads {ref}, which is not defined before it")
        try:
            found = type_of(let.op, types, known)
        except (IllTyped, KeyError) as error:
            raise IllegalProgram(f"{let.name}: {error}") from error
        if found != let.type:
            raise IllegalProgram(f"{let.name} is declared {let.type}, but is {found}")
        if isinstance(let.op, Repeat):
            inner = dict(types)
            inner.update(zip(let.op.inside, (types[r] for r in let.op.initial)))
            _verify_body(let.op.body, inner, known)
            for result, initial in zip(let.op.results, let.op.initial):
                if inner.get(result) != types[initial]:
                    raise IllegalProgram(f"{let.name}: {result} is not what it began as")
        types[let.name] = let.type
