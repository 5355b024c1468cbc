"""The guide to extending names every file that there is to touch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

GUIDE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")

# What each section follows, as the code writes it.
FOLLOWED = {
    "An operation": r'"softplus"',
    "An error": r"\bBadMatrixArgument\b",
    "A pass": r"\bdecide import\b|^def decide\(",
    "A target": r"targets\.torch\.module_from_ir import|^def definitions\(",
}


def section(title: str) -> str:
    return GUIDE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def files_with(pattern: str) -> list[Path]:
    every = sorted((ROOT / "metanorm").rglob("*.py"))
    return [file for file in every if re.search(pattern, file.read_text(), re.MULTILINE)]


@pytest.mark.parametrize("title", FOLLOWED)
def test_every_file_is_named(title: str) -> None:
    found = files_with(FOLLOWED[title])
    assert found
    for file in found:
        assert f"`{file.relative_to(ROOT).as_posix()}`" in section(title)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:metanorm|tests)/[\w./]*)`", GUIDE))))
def test_every_named_file_is_there(path: str) -> None:
    assert (ROOT / path).exists()
