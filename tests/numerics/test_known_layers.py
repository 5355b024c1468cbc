"""Compiled specs against the layers people use: the same face, the same state, the same numbers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GraphNorm


@dataclass(frozen=True)
class Case:
    """A reference layer, the name of its twin, arguments for both, and shapes of inputs."""

    reference: Callable[..., nn.Module]
    twin: str
    arguments: tuple[Any, ...]
    shapes: tuple[tuple[int, ...], ...]
    keywords: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.reference.__name__}-{self.arguments}-{self.keywords}"


SWITCHES: tuple[dict[str, Any], ...] = (
    {},
    {"affine": False},
    {"track_running_stats": False},
    {"momentum": None},
    {"momentum": 0.3, "eps": 1e-3},
    {"bias": False},
)
PLANES = ((4, 6, 5, 3), (1, 6, 2, 2))
CASES = (
    *(Case(nn.BatchNorm2d, "BatchNorm", (6,), PLANES, k) for k in SWITCHES),
    *(Case(nn.BatchNorm1d, "BatchNorm", (6,), ((8, 6), (4, 6, 5)), k) for k in SWITCHES),
    Case(nn.BatchNorm3d, "BatchNorm", (6,), ((2, 6, 3, 2, 4),)),
    Case(nn.GroupNorm, "GroupNorm", (3, 6), (*PLANES, (4, 6), (2, 6, 3, 2, 2))),
    Case(nn.GroupNorm, "GroupNorm", (1, 6), PLANES, {"affine": False}),
    Case(nn.GroupNorm, "GroupNorm", (6, 6), PLANES, {"bias": False, "eps": 0.1}),
    Case(nn.LayerNorm, "LayerNorm", (6,), ((4, 6), (6,), (2, 3, 5, 6))),
    Case(nn.LayerNorm, "LayerNorm", ((5, 6),), ((4, 5, 6), (5, 6))),
    Case(nn.LayerNorm, "LayerNorm", ([5, 6],), ((4, 5, 6),), {"elementwise_affine": False}),
    Case(nn.LayerNorm, "LayerNorm", (6,), ((4, 6),), {"bias": False, "eps": 0.2}),
    Case(nn.RMSNorm, "RMSNorm", (6,), ((4, 6), (2, 3, 6))),
    Case(nn.RMSNorm, "RMSNorm", ((5, 6),), ((4, 5, 6),), {"eps": 1e-3}),
    Case(nn.RMSNorm, "RMSNorm", (6,), ((4, 6),), {"elementwise_affine": False}),
    *(
        Case(nn.InstanceNorm2d, "InstanceNorm", (6,), PLANES[:1], k)
        for k in (
            {},
            {"affine": True},
            {"track_running_stats": True},
            {"affine": True, "bias": False},
        )
    ),
    Case(nn.InstanceNorm1d, "InstanceNorm", (6,), ((4, 6, 7),), {"affine": True}),
    Case(
        nn.InstanceNorm3d, "InstanceNorm", (6,), ((2, 6, 3, 2, 4),), {"track_running_stats": True}
    ),
)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def twins(case: Case, library: ModuleType, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """A reference layer with random state, and the compiled one with that state loaded."""
    reference = case.reference(*case.arguments, **case.keywords).to(dtype)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.uniform_(0.5, 1.5)
    ours = getattr(library, case.twin)(*case.arguments, **case.keywords).to(dtype)
    assert list(ours.state_dict()) == list(reference.state_dict())
    ours.load_state_dict(reference.state_dict())
    return reference, ours


def assert_close(ours: Tensor, reference: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(ours, reference, rtol=tolerance, atol=tolerance)


def assert_as_good(ours: Tensor, reference: Tensor, exact: Tensor, tolerance: float) -> None:
    """They agree, or else ours is the nearer one to float64 (pools of two lose many digits)."""
    if (ours.double() - exact).abs().max() > (reference.double() - exact).abs().max():
        assert_close(ours, reference, tolerance)


def run(layer: nn.Module, x: Tensor, seed: Tensor, *more: Any) -> tuple[Tensor, list[Tensor]]:
    """The output, and the gradients of the input and of all parameters."""
    x = x.clone().requires_grad_()
    y = layer(x, *more)
    wanted = [x, *layer.parameters()]
    return y.detach(), list(torch.autograd.grad(y, wanted, seed))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_gradients_and_state_agree(
    case: Case, dtype: torch.dtype, library: ModuleType
) -> None:
    torch.manual_seed(0)
    for shape in case.shapes:
        reference, ours = twins(case, library, dtype)
        for training in (True, True, True, False, True, False):
            reference.train(training)
            ours.train(training)
            x, seed = torch.randn(2, *shape, dtype=dtype) * 2 + 1
            exact_layer = copy.deepcopy(reference).double()
            y_exact, exact = run(exact_layer, x.double(), seed.double())
            y, gradients = run(reference, x, seed)
            y_ours, gradients_ours = run(ours, x, seed)
            assert_as_good(y_ours, y, y_exact, TOLERANCE[dtype])
            for g_ours, g, g_exact in zip(gradients_ours, gradients, exact):
                assert_as_good(g_ours, g, g_exact, TOLERANCE[dtype])
            for name, value in reference.state_dict().items():
                assert_close(ours.state_dict()[name], value, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", [c for c in CASES if not c.keywords], ids=str)
def test_half_precision_is_as_good(case: Case, dtype: torch.dtype, library: ModuleType) -> None:
    """Our error against float64 is no larger than the reference layer's, up to a rounding."""
    torch.manual_seed(0)
    for shape in case.shapes[:1]:
        reference, ours = twins(case, library, dtype)
        x = (torch.randn(*shape) * 3 + 2).to(dtype)
        exact = copy.deepcopy(reference).double()(x.double())
        spacing = torch.finfo(dtype).eps * exact.abs().max()
        error = (ours(x).double() - exact).abs().max()
        assert error <= (reference(x).double() - exact).abs().max() + spacing
        assert ours(x).dtype == reference(x).dtype


