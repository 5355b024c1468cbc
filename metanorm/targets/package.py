"""Norms to files: one module for each spec file, and the `__init__` of their package."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from metanorm.targets.header import ABI, with_header
from metanorm.targets.python.pyir import (
    Assign,
    Blank,
    Do,
    Import,
    List,
    Literal,
    Module,
    Name,
    Stmt,
)
from metanorm.targets.python.text_from_pyir import text_from_pyir
from metanorm.targets.torch.describe import printable
from metanorm.targets.torch.layout import call, integer
from metanorm.targets.torch.module_from_ir import Compiled, definitions
from metanorm.targets.torch.names import names_of

PROSE = re.compile(r'""".*?"""|#[^\n]*', re.DOTALL)


def module_text(origin: str, norms: Sequence[Compiled], sources: str, options: str) -> str:
    """The module of one spec file, which is called `origin`."""
    names = names_of([norm.optimised for norm in norms])
    classes = [s for norm, own in zip(norms, names) for s in definitions(norm, own)]
    public = sorted(s.name for s in classes if hasattr(s, "name"))
    exported = Assign((Name("__all__"),), List(tuple(Literal(name) for name in public)))
    text = text_from_pyir(Module(tuple(classes)))
    statements: list[Stmt] = [*_imports(text), exported]
    statements += [Do(call("runtime.require", abi=integer(ABI))), *classes]
    doc = (f"Normalizers compiled from `{printable(origin)}`.",)
    body = text_from_pyir(Module(tuple(statements), doc))
    return with_header(body, printable(origin), sources, options)


def _imports(text: str) -> list[Stmt]:
    """What the text of the definitions mentions, outside docstrings and comments."""
    text = PROSE.sub("", text)

    def mentions(name: str) -> bool:
        return re.search(rf"(?<![\w.]){name}\b", text) is not None

    standard: list[Stmt] = []
    if mentions("math"):
        standard.append(Import("math"))
    if mentions("Sequence"):
        standard.append(Import("collections.abc", ("Sequence",)))
    if mentions("NamedTuple"):
        standard.append(Import("typing", ("NamedTuple",)))
    groups: list[list[Stmt]] = [
        [Import("__future__", ("annotations",))],
        standard,
        [Import("torch"), Import("torch", ("Tensor", "nn"))],
        [Import("metanorm", ("runtime",))],
    ]
    return [s for group in groups if group for s in (*group, Blank())][:-1]


def package_text(modules: Mapping[str, Sequence[str]], options: str) -> str:
    """The `__init__` of a package: module names and the classes that each exports."""
    statements: list[Stmt] = []
    for module, names in sorted(modules.items()):
        statements.append(Import(f".{module}", tuple(sorted(names))))
    every = sorted(name for names in modules.values() for name in names)
    exported = Assign((Name("__all__"),), List(tuple(Literal(name) for name in every)))
    doc = ("Normalizers compiled by metanorm.",)
    text = text_from_pyir(Module((*statements, exported), doc))
    return with_header(text, "all specs", text, options)
