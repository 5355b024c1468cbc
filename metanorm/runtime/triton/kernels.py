"""The Triton file beside a generated module: found by its name, and imported at its first use."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import linecache
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from metanorm.runtime.kernels.refusals import CannotBuild, Unfit
from metanorm.runtime.triton.interpreter import interpreting, mend

_number = itertools.count()  # modules of one name may come from several folders


def file_beside(module_file: str) -> str:
    """The name of the file with the kernels of a module."""
    return f"{module_file.removesuffix('.py')}_triton.py"


def there(module_file: str) -> bool:
    """Whether a module has kernels in Triton."""
    name = file_beside(module_file)
    return name in linecache.cache or Path(name).is_file()


@functools.cache
def kernels_beside(module_file: str) -> ModuleType:
    """The module with the kernels. Raises `CannotBuild` where it, or triton, is not there."""
    name = file_beside(module_file)
    if there(module_file) and importlib.util.find_spec("triton") is None:
        raise CannotBuild("triton is not installed", "install it with `pip install triton`")
    unique = f"metanorm_triton_{next(_number)}_{Path(name).stem.strip('<>')}"
    module = ModuleType(unique)
    module.__file__ = name
    if name in linecache.cache:  # of a module that was never written
        text = "".join(linecache.getlines(name))
    else:
        try:
            text = Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise CannotBuild(
                f"the file of Triton kernels is not beside the module: {error.strerror}",
                "copy it there, or compile the spec with `--target triton`",
            ) from error
    if interpreting():
        mend()
    sys.modules[unique] = module
    exec(compile(text, name, "exec"), module.__dict__)
    return module


def table_of(module: ModuleType, function: str) -> dict[str, Any]:
    """What is said about the kernels of a function. Raises `Unfit` where nothing is."""
    tables: dict[str, Any] = module.__dict__["TABLES"]
    if function not in tables:
        raise Unfit("a function that Triton has no kernels for")
    found: dict[str, Any] = tables[function]
    return found
