"""Tables of a program: bindings, users, declarations and axes by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from metanorm.ir.nodes import Let, Op, Ref, Type
from metanorm.ir.operands import operands
from metanorm.ir.program import BufferDecl, Declaration, InputDecl, ParamDecl
from metanorm.ir.space import Space

if TYPE_CHECKING:
    from metanorm.ir.program import Program


class Index:
    """The tables of one program, each computed on first use.

    A program never changes, so all readers share `Program.index`. The tables leave out the bodies
    of `Repeat`, whose names are local.
    """

    def __init__(self, program: Program) -> None:
        self._program = program

    @cached_property
    def lets(self) -> Mapping[Ref, Let]:
        """The bindings by name, in the order of the program."""
        return {let.name: let for let in self._program.body}

    @cached_property
    def ops(self) -> Mapping[Ref, Op]:
        """The operation of each binding."""
        return {let.name: let.op for let in self._program.body}

    @cached_property
    def types(self) -> Mapping[Ref, Type]:
        """The type of each binding."""
        return {let.name: let.type for let in self._program.body}

    @cached_property
    def users(self) -> Mapping[Ref, tuple[Let, ...]]:
        """The bindings that read each binding, in the order of the program."""
        users_by_ref: dict[Ref, list[Let]] = {let.name: [] for let in self._program.body}
        for let in self._program.body:
            for ref in dict.fromkeys(operands(let.op)):
                users_by_ref[ref].append(let)
        return {ref: tuple(lets) for ref, lets in users_by_ref.items()}

    @cached_property
    def inputs(self) -> Mapping[str, InputDecl]:
        """The inputs by name."""
        return {decl.name: decl for decl in self._program.inputs}

    @cached_property
    def params(self) -> Mapping[str, ParamDecl]:
        """The parameters by name."""
        return {decl.name: decl for decl in self._program.params}

    @cached_property
    def buffers(self) -> Mapping[str, BufferDecl]:
        """The buffers by name."""
        return {decl.name: decl for decl in self._program.buffers}

    @cached_property
    def declarations(self) -> Mapping[str, Declaration]:
        """Inputs, parameters and buffers by name."""
        return {decl.name: decl for decl in self._program.declarations}

    def axes_of(self, name: str) -> tuple[str, ...]:
        """The axes of an input, a parameter or a buffer, in the order of its dimensions."""
        dims = self.declarations[name].dims
        return tuple(leaf for dim in dims for leaf in self.space.leaves(dim))

    @cached_property
    def space(self) -> Space:
        """The axes of the program. Code that adds cell axes makes a `Space` of its own."""
        return Space(self._program.axes)

    def closure(self, roots: Iterable[Ref]) -> set[Ref]:
        """The values that `roots` depend on, themselves included."""
        return closure(roots, lambda ref: operands(self.ops[ref]))


def closure(roots: Iterable[Ref], reads: Callable[[Ref], Iterable[Ref]]) -> set[Ref]:
    """The values reachable from `roots`, where each value leads to those that it `reads`."""
    visited: set[Ref] = set()
    queue = list(roots)
    while queue:
        ref = queue.pop()
        if ref not in visited:
            visited.add(ref)
            queue.extend(reads(ref))
    return visited
