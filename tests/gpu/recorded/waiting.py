"""Calls do not wait for a GPU: nothing is read from its memory, and nothing copied to it."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from layers import LAYERS, beside, layer, outputs
from recorder import Recorder, module_of, recording
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from metanorm.runtime import use
from metanorm.runtime.triton import groups

# What needs to know a number that a GPU computes, and what brings one there from a Python object.
WAITS = {
    "aten::_local_scalar_dense", "aten::item", "aten::equal", "aten::is_nonzero", "aten::nonzero",
    "aten::unique_dim", "aten::_unique2", "aten::masked_select", "aten::lift_fresh",
    "aten::_to_copy",
}  # fmt: skip


class Refusing(TorchDispatchMode):
    """Fails where the host would wait."""

    def __enter__(self) -> Refusing:
        self.patch = pytest.MonkeyPatch()
        for name in ("tolist", "numpy", "cpu"):  # which ask nobody on a CPU
            self.patch.setattr(Tensor, name, functools.partialmethod(_refuse, name))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.patch.undo()
        super().__exit__(*error)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = function.name().split(".")[0]
        assert name not in WAITS, f"{name} waits for the GPU"
        return function(*args, **kwargs or {})


def _refuse(self: Tensor, name: str) -> None:
    raise AssertionError(f"{name}() waits for the GPU")


@pytest.fixture(scope="module", autouse=True)
def recorder() -> Iterator[Recorder]:
    with recording() as recorder, use("triton"):
        yield recorder


def both_ways(module: nn.Module, x: Tensor, others: dict[str, Any]) -> None:
    ys = outputs(module(x, **others))
    torch.autograd.backward(ys, [torch.ones_like(y) for y in ys])


def test_the_test_sees_what_waits() -> None:
    x = torch.randn(3)
    for waits in (
        lambda: x.sum().item(),
        lambda: bool((x > 0).all()),
        lambda: x.tolist(),
        lambda: torch.tensor([1, 2]),
    ):
        with pytest.raises(AssertionError, match="waits"), Refusing():
            waits()


@pytest.mark.parametrize("name", LAYERS)
def test_later_calls_do_not_wait(name: str) -> None:
    module = layer(name, module_of(name), torch.float32)
    x = torch.randn(LAYERS[name][1]).requires_grad_()
    others = beside(name, x)
    both_ways(module, x, others)
    with Refusing():
        both_ways(module, x, others)


@pytest.mark.parametrize("batch", [torch.arange(12) // 4, torch.arange(12) % 3, None])
def test_an_index_is_looked_at_once(batch: Tensor | None) -> None:
    """In each layer of a network, and for rows in order, in none, and without an index."""
    x = torch.randn(12, 4).requires_grad_()
    first, second = (layer("graph_norm", module_of("graph_norm"), torch.float32) for _ in range(2))
    both_ways(first, x, {"batch": batch})
    with Refusing():
        both_ways(first, x, {"batch": batch})
        both_ways(second, x, {"batch": batch})


def test_an_index_that_changes_is_looked_at_again() -> None:
    x = torch.randn(12, 4)
    module = layer("graph_norm", module_of("graph_norm"), torch.float32)
    batch = torch.arange(12) // 4
    module(x, batch)
    assert groups.label_range(batch) == (0, 2)
    batch[11] = 5
    with pytest.raises(AssertionError, match="waits"), Refusing():
        module(x, batch)
    assert groups.label_range(batch) == (0, 5)
    starts, order = groups.rows_of_groups(batch, 6)
    assert starts.tolist() == [0, 4, 8, 11, 11, 11, 12] and order is None
    batch[0] = -1
    with pytest.raises(RuntimeError, match="labels out of range"):
        module(x, batch)


def test_an_index_that_counts_no_changes() -> None:
    """One of inference mode is looked at in every call."""
    with torch.inference_mode():
        x, batch = torch.randn(12, 4), torch.arange(12) // 4
        module = layer("graph_norm", module_of("graph_norm"), torch.float32)
        for _ in range(2):
            module(x, batch)
        batch[11] = 5
        assert groups.label_range(batch) == (0, 5)


def test_what_was_found_of_an_index_goes_with_it() -> None:
    """Nor is it kept for what the index was before."""
    batch = torch.arange(12) % 3
    before = weakref.ref(groups.rows_of_groups(batch, 3)[1])
    assert before() is not None
    batch[11] = 0
    after = weakref.ref(groups.rows_of_groups(batch, 3)[1])
    assert before() is None and after() is not None
    del batch
    assert after() is None


def test_a_stream_has_rows_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another stream computes may not be there yet."""
    batch = torch.arange(12) % 3
    here = groups._rows(batch, 3, 7)
    assert groups._rows(batch, 3, 7) is here
    assert groups._rows(batch, 3, 8) is not here
