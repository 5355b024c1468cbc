"""The names of values that kernels of one section share: what is computed alike, or plays the same
part in a sweep, has one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metanorm.ir.nodes import Expand, Op, Ref
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.nest.nest import Nest
from metanorm.targets.native.sweep_formulas import sweep_formulas

Identities = dict[Ref, str]  # what each value of a program stands for


class SharedNames:
    """Names by what they stand for. Layouts number nameless values differently, and repeat some of
    them along further axes; so a nameless value stands for its operation on what others stand for.
    What a sweep reads per cell stands for its part in the formula of the sweep.
    """

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._numbers: dict[tuple[Op, tuple[str, ...]], str] = {}

    @property
    def taken(self) -> set[str]:
        """All names that stand for something."""
        return set(self.names.values())

    def identities(self, nest: Nest, layouts: Sequence[Nest]) -> Identities:
        """What each value of a nest stands for. `layouts` are the nests of its kernel in all
        layouts, in each of which a value plays the part that it plays in any."""
        parts: dict[str, str] = {}
        for layout in layouts:
            computed = self._identities(layout.program, {})
            for formula in sweep_formulas(layout):
                for number, ref in enumerate(formula.cells):
                    if layout.program.index.types[ref].kind == "real":
                        parts.setdefault(computed[ref], f"{formula.text} {number}")
        return self._identities(nest.program, parts)

    def _identities(self, program: Program, parts: Mapping[str, str]) -> Identities:
        """What each value stands for: its part in a sweep, or else how it is computed."""
        identities: Identities = {}
        computed: Identities = {}
        read_as: dict[Ref, str] = {}  # a repeated value is read as the value itself
        read_as_computed: dict[Ref, str] = {}
        for let in program.body:
            computed[let.name] = self._identity(let.name, let.op, let.type.axes, read_as_computed)
            part = parts.get(computed[let.name])
            identities[let.name] = part or self._identity(let.name, let.op, let.type.axes, read_as)
            for names, identity in ((read_as, identities), (read_as_computed, computed)):
                names[let.name] = (
                    names[let.op.value] if isinstance(let.op, Expand) else identity[let.name]
                )
        return identities

    def _identity(self, ref: Ref, op: Op, axes: tuple[str, ...], read_as: Mapping[Ref, str]) -> str:
        key = (map_operands(op, read_as), axes)
        number = self._numbers.setdefault(key, f"%{len(self._numbers)}")
        return number if ref.startswith("%") else ref
