"""The C file of a module: for each norm, a table in a comment and the kernels.

`metanorm.runtime.native` reads the table. A build defines the macro of the section to compile.
"""

from __future__ import annotations

from collections.abc import Iterable

from metanorm.targets.kernel_table import PrintedNorm, kernel_table, table_text
from metanorm.targets.native.source import build_macros, sections
from metanorm.targets.native.text_from_cir import text_from_cir


def file_text(origin: str, norms: Iterable[PrintedNorm]) -> str:
    """The text of the file for the norms of the spec called `origin`."""
    norms = list(norms)
    tables = (table_text(kernel_table(norm, build_macros)) for norm in norms)
    parts = [f"/* metanorm kernels\n{table}\n*/\n" for table in tables]
    parts.append(text_from_cir(list(sections((n.function, n.kernels) for n in norms))))
    return "\n".join(parts)
