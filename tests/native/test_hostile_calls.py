"""Calls that are lawful but unusual, and some that are not: the same numbers, or an error."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from layers import F64, LAYERS, beside, channels_last, everything, layer, use
from torch import Tensor
from torch.autograd import grad
from torch.autograd.graph import saved_tensors_hooks

import metanorm
from metanorm.runtime.native import binding


@pytest.fixture(scope="module")
def added() -> Any:
    return metanorm.loads(
        "norm Added(eps = 1e-5) {\n"
        "  input  x[N, C, *S], residual[N, C, *S]\n"
        "  reduce C, *S\n"
        "  output normalized + residual\n"
        "}\n"
    ).Added()


@pytest.mark.parametrize("way", ["a function of x", "x itself"])
def test_operands_that_depend_on_one_another(way: str, added: Any, library: ModuleType) -> None:
    """Gradients that can be differentiated again are the same gradients."""
    x = torch.randn(3, 4, 5, dtype=F64, requires_grad=True)
    if way == "x itself":
        y = added(x, x)
    else:
        y = library.AdaLayerNorm()(x, x.mean(1).sin(), x.mean(1).cos())
    dy = torch.randn_like(y)
    (plain,) = grad(y, x, dy, retain_graph=True)
    (again,) = grad(y, x, dy, create_graph=True)
    torch.testing.assert_close(plain, again)
    (batched,) = grad(y, x, torch.stack([dy, 2 * dy]), is_grads_batched=True)
    torch.testing.assert_close(batched, torch.stack([plain, 2 * plain]))


HOOKS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda t: t.contiguous(),
    "clone": lambda t: t.clone(memory_format=torch.contiguous_format),
    "elsewhere": lambda t: torch.stack([t, t], -1)[..., 0],
}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("lies", [channels_last, lambda x: torch.cat([x, x], 1)[:, : x.shape[1]]])
def test_saved_tensors_that_come_back_elsewhere(
    hook: str, lies: Callable[[Tensor], Tensor], library: ModuleType
) -> None:
    module = layer("group_norm", library)
    x = lies(torch.randn(3, 4, 5, 3, dtype=F64)).requires_grad_()
    dy = torch.randn_like(x)
    with saved_tensors_hooks(lambda t: t, HOOKS[hook]), use("native"):
        y = module(x)
    (actual,) = grad(y, x, dy)
    with use("torch"):
        (right,) = grad(module(x), x, dy)
    torch.testing.assert_close(actual, right)


def test_a_saved_tensor_of_another_dtype_is_an_error(library: ModuleType) -> None:
    module, x = layer("group_norm", library), torch.randn(3, 4, 5, dtype=F64, requires_grad=True)
    with saved_tensors_hooks(lambda t: t, lambda t: t.float()):
        y = module(x)
    with pytest.raises(RuntimeError):
        y.sum().backward()


@pytest.mark.parametrize(("first", "second"), [(torch.float32, F64), (F64, torch.float32)])
def test_results_past_the_caches(
    first: torch.dtype, second: torch.dtype, added: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient of the second input is of a type of its own."""
    monkeypatch.setattr(binding, "last_level_cache", lambda: 0)
    x, residual = torch.randn(4, 8, 256).to(first), torch.randn(4, 8, 256).to(second)
    actual = everything("native", added, x, {"residual": residual})
    right = everything("torch", added, x, {"residual": residual})
    for name, tensor in actual.items():
        torch.testing.assert_close(tensor, right[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_whole_layers_past_the_caches(
    name: str, library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binding, "last_level_cache", lambda: 0)
    monkeypatch.setattr(binding, "LONG_ROW", 1)
    module, x = layer(name, library), torch.randn(LAYERS[name][1], dtype=F64)
    others = beside(name, x)
    actual = everything("auto", module, x, others)
    right = everything("torch", module, x, others)
    for key, tensor in actual.items():
        torch.testing.assert_close(tensor, right[key])


@pytest.mark.parametrize("parts", [0, 3, 2.5, -2])
def test_parts_that_do_not_divide(parts: Any, library: ModuleType) -> None:
    """The functions behind modules can be called with anything."""
    x = torch.randn(2, 4, 5)
    function = vars(library.GroupNorm)["forward"].__globals__["group_norm"]
    with use("native"), pytest.raises(RuntimeError, match="cannot run natively"):
        function(x, None, None, num_groups=parts, eps=1e-5)


def test_labels_that_change_before_the_way_back(library: ModuleType) -> None:
    labels = np.array([0, 0, 1, 1])
    x = torch.randn(4, 4, requires_grad=True)
    y = library.GraphNorm(4)(x, torch.from_numpy(labels))
    labels[:] = 10**12
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_another_default_device(library: ModuleType) -> None:
    module, x = layer("batch_norm", library), torch.randn(3, 4, 5, dtype=F64, requires_grad=True)
    with use("torch"):
        right = module(x)
    with torch.device("meta"):
        actual = module(x)
    torch.testing.assert_close(actual, right)


def test_some_running_statistics_and_not_others(library: ModuleType) -> None:
    function = vars(library.BatchNorm)["forward"].__globals__["batch_norm"]
    x, mean = torch.randn(3, 4, 5), torch.full((4,), 100.0)
    for training in (True, False):
        inputs = (x, mean, None, None, None, 1e-5, training, 0.1)
        actual = function(*inputs)
        with use("torch"):
            torch.testing.assert_close(actual, function(*inputs))
    assert (mean == 100).all()


def test_functions_are_copied_and_pickled_by_name(library: ModuleType) -> None:
    function = vars(library.GroupNorm)["forward"].__globals__["group_norm"]
    function(torch.randn(2, 4, 3), None, None, 2, 1e-5)
    assert copy.deepcopy(function) is function
    assert pickle.loads(pickle.dumps(function)) is function


def test_only_what_the_way_back_reads_is_saved(added: Any) -> None:
    x, residual = (torch.randn(8, 4, 256, requires_grad=True) for _ in range(2))
    saved: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        saved.append(t)
        return t

    with saved_tensors_hooks(pack, lambda t: t), use("native"):
        shifted = residual * 1
        y = added(x, shifted)
    assert sum(t.numel() for t in saved if t.numel() >= x.numel()) == x.numel()
    with torch.no_grad():
        shifted.add_(1)  # nobody needs it any more
    y.sum().backward()
    assert residual.grad is not None


def test_zeros_of_two_signs() -> None:
    norm = metanorm.loads(
        "norm Signed(p = 0.0) {\n  input x[N, C]\n  reduce C\n  output normalized + 1 / p\n}\n"
    )
    x = torch.randn(2, 3)
    with use("native"):
        assert (norm.Signed(p=0.0)(x) == float("inf")).all()
        assert (norm.Signed(p=-0.0)(x) == float("-inf")).all()


@pytest.fixture(scope="module")
def optional() -> Any:
    return metanorm.loads(
        "norm Trusting(eps = 1e-5) {\n"
        "  input  x[N, C, *S], trust[N, C, *S] = 3, keep: mask[N, C, *S] = true,\n"
        "         residual[N, C, *S] = 0\n"
        "  let    m = mean(x over C, *S weight trust)\n"
        "  let    v = var(x over C, *S where keep)\n"
        "  output (x - m) / sqrt(v + eps) + residual * trust\n"
        "}\n"
    ).Trusting()


@pytest.mark.parametrize("names", ["", "trust", "keep", "residual", "trust keep residual"])
@pytest.mark.parametrize("lies", [torch.clone, channels_last])
def test_inputs_that_are_left_out(
    names: str, lies: Callable[[Tensor], Tensor], optional: Any
) -> None:
    """A number stands for every element of one that is as large as x."""
    x = lies(torch.randn(3, 4, 5, 6, dtype=F64))
    made = {
        "trust": torch.rand_like(x).requires_grad_(),
        "keep": torch.rand_like(x) > 0.4,
        "residual": torch.randn_like(x).requires_grad_(),
    }
    inputs = {name: made[name] for name in names.split()}
    results = {}
    for target in ("native", "torch"):
        leaf = x.detach().clone().requires_grad_()
        with use(target):
            y = optional(leaf, **inputs)
        leaves = [leaf, *(t for t in inputs.values() if t.requires_grad)]
        results[target] = [y, *grad((y * x.cos()).sum(), leaves)]
    torch.testing.assert_close(results["native"], results["torch"])
