"""The command line. Commands parse arguments and print; the modules below do the work."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Annotated

import typer

from metanorm.cli.console import Failure, print_error
from metanorm.cli.exit_codes import FINDINGS, INTERNAL, INTERRUPTED, OK, USAGE
from metanorm.json_document import Document, json_text
from metanorm.torch_extra import import_failure, torch_is_missing
from metanorm.usage_error import UsageError
from metanorm.version import __version__
from metanorm.visible import visible

COMMANDS = (
    *("compile", "check", "fmt", "explain", "inspect"),
    *("show", "verify", "test", "breaking", "bench", "list", "new", "init", "clean", "repro"),
    *("lsp", "version"),
)

FOLDER_OPTIONS = ("-o", "--output", "-d", "--folder")


def app(requested: str) -> typer.Typer:
    """The application. Only the module of the requested command is imported, which saves time.

    If `requested` is no command, as in `metanorm --help`, all are imported.
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

    names = (
        [requested]
        if requested in COMMANDS
        else ["version"]
        if requested == "--version"
        else COMMANDS
    )
    for name in names:
        module = import_module(f"metanorm.cli.{name}")
        application.command(name, context_settings=getattr(module, "SETTINGS", None))(
            module.command
        )
    return application


def main() -> None:
    """The entry point. Every run ends with an exit code of its kind, and none with a traceback."""
    if hasattr(signal, "SIGPIPE"):
        # If the reader has closed the pipe, as `head` does, end without an error.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what its encoding lacks is written as `\\u2502`
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] or ["--help"]
    try:
        code = app(arguments[0])(arguments, prog_name="metanorm", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        code = _print_failure(error, arguments)
    sys.exit(code or OK)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        sys.stdout.write(f"metanorm {__version__}\n")
        raise typer.Exit(OK)


def _spec_arguments(arguments: list[str]) -> list[str]:
    """The specs that a command line names, without folders that it writes."""
    named = [a for before, a in zip(("", *arguments), arguments) if before not in FOLDER_OPTIONS]
    return [visible(a) for a in named if a.endswith(".norm") or os.path.isdir(a)]


def _print_failure(error: Exception, arguments: list[str]) -> int:
    """Print why a command failed. Returns its exit code."""
    if isinstance(error, UsageError):
        message, code = str(error), USAGE
    elif isinstance(error, Failure):
        message, code = str(error), FINDINGS
    elif hasattr(error, "format_message"):  # an error of typer, which has no public base class
        help_command = "metanorm --help"
        if arguments[0] in COMMANDS:
            help_command = f"metanorm {arguments[0]} --help"
        reason = error.format_message().rstrip(".").replace("Value error, ", "")
        message, code = f"{reason}; see `{help_command}`", USAGE
    elif isinstance(error, ImportError) and torch_is_missing(error):
        message, code = import_failure(error), FINDINGS
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
    """Whether the command prints JSON. `bench` writes its JSON into a file."""
    formats = "--format=json" in arguments or "--format json" in " ".join(arguments)
    return formats or ("--json" in arguments and arguments[0] != "bench")


def _location(error: Exception) -> str:
    """The file and line that raised an error, in parentheses."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}, line {trace.tb_lineno})"
