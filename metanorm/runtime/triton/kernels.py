"""The Triton file beside a generated module: found by its name, and imported at its first use."""

from __future__ import annotations

import functools
import importlib.util
from types import ModuleType
from typing import Any

from metanorm.runtime.beside import is_beside, module_beside, name_beside, text_beside
from metanorm.runtime.kernels.refusals import CannotBuild, Unfit
from metanorm.runtime.triton.interpreter import interpreting, mend

ENDING = "_triton.py"


def file_beside(module_file: str) -> str:
    """The name of the file with the kernels of a module."""
    return name_beside(module_file, ENDING)


def there(module_file: str) -> bool:
    """Whether a module has kernels in Triton."""
    return is_beside(file_beside(module_file))


@functools.cache
def kernels_beside(module_file: str) -> ModuleType:
    """The module with the kernels. Raises `CannotBuild` where it, or triton, is not there."""
    name = file_beside(module_file)
    if there(module_file) and importlib.util.find_spec("triton") is None:
        raise CannotBuild("triton is not installed", "install it with `pip install triton`")
    try:
        text = text_beside(name)
    except OSError as error:
        raise CannotBuild(
            f"the file of Triton kernels is not beside the module: {error.strerror}",
            "copy it there, or compile the spec with `--target triton`",
        ) from error
    if interpreting():
        mend()
    return module_beside(name, text)


def table_of(module: ModuleType, function: str) -> dict[str, Any]:
    """What is said about the kernels of a function. Raises `Unfit` where nothing is."""
    tables: dict[str, Any] = module.__dict__["TABLES"]
    if function not in tables:
        raise Unfit("a function that Triton has no kernels for")
    found: dict[str, Any] = tables[function]
    return found
