"""The manual pages of the codes: what each shows as wrong is wrong, and only that."""

from __future__ import annotations

import pytest

from metanorm.diagnostics.model import Diagnostic
from metanorm.diagnostics.registry import REGISTRY, all_codes, manual_page
from metanorm.diagnostics.render.text import render_text
from metanorm.driver import compile_specs
from metanorm.frontend import format_spec
from metanorm.options import Options
from metanorm.source import Source
from metanorm.workspace import load

SECTIONS = ("### What it means", "### Example", "### Fix")


def findings(spec: str, code: str) -> tuple[tuple[Diagnostic, ...], str]:
    """What compiling a spec finds, for the hub where the code is about that, and as a person reads
    it."""
    options = Options(hub=REGISTRY[code].for_hub)
    workspace = load(["-"], spec.encode())
    assert not workspace.diagnostics
    diagnostics = compile_specs(workspace.sources, workspace.roots, options).diagnostics
    return diagnostics, render_text(diagnostics, workspace.sources)


def test_there_are_codes() -> None:
    assert len(all_codes()) > 50
    assert {cls.code for cls in REGISTRY.values()} == set(all_codes())


@pytest.mark.parametrize("code", all_codes())
def test_a_page_has_its_parts(code: str) -> None:
    page = manual_page(code)
    assert page.title and not page.title.endswith(".")
    offsets = [page.body.index(section) for section in SECTIONS]
    assert offsets == sorted(offsets)
    assert page.body.count("```norm\n") == 2
    assert offsets[1] < page.body.index(page.bad) < offsets[2] < page.body.index(page.good)
    assert page.markdown.startswith(f"## {code}: {page.title}\n\n*{page.severity.value}*")


@pytest.mark.parametrize("code", all_codes())
def test_the_bad_example_is_this_mistake(code: str) -> None:
    diagnostics, text = findings(manual_page(code).bad, code)
    assert [d.code for d in diagnostics] == [code], text
    assert diagnostics[0].severity is manual_page(code).severity


@pytest.mark.parametrize("code", all_codes())
def test_the_good_example_is_clean(code: str) -> None:
    diagnostics, text = findings(manual_page(code).good, code)
    assert not diagnostics, text


@pytest.mark.parametrize("code", all_codes())
def test_the_good_example_is_formatted(code: str) -> None:
    page = manual_page(code)
    assert format_spec(Source.of("good.norm", page.good)) == (page.good, ())
