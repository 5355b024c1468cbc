"""The list of the library that ships with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import LIBRARY, ROOT

from metanorm.explain import library
from metanorm.explain.kernels import execution_status
from metanorm.passes.pipeline import optimize

SHIPPED = ROOT / "specs" / library.LISTING


def test_the_list_that_ships_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> library.Rows:
        raise AssertionError("the list was made again: run `make docs`")

    monkeypatch.setattr(library, "compiled_listing", refuse)
    rows = library.listing()
    assert len(rows) > 100 and {"name", "file", "status", "citation", "meaning"} == {*rows[0]}


def test_what_it_says_is_so() -> None:
    from conftest import PROGRAMS

    rows = {row["name"]: row["status"] for row in library.listing()}
    assert {*rows} == {*PROGRAMS}
    for name in ("LayerNorm", "IterNorm", "AdjacencyNorm", "DomainBatchNorm"):
        assert rows[name] == execution_status(optimize(PROGRAMS[name]))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"made_for": "another"}', "{"])
def test_another_list_is_not_used(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / library.LISTING).write_text(text)
    monkeypatch.setattr(library, "resource", lambda _: tmp_path)
    monkeypatch.setattr(library, "compiled_listing", lambda w: [{"name": str(len(w.roots))}])
    assert library.listing() == [{"name": str(len(LIBRARY.roots))}]


def test_it_is_data(tmp_path: Path) -> None:
    assert {*json.loads(SHIPPED.read_text(encoding="utf-8"))} == {"made_for", "norms"}
