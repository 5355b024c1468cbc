"""The names of values that all layouts of a kernel share: what is computed alike has one name."""

from __future__ import annotations

from metanorm.ir.nodes import Expand, Op, Ref
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands


class SharedNames:
    """Names by what they stand for. Layouts number nameless values differently, and repeat some of
    them along further axes; so a nameless value stands for its operation on what others stand for.
    """

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self._numbers: dict[tuple[Op, tuple[str, ...]], str] = {}

    @property
    def taken(self) -> set[str]:
        """All names that stand for something."""
        return set(self.names.values())

    def identities(self, program: Program) -> dict[Ref, str]:
        """What each value of a program stands for."""
        identities: dict[Ref, str] = {}
        read_as: dict[Ref, str] = {}  # a repeated value is read as the value itself
        for let in program.body:
            key = (map_operands(let.op, read_as), let.type.axes)
            number = self._numbers.setdefault(key, f"%{len(self._numbers)}")
            identities[let.name] = number if let.name.startswith("%") else let.name
            read_as[let.name] = (
                read_as[let.op.value] if isinstance(let.op, Expand) else identities[let.name]
            )
        return identities
