"""Files beside a generated module, found by their names: kernels, and the module for processes.

A module that was never written to disk, such as that of a test, has their texts in `linecache`.
"""

from __future__ import annotations

import itertools
import linecache
import sys
from pathlib import Path
from types import ModuleType

_number = itertools.count()  # modules of one name may come from several folders


def name_beside(module_file: str, ending: str) -> str:
    """The name of the file with this ending beside a module, whose own ending is `.py`."""
    return f"{module_file.removesuffix('.py')}{ending}"


def is_beside(name: str) -> bool:
    """Whether there is such a file."""
    return name in linecache.cache or Path(name).is_file()


def text_beside(name: str) -> str:
    """The text of such a file. Raises `OSError` and `UnicodeDecodeError`."""
    if name in linecache.cache:
        return "".join(linecache.getlines(name))
    return Path(name).read_text(encoding="utf-8")


def module_beside(name: str, text: str, package: str = "") -> ModuleType:
    """The text of such a file, run as a module under a name of its own.

    `package` is that of the module that it stands beside, which may have a runtime of its own.
    """
    unique = f"metanorm_beside_{next(_number)}_{Path(name).stem.strip('<>')}"
    module = ModuleType(unique)
    module.__file__ = name
    module.__package__ = package
    sys.modules[unique] = module
    exec(compile(text, name, "exec"), module.__dict__)
    return module
