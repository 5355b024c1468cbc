"""The command line. Commands do the talking; the work is done by the modules below."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module

import typer

from metanorm.cli.console import complain
from metanorm.cli.exit_codes import FINDINGS, INTERNAL, INTERRUPTED, USAGE
from metanorm.config import ConfigError
from metanorm.workspace import WorkspaceError

COMMANDS = (
    *("compile", "check", "fmt", "explain", "inspect"),
    *("show", "verify", "bench", "list", "new", "version"),
)


def app(wanted: str) -> typer.Typer:
    """The application. Of its commands only the wanted one is imported, so that `check` is quick.

    Where `wanted` is none of them, as in `metanorm --help`, all are.
    """
    application = typer.Typer(
        name="metanorm",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @application.callback()
    def about() -> None:
        """A compiler for normalization layers: .norm files in, readable PyTorch modules out."""

    for name in [wanted] if wanted in COMMANDS else COMMANDS:
        application.command(name)(import_module(f"metanorm.cli.{name}").command)
    return application


def main() -> None:
    """The entry point: every way a run can end has its exit code, and none is a traceback."""
    if hasattr(signal, "SIGPIPE"):
        # Where the reader has gone, as in `metanorm list errors | head`, end as other filters do.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        app(sys.argv[1] if len(sys.argv) > 1 else "")()
    except (WorkspaceError, ConfigError) as error:
        complain(str(error))
        sys.exit(USAGE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except OSError as error:
        complain(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
        sys.exit(FINDINGS)
    except Exception as error:
        if os.environ.get("METANORM_DEBUG"):
            raise
        _internal_error(error)
        sys.exit(INTERNAL)


def _internal_error(error: Exception) -> None:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = ""
    if place is not None:
        file = os.path.basename(place.tb_frame.f_code.co_filename)
        where = f" ({file}, line {place.tb_lineno})"
    complain(f"internal error: {type(error).__name__}: {error}{where}")
    complain(
        "this is a bug in metanorm, not in your spec; METANORM_DEBUG=1 shows where it happened"
    )
