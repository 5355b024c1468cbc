"""Names of a spec that C, the header or generated code have too: kernels compile and agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn

from metanorm import loads, runtime
from metanorm.targets.native.context import RESERVED

F64 = torch.float64
NAMES = """
saved threads gradients needed x_row x_here size_C size_N to_output to_output_row d_output kept
shape call memory v r sum_1 sum_2 cells_2 extreme_1 AXIS_C DTYPE_x row here lines scratch values
""".split()

HEADERS = ROOT / "metanorm/runtime/native/headers"
# What a header defines for the whole file: macros, functions, types, and constants of an `enum`.
DEFINITIONS = (
    r"#define\s+(\w+)",
    r"^(?:static|extern)[^;{=]*?\b(\w+)\(",
    r"^}\s*(\w+);",
    r"^typedef\s[^;{]*?(\w+)(?: __attribute__.*)?;",
)


def test_what_the_headers_define_is_no_name_of_a_value() -> None:
    files = [HEADERS / "metanorm.h", *sorted((HEADERS / "metanorm").glob("*.h"))]
    text = re.sub(r"/\*.*?\*/", "", "\n".join(map(Path.read_text, files)), flags=re.DOTALL)
    names = {name for pattern in DEFINITIONS for name in re.findall(pattern, text, re.MULTILINE)}
    for constants in re.findall(r"enum\s*{([^}]*)}", text):
        names |= {name.strip() for name in constants.split(",")}
    assert len(names) > 100
    assert {name for name in names if not name.startswith("_")} <= RESERVED


def formula(terms: list[str]) -> str:
    return "output normalize(x over C) + " + " + ".join(f"sin({name} * x)" for name in terms)


def spec(kind: str, names: list[str]) -> str:
    match kind:
        case "inputs":
            head, declared = "", f"input x[N, C], {', '.join(f'{n}[N, C]' for n in names)}"
        case "parameters":
            head, declared = "", f"input x[N, C] param {', '.join(f'{n}[C] = 1' for n in names)}"
        case _:
            head, declared = "".join(f", {n} = 2" for n in names), "input x[N, C]"
    return f"norm Named(eps = 1e-5{head}) {{ {declared} {formula(names)} }}"


def value_and_gradients(norm: nn.Module, inputs: list[Tensor], target: str) -> list[Tensor]:
    with runtime.use(target):
        y = norm(*inputs)
        return [y, *torch.autograd.grad(y.sin().sum(), [*inputs, *norm.parameters()])]


@pytest.mark.parametrize("kind", ["inputs", "parameters", "hyperparameters"])
@pytest.mark.parametrize("names", [NAMES[::2], NAMES[1::2]], ids=["even", "odd"])
def test_kernels_of_names_that_c_has_agree_with_torch(kind: str, names: list[str]) -> None:
    module = loads(spec(kind, names))
    norm = module.Named(*([4] if kind == "parameters" else [])).double()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(0.5, 1.5)
    count = 1 + (len(names) if kind == "inputs" else 0)
    inputs = [torch.randn(3, 4, dtype=F64, requires_grad=True) for _ in range(count)]
    actual, expected = (value_and_gradients(norm, inputs, t) for t in ("native", "torch"))
    torch.testing.assert_close(actual, expected)


def test_names_that_c_has_go_through_compiled_graphs() -> None:
    names = ["saved", "gradients", "needed"]
    norm = loads(spec("inputs", names)).Named()
    inputs = [torch.randn(3, 4, dtype=F64, requires_grad=True) for _ in range(4)]
    compiled = torch.compile(norm, fullgraph=True, backend="aot_eager")
    actual = value_and_gradients(compiled, inputs, "native")
    torch.testing.assert_close(actual, value_and_gradients(norm, inputs, "torch"))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("pool", ["c", "C", "N, c", "c, C"])
def test_axes_may_differ_in_case_alone(pool: str, turned: bool) -> None:
    norm = loads(f"norm Named(eps = 1e-5) {{ input x[N, c, C] reduce {pool} }}").Named()
    x = torch.randn(3, 4, 5, dtype=F64)
    x = (x.mT.contiguous().mT if turned else x).requires_grad_()
    actual, expected = (value_and_gradients(norm, [x], target) for target in ("native", "torch"))
    torch.testing.assert_close(actual, expected)
