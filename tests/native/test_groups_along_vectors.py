"""Groups of any axis, wherever it lies in memory: kernels agree, or there are none."""

from __future__ import annotations

import pytest
import torch
from layers import F64, agree, everything, kernels_counted, strided, transposed, weighted
from torch import Tensor

from metanorm import loads
from metanorm.runtime.dispatch import NotServed

LABELS = torch.tensor([2, 1, 0, 1, 2])
POOLED = "lab: index[T] output normalize(x over T: lab)"
CHOSEN = "lab: index[T] of K = 3 param table[K] = 1 output normalize(x over {}) * table[lab]"
TABLE = "lab: index[T] of K = 3 param table[K, C = 4] = 1 output x * table[lab] + mean(x over {})"
SHAPES = {"N": 3, "C": 4, "T": 5}
LAYOUTS = {
    "plain": Tensor.contiguous,
    "channels last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "transposed": transposed,
    "strided": strided,
}


def norm_of(dims: str, body: str) -> torch.nn.Module:
    norm = loads(f"norm Grouped(eps = 1e-3) {{ input x[{dims}], {body} }}").Grouped().to(F64)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
    return norm


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dims", ["N, T, C", "N, C, T"])
@pytest.mark.parametrize(
    "body", [POOLED, CHOSEN.format("C"), CHOSEN.format("N, T"), TABLE.format("C")]
)
def test_the_axis_of_groups_may_lie_anywhere(body: str, dims: str, layout: str) -> None:
    norm = norm_of(dims, body)
    x = LAYOUTS[layout](torch.randn([SHAPES[d] for d in dims.split(", ")], dtype=F64))
    with kernels_counted() as kernels:
        actual = everything("native", norm, x, {"lab": LABELS}, weighted)
    assert len(kernels) == 2
    agree(actual, everything("torch", norm, x, {"lab": LABELS}, weighted))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("over", ["N: lab, W: chunks(2)", "N: lab, C: blocks(2)", "N: lab, C, W"])
def test_parameters_of_groups_that_are_cut(over: str, layout: str) -> None:
    norm = loads(f"""
        norm Grouped(eps = 1e-3) {{
          input x[N, C = 4, W], lab: index[N]
          param g[C] = 1, b[C] = 0, e = 2
          output e * normalize(x over {over}) * g + b
        }}
    """).Grouped()
    norm.to(F64)
    x = LAYOUTS[layout](torch.randn(5, 4, 6, dtype=F64))
    agree(*(everything(t, norm, x, {"lab": LABELS}, weighted) for t in ("native", "torch")))


@pytest.mark.parametrize("dims", ["T", "N, T"])
@pytest.mark.parametrize("body", [POOLED, CHOSEN.format("T")])
def test_without_another_axis_to_run_along_there_are_none(body: str, dims: str) -> None:
    norm = norm_of(dims, body)
    x = torch.randn([SHAPES[d] for d in dims.split(", ")], dtype=F64)
    with pytest.raises(NotServed, match="no kernels"):
        everything("native", norm, x, {"lab": LABELS}, weighted)
    agree(*(everything(t, norm, x, {"lab": LABELS}, weighted) for t in ("auto", "torch")))
