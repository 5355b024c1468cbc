"""Kernels as operations of torch: whole in graphs where they are demanded, and by name to modes."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from layers import LAYERS, beside, everything, layer, outputs, weighted
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

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
    own = [name for name in names if name.startswith(f"metanorm.{norm}_")]
    return [name.endswith("_backward.default") for name in own]


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
    found = torch.autograd.grad(ys, wanted, [weighted(y) for y in ys], allow_unused=True)
    named = {f"gradient {i}": g for i, g in enumerate(found) if g is not None}
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
    # What a graph calls was decided when it was made.
    for found, buffer in zip(compiled.buffers(), module.buffers()):
        found.copy_(buffer)
    found = results(compiled, x, others)
    assert of_kernels(made, name) == [False]
    assert of_kernels(names[True], name) == [True]
    assert runs[0] - before[0] == 3 and runs[1] - before[1] == 1
    torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12)


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
        found = results(compiled, x, {})
    torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("why", ["open lengths", "a number of groups in the data", "a matrix"])
def test_what_no_graph_can_hold_is_said(why: str, library: ModuleType) -> None:
    """A call on kernels was demanded: equations in its place would be a surprise."""
    name = {"open lengths": "layer_norm", "a matrix": "meta_norm"}.get(why, "graph_norm")
    module = layer(name, library)
    x, _ = arguments(name)
    with runtime.use("native"):
        compiled = torch.compile(module, backend="eager", dynamic=why == "open lengths")
        with pytest.raises(RuntimeError, match="cannot run natively: the call has"):
            compiled(x, **beside(name, x))


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
        found = everything("auto", module, x, others, weighted, unused=True)
    assert of_kernels(seen.names, name) == [False, True]
    assert list(found) == list(right)
    assert all(torch.equal(found[n], right[n]) for n in right)


def test_gradients_of_gradients_under_a_mode(library: ModuleType) -> None:
    module = layer("group_norm", library)
    x = arguments("group_norm")[0].requires_grad_()

    def second() -> Tensor:
        (first,) = torch.autograd.grad(module(x).sin().sum(), x, create_graph=True)
        (found,) = torch.autograd.grad(first.square().sum(), x)
        return found

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
        (found,) = torch.autograd.grad(y.sum(), x)
        assert runs[0] - before == forward_runs
        torch.testing.assert_close(found, torch.autograd.grad(module(x).sin().sum(), x)[0])


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
