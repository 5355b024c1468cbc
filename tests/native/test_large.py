"""More than 2^31 elements, which take 9 GB of memory: a tensor and its result, or its gradient."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from layers import use
from torch.autograd.graph import get_gradient_edge


def available_bytes() -> int:
    """Memory that can be had without swapping, as Linux estimates it."""
    rows = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return next(int(row[1]) * 1024 for row in rows if row[0] == "MemAvailable:")


ROWS, LENGTH = 2**16 + 1, 2**15  # 2^31 elements, and one row more


@pytest.mark.extended
def test_more_than_2_to_the_31_elements(library: ModuleType) -> None:
    """One test, so that two processes never hold such tensors at once."""
    if not Path("/proc/meminfo").exists() or available_bytes() < 11e9:
        pytest.skip("takes 9 GB of memory")
    the_last_rows_are_those_of_a_small_tensor(library)
    a_pool_reaches_the_last_element(library)


def the_last_rows_are_those_of_a_small_tensor(library: ModuleType) -> None:
    """Rows do not depend on each other, so that the last ones can be had alone."""
    module = library.LayerNorm(LENGTH)
    end = torch.randn(8, LENGTH).bfloat16()
    x = torch.ones(ROWS, LENGTH, dtype=torch.bfloat16)
    x[-8:] = end
    slope = torch.randn(LENGTH).bfloat16()
    results = []
    for start in (x, end):
        start.requires_grad_()
        with use("native"):
            y = module(start)
        last, node = y[-8:].detach().clone(), get_gradient_edge(y)
        del y  # before there is a gradient
        (gradient,) = torch.autograd.grad(node, start, slope.expand_as(start))
        results.append((last, gradient[-8:].clone()))
        del gradient
    torch.testing.assert_close(results[0], results[1])


def a_pool_reaches_the_last_element(library: ModuleType) -> None:
    """One channel of 2^31 elements and more, of which the last ones differ from the rest."""
    x = torch.zeros(ROWS, 1, LENGTH, dtype=torch.bfloat16)
    x[-(ROWS // 2) :] = 1
    share = (ROWS // 2) / ROWS
    module = library.BatchNorm(1, momentum=1.0)
    with torch.no_grad(), use("native"):
        y = module(x)
    deviation = (share * (1 - share)) ** 0.5
    assert module.running_mean.item() == pytest.approx(share, rel=1e-6)
    assert y[-1, 0, -1].item() == pytest.approx((1 - share) / deviation, rel=1e-2)
    assert y[0, 0, 0].item() == pytest.approx(-share / deviation, rel=1e-2)
