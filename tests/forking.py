"""A process that has imported the command, and forks for each run that it is asked for.

It reads a line of JSON for each, and answers with the code by which the run ended: `limited.py`
asks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback

from limited import HANGS, limit

from metanorm import cli
from metanorm.cli import check, compile, explain, fmt, inspect

__all__ = ["check", "compile", "explain", "fmt", "inspect"]  # imported once for all


def main() -> None:
    """Serve until there are no more requests."""
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            _run(asked["arguments"], asked["folder"], asked["files"])
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(arguments: list[str], folder: str, files: list[str]) -> None:
    """One command, with its streams from and to files; ends this process."""
    code = 1
    try:
        for number, path in enumerate(files):
            opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
            os.dup2(opened, number)
            os.close(opened)
        sys.stdin = os.fdopen(0, closefd=False)  # the old one may have read ahead
        os.chdir(folder)
        signal.alarm(HANGS)
        limit()
        sys.argv = ["metanorm", *arguments]
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
