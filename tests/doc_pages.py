"""Pages of the documentation as data: fences, links, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^( *)(`{3,}|~{3,})(.*)$")
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?)#*$")
ANCHOR = re.compile(r'<a (?:id|name)="([^"]+)">')


@dataclass(frozen=True)
class Fence:
    """A fenced block: its language, its attributes, its text, the line its text begins on."""

    language: str
    attributes: dict[str, str]
    text: str
    line: int

    @property
    def info(self) -> str:
        """The info string, as a reader of the page sees it."""
        return " ".join((self.language, *(f"{k}={v}" for k, v in self.attributes.items())))


class BadPage(Exception):
    """Markdown that is not well formed."""


@dataclass(frozen=True)
class Page:
    """A page: its fences, and its prose with everything in fences blanked out."""

    path: Path
    fences: tuple[Fence, ...]
    prose: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Page:
        """Split a page into fences and prose."""
        fences: list[Fence] = []
        prose: list[str] = []
        opened: re.Match[str] | None = None
        start = 0
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            match = FENCE.match(line)
            if opened is None:
                opened, start = match, number
                prose.append("" if match else line)
                continue
            prose.append("")
            if match and match[2].startswith(opened[2]) and not match[3].strip():
                fences.append(_fence(path, opened, lines[start : number - 1], start + 1))
                opened = None
        if opened is not None:
            raise BadPage(f"{path.name}:{start}: this fence is not closed")
        return cls(path, tuple(fences), tuple(prose))

    @property
    def links(self) -> list[tuple[int, str]]:
        """The target of each link, with its line."""
        return [
            (number, target)
            for number, line in enumerate(self.prose, 1)
            for target in LINK.findall(re.sub(r"`[^`]*`", "code", line))
        ]

    @property
    def anchors(self) -> set[str]:
        """What a link behind `#` may name: headings as GitHub numbers them, and `<a id>`."""
        anchors: set[str] = set()
        for line in self.prose:
            anchors.update(ANCHOR.findall(line))
            heading = HEADING.match(line)
            if heading:
                base, again = slug(heading[1]), 0
                anchor = base
                while anchor in anchors:
                    again += 1
                    anchor = f"{base}-{again}"
                anchors.add(anchor)
        return anchors


def slug(heading: str) -> str:
    """The anchor of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def _fence(path: Path, opened: re.Match[str], lines: list[str], line: int) -> Fence:
    language, *words = opened[3].split() or [""]
    attributes = dict(word.partition("=")[::2] for word in words)
    if len(attributes) != len(words):
        raise BadPage(f"{path.name}:{line - 1}: an attribute is given twice")
    indent = len(opened[1])
    text = "".join(f"{row[min(indent, len(row) - len(row.lstrip())) :]}\n" for row in lines)
    return Fence(language, attributes, text, line)