def names(layer: Callable[..., Any]) -> list[str]:
    return [n for n in inspect.signature(layer).parameters if n not in ("args", "kwargs")]


@pytest.mark.parametrize(
    ("reference", "twin"),
    [
        (nn.BatchNorm2d, "BatchNorm"),
        (nn.GroupNorm, "GroupNorm"),
        (nn.LayerNorm, "LayerNorm"),
        (nn.InstanceNorm2d, "InstanceNorm"),
        (nn.RMSNorm, "RMSNorm"),
    ],
    ids=str,
)
def test_the_constructor_is_the_same(reference: type, twin: str, library: ModuleType) -> None:
    theirs = inspect.signature(reference).parameters
    our_parameters = inspect.signature(getattr(library, twin)).parameters
    # torch 2.6 has no `bias` in some of them; what there is must agree in order and default.
    assert [n for n in our_parameters if n in theirs] == list(theirs)
    assert set(our_parameters) - set(theirs) <= {"bias"}
    for name, parameter in theirs.items():
        assert our_parameters[name].default == parameter.default, name
        assert our_parameters[name].kind == parameter.kind, name


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_repr_shows_what_the_known_layer_shows(case: Case, library: ModuleType) -> None:
    reference = case.reference(*case.arguments, **case.keywords)
    ours = getattr(library, case.twin)(*case.arguments, **case.keywords)
    shown = [part.split("=")[0] for part in reference.extra_repr().split(", ") if "=" in part]
    for name in shown:
        if name != "bias":
            assert f"{name}=" in ours.extra_repr()


WRONG = (
    (nn.BatchNorm2d, "BatchNorm", (6,), (4, 5, 3, 3)),
    (nn.BatchNorm1d, "BatchNorm", (6,), (6,)),
    (nn.BatchNorm2d, "BatchNorm", (6,), (1, 6, 1, 1)),
    (nn.GroupNorm, "GroupNorm", (2, 6), (4, 5, 3)),
    (nn.GroupNorm, "GroupNorm", (2, 6), (6,)),
    (nn.GroupNorm, "GroupNorm", (6, 6), (1, 6)),
    (nn.LayerNorm, "LayerNorm", ((5, 6),), (5, 5)),
    (nn.LayerNorm, "LayerNorm", ((5, 6),), (6,)),
    (nn.RMSNorm, "RMSNorm", (6,), (4, 5)),
    (nn.InstanceNorm2d, "InstanceNorm", (6,), (4, 6, 1, 1)),
)


@pytest.mark.parametrize(("reference", "twin", "arguments", "shape"), WRONG, ids=str)
def test_what_the_known_layer_refuses_is_refused(
    reference: Any, twin: str, arguments: Any, shape: Any, library: ModuleType
) -> None:
    x = torch.randn(shape)
    with pytest.raises((ValueError, RuntimeError)):
        reference(*arguments)(x)
    ours = getattr(library, twin)(*arguments)
    with pytest.raises(ValueError, match=rf"^{twin}: ") as ours_error:
        ours(x)
    assert isinstance(ours_error.value, RuntimeError)  # torch's layers raise one or the other


def test_group_norm_refuses_channels_that_do_not_divide(library: ModuleType) -> None:
    with pytest.raises(ValueError, match="num_channels = 30 is not divisible by num_groups = 4"):
        library.GroupNorm(4, 30)


def test_eval_mode_takes_a_single_element(library: ModuleType) -> None:
    x = torch.randn(1, 6, 1, 1)
    assert_close(library.BatchNorm(6).eval()(x), nn.BatchNorm2d(6).eval()(x), 1e-6)


def graph_twins(library: ModuleType, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    reference, ours = GraphNorm(6).to(dtype), library.GraphNorm(6).to(dtype)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.uniform_(0.5, 1.5)
    assert set(reference.state_dict()) == set(ours.state_dict())
    ours.load_state_dict(reference.state_dict())
    return reference, ours


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("sorted_", [True, False])
def test_graph_norm_agrees_with_pyg(sorted_: bool, dtype: torch.dtype, library: ModuleType) -> None:
    torch.manual_seed(0)
    reference, ours = graph_twins(library, dtype)
    x, seed = torch.randn(2, 40, 6, dtype=dtype) * 2 + 1
    batch = torch.randint(0, 5, (40,))
    batch = batch.sort().values if sorted_ else batch
    for more in ((), (batch,), (batch, 7)):
        y, gradients = run(reference, x, seed, *more)
        y_ours, gradients_ours = run(ours, x, seed, *more)
        assert_close(y_ours, y, TOLERANCE[dtype])
        by_name = dict(zip([n for n, _ in ours.named_parameters()], gradients_ours[1:]))
        for (name, _), gradient in zip(reference.named_parameters(), gradients[1:]):
            assert_close(by_name[name], gradient, TOLERANCE[dtype] * 10)
        assert_close(gradients_ours[0], gradients[0], TOLERANCE[dtype] * 10)
