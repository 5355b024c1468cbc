"""Weights along an axis on kernels: softmax and sparsestmax of cells against plain torch."""

from __future__ import annotations

import pytest
import torch
from layers import F64, agree, everything, kernels_counted, weighted
from torch import nn

import metanorm

WORDS = {
    "of parameters": "let t = tanh(w) let s = F(w over K) let u = F(v * w over K)"
    " output x * s[1] + sum(u * t over K) + s[0]",
    "of statistics": "let m = mean(x over *S) let q = F(m over C) output x * q + F(m over N) * m",
    "of an axis that islands lie along": "let t = 3 * tanh(b)"
    " output (x - mean(x over N, *S)) * F(t over C)",
    "of what other axes vary": "let t = sin(v * a) let u = F(t over K)"
    " output x + sum(u * w * a over K)",
}
FUNCTIONS = {
    "softmax": "softmax({} over {})",
    **{f"radius {r}": f"sparsestmax({{}} over {{}}, radius = {r})" for r in (0, 0.4, 0.75, 2)},
}


def made(words: str, function: str) -> nn.Module:
    for name in ("w over K", "v * w over K", "m over C", "m over N", "t over C", "t over K"):
        value, axis = name.split(" over ")
        words = words.replace(f"F({name})", FUNCTIONS[function].format(value, axis))
    text = f"""norm A {{
  input x[N, C, *S], a[N]
  param w[K = 5] = 1  param v[K, C] = 1  param b[C] = 1
  {words} }}"""
    module: nn.Module = metanorm.loads(text).A(64).to(F64)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    return module


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("words", WORDS)
def test_agrees_with_torch(words: str, function: str, threads: int) -> None:
    norm = made(WORDS[words], function)
    x, others = torch.randn(12, 64, 50, dtype=F64), {"a": torch.randn(12, dtype=F64)}
    right = everything("torch", norm, x, others, weighted, unused=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with kernels_counted() as counted:
            agree(everything("native", norm, x, others, weighted, unused=True), right)
        assert counted
    finally:
        torch.set_num_threads(before)


ODD = {
    "one": [2.0],
    "all alike": [1.5, 1.5, 1.5],
    "two alike": [0.5, 0.5, -3.0, 0.25],
    "large": [1e30, -1e30, 0.0],
    "minus infinity": [-torch.inf, 0.25, 0.5],
    "NaN": [0.5, torch.nan, 0.25],
    "infinity": [0.5, torch.inf, 0.25],
}


@pytest.mark.parametrize("radius", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
def test_odd_values(values: list[float], radius: float) -> None:
    count = len(values)
    norm = metanorm.loads(f"""norm A(r = 0) {{
      input x[N, C]
      param w[K = {count}] = 1
      output x * sum(sparsestmax(w over K, radius = r) * position(K) over K) }}""").A(r=radius)
    norm = norm.to(F64)
    with torch.no_grad():
        norm.w.copy_(torch.tensor(values))
    x = torch.randn(4, 3, dtype=F64)
    actual = everything("native", norm, x, {}, weighted)
    right = everything("torch", norm, x, {}, weighted)
    for name, value in right.items():
        torch.testing.assert_close(actual[name], value, equal_nan=True)
