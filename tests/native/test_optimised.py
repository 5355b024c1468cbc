"""Kernels as users build them; the other quick tests spare the compiler's time."""

from __future__ import annotations

import os
from types import ModuleType

import pytest
import torch
from conftest import LIBRARY
from layers import LAYERS, agree, beside, everything, kernels_counted, layer, weighted

from metanorm.driver import compile_specs
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.targets.live import module_from_files


def fresh(name: str) -> ModuleType:
    """A module of a spec of which no kernel has been loaded."""
    roots = [root for root in LIBRARY.roots if module_name(root) == name]
    files = compile_specs(LIBRARY.sources, roots, Options()).files
    return module_from_files(files, name)


@pytest.mark.parametrize("name", LAYERS)
def test_optimised_kernels_agree(name: str, optimised: None) -> None:
    own = layer(name, fresh(name), torch.float32)
    x = torch.randn(LAYERS[name][1])
    others = beside(name, x)
    right = everything("torch", own, x, others, weighted)
    with kernels_counted() as seen:
        actual = everything("native", own, x, others, weighted)
    assert len(seen) == 2
    agree(actual, right, 1e-4, 1e-4)


def test_other_tests_say_how_kernels_are_built() -> None:
    assert "METANORM_CFLAGS" in os.environ
