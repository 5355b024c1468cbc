"""What has no kernels runs on torch, and `explain` says why."""

from __future__ import annotations

import pytest

from metanorm.explain.kernels import kernels_text
from metanorm.frontend import check
from metanorm.passes.pipeline import optimize
from metanorm.source import Source

REASONS = {
    "input x[N, T, C]\noutput x - max(x over T: window(3), C)": "max of windows, which overlap",
    "input x[N, T, C]\noutput x - max(x over C, T: causal)": "max of the past, which overlaps",
    "input x[N, T, C], w[N, T, C]\noutput x - mean(x over T: causal, C weight w)": (
        "mean of the past, which overlaps"
    ),
    "input x[V, C], edge: edges[V]\nreduce V: edge": "neighbours in a graph, whose pools overlap",
    "input x[N, T], rows: matrix[T, T]\nreduce T: rows": "a pool by a given matrix or a graph",
    "input x\noutput tanh(x)": "an input without dimensions, which has no rows",
    "input x[N, C]\nlet d[C] = 1\nrepeat 3 { d = d / 2 }\noutput x * d": "repeat",
    "input x[N, C]\noutput x * sparsestmax(x over C, radius = 0.5)": (
        "a sparsestmax as large as the input"
    ),
}


@pytest.mark.parametrize("text", REASONS)
def test_the_reason_is_told(text: str) -> None:
    source = Source.of("t.norm", f"norm T(eps = 1e-5) {{\n{text}\n}}\n")
    (norm,) = check({"t.norm": source}, ["t.norm"]).norms["t.norm"]
    assert kernels_text(optimize(norm.program)) == f"none, plain torch alone: {REASONS[text]}"
