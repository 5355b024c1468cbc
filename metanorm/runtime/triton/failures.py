"""Errors of Triton that compiles or loads a kernel, with what users can do about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from metanorm.runtime.kernels.errors import CannotBuild

REPORT = "please report it with the spec"
COMPILER = (
    "Triton builds what launches kernels with a C compiler: "
    "install gcc and the headers of Python, or name a compiler in CC"
)
MAX_LENGTH = 200  # characters of a message in a warning


def as_cannot_build(error: Exception, kernel: str) -> CannotBuild:
    """The error as `CannotBuild`, with a reason and a remedy."""
    names = [type_.__name__ for type_ in type(error).__mro__]
    message = next((MESSAGES[name] for name in names if name in MESSAGES), _otherwise)
    return CannotBuild(*message(error, kernel))


def _too_large(error: Any, kernel: str) -> tuple[str, str]:
    asked = f"{error.required} of {error.name}, and this GPU has {error.limit}"
    return f"{kernel} takes {asked}", "try METANORM_TRITON_TILE=2048 in the environment"


def _compile_error(error: Exception, kernel: str) -> tuple[str, str]:
    return f"Triton cannot compile {kernel}: {_first_line(error)}", REPORT


def _process_error(error: Any, kernel: str) -> tuple[str, str]:
    command = error.cmd[0] if isinstance(error.cmd, (list, tuple)) else error.cmd
    return f"Triton's call of {command} failed", COMPILER


def _otherwise(error: Exception, kernel: str) -> tuple[str, str]:
    message = _first_line(error)
    if "C compiler" in message:
        return "Triton finds no C compiler", COMPILER
    if "active driver" in message or "libcuda" in message:
        return f"Triton finds no driver of a GPU: {message}", "see that the GPU's driver is there"
    return f"Triton cannot load {kernel}: {type(error).__name__}: {message}", REPORT


# By the name of the error class: not every version of Triton has all of them.
MESSAGES: Mapping[str, Callable[[Any, str], tuple[str, str]]] = {
    "OutOfResources": _too_large,
    "CompilationError": _compile_error,
    "PTXASError": _compile_error,
    "CalledProcessError": _process_error,
}


def _first_line(error: Exception) -> str:
    """The first line of a message that is not empty."""
    message = getattr(error, "error_message", None) or str(error.__cause__ or error)
    lines = [line.strip() for line in message.splitlines()]
    return next((line for line in lines if line), type(error).__name__)[:MAX_LENGTH]
