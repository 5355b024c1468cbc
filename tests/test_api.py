"""Specs from Python: `metanorm.load` and `metanorm.loads`."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from torch import nn

import metanorm

CENTRED = """
norm Centred {
  input x[N, C]
  output x - mean(x over C)
}
"""


def test_a_file_becomes_a_module() -> None:
    module = metanorm.load(ROOT / "specs" / "layer_norm.norm")
    x = torch.randn(3, 8)
    torch.testing.assert_close(module.LayerNorm(8)(x), nn.LayerNorm(8)(x))


def test_a_text_becomes_a_module_that_tools_can_look_into() -> None:
    module = metanorm.loads(CENTRED)
    x = torch.randn(3, 8)
    torch.testing.assert_close(module.Centred()(x), x - x.mean(1, keepdim=True))
    assert "class Centred(nn.Module):" in inspect.getsource(module.Centred)
    compiled = torch.compile(module.Centred(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), x - x.mean(1, keepdim=True))


def test_a_text_may_use_the_library() -> None:
    module = metanorm.loads(
        'use "batch_norm.norm"\nnorm Twice { input x[N, C]\n output BatchNorm(x) * 2 }'
    )
    x = torch.randn(5, 4)
    torch.testing.assert_close(module.Twice(4)(x), nn.BatchNorm1d(4)(x) * 2)


def test_errors_are_the_report_of_check() -> None:
    with pytest.raises(
        metanorm.SpecError, match=r"<stdin>:4:26: error\[MN0302\]: unknown axis `D`"
    ):
        metanorm.loads(CENTRED.replace("over C", "over D"))


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(metanorm.SpecError, match="there is no such file"):
        metanorm.load(tmp_path / "missing.norm")
    for name in ("a", "b"):
        (tmp_path / f"{name}.norm").write_text(CENTRED)
    with pytest.raises(metanorm.SpecError, match="one spec at a time"):
        metanorm.load(tmp_path)
