"""The file of Triton kernels of a module: the kernels, and the table by which they are launched."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from metanorm.targets.kernel_table import PrintedNorm, kernel_table, table_text
from metanorm.targets.python.pyir import Blank, Import, Module, Stmt
from metanorm.targets.python.text_from_pyir import text_from_pyir
from metanorm.targets.triton.source import kernel_name, kernel_source


def file_text(origin: str, norms: Iterable[PrintedNorm]) -> str:
    """The text of the file for the norms of the spec called `origin`."""
    tables: dict[str, Any] = {}
    body: list[Stmt] = []
    for norm in norms:
        source = kernel_source(norm.kernels, norm.function)
        body += source.functions
        tables[norm.function] = kernel_table(norm, kernel_name)
        tables[norm.function]["steps"] = {
            name: schedules.table() for name, schedules in source.schedules.items()
        }
    if not tables:
        doc = (f"The norms of `{origin}` have no kernels in Triton.",)
        return f"{text_from_pyir(Module((), doc))}\n\nTABLES = {{}}\n"
    kernels = text_from_pyir(Module(tuple(body)))
    imports: list[Stmt] = [Import("__future__", ("annotations",)), Blank(), Import("json")]
    if re.search(r"\bmath\.", kernels):
        imports.append(Import("math"))
    imports += [Blank(), Import("triton"), Import("triton.language as tl"), Blank()]
    helpers = [name for name in ("arithmetic", "simplex") if re.search(rf"\b{name}\.", kernels)]
    imports += [Import("metanorm.runtime.triton", tuple(helpers))] if helpers else []
    doc = (f"Triton kernels for the norms of `{origin}`.",)
    head = text_from_pyir(Module(tuple(imports), doc))
    comment = "# What `metanorm.runtime.triton` has to know to launch them."
    table = table_text(tables)
    return f'{head}\n\n{kernels}\n\n{comment}\nTABLES = json.loads(\n    r"""\n{table}\n"""\n)\n'
