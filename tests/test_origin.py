"""Where norms come from, as their comments say, and as the README lists it."""

from __future__ import annotations

import re

import pytest
from conftest import PROGRAMS, ROOT

from metanorm.explain.origin import citation, summary

WRITTEN = {
    "Group Normalization. Wu & He, 2018, arXiv 1803.08494.": "Wu & He, 2018, arXiv 1803.08494",
    "Mode Norm: many. Deecke et al., 2018.": "Deecke et al., 2018",
    'Pooling. Shao, "A Talk" (slides); a note.': 'Shao, "A Talk" (slides)',
    "After Swart & Brummer, 2017. More.": "Swart & Brummer, 2017",
    "Weights: NVIDIA/ngpt.": "NVIDIA/ngpt",
    "Conditional. De Vries & O'Hara, 2017, of 3 authors.": "De Vries & O'Hara, 2017",
    "As in torch since 2017. Nothing, 12 pages.": "",
    "LayerNorm of PyG in its mode: over all.": "LayerNorm of PyG",
    "Batch norm of domains, as detectron2's CycleList, in turn.": "detectron2's CycleList",
    "Normalization as in timm: of heads.": "timm",
    "": "",
}


@pytest.mark.parametrize("comment", WRITTEN)
def test_citations(comment: str) -> None:
    assert citation((comment,)) == WRITTEN[comment]


def test_the_readme_cites_what_is_found() -> None:
    rows = re.findall(
        r"^\| \[(\w+)\]\([^)]+\) \| (.+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    citations = {name: citation(PROGRAMS[name].doc) for name, _ in rows}
    assert len(rows) > 90 and all(citations.values())
    assert dict(rows) == citations


def test_the_first_sentence() -> None:
    assert summary(("Group Normalization. Wu & He, 2018.",)) == "Group Normalization"
    assert summary(("By Shen et al. and others. More.",)) == "By Shen et al. and others"
    assert summary(("Half of it,", "and the rest")) == "Half of it, and the rest"
    assert summary(("For a J. Smith. More",)) == "For a J. Smith"
    assert summary(()) == ""
