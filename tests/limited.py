"""The command in a process that may use 30 s of processor time and 500 MB, and no more.

Such processes are forks of one, `forking.py`, that has imported the command: which takes longer
than most of them do.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

# Of the processor. Most inputs take under 1 s and the largest 8 s, but twice that under Python 3.10
# beside other work that shares a core.
SECONDS = 30
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


def limit(seconds: int = SECONDS) -> None:
    """Hold this process to the limits."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))


def metanorm(*arguments: str, folder: Path, stdin: bytes = b"") -> Ended:
    """Run a command in a folder. Over its limits it is killed, or runs out of memory."""
    server = _server()
    assert server.stdin and server.stdout
    with tempfile.TemporaryDirectory() as streams:
        files = [Path(streams, name) for name in ("in", "out", "err")]
        files[0].write_bytes(stdin)
        asked = {"arguments": arguments, "folder": str(folder), "files": [str(f) for f in files]}
        server.stdin.write(f"{json.dumps(asked)}\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return checked(Ended(code, files[1].read_text("utf-8"), files[2].read_text("utf-8")))


def checked(ended: Ended) -> Ended:
    """A command that ended by no bug."""
    assert "Traceback" not in ended.text, ended.text
    assert "internal error" not in ended.text, ended.text
    assert ended.code >= 0, f"killed by signal {-ended.code}: {ended.text}"
    return ended


@lru_cache(maxsize=1)
def _server() -> subprocess.Popen[str]:
    """The process that forks."""
    started = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forking.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    atexit.register(started.communicate)  # which closes what it reads, and so ends it
    return started
