"""The context of a command: the configuration, and the specs that the command names."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from metanorm.config import Config, find_config
from metanorm.workspace import MAX_BYTES, STDIN, Workspace, load


@dataclass
class Run:
    """One run of a command."""

    config: Config
    root: Path
    started: float = field(default_factory=time.perf_counter)

    def workspace(
        self,
        paths: list[str],
        stdin: bytes | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> Workspace:
        """The specs at the paths, or those that the configuration names.

        `stdin` and `texts` are those of `metanorm.workspace.load`.
        """
        stdin_bytes = self.standard_input(paths) if stdin is None else stdin
        return load(
            paths or [self.relative(spec) for spec in self.config.specs], stdin_bytes, texts
        )

    def standard_input(self, paths: list[str]) -> bytes | None:
        """The content of standard input, if the paths name it."""
        return sys.stdin.buffer.read(MAX_BYTES + 1) if STDIN in paths else None

    def names_folder(self, paths: list[str]) -> bool:
        """Whether a path is a folder: one that was named, or else a configured one."""
        named_paths = paths or [self.relative(spec) for spec in self.config.specs]
        return any(path != STDIN and os.path.isdir(path) for path in named_paths)

    def relative(self, path: str) -> str:
        """A path of the configuration as seen from the current folder."""
        return os.path.relpath(self.root / path)

    @property
    def milliseconds(self) -> float:
        """How long the run has taken so far."""
        return (time.perf_counter() - self.started) * 1000


def start_run() -> Run:
    """Read the configuration, and start the clock."""
    config, root = find_config(Path.cwd())
    return Run(config, root)
