"""The Triton file beside a generated module: found by its name, and imported at its first use."""

from __future__ import annotations

import functools
import importlib.util
from types import ModuleType
from typing import Any

from metanorm.runtime.beside import is_beside, module_beside, name_beside, text_beside
from metanorm.runtime.kernels.errors import CannotBuild, Unsupported
from metanorm.runtime.triton.interpreter import is_interpreting, patch_interpreter

ENDING = "_triton.py"


def kernel_file(module_file: str) -> str:
    """The name of the file with the Triton kernels of a module."""
    return name_beside(module_file, ENDING)


def has_kernel_file(module_file: str) -> bool:
    """Whether a module has a file of Triton kernels."""
    return is_beside(kernel_file(module_file))


@functools.cache
def kernels_beside(module_file: str) -> ModuleType:
    """The module with the kernels. Raises `CannotBuild` if the file, or triton, is missing."""
    name = kernel_file(module_file)
    if has_kernel_file(module_file) and importlib.util.find_spec("triton") is None:
        raise CannotBuild("triton is not installed", "install it with `pip install triton`")
    try:
        text = text_beside(name)
    except OSError as error:
        raise CannotBuild(
            f"the file of Triton kernels is not beside the module: {error.strerror}",
            "copy it there, or compile the spec with `--target triton`",
        ) from error
    if is_interpreting():
        patch_interpreter()
    return module_beside(name, text)


def table_of(module: ModuleType, function: str) -> dict[str, Any]:
    """The table of the kernels of a function. Raises `Unsupported` if there is none."""
    tables: dict[str, Any] = module.__dict__["TABLES"]
    if function not in tables:
        raise Unsupported("a function that Triton has no kernels for")
    table: dict[str, Any] = tables[function]
    return table
