"""The parse table ships as data: nothing from a cache is executed, or kept there."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
from commands import in_a_child
from conftest import LIBRARY, ROOT

from metanorm.diagnostics.collector import Collector
from metanorm.source import Source
from metanorm.syntax import grammar
from metanorm.syntax.parse import parse
from metanorm.syntax.parse_table import parser_from_text

SPEC = "norm A {\n  input  x[N, C]\n  reduce C\n}\n"
TEXTS = [source.text for source in LIBRARY.sources.values()]
TEXTS += [
    path.read_text("utf-8", "replace") for path in sorted((ROOT / "tests/bad").glob("*.norm"))
]


def test_the_table_is_that_of_the_grammar() -> None:
    assert parser_from_text(grammar.shipped_table(), grammar.grammar_text()), "run `make docs`"


def test_both_ways_to_the_parser_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_parsed() -> list[object]:
        done: list[object] = []
        for text in TEXTS:
            problems = Collector()
            done.append((parse(Source.of("a", text), problems), problems.sorted()))
        return done

    with_table = all_parsed()
    slow = grammar.parser_from_grammar(grammar.grammar_text())
    for module in ("tokens", "tree_from_text"):
        monkeypatch.setattr(f"metanorm.syntax.{module}.parser", lambda: slow)
    assert all_parsed() == with_table


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"made_for": "lark 0"}', json.dumps({"made_for": None})]
)
def test_a_table_of_something_else_is_not_used(text: str) -> None:
    assert parser_from_text(text, grammar.grammar_text()) is None
    stale = grammar.shipped_table()
    assert parser_from_text(stale, grammar.grammar_text() + "\n") is None


class Command:
    """What runs a command where it is unpickled."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.text,)


def test_the_cache_is_neither_read_nor_written(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text(SPEC)
    cache, mark = tmp_path / "cache", tmp_path / "it_ran"
    cache.mkdir(mode=0o777)
    planted = cache / "grammar.lark-table"
    content = b"whatever\n" + pickle.dumps(Command(f"touch '{mark}'"))
    planted.write_bytes(content)
    for command in (("check",), ("fmt", "--check"), ("compile", "-o", "out"), ("explain",)):
        words = (command[0], "a.norm", *command[1:])
        done = in_a_child(*words, folder=tmp_path, METANORM_CACHE=str(cache))
        assert done.returncode == 0, done.stderr
    assert not mark.exists()
    assert {path.name for path in cache.iterdir()} == {"grammar.lark-table", "compiled"}
    assert planted.read_bytes() == content
