"""What the definitions of a module are called: classes as in the spec, functions after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metanorm.ir.momenta import momenta
from metanorm.ir.nodes import Program
from metanorm.python_words import BUILTINS, KEYWORDS
from metanorm.semantics.naming import snake_case
from metanorm.semantics.reserved import GENERATED


@dataclass(frozen=True)
class Names:
    """The names that the definitions of one norm go by."""

    norm: str
    function: str
    check: str  # the function that refuses what the norm cannot take
    result: str  # the class of the result, where there are several outputs
    beginnings: Mapping[str, str]  # functions for first values, by what begins with them


def names_of(programs: Sequence[Program]) -> list[Names]:
    """Names that hide neither each other nor anything that generated code uses."""
    taken = {program.name for program in programs} | GENERATED | BUILTINS
    found = []
    for program in programs:
        function = _free(snake_case(program.name), "_function", taken | _parameters(program))
        result = _free(f"{program.name}Output", "_", taken)
        check = f"_check_{function}"  # no name of a spec begins like this
        taken |= {function, result}
        beginnings = {}
        for kept in program.state:
            if kept.from_weight or kept.first:
                beginnings[kept.name] = _free(f"{function}_{kept.name}", "_", taken)
        taken |= set(beginnings.values())
        found.append(Names(program.name, function, check, result, beginnings))
    return found


def _parameters(program: Program) -> set[str]:
    """What `forward` calls its own, which would hide a function of the same name."""
    inputs = {i.name for i in program.inputs}
    arguments = {a.name for a in program.arguments}
    return inputs | arguments | {f"{name}_size" for name in inputs} | set(momenta(program).values())


def _free(name: str, suffix: str, taken: set[str]) -> str:
    while name in taken or name in KEYWORDS:
        name += suffix
    return name
