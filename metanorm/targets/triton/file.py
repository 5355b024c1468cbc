"""The file of Triton kernels beside a module: the kernels, and a table of how they are launched."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from metanorm.ir.nodes import Program
from metanorm.targets.native.file import compact, table_of
from metanorm.targets.python.pyir import Blank, Import, Module, Stmt
from metanorm.targets.python.text_from_pyir import text_from_pyir
from metanorm.targets.triton.source import Source


def triton_text(origin: str, norms: Mapping[str, tuple[Program, Source, str | None]]) -> str:
    """The text of the file: for each function its program, its kernels, and the type of its
    result where there are several."""
    tables: dict[str, Any] = {}
    body: list[Stmt] = []
    for function, (program, source, results) in norms.items():
        body += source.functions
        tables[function] = table_of(function, program, source, results)
        tables[function]["steps"] = {
            ways.section: ways.table()
            for arm in source.arms
            for way in (arm.forward, arm.backward)
            for ways in way.values()
        }
    kernels = text_from_pyir(Module(tuple(body)))
    imports: list[Stmt] = [Import("__future__", ("annotations",)), Blank(), Import("json")]
    if re.search(r"\bmath\.", kernels):
        imports.append(Import("math"))
    imports += [Blank(), Import("triton"), Import("triton.language as tl"), Blank()]
    imports += [Import("metanorm.runtime.triton", ("arithmetic",))]
    doc = (f"Triton kernels for the norms of `{origin}`.",)
    head = text_from_pyir(Module(tuple(imports), doc))
    table = compact(json.dumps(tables, indent=1))
    told = "# What `metanorm.runtime.triton` has to know to launch them."
    return f'{head}\n\n{kernels}\n\n{told}\nTABLES = json.loads(\n    r"""\n{table}\n"""\n)\n'
