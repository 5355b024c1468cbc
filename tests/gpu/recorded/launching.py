"""Launches past Triton's dispatcher: what they bring is what the dispatcher would have brought."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from inspect import signature
from typing import Any

import pytest
import torch
import triton.language as tl
from layers import LAYERS, beside, channels_last, layer, outputs, shifted
from recorder import Launched, Recorder, module_of, recording
from tiers import tiered
from torch import Tensor, nn
from triton import knobs

from metanorm.runtime import use
from metanorm.runtime.kernels.errors import Unsupported
from metanorm.runtime.triton import direct, prepared
from metanorm.runtime.triton.launches import CallInputs
from metanorm.runtime.triton.plan_cache import TritonPlan, TritonPlanCache
from metanorm.runtime.triton.prepared import LaunchSequence, PreparedLaunches


@pytest.fixture(scope="module", autouse=True)
def recorder() -> Iterator[Recorder]:
    with recording() as recorder, use("triton"):
        yield recorder


def batch_norm() -> nn.Module:
    return layer("batch_norm", module_of("batch_norm"), torch.float32)


def launched(recorder: Recorder, call: Callable[[], Any]) -> list[Launched]:
    """What a call launches."""
    before = len(recorder.launches)
    call()
    return recorder.launches[before:]


def forward_and_backward(module: nn.Module, x: Tensor, others: dict[str, Any]) -> None:
    ys = [y for y in outputs(module(x, **others)) if y.requires_grad]
    torch.autograd.backward(ys, [torch.ones_like(y) for y in ys])


def address_or_value(value: Any) -> Any:
    return value.data_ptr() if isinstance(value, Tensor) else value


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    "lie", tiered([Tensor.contiguous, channels_last, shifted], [Tensor.contiguous])
)
def test_direct_launches_bring_the_same(
    recorder: Recorder, name: str, lie: Callable[[Tensor], Tensor]
) -> None:
    """As those of the dispatcher, which serves calls while a profiler listens."""
    module = layer(name, module_of(name), torch.float32)
    x = lie(torch.randn(LAYERS[name][1])).requires_grad_()
    others = beside(name, x)

    def call() -> None:
        try:
            forward_and_backward(module, x, others)
        except RuntimeError as error:
            assert "one piece" in str(error)
            pytest.skip("torch serves dimensions that do not lie in one piece")

    launched(recorder, call)
    direct_launches = launched(recorder, call)
    kernel_names: list[str] = []
    knobs.runtime.launch_enter_hook.add(
        listener := lambda metadata: kernel_names.append(metadata.get()["name"])
    )
    try:
        dispatched = launched(recorder, call)
    finally:
        knobs.runtime.launch_enter_hook.remove(listener)
    assert kernel_names == [launch.kernel for launch in dispatched] and kernel_names
    for one, other in zip(direct_launches, dispatched, strict=True):
        assert (one.kernel, one.grid, one.warps) == (other.kernel, other.grid, other.warps)
        assert not any(isinstance(value, Tensor) for value in one.arguments.values())
    compared_calls = 0

    def compared(self: LaunchSequence, brought: CallInputs) -> None:
        nonlocal compared_calls
        addresses, _ = self.arguments.addresses(brought)
        assert addresses == [address_or_value(value) for value in self.arguments.values(brought)]
        compared_calls += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LaunchSequence, "_launch", compared)
        call()
    assert compared_calls == 2


def test_what_begins_elsewhere_has_kernels_of_its_own(recorder: Recorder) -> None:
    """Kernels that were compiled for addresses of a kind never get others."""
    module = batch_norm()
    x = torch.randn(3, 4, 5, 3)
    first = launched(recorder, lambda: module(x))
    odd = launched(recorder, lambda: module(shifted(x)))
    again = launched(recorder, lambda: module(x))
    assert [one.kernel for one in odd] == [one.kernel for one in first]
    loaded = len(recorder.loaded)
    launched(recorder, lambda: (module(x), module(shifted(x))))
    assert len(recorder.loaded) == loaded and len(again) == len(first)


def test_rows_in_order_and_not(recorder: Recorder) -> None:
    module = layer("graph_norm", module_of("graph_norm"), torch.float32)
    x = torch.randn(12, 4)
    for index in (torch.arange(12) // 4, torch.arange(12) % 3, torch.arange(12) // 4):
        launches = launched(recorder, lambda index=index: module(x, index))
        orders = {one.arguments["order"] for one in launches if "order" in one.arguments}
        assert orders
        assert (orders == {None}) == bool((index[1:] >= index[:-1]).all())


def test_a_triton_that_is_not_known(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its dispatcher serves all calls."""
    monkeypatch.setattr(direct, "KNOWN_VERSIONS", ((1, 0), (1, 9)))
    module, x = batch_norm(), torch.randn(2, 4, 7)
    for _ in range(2):
        launches = launched(recorder, lambda: module(x))
        assert any(isinstance(value, Tensor) for value in launches[0].arguments.values())


