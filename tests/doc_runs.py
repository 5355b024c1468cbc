"""What the fences of a page do, from its top to its bottom.

A page runs in a folder of its own that holds copies of `specs/` and `docs/demo/specs/`. The first
word of a fence's info string says what happens to it; it has to be one of these:

norm                     compiles without errors or warnings; then `from norms import NAME` works
norm file=a/b.norm       the same, but written to that file, for the page's own commands to compile
norm reports=MN0302      exactly these codes are reported (joined by commas); `file=` may be added
python                   runs; all fences of a page share one namespace
python raises=TypeError  raises that
pycon                    a session with `>>>`, compared as a doctest
sh                       shell commands, one on each line, that succeed
console                  what stands behind `$ ` runs (`> ` continues it), and prints what is below
console exit=1           the last command of the fence ends with that status
text                     behind `python`: what that printed, or its exception;
                         behind `norm`: the report of `metanorm check` without the last line
math                     LaTeX of the gallery, whose own test reads it
toml, json, yaml         parses; a `[tool.metanorm]` table must be a valid configuration
LANGUAGE from=PATH       an excerpt of a file: of the page's folder (a generated module), or of the
                         project; any language

In what is compared `...` stands for anything within a line, and alone on a line for any lines.
Commands of `make` are not run, but their targets must be in the Makefile.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from commands import in_this
from conftest import ROOT
from doc_pages import Fence, Page
from limited import HANGS

from metanorm.config import find_config
from metanorm.diagnostics.render.text import render_text
from metanorm.driver import compile_specs
from metanorm.options import Options
from metanorm.packages import existing_exports
from metanorm.semantics.naming import snake_case
from metanorm.workspace import load, plan_outputs, write_outputs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Commands of one word after the other that need no torch: they run without a second of imports.
SIMPLE = re.compile(r"metanorm (check|compile|explain|fmt|inspect|list)( [\w./=,-]+)*")
COMMANDS = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
DOCTEST = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
ATTRIBUTES = {
    "norm": {"file", "reports"},
    "python": {"raises"},
    "console": {"exit"},
    **{language: set() for language in ("pycon", "sh", "text", "toml", "json", "yaml", "math")},
}


class Wrong(AssertionError):
    """A page that says what is not so."""


class Run:
    """A page on its way from top to bottom; the current folder is the page's."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.folder = Path.cwd()
        self.names: dict[str, Any] = {"__name__": "page"}
        self.printed: str | None = None  # what a `text` fence would be compared with
        self.stale = False  # whether modules may have changed since they were imported

    def all(self) -> None:
        for fence in self.page.fences:
            try:
                self.one(fence)
            except Exception as error:
                where = f"{self.page.path.name}:{fence.line}: ```{fence.info}"
                raise Wrong(f"{where}\n{type(error).__name__}: {error}") from error

    def one(self, fence: Fence) -> None:
        if "from" in fence.attributes:
            expect(set(fence.attributes) == {"from"}, "`from=` stands alone")
            self.printed = None
            return self.excerpt(fence)
        expect(fence.language in ATTRIBUTES, "there is no such kind of fence")
        allowed = ATTRIBUTES[fence.language]
        what = ", ".join(sorted(allowed)) or "no attributes"
        expect(set(fence.attributes) <= allowed, f"it can have {what}")
        if fence.language == "text":
            expect(self.printed is not None, "nothing above it is to be compared with")
            assert self.printed is not None
            compare(fence.text, self.printed)
        self.printed = None
        kinds: dict[str, Callable[[Fence], None]] = {
            "norm": self.norm,
            "python": self.python,
            "pycon": self.pycon,
            "sh": self.sh,
            "console": self.console,
            "toml": self.toml,
            "json": lambda fence: json.loads(fence.text),
            "yaml": lambda fence: yaml.safe_load(fence.text),
        }
        if fence.language in kinds:
            kinds[fence.language](fence)

    def excerpt(self, fence: Fence) -> None:
        name = fence.attributes["from"]
        path = next((p for p in (self.folder / name, ROOT / name) if p.is_file()), None)
        expect(path is not None, f"there is no file {name}")
        assert path is not None
        expect(bool(fence.text.strip(". \n")), "it shows nothing")
        compare(f"...\n{fence.text}...\n", path.read_text(encoding="utf-8"))

    def norm(self, fence: Fence) -> None:
        name = fence.attributes.get("file") or _file_of(fence.text)
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(fence.text, encoding="utf-8")
        specs = load([name])
        others = existing_exports(Path("norms"))
        result = compile_specs(specs.sources, specs.roots, Options(verify_passes=True), others)
        diagnostics = (*specs.diagnostics, *result.diagnostics)
        self.printed = render_text(diagnostics, specs.sources)
        expected = fence.attributes.get("reports", "").split(",")
        codes = sorted({d.code for d in diagnostics})
        expect(codes == sorted(filter(None, expected)), f"it reports {codes}:\n{self.printed}")
        if result.ok and "file" not in fence.attributes:
            write_outputs(plan_outputs(result.files, Path("norms")))
        self.stale = True

    def python(self, fence: Fence) -> None:
        self.refresh()
        code = "\n" * (fence.line - 1) + fence.text
        raised = ""
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                exec(compile(code, self.page.path.name, "exec"), self.names)
            except Exception as error:
                if type(error).__name__ != fence.attributes.get("raises"):
                    raise
                raised = f"{type(error).__name__}: {error}\n"
        expect(bool(raised) == ("raises" in fence.attributes), "it raises nothing")
        self.printed = out.getvalue() + raised

    def pycon(self, fence: Fence) -> None:
        self.refresh()
        name = self.page.path.name
        test = doctest.DocTestParser().get_doctest(fence.text, self.names, name, name, fence.line)
        expect(bool(test.examples), "it has no `>>>`")
        test.globs = self.names
        out = io.StringIO()
        runner = doctest.DocTestRunner(optionflags=DOCTEST)
        runner.run(test, out=out.write, clear_globs=False)
        expect(runner.summarize(verbose=False).failed == 0, out.getvalue())

    def refresh(self) -> None:
        """Forget the page's modules where they may have been written anew."""
        if self.stale:
            forget(self.folder)
        self.stale = False

    def sh(self, fence: Fence) -> None:
        lines = [line for line in fence.text.splitlines() if line.strip()]
        expect(bool(lines), "it has no commands")
        for line in lines:
            self.command(line, "0")

    def console(self, fence: Fence) -> None:
        commands = _session(fence.text)
        expect(bool(commands), "it has no line with `$ `")
        for position, (command, shown) in enumerate(commands, 1):
            last = position == len(commands)
            status = fence.attributes.get("exit", "0") if last else "0"
            printed = self.command(command, status)
            if printed is None:
                expect(not shown, "the output of `make` cannot be compared")
            else:
                compare(shown, printed)

    def command(self, command: str, status: str) -> str | None:
        """What a command prints; `None` for `make`, which is looked up and not run."""
        words = command.split("#")[0].split()
        if words and words[0] == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            expect(set(words[1:]) <= set(targets), f"the Makefile has {', '.join(targets)}")
            return None
        self.stale = True
        if SIMPLE.fullmatch(command):
            ended = in_this(*words[1:], merged=True)
            expect(str(ended.returncode) == status, f"{command} ends otherwise:\n{ended.stdout}")
            return ended.stdout
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=HANGS,
            env={**os.environ, **COMMANDS, "PATH": path},
        )
        expect(
            str(done.returncode) == status, f"{command} ends with {done.returncode}:\n{done.stdout}"
        )
        return done.stdout

    def toml(self, fence: Fence) -> None:
        tomllib.loads(fence.text)
        folder = self.folder / "configured"
        folder.mkdir(exist_ok=True)
        (folder / "pyproject.toml").write_text(fence.text)
        find_config(folder)


def expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Wrong(otherwise)


def compare(shown: str, printed: str) -> None:
    """Hold what a page shows against what came out; `...` stands for anything."""
    pattern = ""
    for line in shown.rstrip().splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.rstrip().split("...")) + r"\n"
    printed = "".join(f"{line.rstrip()}\n" for line in printed.rstrip().splitlines())
    expect(re.fullmatch(pattern, printed) is not None, f"shown:\n{shown}\nbut it is:\n{printed}")


def forget(folder: Path) -> None:
    """Drop imported modules that lie in a folder."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(f"{folder}{os.sep}"):
            del sys.modules[name]
    importlib.invalidate_caches()


def _file_of(spec: str) -> str:
    first = re.search(r"^norm (\w+)", spec, re.MULTILINE)
    return f"{snake_case(first[1]) if first else 'example'}.norm"


def _session(text: str) -> list[tuple[str, str]]:
    """Commands with what is shown under each."""
    commands: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], ""))
        elif line.startswith("> ") and commands and not commands[-1][1]:
            commands[-1] = (f"{commands[-1][0]}\n{line[2:]}", "")
        else:
            expect(bool(commands), "it must begin with `$ `")
            commands[-1] = (commands[-1][0], f"{commands[-1][1]}{line}\n")
    return commands
