"""The names of a module's definitions: classes as in the spec, functions after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from metanorm.ir.momenta import momenta
from metanorm.ir.program import Program
from metanorm.python_words import BUILTINS, KEYWORDS
from metanorm.semantics.naming import snake_case
from metanorm.semantics.reserved import GENERATED


@dataclass(frozen=True)
class NormNames:
    """The names of the definitions of one norm."""

    norm: str
    function: str
    check: str  # the function that raises for calls that the norm cannot take
    result: str  # the class of the result, if there are several outputs
    initializers: Mapping[str, str]  # functions of initial values, by parameter or buffer
    entries: Mapping[str, NormNames] = field(default_factory=dict)  # by method
    backward: str = ""  # the function of the backward pass that the norm states

    @property
    def functions(self) -> list[NormNames]:
        """The names of the norm, and those of its entries."""
        return [self, *self.entries.values()]


def names_of(programs: Sequence[Program]) -> list[NormNames]:
    """Names for all norms that clash neither with each other nor with names in generated code."""
    used_names = {program.name for program in programs} | GENERATED | BUILTINS
    names: list[NormNames] = []
    for program in programs:
        function = _free(snake_case(program.name), "_function", used_names | _parameters(program))
        result = _free(f"{program.name}Output", "_", used_names)
        check = f"_check_{function}"  # no name of a spec begins like this
        used_names |= {function, result}
        initializers = {}
        for decl in program.state:
            if decl.from_weight or decl.first:
                initializers[decl.name] = _free(f"{function}_{decl.name}", "_", used_names)
        used_names |= set(initializers.values())
        backward = _free(f"{function}_backward", "_", used_names) if program.backward else ""
        used_names |= {backward}
        names.append(
            NormNames(program.name, function, check, result, initializers, backward=backward)
        )
    for position, program in enumerate(programs):
        entries: dict[str, NormNames] = {}
        for entry in program.entries:
            preferred = f"{names[position].function}_{entry.method}"
            function = _free(preferred, "_function", used_names | _parameters(entry))
            title = "".join(word.capitalize() for word in entry.method.split("_"))
            result = _free(f"{program.name}{title}Output", "_", used_names)
            used_names |= {function, result}
            entries[entry.method] = NormNames(
                entry.name, function, f"_check_{function}", result, {}
            )
        names[position] = replace(names[position], entries=entries)
    return names


def _parameters(program: Program) -> set[str]:
    """The parameters of `forward`, which would shadow a function of the same name."""
    inputs = {i.name for i in program.inputs}
    arguments = {a.name for a in program.arguments}
    return inputs | arguments | {f"{name}_size" for name in inputs} | set(momenta(program).values())


def _free(name: str, suffix: str, used_names: set[str]) -> str:
    while name in used_names or name in KEYWORDS:
        name += suffix
    return name