def test_what_nobody_wants_is_not_launched(recorder: Recorder) -> None:
    """A kernel that writes the gradient of the input, where that has none."""
    module, x = batch_norm(), torch.randn(64, 4, 512)
    few = launched(recorder, lambda: forward_and_backward(module, x, {}))
    all_ = launched(recorder, lambda: forward_and_backward(module, x.requires_grad_(), {}))
    assert len(few) < len(all_)
    assert not any(one.arguments.get("to_d_x") for one in few)


def test_launches_go_to_the_current_stream(recorder: Recorder) -> None:
    """The recorder refuses any other one."""
    module, x = batch_norm(), torch.randn(3, 4, 5, 3)
    launched(recorder, lambda: module(x))
    recorder.stream += 1
    assert launched(recorder, lambda: module(x))


@pytest.mark.parametrize(("rows", "bits"), [(2**9, tl.int32), (2**15, tl.int64)])
def test_places_have_bits_enough_for_results(rows: int, bits: Any) -> None:
    """Which have memory for each element of what is expanded from a single one."""
    function = module_of("layer_norm").layer_norm.__wrapped__
    names, file = tuple(signature(function).parameters), function.__globals__["__file__"]
    x = torch.zeros(1).expand(rows, 2**15)
    plan, *_ = TritonPlanCache(function, names, file).lookup((x, None, None, [2**15], 1e-5))
    call_plan: PreparedLaunches = plan.prepared  # type: ignore[assignment]
    assert all(bits in step.arguments for step in call_plan.steps)


# ---- devices


def test_kernels_run_where_their_tensors_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another device the current one or not."""
    entered: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext(entered.append(device)))
    for number in (0, 1):
        call_plan = PreparedLaunches(torch.device("cuda", number), torch.float32, [], {}, [], None)
        call_plan.unsupported = "what it would have run"
        with pytest.raises(Unsupported, match="would have run"):
            TritonPlan.launch(None, call_plan, (), (), (), None)  # type: ignore[arg-type]
    assert entered == [torch.device("cuda", 1)]


def test_constants_go_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix that the constructor was given by its name, and the rows of a single graph."""
    seen: list[tuple[PreparedLaunches, Any]] = []
    run = PreparedLaunches.run

    def spy(self: PreparedLaunches, operands: Any, *rest: Any) -> None:
        seen.append((self, operands))
        run(self, operands, *rest)

    monkeypatch.setattr(PreparedLaunches, "run", spy)
    module_of("meta_norm").MetaNorm(4, U="eye", V="blocks(2)")(torch.randn(3, 4, 5))
    module_of("graph_norm").GraphNorm(4)(torch.randn(12, 4))
    for call_plan, operands in seen:
        calls = LaunchSequence(replace(call_plan, device=torch.device("meta")), operands)
        constants = [t for t in calls.arguments.constants.values() if t is not None]
        assert constants and calls.has_constants
        assert all(tensor.device.type == "meta" for tensor in constants)


# ---- CUDA graphs


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Pretends from then on that a CUDA graph is captured."""

    def begin() -> None:
        from metanorm.runtime.kernels import plan_cache
        from metanorm.runtime.triton import groups

        for module in (plan_cache, groups, prepared):
            monkeypatch.setattr(module, "is_capturing", lambda device: True)

    return begin


def test_a_warm_call_is_captured(recorder: Recorder, capture: Callable[[], None]) -> None:
    module, x = batch_norm(), torch.randn(3, 4, 5, 3, requires_grad=True)
    warm = launched(recorder, lambda: forward_and_backward(module, x, {}))
    capture()
    assert len(launched(recorder, lambda: forward_and_backward(module, x, {}))) == len(warm)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("BatchNorm", {}, "never ran"),
        ("BatchNorm", {"momentum": None}, "average over all batches"),
        ("GraphNorm", {}, "an index"),
    ],
)
def test_what_cannot_be_captured_is_left_to_torch(
    recorder: Recorder, capture: Callable[[], None], name: str, options: dict[str, Any], reason: str
) -> None:
    file = {"BatchNorm": "batch_norm", "GraphNorm": "graph_norm"}[name]
    module = getattr(module_of(file), name)(4, **options)
    x = torch.randn(LAYERS[file][1])
    others = beside(file, x)
    if "never" in reason:
        x = torch.randn(5, 4, 11)
    else:
        module(x, **others)
    capture()
    with pytest.raises(RuntimeError, match=reason):
        module(x, **others)
