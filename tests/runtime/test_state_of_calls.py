"""What a call leaves in a norm: what torch's layers leave, and after an error nothing."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiers import tiered
from torch import Tensor, nn

import metanorm
from metanorm import runtime
from tests.conftest import ROOT

TARGETS = ["torch", "auto"]


@pytest.fixture(params=TARGETS, autouse=True)
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    with runtime.use(request.param):
        yield request.param


def norm(name: str, cls: str) -> Callable[..., Any]:
    """A norm of the library."""
    return getattr(LIBRARY.setdefault(name, metanorm.load(ROOT / "specs" / f"{name}.norm")), cls)  # type: ignore[no-any-return]


LIBRARY: dict[str, Any] = {}


def state(layer: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(layer.state_dict())


def same(layer: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(value.equal(before[name]) for name, value in layer.state_dict().items())


# ---- attributes that torch's layers read at each call


def pair(momentum: float | None = 0.1) -> tuple[Any, nn.BatchNorm1d]:
    return norm("batch_norm", "BatchNorm")(3, momentum=momentum), nn.BatchNorm1d(
        3, momentum=momentum
    )


CHANGES: dict[str, dict[str, Any]] = {
    "track_running_stats off": {"track_running_stats": False},
    "momentum": {"momentum": 0.7},
    "momentum of all batches": {"momentum": None},
    "eps": {"eps": 0.5},
    "no running statistics": {"running_mean": None, "running_var": None},
    "no counter": {"num_batches_tracked": None},
    "no weight": {"weight": None},
    "off, in evaluation": {"track_running_stats": False, "training": False},
}


@pytest.mark.parametrize("change", CHANGES)
def test_attributes_that_are_set_later_are_honoured(change: str) -> None:
    ours, theirs = pair()
    for layer in (ours, theirs):
        layer(torch.ones(2, 3) * torch.tensor([[1.0], [3.0]]))
        for name, value in CHANGES[change].items():
            setattr(layer, name, value)
    for seed in range(3):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(ours(x), theirs(x))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


@pytest.mark.parametrize("training", [True, False])
def test_instance_norm_without_tracking_that_is_turned_off_later(training: bool) -> None:
    """In evaluation, too, it takes the statistics of its input, of which it updates none."""
    ours = norm("instance_norm", "InstanceNorm")(3, track_running_stats=True)
    theirs = nn.InstanceNorm1d(3, track_running_stats=True)
    for layer in (ours, theirs):
        layer(torch.arange(24.0).view(2, 3, 4) ** 2)
    before = state(ours)
    for layer in (ours.train(training), theirs.train(training)):
        layer.track_running_stats = False
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(ours(x), theirs(x))
    assert same(ours, before)
    with pytest.raises(ValueError, match="more than 1 value"):
        ours(torch.randn(2, 3, 1))
    ours.track_running_stats = True
    ours.eval()(torch.randn(2, 3, 1))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("graphs", [True, False])
def test_graph_instance_norm_without_tracking_that_is_turned_off_later(
    training: bool, graphs: bool
) -> None:
    pyg = pytest.importorskip("torch_geometric.nn")
    ours = norm("graph_instance_norm", "GraphInstanceNorm")(3, track_running_stats=True)
    theirs = pyg.InstanceNorm(3, track_running_stats=True)
    batch = torch.tensor([0, 0, 1, 1, 1]) if graphs else None
    for layer in (ours.train(training), theirs.train(training)):
        layer.track_running_stats = False
    x = torch.randn(5, 3)
    torch.testing.assert_close(ours(x, batch), theirs(x, batch))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_batch_without_elements_counts_as_in_torch(momentum: float | None) -> None:
    ours, theirs = pair(momentum)
    for x in (torch.ones(0, 3), torch.arange(6.0).view(2, 3), torch.ones(0, 3)):
        torch.testing.assert_close(ours(x), theirs(x))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


def test_statistics_that_are_off_are_off_for_every_norm_that_keeps_some() -> None:
    for name, cls, arguments in (
        ("instance_norm", "InstanceNorm", (3,)),
        ("power_norm", "PowerNormV", (3,)),
        ("switch_norm", "SwitchNorm", (3,)),
        ("iter_norm", "IterNorm", (3, 3)),
    ):
        layer = norm(name, cls)(*arguments)
        if not hasattr(layer, "track_running_stats"):
            continue
        layer.track_running_stats = True
        layer(torch.randn(4, 3, 3))
        before = state(layer)
        layer.track_running_stats = False
        layer(torch.randn(4, 3, 3))
        assert same(layer, before), cls


# ---- calls that fail


def failing(*_: Any, **__: Any) -> Any:
    raise RuntimeError("planted")


def of_inference(like: Tensor) -> Tensor:
    with torch.inference_mode():
        return like.clone()


FAILURES: dict[str, tuple[str, str, tuple[Any, ...], tuple[Tensor, ...]]] = {
    "too few values": ("batch_norm", "BatchNorm", (3,), (torch.ones(1, 3),)),
    "another shape": ("batch_norm", "BatchNorm", (3,), (torch.ones(2, 4),)),
    "whole numbers": ("batch_norm", "BatchNorm", (3,), (torch.ones(2, 3).long(),)),
    "a tensor that cannot be saved": (
        "batch_norm", "BatchNorm", (3,), (of_inference(torch.randn(4, 3)),),
    ),
    "a class that is none": (
        "conditional_norm", "ConditionalBatchNorm", (5, 3),
        (torch.randn(4, 3), torch.tensor([0, 1, 2, 99])),
    ),
    "a class below zero": (
        "conditional_norm", "ConditionalBatchNorm", (5, 3),
        (torch.randn(4, 3), torch.tensor([0, 1, 2, -1])),
    ),
    "a domain that is none": (
        "domain_batch_norm", "DomainBatchNorm", (2, 3),
        (torch.randn(4, 3), torch.tensor([0, 1, 0, 2])),
    ),
}  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES)
def test_a_call_that_fails_leaves_all_state_as_it_was(failure: str) -> None:
    file, cls, arguments, inputs = FAILURES[failure]
    layer = norm(file, cls)(*arguments)
    before = state(layer)
    with pytest.raises((ValueError, IndexError, TypeError, RuntimeError)):
        layer(*inputs)
    assert same(layer, before)


def test_an_error_names_the_input_and_the_number_of_classes() -> None:
    layer = norm("conditional_norm", "ConditionalBatchNorm")(5, 3)
    with pytest.raises(IndexError, match=r"`label` has numbers from 0 to 99, but there are 5 rows"):
        layer(torch.randn(2, 3), torch.tensor([0, 99]))


STEPS = ("torch.sqrt", "runtime.rescale", "runtime.unbiased", "runtime.moved")


@pytest.mark.parametrize("step", STEPS)
def test_wherever_a_function_fails_its_buffers_are_as_they_were(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By any error, as one by lack of memory: an update is the last thing that happens."""
    layer = norm("batch_norm", "BatchNorm")(3)
    before = state(layer)
    module, name = step.split(".")
    monkeypatch.setattr({"torch": torch, "runtime": runtime}[module], name, failing)
    with runtime.use("torch"), pytest.raises(RuntimeError, match="planted"):
        layer(torch.randn(4, 3))
    assert same(layer, before)


