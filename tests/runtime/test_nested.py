"""Nested tensors: norms that are `nn.LayerNorm` or `nn.RMSNorm` take them, all others say no."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import PROGRAMS
from torch import Tensor, nn

import metanorm
from metanorm import runtime
from metanorm.ir.program import Program
from metanorm.verify.cases import Setting, make_example
from metanorm.verify.compare import make_module

pytestmark = pytest.mark.filterwarnings("ignore")  # nested tensors are a prototype, torch says


def rows(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape, dtype=torch.float64) for shape in shapes]


def both(ours: nn.Module, theirs: nn.Module, x: Tensor) -> list[list[Tensor]]:
    """Results, and gradients by the input and all parameters, of both modules."""
    theirs.load_state_dict(ours.state_dict())
    results = []
    for module in (ours, theirs):
        leaf = x.detach().clone().requires_grad_()
        y = module(leaf)
        assert y.is_nested and y.layout is x.layout
        parts = y.unbind()
        loss = sum((part * torch.arange(part.numel()).view(part.shape)).sum() for part in parts)
        gradients = torch.autograd.grad(loss, [leaf, *module.parameters()])
        results.append([*parts, *gradients[0].unbind(), *gradients[1:]])
    return results


@pytest.mark.parametrize("target", ["auto", "torch"])
@pytest.mark.parametrize("shape", [(4,), (3, 4)], ids=["one dense axis", "two"])
@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm"])
def test_jagged_rows_are_taken_as_torch_takes_them(
    name: str, shape: tuple[int, ...], target: Any, library: ModuleType
) -> None:
    arguments = {"dtype": torch.float64, "eps": 1e-3}
    ours = getattr(library, name)(shape, **arguments)
    theirs = getattr(nn, name)(shape, **arguments)
    for parameter in ours.parameters():
        nn.init.uniform_(parameter)
    x = torch.nested.nested_tensor(rows((3, *shape), (5, *shape)), layout=torch.jagged)
    with runtime.use(target):
        actual, wanted = both(ours, theirs, x)
    torch.testing.assert_close(actual, wanted)
    for part, row in zip(actual, x.unbind()):
        torch.testing.assert_close(part, ours(row))


def test_strided_rows_too(library: ModuleType) -> None:
    x = torch.nested.nested_tensor(rows((3, 4), (5, 4)))
    arguments = {"dtype": torch.float64}
    actual, wanted = both(library.LayerNorm(4, **arguments), nn.LayerNorm(4, **arguments), x)
    torch.testing.assert_close(actual, wanted)


def test_what_a_norm_is_decides_not_its_name() -> None:
    norms = metanorm.loads("""
norm TokenNorm(epsilon = 1e-6) {
  input  x[N, T, D = dim]
  let    mean = mean(x over D)
  output affine((x - mean) / sqrt(var(x over D) + epsilon) per D)
}
""")
    norm = norms.TokenNorm(4).double()
    x = torch.nested.nested_tensor(rows((3, 4), (5, 4)), layout=torch.jagged)
    torch.testing.assert_close(norm(x).values(), norm(x.values()[None])[0])
    norm.epsilon = 1.0
    torch.testing.assert_close(norm(x).values(), norm(x.values()[None])[0])
    for wrong in (rows((3, 5), (2, 5)), rows((3, 2, 4), (5, 2, 4))):
        x = torch.nested.nested_tensor(wrong, layout=torch.jagged)
        with pytest.raises(runtime.ShapeError) as raised:
            norm(x)
        shape = ", ".join(map(str, x.shape))  # such as 2, j1, 5: no length that nobody passed
        assert str(raised.value).startswith(f"TokenNorm: x has shape [{shape}], expected [N, T, D]")


def test_under_torch_compile(library: ModuleType) -> None:
    x = torch.nested.nested_tensor(rows((3, 4), (5, 4)), layout=torch.jagged)
    norm = library.LayerNorm(4, dtype=torch.float64)
    compiled = torch.compile(norm, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x).values(), norm(x).values())


LAYERS = {"LayerNorm", "RMSNorm", "LayerNormSimple", "NodeNorm"}  # as `metanorm explain` says


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided], ids=["jagged", "strided"])
@pytest.mark.parametrize("target", ["auto", "native", "torch"])
def test_all_other_norms_say_no(
    program: Program, target: Any, layout: torch.layout, library: ModuleType
) -> None:
    is_layer = issubclass(getattr(library, program.name), (nn.LayerNorm, nn.RMSNorm))
    assert is_layer == (program.name in LAYERS)
    setting = Setting("call")
    built = make_example(program, setting)
    module = make_module(program, library, built, setting)
    counts = {f"{name}_size": count for name, count in built.groups.items()}
    nested = torch.nested.nested_tensor(rows((3, 4), (5, 4)), layout=layout)
    others = [built.inputs[decl.name] for decl in program.given_inputs[1:]]
    if not is_layer:
        with runtime.use(target), pytest.raises(TypeError, match=r"nested tensor.*to_padded"):
            module(nested, *others, **counts)


@pytest.mark.parametrize("target", ["auto", "torch"])
def test_so_do_functions_and_further_inputs(target: Any, library: ModuleType) -> None:
    x = torch.nested.nested_tensor(rows((3, 4), (5, 4)), layout=torch.jagged)
    with runtime.use(target):
        with pytest.raises(TypeError, match="nested tensor"):
            library.layer_norm.layer_norm(x, None, None, (4,), 1e-5)
        task = library.ReptileNorm(5).double()
        context = x.transpose(1, 2)  # as many axes as the norm asks for, of lengths that fit
        with pytest.raises((TypeError, runtime.ShapeError), match=r"nested tensor|context has sh"):
            task(torch.randn(2, 5, 4, dtype=torch.float64), context)


def test_all_norms_are_here() -> None:
    assert len(PROGRAMS) > 100
