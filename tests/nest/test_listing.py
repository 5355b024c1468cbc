"""The list of the library that ships with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import PROGRAMS, ROOT

from metanorm.explain import library, listing
from metanorm.explain.kernels import execution_status
from metanorm.passes.pipeline import optimize

SHIPPED = ROOT / "specs" / listing.LISTING


def shipped() -> listing.Rows:
    rows = listing.shipped_listing()
    assert rows is not None, "the list belongs to other specs: run `make docs`"
    return rows


def test_the_list_that_ships_is_of_these_specs() -> None:
    rows = shipped()
    assert len(rows) > 100 and {"name", "file", "status", "citation", "meaning"} == {*rows[0]}


def test_what_it_says_is_so() -> None:
    rows = {row["name"]: row["status"] for row in shipped()}
    assert {*rows} == {*PROGRAMS}
    for name in ("LayerNorm", "IterNorm", "AdjacencyNorm", "DomainBatchNorm"):
        assert rows[name] == execution_status(optimize(PROGRAMS[name]))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"made_for": "another"}', "{"])
def test_another_list_is_not_used(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / listing.LISTING).write_text(text)
    monkeypatch.setattr(listing, "resource", lambda _: tmp_path)
    assert listing.shipped_listing() is None


def test_without_it_the_norms_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    from metanorm.cli import list as command

    monkeypatch.setattr(command, "shipped_listing", lambda: None)
    monkeypatch.setattr(library, "compiled_listing", lambda: [{"name": "compiled"}])
    assert command.TOPICS["specs"]() == [{"name": "compiled"}]


def test_it_is_data() -> None:
    assert {*json.loads(SHIPPED.read_text(encoding="utf-8"))} == {"made_for", "norms"}
