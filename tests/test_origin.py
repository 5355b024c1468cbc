"""Where norms come from, as their comments say."""

from __future__ import annotations

import pytest
from conftest import PROGRAMS

from metanorm.explain.origin import citation, summary

WRITTEN = {
    "Group Normalization. Wu & He, 2018, arXiv 1803.08494.": "Wu & He, 2018, arXiv 1803.08494",
    "Mode Norm: many. Deecke et al., 2018.": "Deecke et al., 2018",
    'Pooling. Shao, "A Talk" (slides); a note.': 'Shao, "A Talk" (slides)',
    "After Swart & Brummer, 2017. More.": "Swart & Brummer, 2017",
    "Weights: NVIDIA/ngpt.": "NVIDIA/ngpt",
    "Online. Samaniego de la Fuente & James, 2019.": "Samaniego de la Fuente & James, 2019",
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


def test_every_norm_of_the_library_says_where_it_is_from() -> None:
    assert [name for name, program in PROGRAMS.items() if not citation(program.doc)] == []


def test_the_first_sentence() -> None:
    assert summary(("Group Normalization. Wu & He, 2018.",)) == "Group Normalization"
    assert summary(("By Shen et al. and others. More.",)) == "By Shen et al. and others"
    assert summary(("Half of it,", "and the rest")) == "Half of it, and the rest"
    assert summary(("For a J. Smith. More",)) == "For a J. Smith"
    assert summary(()) == ""
