"""What goes wrong when Triton compiles or loads a kernel, in words for who trains a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from metanorm.runtime.kernels.refusals import CannotBuild

REPORT = "please report it with the spec"
COMPILER = (
    "Triton builds what launches kernels with a C compiler: "
    "install gcc and the headers of Python, or name a compiler in CC"
)
LONGEST = 200  # letters of a message that a warning has room for


def told(error: Exception, kernel: str) -> CannotBuild:
    """What happened to a kernel, and what a person can do about it."""
    names = [type_.__name__ for type_ in type(error).__mro__]
    say = next((TELLING[name] for name in names if name in TELLING), _otherwise)
    return CannotBuild(*say(error, kernel))


def _too_large(error: Any, kernel: str) -> tuple[str, str]:
    asked = f"{error.required} of {error.name}, and this GPU has {error.limit}"
    return f"{kernel} takes {asked}", "try METANORM_TRITON_TILE=2048 in the environment"


def _uncompiled(error: Exception, kernel: str) -> tuple[str, str]:
    return f"Triton cannot compile {kernel}: {_beginning(error)}", REPORT


def _process(error: Any, kernel: str) -> tuple[str, str]:
    command = error.cmd[0] if isinstance(error.cmd, (list, tuple)) else error.cmd
    return f"Triton's call of {command} failed", COMPILER


def _otherwise(error: Exception, kernel: str) -> tuple[str, str]:
    message = _beginning(error)
    if "C compiler" in message:
        return "Triton finds no C compiler", COMPILER
    if "active driver" in message or "libcuda" in message:
        return f"Triton finds no driver of a GPU: {message}", "see that the GPU's driver is there"
    return f"Triton cannot load {kernel}: {type(error).__name__}: {message}", REPORT


# By the name of the error, so that no version of Triton has to have all of them.
TELLING: Mapping[str, Callable[[Any, str], tuple[str, str]]] = {
    "OutOfResources": _too_large,
    "CompilationError": _uncompiled,
    "PTXASError": _uncompiled,
    "CalledProcessError": _process,
}


def _beginning(error: Exception) -> str:
    """The first line of a message that says something."""
    message = getattr(error, "error_message", None) or str(error.__cause__ or error)
    lines = [line.strip() for line in message.splitlines()]
    return next((line for line in lines if line), type(error).__name__)[:LONGEST]
