"""The command line. Commands do the talking; the work is done by the modules below."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Annotated

import typer

from metanorm.cli.console import Failure, print_error
from metanorm.cli.exit_codes import FINDINGS, INTERNAL, INTERRUPTED, OK, USAGE
from metanorm.config import ConfigError
from metanorm.json_document import Document, json_text
from metanorm.version import __version__
from metanorm.visible import visible
from metanorm.workspace import WorkspaceError

COMMANDS = (
    *("compile", "check", "fmt", "explain", "inspect"),
    *("show", "verify", "breaking", "bench", "list", "new", "init", "clean", "repro", "lsp"),
    "version",
)


def app(wanted: str) -> typer.Typer:
    """The application. Of its commands only the wanted one is imported, so that `check` is quick.

    Where `wanted` is none of them, as in `metanorm --help`, all are.
    """
    application = typer.Typer(
        name="metanorm",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @application.callback()
    def about(
        version: Annotated[
            bool,
            typer.Option("--version", is_eager=True, callback=_print_version, help="Print it."),
        ] = False,
    ) -> None:
        """A compiler for normalization layers: .norm files in, readable PyTorch modules out."""

    few = [wanted] if wanted in COMMANDS else ["version"] if wanted == "--version" else COMMANDS
    for name in few:
        module = import_module(f"metanorm.cli.{name}")
        application.command(name, context_settings=getattr(module, "SETTINGS", None))(
            module.command
        )
    return application


def main() -> None:
    """The entry point: every way a run can end has its exit code, and none is a traceback."""
    if hasattr(signal, "SIGPIPE"):
        # Where the reader has gone, as in `metanorm list errors | head`, end as other filters do.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what its encoding has not is written as `\\u2502`
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] or ["--help"]
    try:
        code = app(arguments[0])(arguments, prog_name="metanorm", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        code = _print_failure(error, arguments)
    sys.exit(code or OK)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"metanorm {__version__}\n")
        raise typer.Exit(OK)


def _spec_arguments(arguments: list[str]) -> list[str]:
    """The specs that a command line names."""
    return [visible(a) for a in arguments if a.endswith(".norm") or os.path.isdir(a)]


def _print_failure(error: Exception, arguments: list[str]) -> int:
    """Say why a command ends; the code that it ends with."""
    if isinstance(error, (WorkspaceError, ConfigError)):
        message, code = str(error), USAGE
    elif isinstance(error, Failure):
        message, code = str(error), FINDINGS
    elif hasattr(error, "format_message"):  # of typer, which has no public base for them
        see = "metanorm --help"
        if arguments[0] in COMMANDS:
            see = f"metanorm {arguments[0]} --help"
        said = error.format_message().rstrip(".").replace("Value error, ", "")
        message, code = f"{said}; see `{see}`", USAGE
    elif isinstance(error, OSError):
        message = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
        code = FINDINGS
    elif os.environ.get("METANORM_DEBUG"):
        raise error
    else:
        message, code = (
            f"internal error: {type(error).__name__}: {error}{_location(error)}",
            INTERNAL,
        )
    print_error(message)
    if code == INTERNAL:
        print_error(
            "this is a bug in metanorm, not in your spec: please report it, with what "
            f"`{' '.join(['metanorm repro', *_spec_arguments(arguments)])}` prints; "
            "METANORM_DEBUG=1 shows where it happened"
        )
    if _wants_json(arguments):
        sys.stdout.write(json_text(Document(error=message)))
    return code


def _wants_json(arguments: list[str]) -> bool:
    """Whether a program reads what this command prints. `bench` writes its JSON into a file."""
    formats = "--format=json" in arguments or "--format json" in " ".join(arguments)
    return formats or ("--json" in arguments and arguments[0] != "bench")


def _location(error: Exception) -> str:
    """Where an error arose: a file and a line."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return ""
    return f" ({os.path.basename(place.tb_frame.f_code.co_filename)}, line {place.tb_lineno})"
