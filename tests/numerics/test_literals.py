"""A number in a spec is that number: none is rounded to float32 in a module of float64."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import LIBRARY, PROGRAMS

import metanorm
from metanorm import runtime
from metanorm.driver import compile_specs
from metanorm.frontend import check
from metanorm.ir.program import Program
from metanorm.module_names import module_name
from metanorm.options import Options, Target
from metanorm.source import Source
from metanorm.targets.live import module_from_files
from metanorm.verify.agreement import difference
from metanorm.verify.cases import Setting, make_example
from metanorm.verify.compare import call_module, make_module, reference

F64 = torch.float64
K = math.pi / 10  # no float32 is near it

# Expressions in x[N, C], w[C] (ones), keep[N, C] and k, which is K; and what they are.
EXPRESSIONS: dict[str, Any] = {
    "k + 0 * x": lambda x, keep: K + 0 * x,
    "x * (1 - k)": lambda x, keep: x * (1 - K),
    "(x - k * x) * w": lambda x, keep: x - K * x,
    "affine((x - 0.3141592653589793 * x) per C)": lambda x, keep: x - K * x,
    "affine(x / size(C) per C)": lambda x, keep: x / 3,
    "affine(x * 0 + k per C)": lambda x, keep: x * 0 + K,
    "x + sum(k * w * x over C)": lambda x, keep: x + K * x.sum(1, keepdim=True),
    "x + sum(k * w over C)": lambda x, keep: x + 3 * K,
    "x + mean(k * w over C)": lambda x, keep: x + K,
    "x + var(k * x over C)": lambda x, keep: x + K**2 * x.var(1, keepdim=True, unbiased=False),
    "x + var(x over C, about = k)": lambda x, keep: x + (x - K).square().mean(1, keepdim=True),
    "where(keep, k, 1 - k) + 0 * x": lambda x, keep: torch.where(keep, x * 0 + K, x * 0 + 1 - K),
    "where(x > k, k, x)": lambda x, keep: torch.where(x > K, x * 0 + K, x),
    "where(x > 0, x, k)": lambda x, keep: torch.where(x > 0, x, x * 0 + K),
    "max(x, k) + min(k, x)": lambda x, keep: x + K,
    "clamp(x, -k, k)": lambda x, keep: x.clamp(-K, K),
    "x + k^2 + 2^k": lambda x, keep: x + K**2 + 2**K,
    "x + sin(k) + erf(k) + gelu(k) + silu(k)": lambda x, keep: x
    + math.sin(K) + math.erf(K) + K * (1 + math.erf(K / 2**0.5)) / 2 + K / (1 + math.exp(-K)),
    "x + sum(x over C weight k)": lambda x, keep: x + K * x.sum(1, keepdim=True),
    "x + sum(x over C where keep) * k": lambda x, keep: x + K * (x * keep).sum(1, keepdim=True),
    "mode(train: k * w, eval: w) * x": lambda x, keep: K * x,
    "mode(train: k, eval: 1) * w * x": lambda x, keep: K * x,
    "x * softmax(w * k over C)": lambda x, keep: x / 3,
    "x + t": lambda x, keep: x + K,
    "x + t * w": lambda x, keep: x + K,
    "x + sum(t * w * x over C)": lambda x, keep: x + K * x.sum(1, keepdim=True),
    "x * steps": lambda x, keep: x * (1 + 3 * K),
}  # fmt: skip


def spec(number: int, expression: str) -> str:
    return f"""
norm E{number}(k = 0.3141592653589793) {{  # norm: allow MN0702 -- not all are read
  input  x[N, C = c], keep: mask[N, C], t[N, C] = 0.3141592653589793
  param  w[C] = 1
  let    steps = 1
  repeat 3 {{ steps = steps + k }}
  output {expression}
}}
"""


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return metanorm.loads("".join(spec(n, e) for n, e in enumerate(EXPRESSIONS)))


@pytest.mark.parametrize("target", ["torch", "auto"])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_number_is_itself(expression: str, target: Any, norms: ModuleType) -> None:
    x = torch.rand(4, 3, dtype=F64) - 0.2
    keep = torch.rand(4, 3) > 0.4
    number = list(EXPRESSIONS).index(expression)
    with runtime.use(target):
        y = getattr(norms, f"E{number}")(3, dtype=F64)(x, keep)
    right = EXPRESSIONS[expression](x, keep)
    torch.testing.assert_close(y, right, rtol=1e-15, atol=1e-15)


def test_a_matrix_of_numbers_is_theirs() -> None:
    norm = metanorm.loads("""
    norm M(U: matrix[N, N] = eye) {
      input  x[N, C = c]
      param  w[C] = 1
      output w * mean(x over N: U)
    }
    """).M
    x = torch.randn(2, 3, dtype=F64)
    rows = torch.tensor([[K, 1 - K], [1 - K, K]], dtype=F64)
    y = norm(3, U=rows.tolist(), dtype=F64)(x)
    torch.testing.assert_close(y, rows @ x, rtol=1e-15, atol=1e-15)


DECIMAL = re.compile(r"(?<![\w.])(\d*\.\d+)(?![\w.])")


# The library with digits behind each decimal number, so that no float32 holds it.
IRRATIONAL = {
    name: Source.of(source.name, DECIMAL.sub(r"\g<1>314159265358979", source.text))
    for name, source in LIBRARY.sources.items()
}


@functools.cache
def irrational(root: str, target: Target) -> tuple[dict[str, Program], ModuleType]:
    """The norms of a spec with such numbers, and its module."""
    result = compile_specs(IRRATIONAL, [root], Options(target=target))
    assert result.ok, result.diagnostics
    norms = check(IRRATIONAL, [root]).norms[root]
    module = module_from_files(result.files, module_name(root))
    return {norm.program.name: norm.program for norm in norms}, module


TARGETS = ["torch", pytest.param("auto", marks=pytest.mark.extended)]  # builds all kernels


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_numbers_of_the_library_are_themselves(name: str, target: Any) -> None:
    root = PROGRAMS[name].body[0].span.source
    programs, module = irrational(root, "torch" if target == "torch" else "native")
    program = programs[name]
    base = Setting("train")
    settings = [base, replace(base, training=False)]
    for switch in program.switches:
        settings += [replace(s, switches={switch.name: not switch.default}) for s in settings[:2]]
    optional = frozenset(i.name for i in program.inputs if not i.required)
    settings += [replace(base, without=optional)] if optional else []
    for setting in settings:
        built = make_example(program, setting)
        norm = make_module(program, module, built, setting)
        buffers = {n: b.detach().clone() for n, b in norm.named_buffers()}
        with runtime.use(target), torch.no_grad():
            outputs = call_module(program, norm, built.inputs, built)
        right = reference(program, norm, built.inputs, buffers, built, setting).outputs
        for output, y in outputs.items():
            assert difference(y, right[output], right[output], 1.0) <= 1e-12, (setting, output)