def test_a_buffer_of_another_shape_fails_before_the_other_one_moves() -> None:
    layer = norm("batch_norm", "BatchNorm")(3)
    layer.running_var = torch.ones(2)
    before = state(layer)
    with pytest.raises(RuntimeError):
        layer(torch.randn(4, 3))
    assert same(layer, before)


def test_no_memory_in_a_kernel_leaves_all_state_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    from metanorm.runtime.native import binding, calls

    layer = metanorm.load(ROOT / "specs" / "batch_norm.norm").BatchNorm(3)
    before = state(layer)
    no_memory = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p)(lambda call: 1)
    prepare = binding.NativeBinding.prepare

    def failing(*args: Any) -> calls.PreparedKernel:
        return replace(prepare(*args), function=no_memory)

    monkeypatch.setattr(binding.NativeBinding, "prepare", failing)
    for _ in range(2):
        with runtime.use("native"), pytest.raises(MemoryError):
            layer(torch.randn(4, 3))
        assert same(layer, before)


# ---- the order of parameters, by which optimizers keep their state

ORDERS = {
    ("graph_norm", "GraphNorm", (4,)): ["weight", "bias", "mean_scale"],  # as in PyG
    ("filter_response_norm", "FilterResponseNorm", (4,)): ["weight", "bias", "tau"],
    ("switch_norm", "SwitchNorm", (4,)): ["weight", "bias", "mean_weight", "var_weight"],
    ("batch_norm", "BatchNorm", (4,)): ["weight", "bias"],
}


