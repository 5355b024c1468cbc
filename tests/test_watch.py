"""`compile --watch` and `check --watch`: a round after every change, until ctrl-C."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import TERMINAL, heeds_interrupts, in_this
from limited import HANGS

GOOD = "norm Good {\n  input  x[N, C]\n  reduce C\n}\n"
USER = 'use "good.norm"\n\nnorm User {\n  input  x[N, C]\n  output Good(x)\n}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "good.norm").write_text(GOOD)
    return tmp_path


class Watching:
    """A command that watches, and the lines that it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        reader.start()

    def _read(self, stream: Iterator[str]) -> None:
        for line in stream:
            self.lines.put(line)

    def until(self, text: str) -> list[str]:
        """What is printed up to a line with this text."""
        seen: list[str] = []
        while not any(text in line for line in seen[-1:]):
            try:
                seen.append(self.lines.get(timeout=HANGS))
            except queue.Empty:
                raise AssertionError(f"no `{text}` after {seen}") from None
        return seen


@contextmanager
def watching(folder: Path, *arguments: str) -> Iterator[Watching]:
    command = [sys.executable, "-m", "metanorm", *arguments, "--watch"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **TERMINAL},
        preexec_fn=heeds_interrupts,
    )
    try:
        yield Watching(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(HANGS) == 0
    finally:
        process.kill()
        process.communicate()


def replace(path: Path, text: str) -> None:
    """Write as editors do: another file, which takes the place of the first."""
    new = path.with_suffix(".tmp")
    new.write_text(text)
    new.replace(path)


def test_compile_goes_on_after_errors(folder: Path) -> None:
    pytest.importorskip("watchfiles")
    spec = folder / "specs" / "good.norm"
    with watching(folder, "compile", "specs", "-o", "norms") as command:
        command.until("no problems in 1 spec")
        before = (folder / "norms" / "good.py").read_text()
        replace(spec, GOOD.replace("reduce C", "reduce D"))
        output = command.until("1 error in 1 spec")
        assert any("good.norm changed" in line for line in output)
        assert any("MN0302" in line for line in output)
        assert (folder / "norms" / "good.py").read_text() == before
        spec.write_text(GOOD.replace("Good {", "Good(eps = 1e-3) {"))
        command.until("no problems in 1 spec")
        assert (folder / "norms" / "good.py").read_text() != before
        (folder / "specs" / "user.norm").write_text(USER)  # a new one
        command.until("no problems in 2 specs")
        assert (folder / "norms" / "user.py").exists()
        (folder / "specs" / "user.norm").unlink()
        command.until("no problems in 1 spec")


def test_check_follows_what_is_used_and_the_configuration(folder: Path) -> None:
    pytest.importorskip("watchfiles")
    (folder / "mine").mkdir()
    (folder / "mine" / "user.norm").write_text(USER.replace("good.norm", "../specs/good.norm"))
    (folder / "pyproject.toml").write_text('[tool.metanorm]\nspecs = ["mine/user.norm"]\n')
    with watching(folder, "check") as command:
        command.until("no problems in 1 spec")
        (folder / "specs" / "unrelated.norm").write_text("norm")
        (folder / "specs" / "good.norm").write_text(GOOD.replace("reduce C", "reduce D"))
        output = command.until("error in 1 spec")
        assert not any("unrelated" in line for line in output)
        (folder / "pyproject.toml").write_text('[tool.metanorm]\nspec = ["specs"]\n')
        command.until("no key `spec`")
        (folder / "pyproject.toml").write_text('[tool.metanorm]\nspecs = ["specs"]\n')
        command.until("in 2 specs")


def test_standard_input_cannot_be_watched(folder: Path) -> None:
    done = in_this("check", "-", "--watch", stdin=GOOD, folder=folder)
    assert done.returncode == 1 and "standard input is none" in done.stderr


def test_without_watchfiles_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    done = in_this("check", "specs", "--watch", folder=folder)
    assert done.returncode == 1 and "pip install 'metanorm[watch]'" in done.stderr
