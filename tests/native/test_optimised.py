"""Kernels as users build them; the other quick tests spare the compiler's time."""

from __future__ import annotations

import os

import pytest
import torch
from layers import LAYERS, agree, beside, everything, fresh_module, kernels_counted, layer, weighted


@pytest.mark.parametrize("name", LAYERS)
def test_optimised_kernels_agree(name: str, optimised: None) -> None:
    module = layer(name, fresh_module(name), torch.float32)
    x = torch.randn(LAYERS[name][1])
    others = beside(name, x)
    right = everything("torch", module, x, others, weighted)
    with kernels_counted() as seen:
        actual = everything("native", module, x, others, weighted)
    assert len(seen) == 2
    agree(actual, right, 1e-4, 1e-4)


def test_other_tests_say_how_kernels_are_built() -> None:
    assert "METANORM_CFLAGS" in os.environ
