"""Looks through built HTML for links that lead nowhere, and for what is fetched from elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = ("src", "srcset", "data", "poster")
IN_STYLES = re.compile(r"""url\(\s*['"]?([^'")]+)|@import\s+['"]([^'"]+)""")


@dataclass
class _Page(HTMLParser):
    """The links of a page, what it fetches, and the anchors that it has."""

    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what a tag links to, fetches and names."""
        for name, value in attrs:
            if value is None:
                continue
            if name in ("id", "name"):
                self.anchors.add(value)
            elif name == "href":
                (self.fetched if tag == "link" else self.links).append(value)
            elif name in FETCHED:
                self.fetched.append(value)


def problems(folder: Path) -> list[str]:
    """What is wrong with the pages and styles below a folder, a line for each."""
    messages = []
    for path in sorted(folder.rglob("*.html")):
        page = _read(path)
        where = path.relative_to(folder).as_posix()
        messages += [f"{where}: {p}" for target in page.links if (p := _link(path, target, folder))]
        messages += [f"{where}: {p}" for target in page.fetched if (p := _fetch(path, target))]
    for path in sorted(folder.rglob("*.css")):
        where = path.relative_to(folder).as_posix()
        targets = ["".join(match) for match in IN_STYLES.findall(path.read_text("utf-8"))]
        messages += [f"{where}: {p}" for target in targets if (p := _fetch(path, target))]
    return messages


@cache
def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _link(page: Path, target: str, folder: Path) -> str:
    """Why a link leads nowhere; empty where it leads somewhere, or to the web."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return "" if parts.scheme in ("https", "mailto") else f"{target} is no link of the web"
    path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if path.is_dir():
        path = path / "index.html"
    if not (path.is_file() and path.is_relative_to(folder.resolve())):
        return f"{target} is not there"
    anchor = unquote(parts.fragment)
    if anchor and path.suffix == ".html" and anchor not in _read(path).anchors:
        return f"{target} has no such anchor"
    return ""


def _fetch(page: Path, target: str) -> str:
    """Why something cannot be fetched from the site itself; empty where it can."""
    parts = urlsplit(target)
    if parts.scheme == "data" or not (parts.path or parts.netloc):
        return ""
    if parts.scheme or parts.netloc:
        return f"{target} is fetched from elsewhere"
    return "" if (page.parent / unquote(parts.path)).is_file() else f"{target} is not there"
