"""What lies beside the code for those who install, contribute, cite and report."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import in_this as run
from conftest import ROOT

from metanorm import api
from metanorm.cli import COMMANDS
from metanorm.torch_extra import INSTALL_TORCH
from metanorm.version import __version__

FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def read(path: str | Path) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_citation_names_this_version() -> None:
    assert read("CITATION.cff")["version"] == __version__


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_ask_for_something(path: Path) -> None:
    form = read(path)
    if path.stem == "config":
        return
    assert form["name"] and form["description"]
    fields = [field for field in form["body"] if field["type"] in ("input", "textarea")]
    assert any(field.get("validations", {}).get("required") for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)


def commands_in(text: str) -> set[str]:
    return set(re.findall(r"metanorm ([a-z]+)\b(?! is)", text))


@pytest.mark.parametrize("name", ["action.yml", ".pre-commit-hooks.yaml", "CONTRIBUTING.md",
                                  ".github/ISSUE_TEMPLATE/bug.yml"])  # fmt: skip
def test_the_commands_that_files_name_are_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    commands = set(re.findall(r"(?:entry: |-m |`)metanorm ([a-z]+)", text))
    assert commands and commands <= set(COMMANDS)


def test_hooks_take_specs_alone() -> None:
    hooks = read(".pre-commit-hooks.yaml")
    assert [hook["language"] for hook in hooks] == ["python"] * len(hooks)
    for hook in hooks:
        assert re.search(hook["files"], "specs/a.norm")
        assert not re.search(hook["files"], "specs/a.norm.txt")


def test_the_action_passes_inputs_by_the_environment() -> None:
    """An expression inside `run` would let an input be a command."""
    steps = read("action.yml")["runs"]["steps"]
    for step in steps:
        assert "${{" not in step.get("run", "")
    used = set(re.findall(r"inputs\.(\w+)", (ROOT / "action.yml").read_text()))
    assert used == set(read("action.yml")["inputs"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_only_read(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for step in (step for job in workflow["jobs"].values() for step in job["steps"]):
        assert "${{" not in step.get("run", "")


def test_make_has_what_workflows_and_pages_call() -> None:
    makefile = (ROOT / "Makefile").read_text()
    texts = [path.read_text() for path in (*WORKFLOWS, ROOT / "CONTRIBUTING.md")]
    for target in {t for text in texts for t in re.findall(r"\bmake ([a-z-]+)", text)}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


MODULES_RUN = (
    *(("verify", "a.norm"), ("bench", "a.norm"), ("test", "a.norm")),
    ("compile", "a.norm", "--build"),
)


@pytest.mark.parametrize("command", MODULES_RUN, ids=lambda command: command[0])
def test_without_torch_commands_say_what_to_install(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    example = "  example x = [[1, 3]] gives [[-1, 1]]\n"
    (tmp_path / "a.norm").write_text(f"norm A {{\n  input x[N, C]\n  reduce C\n{example}}}\n")
    hide_torch(monkeypatch)
    done = run(*command)
    assert done.returncode in (1, 2)
    assert INSTALL_TORCH in done.stderr


def test_without_torch_load_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    hide_torch(monkeypatch)
    with pytest.raises(ImportError, match=re.escape(INSTALL_TORCH)):
        api.loads("norm Hidden {\n  input x[N, C]\n  reduce C\n}\n")


def hide_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torch was not installed, and nothing that needs it had been imported."""
    for name in list(sys.modules):
        if name.startswith(("torch", "metanorm.runtime", "metanorm.verify", "metanorm.show",
                            "metanorm.bench", "metanorm.oracle")):  # fmt: skip
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
