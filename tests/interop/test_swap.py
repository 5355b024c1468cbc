"""`runtime.swap`: layers of a model replaced by norms, and everything else as it was."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize, prune

import metanorm
from metanorm import runtime

MORE = """
norm Gated(eps = 1e-5) {  # layer norm with one parameter more
  input  x[*B, *D = normalized_shape]
  param  weight[*D] = 1, bias[*D] = 0, gate[*D] = 1
  output (x - mean(x over *D)) / sqrt(var(x over *D) + eps) * weight * gate + bias
}
norm Named(epsilon = 1e-5) {  # layer norm of the last axis, in other words
  input  x[*B, D = dim]
  let    m = mean(x over D)
  output affine((x - m) / sqrt(var(x over D) + epsilon) per D)
}
norm Grouped(groups: int, eps = 1e-5) {
  input  x[*B, D = dim]
  reduce D: blocks(groups)
  affine D
}
"""


class Block(nn.Module):
    """What models do with layers: names, lists, dictionaries, and one layer in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LayerNorm(4)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.LayerNorm(4, 1e-3), self.first])
        self.by_name = nn.ModuleDict({"norm": nn.LayerNorm(4, bias=False), "act": nn.GELU()})
        self.in_order = [self.first, self.layers[1]]
        self.by_key = {"a": (self.first, "text")}
        self.alias = (self.by_name["norm"],)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.layers, *self.in_order, *self.by_name.values(), *self.alias):
            x = layer(x)
        return self.by_key["a"][0](x)


@pytest.fixture(scope="module")
def more() -> ModuleType:
    return metanorm.loads(MORE)


