"""The source that the comment above a norm cites."""

from __future__ import annotations

import re
from collections.abc import Sequence

NAMES = r"[A-Z][\w'-]*(?:[ ,&]+(?:(?:(?:de|la|van|von|der) )*[A-Z][\w'-]*|et al\.))*"
# A citation, at the beginning of a sentence or after a colon.
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
    """`Wu & He, 2018, arXiv 1803.08494`, or else the code that the norm follows, `LayerNorm of
    PyG`; empty if the comment cites nothing."""
    text = " ".join(doc)
    match = CITED.search(text) or CODE.search(text)
    return match[0] if match else ""


def summary(doc: Sequence[str]) -> str:
    """The first sentence, without its full stop."""
    text = " ".join(doc)
    end = SENTENCE.search(text)
    return text[: end.start()] if end else text
