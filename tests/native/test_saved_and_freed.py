"""Memory that somebody else has been at: saved tensors, freed storages, labels beyond memory.

Each ends in an exception with words, or in the right gradient, never in a signal or in other
numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from conftest import ROOT
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

import metanorm
from metanorm import runtime
from metanorm.runtime.backends import through_python

Hook = Callable[[Tensor], Tensor]


@functools.cache
def specs(file: str) -> Any:
    return metanorm.load(ROOT / "specs" / f"{file}.norm")


def group() -> Any:
    return specs("group_norm").GroupNorm(2, 4)


def gradient(unpack: Hook, pack: Hook = lambda t: t, target: str = "native") -> Tensor:
    """The gradient of group norm, with hooks on what it saves."""
    x = torch.randn(8, 4, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    norm = group()
    weigh = torch.linspace(0, 1, 6)
    with runtime.use(target), saved_tensors_hooks(pack, unpack):  # type: ignore[arg-type]
        y = norm(x)
    with runtime.use(target):  # type: ignore[arg-type]
        (got,) = torch.autograd.grad((y * weigh).sum(), x)
    return got


TARGETS = ["native", "torch"]


@pytest.mark.parametrize("target", TARGETS)
def test_hooks_that_round_are_right_up_to_that(target: str) -> None:
    right = gradient(lambda t: t, target=target)

    def narrow(t: Tensor) -> Tensor:
        return t.to(torch.bfloat16)

    rounded = gradient(lambda t: t.float(), narrow, target)
    assert (rounded - right).abs().max() < 0.05 * right.abs().max()


@pytest.mark.parametrize("target", TARGETS)
def test_hooks_may_give_back_other_strides(target: str) -> None:
    def turned(t: Tensor) -> Tensor:
        return t.transpose(0, -1).contiguous().transpose(0, -1) if t.dim() > 1 else t.clone()

    torch.testing.assert_close(
        gradient(turned, target=target), gradient(lambda t: t, target=target)
    )


CHANGED: dict[str, Hook] = {
    "fewer rows": lambda t: t[:1] if t.dim() and len(t) > 1 else t,
    "nothing": lambda t: t[:0] if t.dim() else t,
    "another dtype": lambda t: t.double(),
    "half precision": lambda t: t.half(),
    "another device": lambda t: t.to("meta"),
    "bytes": lambda t: t.contiguous().view(torch.uint8) if t.dim() else t,
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("how", CHANGED)
def test_what_came_back_changed_is_refused(how: str, target: str) -> None:
    """Also after a good backward pass of the same layout, whose way is known."""
    gradient(lambda t: t, target=target)
    # On torch its own functions may be first, and autograd itself refuses bytes for a leaf.
    said = r"saved for the backward pass came back as|Only Tensors of floating point"
    with pytest.raises(RuntimeError, match=said if target == "native" else "."):
        gradient(CHANGED[how], target=target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("how", ["fewer rows", "more channels"])
def test_an_input_that_shares_no_axis_with_the_output_is_refused(how: str, target: str) -> None:
    """No gradient has its lengths: only what the forward pass recorded tells that they changed."""
    changed = {"fewer rows": lambda t: t[:2], "more channels": lambda t: torch.cat([t, t], 1)}[how]
    loss = specs("standardization_loss").StandardizationLoss()

    def run(unpack: Hook) -> None:
        x = torch.randn(4, 3, 5).requires_grad_()
        with runtime.use(target), saved_tensors_hooks(lambda t: t, unpack):  # type: ignore[arg-type]
            loss(x).backward()

    run(lambda t: t)
    run(lambda t: t)  # by the plan that the first call left
    said = "saved for the backward pass came back as" if target == "native" else "."
    with pytest.raises(RuntimeError, match=said):
        run(lambda t: changed(t) if t.shape == (4, 3, 5) else t)


class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that sees operations, of which a call of kernels is one then."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("how", CHANGED)
def test_what_came_back_changed_to_an_operation_is_refused(how: str) -> None:
    """Of tensors that the kernels read, whether or not they have a gradient."""
    norm = group()
    for of_input in (True, False):
        x = torch.randn(8, 4, 6).requires_grad_(of_input)
        with Watching(), saved_tensors_hooks(lambda t: t, CHANGED[how]):  # type: ignore[no-untyped-call]
            y = norm(x)
        # Autograd itself refuses bytes for a leaf.
        with pytest.raises(RuntimeError, match=r"came back as|Only Tensors of floating"):
            torch.autograd.grad(y.sum(), norm.weight)


class Wrapped(Tensor):
    """A tensor with no memory of its own: that of another one, as offloaded tensors have."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapped:
        wrapped: Wrapped = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype
        )
        wrapped.inner = inner
        return wrapped

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inner = tree_map_only(Wrapped, lambda t: t.inner, (args, kwargs or {}))
        return func(*inner[0], **inner[1])


