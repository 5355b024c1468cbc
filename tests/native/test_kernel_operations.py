"""Kernels as operations of torch: whole in graphs where they are demanded, and by name to modes."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from types import ModuleType
from typing import Any, cast

import pytest
import torch
from layers import LAYERS, beside, everything, layer, outputs, weighted
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

import metanorm
from metanorm import runtime
from metanorm.runtime.native.calls import runs

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch's own compiler warns of is not ours

# One has a matrix for an argument, which no operation of torch can take.
SERVED = [name for name in LAYERS if name != "meta_norm"]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Seen(TorchDispatchMode):
    """The names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def of_kernels(names: list[str], norm: str) -> list[bool]:
    """Of the operations of a norm's kernels in order, whether each is a backward one."""
    names_of_norm = [name for name in names if name.startswith(f"metanorm.{norm}_")]
    return [name.endswith("_backward.default") for name in names_of_norm]


def arguments(name: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, dict[str, Any]]:
    x = torch.randn(LAYERS[name][1], dtype=dtype) * 3 + 1
    others = beside(name, x)
    return x, {**others, **({"batch_size": 4} if name == "graph_norm" else {})}


def results(module: nn.Module, x: Tensor, others: dict[str, Any]) -> dict[str, Tensor]:
    """Outputs, gradients and buffers after two calls."""
    x = x.detach().requires_grad_()
    module(x, **others)
    ys = outputs(module(x, **others))
    wanted = [x, *module.parameters()]
    gradients = torch.autograd.grad(ys, wanted, [weighted(y) for y in ys], allow_unused=True)
    named = {f"gradient {i}": g for i, g in enumerate(gradients) if g is not None}
    buffers = {n.removeprefix("_orig_mod."): b.clone() for n, b in module.named_buffers()}
    return {**{f"output {i}": y.detach() for i, y in enumerate(ys)}, **named, **buffers}


@pytest.mark.parametrize("name", SERVED)
def test_graphs_call_kernels_where_they_are_demanded(name: str, library: ModuleType) -> None:
    names: dict[bool, list[str]] = {False: [], True: []}

    def looked_at(graph: torch.fx.GraphModule, _: Any, *, backward: bool) -> Any:
        names[backward] += [str(node.target) for node in graph.graph.nodes]
        return graph.forward

    backend = aot_autograd(
        fw_compiler=partial(looked_at, backward=False),
        bw_compiler=partial(looked_at, backward=True),
    )
    module = layer(name, library)
    x, others = arguments(name)
    right = results(copy.deepcopy(module), x, others)
    before = list(runs)
    compiled = torch.compile(copy.deepcopy(module), backend=backend, fullgraph=True)
    with runtime.use("native"):
        compiled(x.detach().requires_grad_(), **others)
        made = list(names[False])
        for actual, buffer in zip(compiled.buffers(), module.buffers()):
            actual.copy_(buffer)
        actual = results(compiled, x, others)
    assert of_kernels(made, name) == [False]
    assert of_kernels(names[True], name) == [True]
    assert runs[0] - before[0] == 3 and runs[1] - before[1] == 1
    torch.testing.assert_close(actual, right, rtol=1e-12, atol=1e-12)


def test_each_demand_has_a_graph_of_its_own(library: ModuleType) -> None:
    """Of one module, and of others of its class, whose calls torch may take for the same."""
    modules = [layer("layer_norm", library) for _ in range(3)]
    x, _ = arguments("layer_norm")
    compiled = [torch.compile(m, backend="aot_eager", fullgraph=True) for m in modules]
    for compiled_layer, module in zip(compiled, modules):
        for target, count in (("auto", 0), ("native", 1), ("torch", 0), ("native", 1)):
            before = runs[0]
            with runtime.use(target):
                y = compiled_layer(x)
            assert runs[0] - before == count
            torch.testing.assert_close(y, module(x))


def test_graphs_hold_equations_otherwise(library: ModuleType) -> None:
    before = list(runs)
    module = layer("layer_norm", library)
    x, _ = arguments("layer_norm")
    y = torch.compile(module, backend="aot_eager", fullgraph=True)(x)
    assert list(runs) == before
    torch.testing.assert_close(y, module(x))


