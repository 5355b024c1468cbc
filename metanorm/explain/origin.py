"""Where a norm comes from, read from the comment above its spec."""

from __future__ import annotations

import re
from collections.abc import Sequence

NAMES = r"[A-Z][\w'-]*(?:[ ,&]+(?:[A-Z][\w'-]*|et al\.))*"
# What a comment names as its source, at the beginning of a sentence or after a colon.
SOURCES = (
    rf"{NAMES},? (?:19|20)\d\d(?:, arXiv \d{{4}}\.\d{{4,5}})?",  # Wu & He, 2018, arXiv 1803.08494
    rf"{NAMES}, \"[^\"]+\"(?: \(\w+\))?",  # Shao, "Understanding Normalization" (slides)
    r"[\w-]+/[\w-]+(?=[.,;]|$)",  # NVIDIA/ngpt
)
# Code that a norm follows, where no paper is named.
CODE = re.compile(r"^\w+ of [A-Z]\w+|(?<=\bas )[\w-]+'s \w+|(?<=\bas in )[\w-]+")
CITED = re.compile(rf"(?:^|(?<=[.:;] )|(?<=After ))(?!After )(?:{'|'.join(SOURCES)})")
SENTENCE = re.compile(r"(?<![ .][A-Z])(?<!\bal)\.(?= |$)")


def citation(doc: Sequence[str]) -> str:
    """`Wu & He, 2018, arXiv 1803.08494`, or else the code that it follows, `LayerNorm of PyG`;
    empty where nothing is cited."""
    text = " ".join(doc)
    found = CITED.search(text) or CODE.search(text)
    return found[0] if found else ""


def summary(doc: Sequence[str]) -> str:
    """The first sentence, without its full stop."""
    text = " ".join(doc)
    end = SENTENCE.search(text)
    return text[: end.start()] if end else text
