"""What every command needs: the configuration and the specs it names."""

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
        """The specs that were named, or those that the configuration names.

        `stdin` is what was read from there already; `texts` are as in `metanorm.workspace.load`.
        """
        given = self.standard_input(paths) if stdin is None else stdin
        return load(paths or [self.relative(spec) for spec in self.config.specs], given, texts)

    def standard_input(self, paths: list[str]) -> bytes | None:
        """What stands there, if the paths name it."""
        return sys.stdin.buffer.read(MAX_BYTES + 1) if STDIN in paths else None

    def names_folder(self, paths: list[str]) -> bool:
        """Whether what was named, or is configured, is more than single files."""
        given = paths or [self.relative(spec) for spec in self.config.specs]
        return any(path != STDIN and os.path.isdir(path) for path in given)

    def relative(self, path: str) -> str:
        """A path of the configuration as seen from the current folder."""
        return os.path.relpath(self.root / path)

    @property
    def milliseconds(self) -> float:
        """How long the run has taken so far."""
        return (time.perf_counter() - self.started) * 1000


def start_run() -> Run:
    """Read the configuration."""
    config, root = find_config(Path.cwd())
    return Run(config, root)
