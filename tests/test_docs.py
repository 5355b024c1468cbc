"""Every fence of README.md and docs/**/*.md does what its page says; every link leads somewhere.

The forms of fences are listed in `doc_runs.py`.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PROGRAMS, ROOT
from doc_pages import BadPage, Page
from doc_runs import Run, Wrong, forget

from metanorm.frontend import LIBRARY
from metanorm.version import __version__

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
COPIED_FOLDERS = ("specs", "docs/demo/specs")  # what a page's folder holds at the beginning


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A page's folder, as the current one and importable."""
    root = tmp_path.resolve()
    for name in COPIED_FOLDERS:
        shutil.copytree(ROOT / name, root / name)
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files change within a second
    yield root
    forget(root)


def marks(text: str) -> list[pytest.MarkDecorator]:
    """Pages that run Python or commands."""
    runs = re.search(r"^```(python|pycon|console)(?! from=)", text, re.MULTILINE)
    return [pytest.mark.needs_torch] if runs else []


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=marks(p.read_text("utf-8")), id=p.relative_to(ROOT).as_posix())
        for p in PAGES
    ],
)
def test_a_page_does_what_it_says(path: Path, folder: Path) -> None:
    Run(Page.read(path)).all()


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    assert broken_links(Page.read(path)) == []


def test_the_readme_shows_norms_of_the_library() -> None:
    text = (ROOT / "README.md").read_text()
    shown = re.findall(r"\[(\w+)\]\(docs/gallery/(\w+)\.md(?:#\w+)?\)", text)
    assert len(shown) > 40
    for name, file in shown:
        assert PROGRAMS[name].body[0].span.source == f"{LIBRARY}{file}.norm", name


def test_the_catalogue_has_no_second_opinion() -> None:
    """A system that a row has no spec for has none in another row or in the library."""
    page = (ROOT / "docs" / "catalogue.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if re.match(r"\| [A-Z]\d", line)]
    without = {
        name for _, system, spec in rows if spec.startswith("None") for name in names(system)
    }
    linked = {
        name for _, system, spec in rows if not spec.startswith("None") for name in names(system)
    }
    assert len(without) > 20 and len(linked) > 100 and "None yet" not in page
    contradicted = without & (linked | {name.lower() for name in PROGRAMS})
    assert not contradicted


def names(systems: str) -> set[str]:
    """The systems of a row, each as a norm would be called, in small letters."""
    return {
        re.sub(r"\W", "", system.lower().replace("normalization", "norm"))
        for system in re.split("[,;:]", systems)
    } - {""}


def test_the_changelog_has_this_version() -> None:
    versions = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert __version__ == next(v for v in versions if v != "Unreleased")


def broken_links(page: Page) -> list[str]:
    """Links to files and headings that are not there. Those to the web are not followed."""
    bad = []
    for line, target in page.links:
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.path.parent / name).resolve() if name else page.path
        inside = file.is_relative_to(ROOT) or file.is_relative_to(page.path.parent)
        ok = inside and file.exists()
        if ok and anchor:
            ok = file.suffix == ".md" and anchor in Page.read(file).anchors
        if not ok:
            bad.append(f"{page.path.name}:{line}: {target}")
    return bad


GOOD = """
# A page

```norm
norm Centred {
  input  x[N, C]
  output x - mean(x over C)
}
```

```pycon
>>> import torch
>>> from norms import Centred
>>> Centred()(torch.tensor([[1.0, 3.0]]))
tensor([[-1.,  1.]])
```

```norm file=mine/broken.norm reports=MN0201
norm Broken {
  input  x[N]
  output y
}
```

```text
mine/broken.norm:3:10: error[MN0201]: ...
...
```

```console exit=1
$ metanorm check mine
mine/broken.norm:3:10: error[MN0201]: ...
...
1 error in 1 spec (... ms)
```

```python
print(1)
print(2)
print(3)
```

```text
1
...
3
```

```python raises=ZeroDivisionError
1 / 0
```

```python from=norms/centred.py
class Centred(nn.Module):
...
    def forward(...
```

```sh
make demo
make test  # all of it
test -f norms/centred.py
```

[A heading](#a-page), `[not](a-link)`
"""

BAD = {
    "an unknown language": ("```pyhton\n1\n```", "no such kind of fence"),
    "no language": ("```\n1\n```", "no such kind of fence"),
    "an unknown attribute": ("```python skip=1\n1\n```", "it can have raises"),
    "a fence left open": ("```python\n1\n", "not closed"),
    "a spec with an error": (GOOD.replace("over C", "over D"), r"it reports \['MN0302'\]"),
    "another error": (GOOD.replace("MN0201", "MN0302"), r"it reports \['MN0201'\]"),
    "an error that is none": (GOOD.replace("output y", "output x"), r"it reports \[\]"),
    "other results": (GOOD.replace("-1., ", "-2., "), "Failed example"),
    "other output": (GOOD.replace("3\n```", "4\n```"), "but it is"),
    "output of nothing": ("```text\n1\n```", "nothing above it"),
    "an exception": ("```python\n1 / 0\n```", "division by zero"),
    "no exception": (GOOD.replace("1 / 0", "1 / 1"), "it raises nothing"),
    "a command that fails": ("```sh\nfalse\n```", "false ends with 1"),
    "a command that does not fail": ("```console exit=1\n$ true\n```", "true ends with 0"),
    "other output of a command": ("```console\n$ echo 1\n2\n```", "but it is"),
    "a target that is not there": ("```sh\nmake dmeo\n```", "the Makefile has"),
    "no excerpt": (GOOD.replace("class Centred(", "class Centered("), "but it is"),
    "an excerpt of nothing": ("```text from=README.rst\n1\n```", "there is no file"),
    "an unknown key": ("```toml\n[tool.metanorm]\nspec = 1\n```", "has no key `spec`"),
}


def page_of(text: str) -> Page:
    Path("page.md").write_text(text)
    return Page.read(Path("page.md").resolve())


@pytest.mark.needs_torch
def test_a_good_page_passes(folder: Path) -> None:
    page = page_of(GOOD)
    Run(page).all()
    assert [fence.language for fence in page.fences].count("text") == 2
    assert broken_links(page) == []


@pytest.mark.parametrize("case", [pytest.param(c, marks=marks(t)) for c, (t, _) in BAD.items()])
def test_a_bad_page_fails(case: str, folder: Path) -> None:
    text, reason = BAD[case]
    with pytest.raises((Wrong, BadPage), match=reason):
        Run(page_of(text)).all()


def test_bad_links_are_found(folder: Path) -> None:
    good = "[a](specs/batch_norm.norm) [b](#one-two-1) [c](https://example.org/#x)\n"
    page = page_of(f"{good}# One `two`\n## One two\n[d](gone.md) [e](#three)\n[f](/etc/hosts)")
    assert [bad.split(": ")[1] for bad in broken_links(page)] == ["gone.md", "#three", "/etc/hosts"]
