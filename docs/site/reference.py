"""The reference pages of `metanorm` and `metanorm.runtime`, which autodoc fills from docstrings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import metanorm
from metanorm import runtime


@dataclass(frozen=True)
class Group:
    """Names that serve one purpose."""

    title: str
    about: str
    names: Sequence[str]


# What people call. The rest of the runtime is called by generated modules.
CALLED_BY_PEOPLE = (
    Group(
        "Norms in a model",
        "Replacing layers, and what a training loop has to call.",
        ("swap", "update_statistics", "project_"),
    ),
    Group(
        "Weights, gradients and losses",
        "Putting norms on what is not an activation.",
        ("on_weights", "GradientNorm", "Attached", "collect", "Collected"),
    ),
    Group(
        "Several processes",
        "Norms whose inputs are divided among processes.",
        ("convert_sync", "revert_sync", "shard", "synchronized", "no_exchange"),
    ),
    Group(
        "What norms run on",
        "Kernels or plain torch, and which calls take which path.",
        ("use", "call_path", "who_adds"),
    ),
    Group(
        "Errors",
        "What norms and these functions raise.",
        ("ShapeError", "SwapError", "ExchangeError", "ShardingError"),
    ),
)

# Classes that have no name of their own in `metanorm.runtime`.
RETURNED = (
    "swapping.report.Report",
    "swapping.report.Replaced",
    "swapping.report.Skipped",
    "backends.Use",
    "native.call_path.path.CallPath",
    "overlapping.PoolMatrix",
    "processes.sums.PowerSums",
    "processes.call.GroupInfo",
)


def metanorm_page() -> str:
    """The page of the package: what compiles specs from Python."""
    about = "The compiler from Python. All else is the command `metanorm`."
    return (
        _heading("metanorm", "=")
        + f"{about}\n\n.. currentmodule:: metanorm\n"
        + _entries(metanorm, [name for name in metanorm.__all__ if not name.startswith("_")])
    )


def runtime_page() -> str:
    """The page of the runtime: first what people call, then what generated modules do."""
    shown = {name for group in CALLED_BY_PEOPLE for name in group.names}
    rest = Group(
        "What generated modules call",
        "These belong to generated modules. They change when those do, which `ABI` counts.",
        [name for name in runtime.__all__ if name not in shown],
    )
    text = _heading("metanorm.runtime", "=") + f"{runtime.__doc__}\n\n"
    text += ".. currentmodule:: metanorm.runtime\n"
    for group in (*CALLED_BY_PEOPLE, rest):
        text += "\n" + _heading(group.title, "-") + f"{group.about}\n"
        text += _entries(runtime, group.names)
    text += "\n" + _heading("What these return", "-") + "Nobody makes one of these.\n"
    return text + "".join(
        f"\n.. autoclass:: metanorm.runtime.{name}()\n   :members:\n" for name in RETURNED
    )


def _heading(title: str, line: str) -> str:
    return f"{title}\n{line * len(title)}\n\n"


def _entries(module: object, names: Sequence[str]) -> str:
    return "".join(_directives(module, names))


def _directives(module: object, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        value = getattr(module, name)
        if not isinstance(value, type):
            yield f"\n.. {'autofunction' if callable(value) else 'autodata'}:: {name}\n"
        elif issubclass(value, Exception):
            yield f"\n.. autoexception:: {name}\n"
        else:
            yield f"\n.. autoclass:: {name}\n   :members:\n"