def randomized(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(0.5, 1.5)
    return model


def test_all_places_and_all_numbers_stay(library: ModuleType) -> None:
    model = randomized(Block())
    theirs = copy.deepcopy(model)
    parameters = dict(model.named_parameters())
    optimizers = [torch.optim.AdamW(m.parameters(), 0.1) for m in (model, theirs)]
    report = runtime.swap(model, {nn.LayerNorm: library.LayerNorm})
    assert [r.names for r in report.replaced] == [
        ("first", "layers.2"),
        ("layers.1",),
        ("by_name.norm",),
    ]
    assert not report.skipped
    assert not any(type(m) is nn.LayerNorm for m in model.modules())
    assert model.first is model.layers[2] is model.in_order[0] is model.by_key["a"][0]
    assert model.alias[0] is model.by_name["norm"]
    assert dict(model.named_parameters()).items() == parameters.items()
    assert all(p is parameters[n] for n, p in model.named_parameters())
    for _ in range(3):
        x = torch.randn(3, 4)
        results = []
        for m, optimizer in zip((model, theirs), optimizers):
            optimizer.zero_grad()
            y = m(x)
            y.square().sum().backward()
            optimizer.step()
            results.append(y)
        torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(model.state_dict(), theirs.state_dict(), rtol=1e-4, atol=1e-5)


def test_the_report_reads(library: ModuleType) -> None:
    model = nn.Sequential(nn.LayerNorm(4), nn.LayerNorm(4), Functional())
    report = runtime.swap(model, {nn.LayerNorm: library.LayerNorm}, lambda _, name: name != "1")
    assert repr(report).split("\n") == [
        "replaced: 1",
        "  0: LayerNorm -> LayerNorm",
        "skipped: 2",
        "  1: LayerNorm is left by filter_fn",
        "  2: Functional calls layer_norm itself, and no layer",
    ]


class Functional(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (4,))


@pytest.mark.parametrize(
    ("layer", "norm"),
    [
        (nn.BatchNorm2d(3, 1e-3, None), "BatchNorm"),
        (nn.BatchNorm1d(3, affine=False), "BatchNorm"),
        (nn.BatchNorm1d(3, track_running_stats=False), "BatchNorm"),
        (nn.InstanceNorm1d(3, affine=True, track_running_stats=True), "InstanceNorm"),
        (nn.GroupNorm(1, 3), "GroupNorm"),
        (nn.LayerNorm((3, 4), 1e-3, bias=False), "LayerNorm"),
        (nn.LayerNorm(4, elementwise_affine=False), "LayerNorm"),
        (nn.RMSNorm(4), "RMSNorm"),
        (nn.RMSNorm(4, 1e-3), "RMSNorm"),
    ],
    ids=str,
)
def test_layers_of_torch(layer: nn.Module, norm: str, library: ModuleType) -> None:
    model = nn.Sequential(copy.deepcopy(layer)).double()
    randomized(model)
    theirs = copy.deepcopy(model)
    tensors = [*model.parameters(), *model.buffers()]
    report = runtime.swap(model, {type(layer): getattr(library, norm)})
    assert len(report.replaced) == 1 and not report.replaced[0].added
    assert all(
        a is b for a, b in zip([*model.parameters(), *model.buffers()], tensors, strict=True)
    )
    assert repr(model) == repr(theirs).replace(type(layer).__name__, norm)
    shape = (5, 3, 4, 2) if isinstance(layer, nn.BatchNorm2d) else (5, 3, 4)
    x = torch.randn(shape, dtype=torch.float64)
    for training in (True, False):
        torch.testing.assert_close(model.train(training)(x), theirs.train(training)(x))
    for a, b in zip(model.buffers(), theirs.buffers(), strict=True):
        if a.is_floating_point():
            torch.testing.assert_close(a, b)


def test_modes_types_and_marks_stay(library: ModuleType, more: ModuleType) -> None:
    layer = nn.LayerNorm(4, dtype=torch.bfloat16).eval()
    layer.weight.requires_grad_(False)
    layer.weight.grad = torch.ones(4, dtype=torch.bfloat16)
    layer.mark = "no weight decay"
    model = nn.Sequential(layer).to(torch.bfloat16)
    runtime.swap(model, {nn.LayerNorm: more.Gated})
    assert not model[0].training and model[0].mark == "no weight decay"
    assert not model[0].weight.requires_grad and model[0].weight.grad.eq(1).all()
    assert model[0].gate.dtype == torch.bfloat16
    with torch.device("meta"):
        model = nn.Sequential(nn.LayerNorm(4))
    report = runtime.swap(model, {nn.LayerNorm: more.Gated})
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert report.replaced[0].added == ("gate",)
    assert "with a new gate" in repr(report)


def test_hooks_go_along(library: ModuleType) -> None:
    model = nn.Sequential(nn.LayerNorm(4))
    layer = model[0]
    calls: list[str] = []

    def noting(name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: calls.append(f"{name} {type(args[0]).__name__}")

    handles = [
        layer.register_forward_hook(noting("forward"), with_kwargs=True, always_call=True),
        layer.register_forward_pre_hook(noting("before")),
        layer.register_full_backward_hook(noting("backward")),
        layer.register_full_backward_pre_hook(noting("before backward")),
        layer.register_state_dict_pre_hook(noting("state")),
        layer.register_state_dict_post_hook(noting("saved")),
        layer.register_load_state_dict_pre_hook(noting("load")),
        layer.register_load_state_dict_post_hook(noting("loaded")),
    ]
    del layer
    runtime.swap(model, {nn.LayerNorm: library.LayerNorm})
    expected = [
        *("before LayerNorm", "forward LayerNorm", "before backward LayerNorm"),
        *("backward LayerNorm", "state LayerNorm", "saved LayerNorm", "load LayerNorm"),
        "loaded LayerNorm",
    ]
    model(torch.randn(2, 4, requires_grad=True)).sum().backward()
    model.load_state_dict(model.state_dict())
    assert calls == expected
    for handle in handles:
        handle.remove()
    model(torch.randn(2, 4, requires_grad=True)).sum().backward()
    model.load_state_dict(model.state_dict())
    assert calls == expected


class Derived(nn.LayerNorm):
    pass


def test_subclasses_have_to_be_named(library: ModuleType) -> None:
    model = nn.Sequential(Derived(4), nn.LayerNorm(4))
    report = runtime.swap(model, {nn.LayerNorm: library.LayerNorm})
    assert [s.reason for s in report.skipped] == [
        "derives from LayerNorm; make it a key to swap it"
    ]
    again = runtime.swap(model, {Derived: library.LayerNorm, nn.LayerNorm: library.LayerNorm})
    assert [r.names for r in again.replaced] == [("0",)]
    assert [s.reason for s in again.skipped] == ["is such a norm already"]


class Foreign(nn.Module):
    """As in model files: a weight, an eps under a name of its own, and no shape."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.variance_epsilon = 1e-3

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, True) + self.variance_epsilon) * self.weight


def test_layers_of_others(library: ModuleType, more: ModuleType) -> None:
    model = randomized(nn.Sequential(Foreign(4), nn.LayerNorm(4, 1e-2)))
    theirs = copy.deepcopy(model)
    runtime.swap(model, {Foreign: library.RMSNorm, nn.LayerNorm: more.Named})
    assert (model[0].eps, model[0].normalized_shape, model[1].epsilon) == (1e-3, (4,), 1e-2)
    assert model[0].variance_epsilon == 1e-3
    x = torch.randn(3, 4)
    torch.testing.assert_close(model(x), theirs(x))


def test_functions_make_what_the_layer_does_not_tell(library: ModuleType, more: ModuleType) -> None:
    model = nn.Sequential(nn.LayerNorm(4), nn.LayerNorm(4))
    weight = model[0].weight
    report = runtime.swap(
        model,
        {nn.LayerNorm: lambda old: library.RMSNorm(old.normalized_shape, old.eps)},
        lambda _, name: name == "0",
    )
    assert model[0].weight is weight and report.replaced[0].dropped == ("bias",)
    assert "without bias" in repr(report)
    runtime.swap(model, {nn.LayerNorm: lambda old: more.Grouped(2, old.normalized_shape[0])})
    assert model[1].groups == 2
    kept = runtime.swap(model, {more.Grouped: lambda old: old})
    assert not kept.replaced and len(kept.skipped) == 1


def bound(layer: nn.LayerNorm) -> nn.Module:
    layer.register_forward_hook(layer.extra_repr)
    return layer


def overridden(layer: nn.LayerNorm) -> nn.Module:
    layer.forward = lambda x: x
    return layer


class Keeping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.call = self.norm.forward


OBSTACLES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "parametrized": (
        lambda: parametrize.register_parametrization(nn.LayerNorm(4), "weight", nn.Softplus()),
        "is parametrized; swap first",
    ),
    "pruned": (lambda: prune.identity(nn.LayerNorm(4), "weight"), "has weight_orig, weight_mask"),
    "own hook": (lambda: bound(nn.LayerNorm(4)), "has its own method as a hook"),
    "own forward": (lambda: overridden(nn.LayerNorm(4)), "has a `forward` of its own"),
    "kept method": (Keeping, "has a method that is kept as an attribute elsewhere"),
}


@pytest.mark.parametrize("case", OBSTACLES)
def test_what_cannot_be_swapped_is_said_before_anything_is(case: str, library: ModuleType) -> None:
    made, reason = OBSTACLES[case]
    model = nn.Sequential(nn.LayerNorm(4), made(), nn.LayerNorm(4))
    before = list(model.modules())
    norms = {nn.LayerNorm: library.LayerNorm}
    with pytest.raises(runtime.SwapError, match="nothing was swapped") as raised:
        runtime.swap(model, norms)
    assert reason in str(raised.value)
    assert list(model.modules()) == before
    report = runtime.swap(model, norms, strict=False)
    assert [r.names for r in report.replaced] == [("0",), ("2",)]
    assert reason in repr(report)


@pytest.mark.parametrize(
    ("layer", "norm", "reason"),
    [
        (nn.LayerNorm(4), "RMSNorm", "has bias, for which RMSNorm has no place"),
        (nn.LayerNorm(4), "GroupNorm", "does not tell the `num_groups` of GroupNorm"),
        (nn.RMSNorm(4), "LayerNorm", "has None as its `eps`"),
        (nn.LazyBatchNorm1d(), "BatchNorm", "has no shape yet; call the model once before"),
    ],
    ids=str,
)
def test_what_does_not_fit(layer: nn.Module, norm: str, reason: str, library: ModuleType) -> None:
    key = getattr(layer, "cls_to_become", None) or type(layer)
    with pytest.raises(runtime.SwapError) as raised:
        runtime.swap(nn.Sequential(layer), {key: getattr(library, norm)})
    assert reason in str(raised.value)


def test_wrong_arguments(library: ModuleType) -> None:
    layer = nn.LayerNorm(4)
    with pytest.raises(runtime.SwapError, match="the model itself"):
        runtime.swap(layer, {nn.LayerNorm: library.LayerNorm})
    with pytest.raises(TypeError, match="classes of modules"):
        runtime.swap(nn.Sequential(layer), {"LayerNorm": library.LayerNorm})
    with pytest.raises(TypeError, match="a class or a function"):
        runtime.swap(nn.Sequential(layer), {nn.LayerNorm: library.LayerNorm(4)})
    with pytest.raises(runtime.SwapError, match="returned str"):
        runtime.swap(nn.Sequential(layer), {nn.LayerNorm: lambda old: "norm"})


def test_layers_that_only_a_list_holds_are_named(library: ModuleType) -> None:
    model = nn.Module()
    model.hidden = [nn.LayerNorm(4)]
    report = runtime.swap(model, {nn.LayerNorm: library.LayerNorm})
    assert repr(report) == "replaced: 0\nskipped: 1\n  hidden: LayerNorm is no registered module"


class WithBuffers(nn.LayerNorm):
    """A norm with buffers of its own, one of which is saved."""

    def __init__(self, normalized_shape: int, eps: float = 1e-5) -> None:
        super().__init__(normalized_shape, eps)
        self.register_buffer("saved", torch.zeros(2))
        self.register_buffer("unsaved", torch.zeros(2), persistent=False)
        self.register_buffer("mask", torch.zeros(2), persistent=False)
        self.register_buffer("kept", torch.zeros(2))


class OldBuffers(nn.LayerNorm):
    def __init__(self, shape: int) -> None:
        super().__init__(shape)
        self.register_buffer("mask", torch.ones(2))
        self.register_buffer("kept", torch.ones(2), persistent=False)


def test_buffers_are_saved_as_before_and_new_ones_as_the_norm_says() -> None:
    model = nn.Sequential(OldBuffers(4))
    saved = set(model.state_dict())
    runtime.swap(model, {OldBuffers: WithBuffers})
    assert set(model.state_dict()) == {*saved, "0.saved"}
    assert model[0].mask.eq(1).all() and model[0].kept.eq(1).all()
    assert set(copy.deepcopy(model).state_dict()) == set(model.state_dict())


def test_a_norm_keeps_backward_hooks_that_a_factory_put_on_it() -> None:
    calls = []

    def made(old: nn.LayerNorm) -> nn.Module:
        norm = nn.LayerNorm(old.normalized_shape)
        norm.register_full_backward_hook(lambda *_: calls.append("backward"))
        return norm

    model = nn.Sequential(nn.LayerNorm(4))
    runtime.swap(model, {nn.LayerNorm: made})
    model(torch.randn(2, 4, requires_grad=True)).sum().backward()
    assert calls == ["backward"]


def test_one_norm_is_not_put_in_two_places(library: ModuleType) -> None:
    """Nor a part of one, nor a module that stands in the model already."""
    one = library.LayerNorm(4)
    elsewhere = nn.LayerNorm(4)
    factories: dict[str, Callable[[nn.Module], nn.Module]] = {
        "returned what stands at 1 too": lambda old: one,
        "returned what stands at 1 too; ": lambda old: nn.Sequential(one),
        "returned what stands at 0 too": lambda old: elsewhere,
    }
    for reason, factory in factories.items():
        model = nn.Sequential(Foreign(4), nn.LayerNorm(4), nn.LayerNorm(4))
        model[0].inner = elsewhere
        reason = reason.replace("at 0", "at 0.inner")
        before = list(model.modules())
        with pytest.raises(runtime.SwapError) as raised:
            runtime.swap(model, {nn.LayerNorm: factory}, lambda _, name: name != "0.inner")
        assert reason in str(raised.value)
        assert list(model.modules()) == before


def test_a_layer_is_not_put_into_its_norm() -> None:
    """Its hooks would run twice, and its parameters would have other names."""
    calls: list[str] = []
    model = nn.Sequential(nn.LayerNorm(4))
    model[0].register_forward_hook(lambda *_: calls.append("called"))
    norms = {nn.LayerNorm: lambda old: nn.Sequential(old, nn.Identity())}
    with pytest.raises(runtime.SwapError, match="is part of what <lambda> returned"):
        runtime.swap(model, norms)
    assert not runtime.swap(model, norms, strict=False).replaced
    model(torch.randn(2, 4))
    assert calls == ["called"]


@pytest.mark.parametrize(
    ("cls", "built"),
    [(nn.BatchNorm1d, True), (nn.BatchNorm1d, False), (nn.InstanceNorm1d, False)],
)
def test_tracking_that_was_turned_off_later(
    cls: type[nn.Module], built: bool, library: ModuleType
) -> None:
    model = nn.Sequential(cls(3, affine=True, track_running_stats=built))
    model(torch.randn(5, 3, 4))
    model[0].track_running_stats = False
    theirs = copy.deepcopy(model)
    report = runtime.swap(model, {cls: getattr(library, cls.__name__[:-2])})
    assert len(report.replaced) == 1 and not report.replaced[0].dropped
    assert model[0].track_running_stats is False
    for training in (True, False):
        x = torch.randn(5, 3, 4)
        torch.testing.assert_close(model.train(training)(x), theirs.train(training)(x))
    torch.testing.assert_close(model.state_dict(), theirs.state_dict())


def test_statistics_that_a_layer_ignores_are_not_carried_on(library: ModuleType) -> None:
    layer = nn.InstanceNorm1d(3, track_running_stats=True)
    layer.track_running_stats = False
    with pytest.raises(runtime.SwapError, match="has statistics that it does not use"):
        runtime.swap(nn.Sequential(layer), {nn.InstanceNorm1d: library.InstanceNorm})
    layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    model = nn.Sequential(layer).eval()
    x = torch.randn(2, 3, 4)
    before = model(x)
    runtime.swap(model, {nn.InstanceNorm1d: library.InstanceNorm})
    torch.testing.assert_close(model(x), before)


def test_a_length_without_a_name_is_said_in_words() -> None:
    unnamed = metanorm.loads(
        "norm Plain(eps = 1e-5) {\n  input  x[N, C]\n  reduce C\n  affine C\n}\n"
    ).Plain
    model = nn.Sequential(nn.LayerNorm(4))
    with pytest.raises(runtime.SwapError) as raised:
        runtime.swap(model, {nn.LayerNorm: unnamed})
    assert "does not tell the `c` of Plain" in str(raised.value)
    assert "`C = normalized_shape`" in str(raised.value)


MASKS: dict[str, dict[str, Tensor]] = {
    "no mask": {},
    "padding": {
        "src_key_padding_mask": torch.tensor([[False] * 5, [False] * 3 + [True] * 2]),
    },
    "causal": {"mask": nn.Transformer.generate_square_subsequent_mask(5)},
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("norm_first", [False, True], ids=["norm last", "norm first"])
@pytest.mark.parametrize("mask", MASKS)
def test_encoders_call_the_norms_that_were_put_in(
    mask: str, norm_first: bool, library: ModuleType, more: ModuleType
) -> None:
    """In evaluation without gradients, where torch computes layer norm in a fused kernel."""
    layer = nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True, norm_first=norm_first)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first)
    randomized(encoder)
    theirs = copy.deepcopy(encoder)
    runtime.swap(encoder, {nn.LayerNorm: more.Gated})
    x = torch.randn(2, 5, 4)
    real = ~MASKS[mask].get("src_key_padding_mask", torch.zeros(2, 5, dtype=torch.bool))
    with torch.no_grad():
        expected = theirs.eval()(x, **MASKS[mask])
        torch.testing.assert_close(encoder.eval()(x, **MASKS[mask])[real], expected[real])
        for norm in encoder.modules():
            if isinstance(norm, more.Gated):
                norm.gate.zero_()
                norm.bias.fill_(3)
        if not norm_first:  # what comes out of the last norm
            for again in (encoder, copy.deepcopy(encoder), encoder.train()):
                assert again(x, **MASKS[mask])[real].eq(3).all()


def test_models_are_copied_and_saved_afterwards(library: ModuleType) -> None:
    model = Block()
    runtime.swap(model, {nn.LayerNorm: library.LayerNorm})
    x = torch.randn(2, 4)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(again(x), model(x))
        assert again.in_order[0] is again.first


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_number_that_a_norm_does_not_take_decides_what_is_pooled(
    groups: int, library: ModuleType
) -> None:
    """Of one group, too: `nn.GroupNorm` pools images as a whole, `nn.LayerNorm` their last axis."""
    model = nn.Sequential(nn.GroupNorm(groups, 4))
    for norm in (library.LayerNorm, library.InstanceNorm):
        with pytest.raises(runtime.SwapError, match=rf"made with num_groups={groups}, which"):
            runtime.swap(model, {nn.GroupNorm: norm})
    runtime.swap(model, {nn.GroupNorm: library.GroupNorm})
    assert model[0].num_groups == groups


@pytest.mark.parametrize("part", ["script", "trace", "inner"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_layers_of_torch_script_are_reported(part: str, library: ModuleType) -> None:
    inner = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    x = torch.randn(2, 4)
    made = torch.jit.trace(inner, x) if part == "trace" else torch.jit.script(inner)
    model = nn.Sequential(nn.LayerNorm(4), made) if part == "inner" else made
    report = runtime.swap(model, {nn.LayerNorm: library.LayerNorm})
    assert len(report.replaced) == (part == "inner")
    (skipped,) = report.skipped
    assert skipped.name == ("1.1" if part == "inner" else "1")
    assert "a LayerNorm of TorchScript" in skipped.reason
