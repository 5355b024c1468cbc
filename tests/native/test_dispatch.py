"""Who runs: kernels in plain eager calls, the torch target wherever somebody looks on."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from layers import F64, agree, everything, kernels_counted, layer, outputs, use, weighted
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

import metanorm
from metanorm.runtime.kernels.call_plan import CallPlan

Norm = tuple[nn.Module, Tensor]


@pytest.fixture
def norm(library: ModuleType) -> Norm:
    """A norm that keeps nothing, so that every way to call it must give the same."""
    return layer("group_norm", library, torch.float32), torch.randn(3, 4, 5, 3)


def test_eager_calls_run_natively(norm: Norm) -> None:
    module, x = norm
    with kernels_counted() as kernels:
        module(x)
        assert len(kernels) == 1
        with torch.no_grad():
            module(x)
        with torch.inference_mode():
            assert module(x).is_inference()
        assert len(kernels) == 3
        module(x).sum().backward()
        assert len(kernels) == 5


def eager_backend(norm: nn.Module, x: Tensor) -> Tensor:
    torch.compiler.reset()
    compiled: Callable[[Tensor], Tensor] = torch.compile(norm, backend="eager", fullgraph=True)
    return compiled(x)


def exported(norm: nn.Module, x: Tensor) -> Tensor:
    actual: Tensor = torch.export.export(norm, (x,)).module()(x)
    return actual


def dual(norm: nn.Module, x: Tensor) -> Tensor:
    with forward_ad.dual_level():
        y = norm(forward_ad.make_dual(x, torch.ones_like(x)))  # type: ignore[no-untyped-call]
        assert forward_ad.unpack_dual(y).tangent is not None  # type: ignore[no-untyped-call]
        actual: Tensor = forward_ad.unpack_dual(y).primal  # type: ignore[no-untyped-call]
        return actual


def traced(norm: nn.Module, x: Tensor) -> Tensor:
    program = torch.jit.trace(norm, (x,), check_trace=False)  # type: ignore[no-untyped-call]
    actual: Tensor = program(x)
    return actual


def recorded(norm: nn.Module, x: Tensor) -> Tensor:
    graph = make_fx(norm)(x)
    assert len(graph.graph.nodes) > 3
    actual: Tensor = graph(x)
    return actual


class Marked(Tensor):
    """A subclass, which may mean anything."""


ONLOOKERS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "compile": eager_backend,
    "export": exported,
    "vmap": lambda norm, x: vmap(lambda one: norm(one[None])[0])(x),
    "jvp": lambda norm, x: jvp(norm, (x,), (torch.ones_like(x),))[0],
    "forward mode": dual,
    "jit.trace": traced,
    "make_fx": recorded,
    "subclass": lambda norm, x: norm(x.as_subclass(Marked)).as_subclass(Tensor),
    "asked for torch": lambda norm, x: use_torch(norm, x),
}


def use_torch(norm: nn.Module, x: Tensor) -> Tensor:
    with use("torch"):
        y: Tensor = norm(x)
    return y


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ONLOOKERS)
def test_calls_that_torch_serves(how: str, norm: Norm) -> None:
    module, x = norm
    with kernels_counted() as kernels, torch.no_grad():
        actual = ONLOOKERS[how](module, x)
        if how != "jit.trace":
            assert not kernels
    torch.testing.assert_close(actual, module(x), rtol=1e-5, atol=1e-5)


def test_functional_gradients(norm: Norm) -> None:
    module, x = norm
    with kernels_counted() as kernels:
        actual = grad(lambda one: (module(one) * weighted(one)).sum())(x)
        each = vmap(grad(lambda p, one: functional_call(module, p, (one[None],)).sum()), (None, 0))
        each(dict(module.named_parameters()), x)
        assert not kernels
    agree(
        {"": actual},
        {"": everything("torch", module, x, {}, weighted)["gradient of x"]},
        1e-4,
        1e-4,
    )


def test_vectorized_gradients_of_native_calls(norm: Norm) -> None:
    """The forward call is past when the batch of gradients comes."""
    module, x = norm
    x.requires_grad_()
    dys = torch.randn(2, *x.shape)
    (both,) = torch.autograd.grad(module(x), x, dys, is_grads_batched=True)
    for dy, gradient in zip(dys, both):
        (right,) = torch.autograd.grad(module(x), x, dy)
        torch.testing.assert_close(gradient, right, rtol=1e-4, atol=1e-4)


def test_tensors_without_memory(norm: Norm) -> None:
    module, x = norm
    with kernels_counted() as kernels:
        assert copy.deepcopy(module).to("meta")(x.to("meta")).device.type == "meta"
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            assert module(mode.from_tensor(x)).shape == x.shape
            assert module(torch.empty(3, 4, 5)).shape == (3, 4, 5)
        assert not kernels


@pytest.mark.parametrize("name", ["batch_norm", "group_norm", "switch_norm", "positional_norm"])
@pytest.mark.parametrize("training", [True, False])
def test_double_backward(name: str, training: bool, library: ModuleType) -> None:
    module = layer(name, library).train(training)
    x = torch.randn(2, 4, 3, dtype=F64, requires_grad=True)
    before = {n: b.clone() for n, b in module.named_buffers()}
    with use("native"):
        assert gradcheck(lambda x: outputs(module(x)), x)
        assert gradgradcheck(lambda x: outputs(module(x)), x)
    module.load_state_dict({**module.state_dict(), **before})
    y = outputs(module(x))[0]
    after = {n: b.clone() for n, b in module.named_buffers()}
    torch.autograd.grad(y, x, weighted(y), create_graph=True)[0].square().sum().backward()  # type: ignore[no-untyped-call]
    assert all(torch.equal(b, after[n]) for n, b in module.named_buffers())


@pytest.mark.parametrize("target", ["native", "torch"])
def test_double_backward_of_what_only_a_statistic_reads(target: str) -> None:
    """The backward kernel knows the input by its mean, and what recomputes the norm needs it."""
    spec = "norm A { input x[N, C], h[N, C] = 1  output 2 * x + h + tanh(mean(x * h over C)) }"
    x, h, direction = torch.randn(3, 4, 5, dtype=F64).unbind()
    x, h = x.requires_grad_(), h.requires_grad_()
    with use(target):  # type: ignore[arg-type]
        y = metanorm.loads(spec).A()(x, h)
    expected = 2 * x + h + (x * h).mean(1, keepdim=True).tanh()
    gradients = [
        torch.autograd.grad(out, (x, h), direction, create_graph=True) for out in (y, expected)
    ]
    torch.testing.assert_close(*gradients)
    seconds = [torch.autograd.grad(g[0].square().sum(), (x, h)) for g in gradients]
    torch.testing.assert_close(*seconds)


def test_double_backward_of_as_many_groups_as_each_call_has() -> None:
    """The plan of another call, of as many nodes and fewer groups, serves it."""
    spec = "norm A { input x[N, C], cu: offsets[N]  output x + tanh(mean(x over N: cu)) }"
    module, x = metanorm.loads(spec).A(), torch.randn(6, 3, dtype=F64, requires_grad=True)
    for lengths in ([2, 4], [0, 3, 3], [6], [1, 1, 1, 3]):
        y = module(x, torch.tensor([0, *lengths]).cumsum(0))
        means = [p.mean(0).expand(len(p), 3) for p in x.split(lengths)]
        expected = x + torch.cat(means).tanh()
        direction = torch.randn(6, 3, dtype=F64)
        gradients = [
            torch.autograd.grad(o, x, direction, create_graph=True)[0] for o in (y, expected)
        ]
        torch.testing.assert_close(*gradients)


def test_use_is_undone(norm: Norm) -> None:
    """As a statement it holds; in a `with`, also one that an error leaves, to its end."""
    module, x = norm
    with kernels_counted() as kernels:
        try:
            use("torch")
            module(x)
            with use("native"):
                module(x)
                with pytest.raises(RuntimeError, match="group_norm cannot run natively"):
                    module(x.as_subclass(Marked))
            module(x)
            assert len(kernels) == 1
            with pytest.raises(KeyError), use("auto"):
                raise KeyError
            module(x)
            assert len(kernels) == 1
        finally:
            use("auto")
        module(x)
        assert len(kernels) == 2
    with pytest.raises(ValueError, match="'native', 'triton' or 'torch', got 'cuda'"):
        use("cuda")  # type: ignore[arg-type]


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints(reentrant: bool, library: ModuleType) -> None:
    module, x = layer("batch_norm", library), torch.randn(3, 4, 5, dtype=F64)
    right = everything("torch", module, x, {}, weighted)
    leaf = x.clone().requires_grad_()
    y = checkpoint(module, leaf, use_reentrant=reentrant)
    assert isinstance(y, Tensor)
    y.backward(weighted(y))  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, right["gradient of x"])


@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_after_a_call(way: Callable[[Any], Any], norm: Norm) -> None:
    module, x = norm
    y = module(x)
    with use("native"):
        assert torch.equal(way(module)(x), y)


@pytest.mark.parametrize("momentum", [0.1, 1.0, 0.0, None])
@pytest.mark.parametrize("name", ["BatchNorm", "SwitchNorm", "InstanceNorm", "MeanOnlyBatchNorm"])
def test_running_statistics(name: str, momentum: float | None, library: ModuleType) -> None:
    more = {"track_running_stats": True} if name == "InstanceNorm" else {}
    natively = getattr(library, name)(4, momentum=momentum, **more).double()
    plainly = copy.deepcopy(natively)
    for step in range(4):
        x = torch.randn(3, 4, 5, dtype=F64) * (step + 1) + step
        with use("native"):
            natively(x)
        with use("torch"):
            plainly(x)
    agree(dict(natively.named_buffers()), dict(plainly.named_buffers()), 1e-12, 1e-12)
    agree(everything("native", natively.eval(), x), everything("torch", plainly.eval(), x))


def test_running_statistics_with_gaps(library: ModuleType) -> None:
    """Buffers may be views into one flat buffer; updates must arrive in them."""
    results = []
    x = torch.randn(3, 4, 5) + 3
    for target in ("auto", "torch"):
        module = library.BatchNorm(4)
        module.running_mean, module.running_var = torch.ones(4, 2).unbind(1)
        with use(target):
            module(x)
        results.append((module.running_mean, module.running_var))
    torch.testing.assert_close(*results)


def test_updates_are_seen_by_autograd(library: ModuleType) -> None:
    """The version of a buffer guards what others have saved of it."""
    module = library.BatchNorm(4)
    before = module.running_mean._version
    module(torch.randn(3, 4, 5))
    assert module.running_mean._version > before


@pytest.mark.parametrize("which", ["weight", "running_mean"])
def test_parameters_of_another_length_are_not_read_beyond(which: str, library: ModuleType) -> None:
    module, x = library.BatchNorm(4), torch.randn(3, 4, 5)
    setattr(module, which, nn.Parameter(torch.ones(3)) if which == "weight" else torch.ones(3))
    with pytest.raises(RuntimeError):
        module(x)
    with pytest.raises(RuntimeError):
        library.batch_norm.batch_norm(x, torch.ones(1), None, None, None, 1e-5, True, 0.1)


def test_gradients_of_running_statistics_in_eval(library: ModuleType) -> None:
    module, x = library.BatchNorm(4).eval(), torch.randn(3, 4, 5)
    module.running_mean.requires_grad_()
    module(x).sum().backward()
    assert module.running_mean.grad is not None


@pytest.mark.parametrize("name", ["batch_norm", "switch_norm"])
def test_eval_between_forward_and_backward(name: str, library: ModuleType) -> None:
    """What backward works with is as it was in its own forward call."""
    module, x = layer(name, library), torch.randn(3, 4, 5, dtype=F64)
    for first, then in ((True, False), (False, True)):
        right = everything("torch", copy.deepcopy(module).train(first), x, {}, weighted)
        leaf = x.clone().requires_grad_()
        y = module.train(first)(leaf)
        module.train(then)(torch.randn(3, 4, 5, dtype=F64) * 5 + 2)
        y.backward(weighted(y))
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad, right["gradient of x"])


def test_a_gradient_in_pieces_is_looked_at_once(
    library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found for its copy serves later calls, as for any other gradient."""
    module, x = library.BatchNorm(4).double(), torch.randn(3, 4, 5, 3, dtype=F64)
    dy = torch.randn(3, 4, 5, 6, dtype=F64)[..., :3].transpose(2, 3).contiguous().transpose(2, 3)
    results = []
    for _ in range(2):
        with use("native"):
            y = module(x.requires_grad_())
        results.append(torch.autograd.grad(y, x, dy)[0])
        monkeypatch.setattr(CallPlan, "_prepare_backward", None)  # as if there were no other way
    assert torch.equal(*results)


def test_backward_twice_and_changes_in_between(norm: Norm) -> None:
    module, x = norm
    y = module(x.requires_grad_())
    first, second = (torch.autograd.grad(y, x, y.detach(), retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    with torch.no_grad():
        assert isinstance(module.weight, Tensor)
        module.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
