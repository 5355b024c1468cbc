"""Generated pages, schemas and the grammar for editors are what the tables make of them."""

from __future__ import annotations

import json
import re
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT))

from docs import generate
from docs.generate import FILES, PARTS, generated
from metanorm.diagnostics.registry import all_codes
from metanorm.ir.ops import public
from metanorm.source import Source
from metanorm.syntax.grammar import RESERVED_WORDS, SOFT_STATEMENT_WORDS
from metanorm.workspace import Workspace

NAMES = [*FILES, *PARTS]


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """Every generated file outside of folders, as it should be."""
    return generated()


def test_all_names_are_here(files: dict[str, str]) -> None:
    assert list(files) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_is_fresh(name: str, files: dict[str, str]) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == files[name], "run `make docs`"


def test_nothing_is_written_while_a_spec_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pages of a norm that does not compile would count as removed."""
    wrong = Workspace(
        {"wrong.norm": Source.of("wrong.norm", "norm A { output x }")}, ["wrong.norm"]
    )
    monkeypatch.setattr(generate, "load_library", lambda: wrong)
    monkeypatch.setattr(generate, "generated", lambda: pytest.fail("it went on"))
    assert generate.main() == 1
    assert "wrong.norm:1:" in capsys.readouterr().err


def test_every_operation_and_error_has_its_place(files: dict[str, str]) -> None:
    for row in public():
        assert f"`{row.usage.replace('|', chr(92) + '|')}`" in files["docs/operations.md"]
    headings = re.findall(r"^## (MN\d{4}):", files["docs/errors.md"], re.MULTILINE)
    assert headings == all_codes()


def test_the_parts_of_handwritten_pages_are_there(files: dict[str, str]) -> None:
    for name, parts in PARTS.items():
        for part in parts:
            before, _, rest = files[name].partition(f"<!-- begin {part} -->\n")
            assert before and len(rest.partition(f"<!-- end {part} -->")[0]) > 100


def test_the_editor_knows_every_word(files: dict[str, str]) -> None:
    patterns = json.loads(files["grammar/norm.tmLanguage.json"])["patterns"]
    expressions = [re.compile(pattern["match"]) for pattern in patterns]
    words = {*RESERVED_WORDS, *SOFT_STATEMENT_WORDS}
    calls = {f"{row.name}(" for row in public() if row.group != "operator"}
    for word in words | calls:
        assert any(pattern.match(word) for pattern in expressions), word


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("docs/schemas/")])
def test_schemas_are_objects_with_properties(name: str, files: dict[str, str]) -> None:
    schema = json.loads(files[name])
    assert schema["type"] == "object" and schema["properties"]
