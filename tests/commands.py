"""The command line, called in this process: as in one of its own, without the second that takes.

What only a process of its own can show (signals, exit codes, what is imported, encodings) starts
one, by `in_a_child`.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from metanorm import cli

TERMINAL = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}


def in_this(
    *arguments: str, stdin: str = "", folder: Path | None = None, merged: bool = False
) -> CompletedProcess[str]:
    """`metanorm ARGUMENTS`, in the current folder or another one; `merged` has its errors between
    the lines that it prints, as a terminal does."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    if merged:
        err = out
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TERMINAL.items():
            patch.setenv(name, value)
        if folder is not None:
            patch.chdir(folder)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(sys, "argv", ["metanorm", *arguments])
        patch.setattr(cli, "signal", object())  # which has no SIGPIPE
        with pytest.raises(SystemExit) as end:
            cli.main()
    return ended(list(arguments), int(end.value.code or 0), _written(out), _written(err))


def heeds_interrupts() -> None:
    """For `preexec_fn`: what a shell starts in the background ignores ctrl-C, and so would its
    children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def in_a_child(
    *arguments: str, stdin: str = "", folder: Path | None = None, **environment: str
) -> CompletedProcess[str]:
    """The same as a process of its own."""
    command = [sys.executable, "-m", "metanorm", *arguments]
    done = subprocess.run(
        command,
        input=stdin.encode(),
        cwd=folder,
        capture_output=True,
        env={**os.environ, **TERMINAL, **environment},
    )
    return ended(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def ended(command: list[str], code: int, out: str, err: str) -> CompletedProcess[str]:
    """How it ended, which was by no bug."""
    assert "Traceback" not in err and "internal error" not in err, err
    return CompletedProcess(command, code, out, err)


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    written: bytes = stream.buffer.getvalue()  # type: ignore[attr-defined]
    return written.decode()
