"""The file of Triton kernels beside a module, and its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from metanorm.ir.nodes import Program
from metanorm.targets.native.file import table_of
from metanorm.targets.python.pyir import (
    Assign,
    Blank,
    Comment,
    Dict,
    Expr,
    Import,
    List,
    Literal,
    Module,
    Name,
    Stmt,
)
from metanorm.targets.python.text_from_pyir import text_from_pyir
from metanorm.targets.triton.source import Source


def triton_text(origin: str, norms: Mapping[str, tuple[Program, Source, str | None]]) -> str:
    """The text of the file: for each function its program, its kernels, and the type of its
    result where there are several."""
    body: list[Stmt] = []
    tables: list[tuple[Expr, Expr]] = []
    for function, (program, source, results) in norms.items():
        body += source.functions
        table = table_of(function, program, source, results)
        table["steps"] = {
            ways.section: ways.table()
            for arm in source.arms
            for way in (arm.forward, arm.backward)
            for ways in way.values()
        }
        tables.append((Literal(function), _data(table)))
    body.append(Comment("What `metanorm.runtime.triton` has to know to launch them."))
    body.append(Assign((Name("TABLES"),), Dict(tuple(tables))))
    text = text_from_pyir(Module(tuple(body)))
    imports: list[Stmt] = [Import("__future__", ("annotations",)), Blank()]
    if re.search(r"\bmath\.", text):
        imports += [Import("math"), Blank()]
    imports += [Import("triton"), Import("triton.language as tl"), Blank()]
    imports += [Import("metanorm.runtime.triton", ("arithmetic",))]
    doc = (f"Triton kernels for the norms of `{origin}`.",)
    return text_from_pyir(Module((*imports, *body), doc))


def _data(value: Any) -> Expr:
    """Plain data as an expression."""
    if isinstance(value, dict):
        return Dict(tuple((Literal(key), _data(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return List(tuple(_data(item) for item in value))
    return Literal(value)
