"""A few processes that stay, and run one function after the other together.

Starting one costs seconds, most of them for torch. So all tests share the same ones.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SIZE = 4
PATIENCE = timedelta(seconds=600)  # with a process that has failed; others may be slow


class Failed(AssertionError):
    """What a process raised, as text."""


class Team:
    """`SIZE` processes, all in one group of `torch.distributed` on the CPU.

    `environment` has variables of theirs, which are set before anything is imported.
    """

    def __init__(
        self, size: int = SIZE, patience: timedelta = PATIENCE,
        environment: Mapping[str, str] = {},
    ) -> None:  # fmt: skip
        self.folder = tempfile.TemporaryDirectory()
        context = get_context("spawn")
        self.pipes: list[Connection] = []
        self.processes = []
        store = str(Path(self.folder.name) / "store")
        for rank in range(size):
            ours, theirs = context.Pipe()
            arguments = (rank, size, store, patience, theirs, list(sys.path), dict(environment))
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def run(
        self, function: str, *arguments: Any, size: int | None = None, **named: Any
    ) -> list[Any]:
        """What `module:function` returns on each of the first `size` processes.

        It gets their group and its rank first. Raises `Failed` where one of them raises.
        """
        pipes = self.pipes[: size or len(self.pipes)]
        for pipe in pipes:
            pipe.send((function, len(pipes), arguments, named))
        answers = [pipe.recv() for pipe in pipes]
        failures = [f"process {r}: {text}" for r, (ok, text) in enumerate(answers) if not ok]
        if failures:
            raise Failed("\n".join(failures))
        return [answer for _, answer in answers]

    def close(self) -> None:
        """End all processes."""
        for pipe in self.pipes:
            with suppress(OSError):
                pipe.send(None)
        for process in self.processes:
            process.join(10)
            if process.is_alive():
                process.kill()
        self.folder.cleanup()


def _serve(
    rank: int, size: int, store: str, patience: timedelta, pipe: Connection,
    path: Sequence[str], environment: Mapping[str, str],
) -> None:  # fmt: skip
    sys.path[:] = path
    os.environ.update(environment)
    os.environ.setdefault("METANORM_CFLAGS", "-O0")
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=patience
    )
    groups = {n: dist.new_group(list(range(n)), timeout=patience) for n in range(1, size + 1)}
    while True:
        task = pipe.recv()
        if task is None:
            break
        function, number, arguments, named = task
        module, name = function.split(":")
        try:
            function = getattr(importlib.import_module(module), name)
            pipe.send((True, function(groups[number], rank, *arguments, **named)))
        except BaseException:
            pipe.send((False, traceback.format_exc()))
    dist.destroy_process_group()
