"""The command as a child process that may use 15 s of processor time and 500 MB, and no more."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SECONDS = 15  # of the processor, which other work does not slow; most inputs take under 1 s
BYTES = 500 * 1024 * 1024
HANGS = 600  # seconds after which a command hangs; it may have to share a slow machine


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def codes(self) -> set[str]:
        """The codes of what was found."""
        return {part[:6] for part in self.text.split("[") if part.startswith("MN")}


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))


def metanorm(*arguments: str, folder: Path, stdin: bytes = b"", **environment: str) -> Ended:
    """Run a command in a folder. Over its limits it is killed, or runs out of memory."""
    done = subprocess.run(
        [sys.executable, "-m", "metanorm", *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        env={**os.environ, **environment},
        preexec_fn=_limit,
        timeout=HANGS,
        check=False,
    )
    ended = Ended(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in ended.text, ended.text
    assert "internal error" not in ended.text, ended.text
    assert ended.code >= 0, f"killed by signal {-ended.code}: {ended.text}"
    return ended
