"""Says what is missing, and how to get it, before anything is imported that needs it."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

PACKAGES = {
    "torch": "torch",
    "metanorm": "metanorm",
    "rich": "rich",
    "numpy": "numpy",
    "sklearn": "scikit-learn",
    "networkx": "networkx",
    "matplotlib": "matplotlib",
}
NORMS = ("BatchNorm", "BlendNorm", "GraphNorm", "GroupNorm", "SwitchNorm")

INSTALL = "python -m pip install -e '.[demo]'"
COMPILE = "metanorm compile specs docs/demo/specs -o build/demo/norms"
TRAIN = "PYTHONPATH=build/demo python docs/demo/train.py"


def missing() -> str | None:
    """What the demo lacks, with the commands that help; None if it can start."""
    absent = [name for module, name in PACKAGES.items() if find_spec(module) is None]
    if absent:
        return _message(f"not installed: {', '.join(absent)}", INSTALL)
    if find_spec("norms") is None:
        return _message("the compiled norms are not there (package `norms`)", COMPILE, TRAIN)
    norms = import_module("norms")
    lacking = [name for name in NORMS if not hasattr(norms, name)]
    if lacking:
        return _message(f"not in the package `norms`: {', '.join(lacking)}", COMPILE, TRAIN)
    return None


def _message(problem: str, *commands: str) -> str:
    lines = "".join(f"  {command}\n" for command in commands)
    return (
        f"error: {problem}\n\n"
        f"`make demo` takes care of it. By hand, where the Makefile is:\n\n{lines}"
    )