def test_inductor(library: ModuleType) -> None:
    module = layer("batch_norm", library)
    x, _ = arguments("batch_norm")
    right = results(copy.deepcopy(module), x, {})
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True)
    with runtime.use("native"):
        actual = results(compiled, x, {})
    torch.testing.assert_close(actual, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("why", ["open lengths", "a number of groups in the data", "a matrix"])
def test_what_no_graph_can_hold(why: str, library: ModuleType) -> None:
    """It runs between graphs, on kernels as was demanded; one whole graph is refused in words."""
    name = {"open lengths": "layer_norm", "a matrix": "meta_norm"}.get(why, "graph_norm")
    module = layer(name, library)
    x, _ = arguments(name)
    others = beside(name, x)
    right = module(x, **others)
    with runtime.use("native"):
        before = runs[0]
        compiled = torch.compile(module, backend="aot_eager", dynamic=why == "open lengths")
        torch.testing.assert_close(compiled(x, **others), right)
        assert runs[0] == before + 1
        torch.compiler.reset()
        whole = torch.compile(
            module, backend="aot_eager", dynamic=why == "open lengths", fullgraph=True
        )
        with pytest.raises(RuntimeError, match="cannot run natively: the call has"):
            whole(x, **others)


@pytest.mark.parametrize("fullgraph", [False, True])
def test_calls_that_a_norm_refuses(fullgraph: bool, library: ModuleType) -> None:
    """They raise in the words that they have everywhere; what cannot be left says them, too."""
    module = library.LayerNorm(3)
    refused = {
        "whole": (torch.ones(2, 3, dtype=torch.int64), TypeError),
        "another shape": (torch.ones(2, 4), runtime.ShapeError),
    }
    for x, error in refused.values():
        with pytest.raises(error) as eager:
            module(x)
        torch.compiler.reset()
        compiled = torch.compile(module, backend="eager", fullgraph=fullgraph)
        kind = torch._dynamo.exc.TorchDynamoException if fullgraph else error
        with pytest.raises(kind, match=re.escape(str(eager.value))):
            compiled(x)


@pytest.mark.parametrize("name", SERVED)
def test_dispatch_modes_see_kernels(name: str, library: ModuleType) -> None:
    module = layer(name, library)
    x, others = arguments(name)
    right = everything("auto", module, x, others, weighted, unused=True)
    with Seen() as seen:
        actual = everything("auto", module, x, others, weighted, unused=True)
    assert of_kernels(seen.names, name) == [False, True]
    assert list(actual) == list(right)
    assert all(torch.equal(actual[n], right[n]) for n in right)


def test_gradients_of_gradients_under_a_mode(library: ModuleType) -> None:
    module = layer("group_norm", library)
    x = arguments("group_norm")[0].requires_grad_()

    def second() -> Tensor:
        (first,) = torch.autograd.grad(module(x).sin().sum(), x, create_graph=True)
        (gradient,) = torch.autograd.grad(first.square().sum(), x)
        return gradient

    right = second()
    with Seen():
        torch.testing.assert_close(second(), right, rtol=1e-10, atol=1e-10)


def test_selective_checkpointing_keeps_what_kernels_return(library: ModuleType) -> None:
    module = layer("layer_norm", library)
    x = arguments("layer_norm")[0].requires_grad_()
    with Seen() as seen:
        module(x)
    (name,) = [n.split(".")[1] for n in seen.names if n.startswith("metanorm.")]
    kept = getattr(torch.ops.metanorm, name).default
    for saved, forward_runs in (([kept], 1), ([], 2)):
        before = runs[0]
        y = checkpoint(
            lambda v: module(v).sin(), x, use_reentrant=False,
            context_fn=partial(create_selective_checkpoint_contexts, saved),
        )  # fmt: skip
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert runs[0] - before == forward_runs
        torch.testing.assert_close(gradient, torch.autograd.grad(module(x).sin().sum(), x)[0])


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "graph_norm", "switch_norm"])
def test_torch_finds_nothing_wrong(name: str, library: ModuleType) -> None:
    """Schema, registration, shapes without memory, and both kinds of graphs."""
    module = layer(name, library, torch.float32)
    x, others = arguments(name, torch.float32)
    calls: list[tuple[Any, ...]] = []

    class Kept(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if str(func).startswith(f"metanorm.{name}"):
                calls.append((func, args))
            return func(*args, **(kwargs or {}))

    with Kept():
        module(x, **others)
    ((operation, args),) = calls
    args = tuple(
        a.detach().requires_grad_() if a is x or isinstance(a, nn.Parameter) else a for a in args
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.library.opcheck(operation, args)


def test_labels_in_a_graph_are_checked_in_each_call(library: ModuleType) -> None:
    module = layer("graph_norm", library)
    x, others = arguments("graph_norm")
    with runtime.use("native"):
        compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
        compiled(x, **others)
    with pytest.raises(IndexError):
        compiled(x, **{**others, "batch": others["batch"] + 9})


# ---- calls under a mode are as they are without one


class OtherParameter(nn.Parameter):
    pass


@pytest.mark.parametrize("how", ["a mode", "a graph"])
def test_parameters_of_other_classes(how: str, library: ModuleType) -> None:
    module = layer("batch_norm", library)
    x, _ = arguments("batch_norm")
    right = results(copy.deepcopy(module), x, {})
    module.weight = OtherParameter(module.weight.detach().clone())
    if how == "a mode":
        with Seen():
            actual = results(module, x, {})
    else:
        with runtime.use("native"):
            actual = results(torch.compile(module, backend="aot_eager"), x, {})
    torch.testing.assert_close(actual, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["layer_norm", "batch_norm"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_checkpoints_with_a_mode_in_one_direction(
    name: str, direction: str, library: ModuleType
) -> None:
    """All ways of a call save the same tensors in the same order."""
    module = layer(name, library)
    x = arguments(name)[0].requires_grad_()
    (right,) = torch.autograd.grad(module(x).sin().sum(), x)
    with Seen() if direction == "forward" else nullcontext():
        y = checkpoint(module, x, use_reentrant=False)
    with Seen() if direction == "backward" else nullcontext():
        (gradient,) = torch.autograd.grad(y.sin().sum(), x)
    torch.testing.assert_close(gradient, right, rtol=1e-12, atol=1e-12)


def test_what_the_backward_pass_does_not_read_may_change(library: ModuleType) -> None:
    module = layer("batch_norm", library)
    x = arguments("batch_norm")[0].requires_grad_()
    with Seen():
        y = module(x)
    (right,) = torch.autograd.grad(y.sin().sum(), x, retain_graph=True)
    with torch.no_grad():
        module.bias.add_(1)
    (gradient,) = torch.autograd.grad(y.sin().sum(), x)
    assert torch.equal(gradient, right) and gradient.any()


def test_arguments_that_no_operation_takes(library: ModuleType) -> None:
    """Kernels serve the call all the same, without the mode seeing them."""
    for module, name in (
        (library.BatchNorm(4, momentum=None).double(), "batch_norm"),
        (layer("meta_norm", library), "meta_norm"),
    ):
        x, _ = arguments(name)
        right = copy.deepcopy(module)(x)
        with runtime.use("native"), Seen() as seen:
            assert torch.equal(module(x), right)
        assert not of_kernels(seen.names, name)


def test_many_gradients_at_once(library: ModuleType) -> None:
    module = layer("layer_norm", library)
    x = arguments("layer_norm")[0].requires_grad_()
    slopes = torch.randn(3, *x.shape, dtype=x.dtype)
    right = [torch.autograd.grad(module(x), x, slope)[0] for slope in slopes]
    with Seen():
        y = module(x)
    (gradient,) = torch.autograd.grad(y, x, slopes, is_grads_batched=True)
    torch.testing.assert_close(gradient, torch.stack(right), rtol=1e-10, atol=1e-10)


def test_first_calls_of_several_threads() -> None:
    """Operations are registered once."""
    text = "norm Racing(eps = 1e-5) {\n  input  x[N, C]\n  output normalize(x over C)\n}\n"
    module, x = metanorm.loads(text).Racing(), torch.randn(3, 5)

    def call(_: int) -> Tensor:
        with Seen() as seen:
            y = module(x)
        assert of_kernels(seen.names, "racing") == [False]
        return cast(Tensor, y)

    with ThreadPoolExecutor(8) as pool:
        for y in pool.map(call, range(16)):
            torch.testing.assert_close(y, module(x))


# ---- demands of kernels in graphs


def test_another_length_and_the_backend_that_calls_nodes(library: ModuleType) -> None:
    """Kernels serve both: a graph of open lengths ends before the norm, and goes on behind it."""
    module = layer("ada_layer_norm", library)
    for backend in ("aot_eager", "eager"):
        torch.compiler.reset()
        compiled = torch.compile(module, backend=backend)
        with runtime.use("native"):
            for length in (3, 4, 5):
                x = torch.randn(length, 4, 5, dtype=torch.float64)
                others = beside("ada_layer_norm", x)
                before = runs[0]
                actual = compiled(x, **others)
                assert runs[0] == before + 1
                assert torch.equal(actual, module(x, **others))


@pytest.mark.parametrize("transform", ["vmap", "vmap(grad)", "jvp", "jacfwd"])
def test_transforms_in_graphs(transform: str, library: ModuleType) -> None:
    module = layer("group_norm", library)
    x, _ = arguments("group_norm")

    def loss(x: Tensor) -> Tensor:
        return cast(Tensor, module(x[None]).sin().sum())

    functions: dict[str, Any] = {
        "vmap": lambda x: torch.vmap(loss)(x),
        "vmap(grad)": lambda x: torch.vmap(torch.func.grad(loss))(x),
        "jvp": lambda x: torch.func.jvp(module, (x,), (x,))[1],
        "jacfwd": lambda x: torch.func.jacfwd(loss)(x[0]),
    }
    function = functions[transform]
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), function(x), rtol=1e-10, atol=1e-10)