ONLY_TORCH_READS: dict[str, Hook] = {
    "without memory": Wrapped,
    "the negative of its memory": lambda t: torch._neg_view(-t),
    "of a subclass": lambda t: t.as_subclass(type("Marked", (Tensor,), {})),
}


@pytest.mark.parametrize("path", [nullcontext, through_python], ids=["", "python"])
@pytest.mark.parametrize("how", ONLY_TORCH_READS)
def test_what_comes_back_as_a_tensor_that_only_torch_reads(how: str, path: Any) -> None:
    """Kernels leave it to torch, be there a plan for its layout or not."""
    for _ in range(2):
        with path():
            right = gradient(lambda t: t, target="auto")
            got = gradient(ONLY_TORCH_READS[how], target="auto")
        torch.testing.assert_close(got.as_subclass(Tensor), right)


@pytest.mark.parametrize("path", [nullcontext, through_python], ids=["", "python"])
def test_a_hook_that_raises_leaves_no_secret_change(path: Any) -> None:
    """The kernel has updated the statistics by then: a graph that saved the old ones knows."""
    norm, x = specs("batch_norm").BatchNorm(4), torch.randn(3, 4, requires_grad=True)
    with path():
        for _ in range(2):
            norm(x)
            weight = torch.ones(4, requires_grad=True)
            drift = (weight * norm.running_mean).sum()
            with pytest.raises(ZeroDivisionError), saved_tensors_hooks(lambda t: 1 / 0, id):
                norm(x)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                drift.backward()


def test_what_is_saved_is_of_a_float_type_and_finite() -> None:
    seen: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        seen.append(t)
        return t

    gradient(lambda t: t, pack)
    assert all(t.is_floating_point() and t.isfinite().all() for t in seen)
    assert len(seen) >= 2


# ---- storages that were freed


def freed(t: Tensor) -> Tensor:
    t.untyped_storage().resize_(0)
    return t


VIEWS: dict[str, Hook] = {
    "whole": lambda t: t,
    "behind others": lambda t: torch.cat([t, t])[len(t) :],
}


@pytest.mark.parametrize("target", ["auto", "torch"])
@pytest.mark.parametrize("view", VIEWS)
def test_freed_inputs_and_parameters_are_refused(view: str, target: str) -> None:
    """A parameter is often a view of a longer one, whose address is not zero then."""
    make = VIEWS[view]
    norm = group()
    with runtime.use(target):  # type: ignore[arg-type]
        norm(torch.randn(3, 4, 5))
        with pytest.raises(RuntimeError, match="was freed"):
            norm(freed(make(torch.randn(3, 4, 5))))
        norm.weight.data = make(torch.ones(4))
        freed(norm.weight.data)
        with pytest.raises(RuntimeError, match="was freed"):
            norm(torch.randn(3, 4, 5))


@pytest.mark.parametrize("target", ["auto", "torch"])
def test_freed_labels_and_norms_without_kernels(target: str) -> None:
    with runtime.use(target):  # type: ignore[arg-type]
        graph = specs("graph_norm").GraphNorm(3)
        with pytest.raises(RuntimeError, match="was freed"):
            graph(torch.randn(4, 3), freed(torch.zeros(4, dtype=torch.long)))
        conditional = specs("conditional_norm").ConditionalBatchNorm(2, 3)
        freed(conditional.gamma.data)
        with pytest.raises(RuntimeError, match="was freed"):
            conditional(torch.randn(4, 3), torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_freed_between_the_directions_is_refused(target: str) -> None:
    norm, x = group(), torch.randn(3, 4, 5).requires_grad_()
    with runtime.use(target):  # type: ignore[arg-type]
        y = norm(x)
        freed(x.data)
        with pytest.raises(RuntimeError, match="was freed"):
            y.sum().backward()


# ---- labels and numbers of groups

HUGE = [2**48, 2**61 - 1, 2**62 - 1, 2**63 - 2, 2**63 - 1]


@pytest.mark.parametrize("target", ["auto", "torch"])
@pytest.mark.parametrize("big", HUGE, ids=hex)
def test_labels_beyond_memory_are_refused(big: int, target: str) -> None:
    graph, x = specs("graph_norm").GraphNorm(4), torch.randn(6, 4)
    labels = torch.zeros(6, dtype=torch.long)
    with runtime.use(target):  # type: ignore[arg-type]
        graph(x, labels)
        with pytest.raises((IndexError, RuntimeError), match=r"memory|range"):
            graph(x, labels, batch_size=big)
        labels[5] = big
        with pytest.raises((IndexError, RuntimeError), match=r"memory|range"):
            graph(x, labels)
