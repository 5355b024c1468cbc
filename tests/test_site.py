"""The site has every page in its menu, and no link of it leads nowhere."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT
from doc_pages import Page

sys.path.insert(0, str(ROOT))

from docs.site import pages
from docs.site.checks import problems
from docs.site.source import write_source

HANGS = 1800  # seconds; the build takes one or two minutes


def test_every_page_has_one_place_in_the_menu() -> None:
    shown = Counter(page for section in pages.MENU.values() for page in section)
    gallery = {name for name in pages.origins() if name.startswith("gallery/")}
    gallery.remove(pages.GALLERY)
    assert shown == Counter({*pages.origins(), *pages.REFERENCE} - gallery - {pages.INDEX})
    lines = pages.menus(pages.GALLERY).splitlines()
    listed = [line for line in lines if line and not line.startswith(("`", ":"))]
    assert {f"gallery/{line}" for line in listed} == gallery and len(listed) == len(gallery)


@pytest.mark.parametrize("path", pages.origins().values(), ids=lambda p: p.name)
def test_a_page_begins_with_its_title(path: Path) -> None:
    """The only heading of the first level: menus show it."""
    titles = [line for line in Page.read(path).prose if line.startswith("# ")]
    assert len(titles) == 1


@pytest.mark.needs_torch
def test_the_reference_names_what_there_is() -> None:
    pytest.importorskip("torch")
    from docs.site import reference
    from metanorm import runtime

    called = [name for group in reference.CALLED_BY_PEOPLE for name in group.names]
    assert len(called) == len(set(called)) and set(called) <= set(runtime.__all__)
    text = reference.runtime_page()
    for name in runtime.__all__:
        assert text.count(f":: {name}\n") == 1, name
    assert ":: load\n" in reference.metanorm_page()


GOOD = """
<link rel="stylesheet" href="styles/a.css"><img src="a.png">
<h1 id="top">A</h1> <a href="#top">here</a> <a href="b/index.html#there">there</a>
<a href="b/#there">there</a> <a href="https://example.org/x">elsewhere</a>
"""
BROKEN = {
    '<a href="gone.html">x</a>': "gone.html is not there",
    '<a href="#gone">x</a>': "#gone has no such anchor",
    '<a href="b/index.html#gone">x</a>': "b/index.html#gone has no such anchor",
    '<a href="../outside.html">x</a>': "../outside.html is not there",
    '<a href="http://example.org">x</a>': "http://example.org is no link of the web",
    '<img src="gone.png">': "gone.png is not there",
    '<script src="https://cdn.example.org/x.js"></script>': "is fetched from elsewhere",
    '<script src="//cdn.example.org/x.js"></script>': "is fetched from elsewhere",
    '<link rel="stylesheet" href="https://cdn.example.org/x.css">': "is fetched from elsewhere",
}


def site(folder: Path, page: str, style: str = "b { background: url('../a.png') }") -> Path:
    (folder / "b").mkdir()
    (folder / "styles").mkdir()
    (folder / "index.html").write_text(page)
    (folder / "b" / "index.html").write_text('<h1 id="there">B</h1>')
    (folder / "styles" / "a.css").write_text(style)
    (folder / "a.png").write_bytes(b"")
    return folder


def test_good_links_are_no_problem(tmp_path: Path) -> None:
    assert problems(site(tmp_path, GOOD)) == []


@pytest.mark.parametrize("part", BROKEN)
def test_a_broken_link_is_found(part: str, tmp_path: Path) -> None:
    (problem,) = problems(site(tmp_path, GOOD + part))
    assert problem.startswith("index.html: ") and BROKEN[part] in problem


def test_a_style_that_fetches_is_found(tmp_path: Path) -> None:
    style = "@import 'https://fonts.example.org/x.css'; b { background: url(gone.png) }"
    first, second = problems(site(tmp_path, GOOD, style))
    assert "is fetched from elsewhere" in first and "gone.png is not there" in second


@pytest.mark.parametrize("built", [False, True])
def test_the_page_of_the_playground_leads_to_it_where_it_was_built(
    built: bool, tmp_path: Path
) -> None:
    write_source(tmp_path / "source", playground=built)
    text = (tmp_path / "source" / "playground.md").read_text(encoding="utf-8")
    assert text.count('<a href="playground/index.html">') == built


@pytest.mark.extended
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Sphinx with `-n -W`, then every `href` and anchor of what it has built."""
    for package in ("sphinx", "furo", "myst_parser", "sphinx_copybutton"):
        pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, "-m", "docs.site", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stdout
    html = tmp_path / "html"
    for page in (*pages.origins(), *pages.REFERENCE):
        assert (html / f"{page}.html").is_file(), page
    formula = (html / "gallery" / "group_norm.html").read_text(encoding="utf-8")
    assert 'class="katex"' in formula and '<span class="k">norm' not in formula.split("<body")[0]
    assert 'id="metanorm.runtime.swap"' in (html / "reference/runtime.html").read_text("utf-8")
