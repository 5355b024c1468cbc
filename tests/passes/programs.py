"""Specs to programs, and programs to text that says no more than a test wants to see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from textwrap import dedent

from metanorm.frontend import check
from metanorm.ir.dump import op_text, program_text, type_text
from metanorm.ir.nodes import Buffer, Input, Let, Number, Param
from metanorm.ir.program import Program
from metanorm.ir.rename import rename_bindings, role_of
from metanorm.ir.scalar import scalar_text
from metanorm.ir.verify import verify
from metanorm.source import Source

Step = Callable[[Program], Program]


def lowered(text: str, arguments: str = "eps = 1e-5") -> Program:
    """The program of a norm with these lines, as the front end makes it."""
    whole = f"norm T({arguments}) {{\n{dedent(text)}\n}}\n"
    checked = check({"t.norm": Source.of("t.norm", whole)}, ["t.norm"])
    assert checked.ok, checked.diagnostics
    program = checked.norms["t.norm"][0].program
    verify(program)
    return program


def after(text: str, *steps: Step, arguments: str = "eps = 1e-5") -> str:
    """What the steps make of a norm with these lines, each held against the rules of the IR."""
    program = lowered(text, arguments)
    for step in steps:
        program = step(program)
        verify(program)
    return shown(program)


def axes(program: Program) -> list[str]:
    """The axes as `inspect` prints them."""
    return [line[7:] for line in program_text(program).split("\n") if line.startswith("  axis ")]


def shown(program: Program) -> str:
    """The bindings and results. Numbers, inputs and parameters stand for themselves, and values
    without a name are counted anew, so that the text does not depend on what came before."""
    program = rename_bindings(program, _names(program))
    lines = [
        f"{let.name} : {type_text(let.type)} = {op_text(let.op)}"
        for let in program.body
        if not isinstance(let.op, (Number, Input, Param, Buffer))
    ]
    for update in program.updates:
        by = f" by {scalar_text(update.momentum)}" if update.momentum else ""
        lines.append(f"update {update.buffer} <- {update.value}{by}")
    lines += [f"output {ref}" for _, ref in program.outputs]
    return "\n".join(lines)


def same(actual: str, wanted: str) -> None:
    """Compare texts, of which one is indented as the test is."""
    assert actual == dedent(wanted).strip()


def _names(program: Program) -> dict[str, str]:
    seen: Counter[str] = Counter()
    names: dict[str, str] = {}
    for let in program.body:
        plain = _plain(let)
        if plain is not None:
            names[let.name] = plain
        elif let.name.startswith("%"):
            role = role_of(let.name)
            seen[role] += 1
            first = role and seen[role] == 1
            names[let.name] = f"%{role}" if first else f"%{role}{seen[role]}"
    return names


def _plain(let: Let) -> str | None:
    if isinstance(let.op, Number):
        return scalar_text(let.op.value)
    return let.op.name if isinstance(let.op, (Input, Param, Buffer)) else None
