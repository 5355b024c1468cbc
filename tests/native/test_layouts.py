"""A tensor means the same however it lies in memory: kernels against the torch target."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from layers import (
    F64,
    LAYERS,
    ODD,
    REGULAR,
    agree,
    beside,
    everything,
    kernels_counted,
    layer,
    outputs,
    use,
    weighted,
)  # fmt: skip
from torch import Tensor

from metanorm.runtime.targets import Target

every_layer = pytest.mark.parametrize("name", LAYERS)

# *B of these is of two axes, which these layouts tear apart.
TORN = {
    ("layer_norm", layout)
    for layout in ("channels last", "transposed", "expanded first", "expanded second")
}
# No axes are taken together, so that nothing is odd.
WHOLE = {"graph_norm", "ada_layer_norm"}


@every_layer
@pytest.mark.parametrize("layout", REGULAR)
def test_layouts_that_kernels_read(name: str, layout: str, library: ModuleType) -> None:
    module, x = layer(name, library), REGULAR[layout](torch.randn(LAYERS[name][1], dtype=F64))
    others = beside(name, x)
    target: Target = "auto" if (name, layout) in TORN else "native"
    for dy in (weighted, None):
        agree(everything(target, module, x, others, dy), everything("torch", module, x, others, dy))


@every_layer
@pytest.mark.parametrize("layout", ODD)
def test_layouts_that_fall_to_torch(name: str, layout: str, library: ModuleType) -> None:
    """They are right under "auto", and refused with a reason where kernels are demanded."""
    module, x = layer(name, library), ODD[layout](torch.randn(LAYERS[name][1], dtype=F64))
    others = beside(name, x)
    with kernels_counted() as kernels:
        actual = everything("auto", module, x, others, weighted)
    agree(actual, everything("torch", module, x, others, weighted))
    if name in WHOLE:
        assert len(kernels) == 2
    else:
        assert not kernels
        with use("native"), pytest.raises(RuntimeError, match="do not lie in one piece"):
            module(x, **others)


def test_the_layouts_of_the_brief_are_what_they_should_be() -> None:
    x = torch.randn(3, 4, 5, 3)
    assert REGULAR["channels last"](x).is_contiguous(memory_format=torch.channels_last)
    assert REGULAR["strided"](x).stride() == (120, 30, 6, 2)
    assert REGULAR["transposed"](x).stride() == (15, 45, 3, 1)
    assert REGULAR["shifted"](x).data_ptr() % 16 == 12


@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "instance_norm", "switch_norm"])
def test_slices_of_images(name: str, library: ModuleType) -> None:
    module = layer(name, library)
    x = torch.randn(3, 4, 10, 4, dtype=F64)[:, :, ::2, 1:]
    agree(everything("auto", module, x), everything("torch", module, x))


@every_layer
@pytest.mark.parametrize("of_x", ["contiguous", "channels last"])
@pytest.mark.parametrize("of_dy", [*REGULAR, *ODD])
def test_gradients_lie_otherwise(name: str, of_x: str, of_dy: str, library: ModuleType) -> None:
    """What comes next decides how a gradient lies, and no call can refuse it any more."""
    module, x = layer(name, library), REGULAR[of_x](torch.randn(LAYERS[name][1], dtype=F64))
    others = beside(name, x)

    def dy(y: Tensor) -> Tensor:
        return {**REGULAR, **ODD}[of_dy](weighted(y))

    agree(everything("auto", module, x, others, dy), everything("torch", module, x, others, dy))


@every_layer
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "strided"])
def test_single_precision(name: str, layout: str, library: ModuleType) -> None:
    """Against double precision, since both targets round in single."""
    module = layer(name, library, torch.float32)
    x = REGULAR[layout](torch.randn(LAYERS[name][1]))
    others = beside(name, x)
    actual = everything("auto", module, x, others, weighted)
    wide = {n: o.double() if o.is_floating_point() else o for n, o in others.items()}
    right = everything("torch", module.double(), x.double(), wide, weighted)
    agree({n: t.to(right[n].dtype) for n, t in actual.items()}, right, 2e-5, 2e-5)


SHAPES = [
    (2, 4), (3, 4, 1), (3, 4, 7), (1, 4, 9), (2, 4, 1, 1), (2, 4, 1, 5), (2, 4, 5, 1), (2, 4, 33),
    (1, 4, 17, 13), (3, 4, 2, 3, 5), (2, 4, 2, 1, 2, 3), (2, 4, 65, 65), (5, 4, 129), (257, 4),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "name", ["batch_norm", "group_norm", "instance_norm", "switch_norm", "positional_norm"]
)
def test_shapes(name: str, shape: tuple[int, ...], library: ModuleType) -> None:
    """Odd lengths leave rests in vectors and tiles; axes of length one have any stride."""
    module = layer(name, library)
    if name == "instance_norm" and torch.Size(shape[2:]).numel() == 1:
        pytest.skip("pools of one value are refused")
    x = torch.randn(shape, dtype=F64)
    for made in (x, REGULAR["channels last"](x), x.as_strided(x.shape, odd_strides(x))):
        actual = everything("native", module, made, {}, weighted)
        agree(actual, everything("torch", module, made, {}, weighted), 1e-8, 1e-8)


def odd_strides(x: Tensor) -> list[int]:
    """The strides of axes of length one say nothing."""
    return [7 if n == 1 else s for n, s in zip(x.shape, x.stride())]


@pytest.mark.parametrize("normalized", [(3,), (5, 3), (4, 5, 3), (1,), (1000,)], ids=str)
def test_ranks_of_layer_norm(normalized: tuple[int, ...], library: ModuleType) -> None:
    module = library.LayerNorm(normalized).double()
    for batch in ((), (1,), (7,), (2, 3)):
        x = torch.randn(*batch, *normalized, dtype=F64)
        agree(everything("native", module, x, {}, weighted),
              everything("torch", module, x, {}, weighted), 1e-8, 1e-8)  # fmt: skip


@every_layer
@pytest.mark.parametrize("layout", REGULAR)
def test_results_lie_as_torch_lays_them(name: str, layout: str, library: ModuleType) -> None:
    """Where a layout is dense, results have it; otherwise they are contiguous."""
    module, x = layer(name, library), REGULAR[layout](torch.randn(LAYERS[name][1], dtype=F64))
    y, *others = outputs(module(x.requires_grad_(), **beside(name, x)))
    assert y.stride() == torch.empty_like(x).stride()
    assert all(other.is_contiguous() for other in others)
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert dx.stride() == torch.empty_like(x).stride()


def test_no_elements(library: ModuleType) -> None:
    for name in ("batch_norm", "group_norm", "graph_norm"):
        module, shape = layer(name, library), LAYERS[name][1]
        x = torch.randn(0, *shape[1:], dtype=F64)
        assert everything("auto", module, x)["output 0"].shape == x.shape
