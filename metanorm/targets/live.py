"""Generated text to a live Python module, without a file."""

from __future__ import annotations

import itertools
import linecache
import sys
from collections.abc import Mapping
from types import ModuleType

from metanorm.targets.package import PROCESSES_END, SWEEPS_ENDS
from metanorm.targets.registry import KERNEL_TARGETS

_COUNT = itertools.count(1)


def module_from_files(files: Mapping[str, str], name: str) -> ModuleType:
    """Execute one of the generated modules, with its kernel files."""
    endings = [target.ending for target in KERNEL_TARGETS.values()]
    endings += [PROCESSES_END, *SWEEPS_ENDS.values()]
    texts_beside = {end: files.get(f"{name}{end}", "") for end in endings}
    return module_from_text(files[f"{name}.py"], name, texts_beside)


def module_from_text(text: str, name: str, texts_beside: Mapping[str, str] = {}) -> ModuleType:
    """Execute the text of a generated module under a unique name.

    `texts_beside` has the texts of its kernel files, by the endings of their names. All texts are
    registered with `linecache`, where tracebacks, `inspect`, `torch.compile` and the builders of
    kernels look for them.
    """
    unique = f"metanorm_generated_{next(_COUNT)}_{name}"
    filename = f"<{unique}>"
    kernel_files = {f"{filename}{end}": content for end, content in texts_beside.items() if content}
    for file, content in {filename: text, **kernel_files}.items():
        linecache.cache[file] = (len(content), None, content.splitlines(keepends=True), file)
    module = ModuleType(unique)
    module.__file__ = filename
    sys.modules[unique] = module
    exec(compile(text, filename, "exec"), module.__dict__)
    return module
