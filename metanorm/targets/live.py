"""Generated text to a live Python module, without a file."""

from __future__ import annotations

import itertools
import linecache
import sys
from types import ModuleType

_COUNT = itertools.count(1)


def module_from_text(text: str, name: str) -> ModuleType:
    """Run the text of a generated module under a name of its own.

    The text is known to `linecache`, so that tracebacks, `inspect` and `torch.compile` see it.
    """
    unique = f"metanorm_generated_{next(_COUNT)}_{name}"
    filename = f"<{unique}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    module = ModuleType(unique)
    module.__file__ = filename
    sys.modules[unique] = module
    exec(compile(text, filename, "exec"), module.__dict__)
    return module