@pytest.mark.parametrize("case", ORDERS, ids=lambda case: case[1])
def test_what_affine_learns_comes_first(case: tuple[str, str, tuple[int, ...]]) -> None:
    layer = norm(case[0], case[1])(*case[2])
    names = [name for name, _ in layer.named_parameters()]
    assert names == ORDERS[case]
    assert list(layer.state_dict())[: len(names)] == names


UNFIT: dict[str, Callable[[Tensor], Tensor]] = {
    "expanded": lambda t: t.new_ones(1).expand(max(t.numel(), 2)),
    "a leaf of autograd": lambda t: t.double().requires_grad_(),
    "a view of a leaf": lambda t: t.double().requires_grad_().view(t.shape),
    "of inference mode": of_inference,
    "whole numbers": lambda t: t.to(torch.int32),
    "complex numbers": lambda t: t.to(torch.complex64),
}
SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "more room": lambda t: torch.stack([t, t]),
    "less room": lambda t: t[:1] if t.dim() else t[None][:0],
    "a row of one": lambda t: t[None],
}
AVERAGING = [
    ("batch_norm", "BatchNorm"), ("instance_norm", "InstanceNorm"), ("switch_norm", "SwitchNorm"),
    ("extended_batch_norm", "ExtendedBatchNorm"),
]  # fmt: skip
ODD = [
    *((*names, how) for names in (*AVERAGING, ("batch_renorm", "BatchRenorm")) for how in UNFIT),
    *((*names, how) for names in AVERAGING for how in SHAPES),
]


QUICK = [odd for odd in ODD if odd[1] in ("BatchNorm", "SwitchNorm")]


@pytest.mark.parametrize("odd", tiered(ODD, QUICK), ids=lambda odd: "-".join(odd[1:]))
def test_whatever_buffer_cannot_be_stored_into_the_others_do_not_move(
    odd: tuple[str, str, str],
) -> None:
    """A counter of whole numbers is as good as any, and a counter has no shape to keep to."""
    file, cls, how = odd
    for name in dict(norm(file, cls)(3).named_buffers()):
        layer = norm(file, cls)(3)
        layer.track_running_stats = True
        layer(torch.randn(4, 3, 5, 5))
        layer._buffers[name] = (UNFIT | SHAPES)[how](getattr(layer, name))
        before = state(layer)
        try:
            layer(torch.randn(4, 3, 5, 5))
        except (TypeError, ValueError, RuntimeError):
            assert same(layer, before), name
        else:
            assert name == "num_batches_tracked", name


BOTH = """
norm Both(momentum = 0.1) {
  input  x[N, C = width]
  buffer seen = 0, last[C] = 0
  let    m = moments(x over N track momentum)
  update seen = seen + 1
  update last = m.mean
  output (x - m.mean) / sqrt(m.var + 1)
}
"""


@pytest.mark.parametrize("name", ["running_mean", "running_var", "last"])
def test_of_two_kinds_of_updates_none_happens_where_one_cannot(name: str) -> None:
    layer = metanorm.loads(BOTH).Both(3)
    x = torch.randn(4, 3)
    layer(x)
    assert layer.seen == 1 and layer.last.any() and layer.running_mean.any()
    layer._buffers[name] = torch.zeros(1).expand(3)  # which nothing can be stored into
    before = state(layer)
    with pytest.raises(RuntimeError, match="nothing can be stored"):
        layer(x)
    assert same(layer, before)
    layer.track_running_stats = False
    if name != "last":
        layer(x)
        assert layer.seen == 2
