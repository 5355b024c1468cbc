"""Norms among processes on kernels, on torch, and on both at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from routes import Route, batch, norm_at, passed, stage_and_direction
from team import Team
from tiers import tiered
from torch import Tensor

from metanorm import runtime
from metanorm.driver import compile_specs
from metanorm.options import Options
from metanorm.runtime.processes.dividable import dividable
from metanorm.source import Source
from metanorm.targets.live import module_from_files

NORMS = ("BatchNorm", "SwitchNorm", "MaskedBatchNorm", "BatchRenorm", "EvoNormB0")
SENT = ("sent", "identity")  # the messages of a process, and the norm that their headers name
CORE = ("BatchNorm", "SwitchNorm")
SHARDS = ((4, 4), (7, 1), (8, 0))
NATIVE: tuple[Route, ...] = ("native", "native")
TORCH: tuple[Route, ...] = ("torch", "torch")
MIXED: tuple[Route, ...] = ("torch", "native")


class Routes:
    """Asks the processes for calls on given routes."""

    def __init__(self, team: Team, paths: dict[str, str]) -> None:
        self.team, self.paths = team, paths

    def ask(self, what: str, name: str, *how: Any, **named: Any) -> list[Any]:
        return self.team.run(f"routes:{what}", self.paths[name], name, *how, size=2, **named)


@pytest.fixture
def routes(team: Team, paths: dict[str, str]) -> Routes:
    return Routes(team, paths)


def together(actual: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """What all processes found, as one process would have it."""
    whole = {name: torch.cat([f[name] for f in actual]) for name in ("y", "dx")}
    parameters = [n for n in actual[0] if n not in ("y", "dx", *SENT) and "buffer" not in n]
    whole |= {name: sum(f[name] for f in actual) for name in parameters}  # type: ignore[misc]
    for name in (n for n in actual[0] if n.startswith("buffer")):
        assert torch.equal(actual[0][name], actual[1][name]), f"{name} differs between processes"
        whole[name] = actual[0][name]
    return whole


def alone(path: str, name: str, centre: float, dtype: torch.dtype) -> dict[str, Tensor]:
    """The same by one process in float64, of data and parameters that are rounded as theirs."""
    x, w = batch(centre, dtype)
    with runtime.use("torch"):
        return passed(norm_at(path, name).double(), x.double().requires_grad_(), w.double())


def demand_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    for name, right in theirs.items():
        scale = float(right.double().abs().max().clamp_min(1e-3))
        gap = float((ours[name].double() - right.double()).abs().max())
        assert gap <= tolerance * scale, f"{name} is off by {gap / scale:.1e}"


def demand_same_messages(
    ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]], *, rtol: float, atol: float
) -> None:
    """That two calls send the same, in the same order. Headers are equal on all processes of a
    call; between calls, they differ by the number of the norm alone."""
    for call in (ours, theirs):
        headers = [[message[:2].tolist() for message in each["sent"]] for each in call]
        assert all(header == headers[0] for header in headers)
    for our, their in zip(ours, theirs, strict=True):
        for sent, wanted in zip(our["sent"], their["sent"], strict=True):
            assert sent.dtype == wanted.dtype
            said = stage_and_direction(sent, our["identity"])
            assert said == stage_and_direction(wanted, their["identity"])
            torch.testing.assert_close(sent[2:], wanted[2:], rtol=rtol, atol=atol)


@pytest.mark.parametrize("shards", SHARDS, ids=str)
@pytest.mark.parametrize("name", tiered(NORMS, CORE))
def test_kernels_compute_what_one_process_does(
    name: str, shards: tuple[int, ...], routes: Routes
) -> None:
    actual = routes.ask("called", name, NATIVE, shards)
    wanted = alone(routes.paths[name], name, 0.0, torch.float32)
    demand_close(together(actual), wanted, 2e-5)


@pytest.mark.parametrize("shards", SHARDS, ids=str)
@pytest.mark.parametrize("name", tiered(NORMS, CORE))
def test_every_route_sends_the_same_messages(
    name: str, shards: tuple[int, ...], routes: Routes
) -> None:
    on_torch, *others = (routes.ask("called", name, r, shards) for r in (TORCH, NATIVE, MIXED))
    for other in others:
        for ours, theirs in zip(other, on_torch):
            assert len(ours["sent"]) == len(theirs["sent"]) == 2  # one each way
        demand_same_messages(other, on_torch, rtol=1e-5, atol=2e-5)
        demand_close(together(other), together(on_torch), 2e-5)


def test_in_double_precision_a_number_near_the_mean_is_sent_first(routes: Routes) -> None:
    how = {"dtype": torch.float64, "centre": 1e6}
    for route in (TORCH, NATIVE, MIXED):
        actual = routes.ask("called", "BatchNorm", route, (7, 1), **how)
        assert [len(f["sent"]) for f in actual] == [3, 3]
        wanted = alone(routes.paths["BatchNorm"], "BatchNorm", 1e6, torch.float64)
        demand_close(together(actual), wanted, 1e-8)


def test_a_mean_far_from_zero_keeps_its_digits(routes: Routes) -> None:
    actual = routes.ask("called", "BatchNorm", NATIVE, (7, 1), centre=1e4)
    wanted = alone(routes.paths["BatchNorm"], "BatchNorm", 1e4, torch.float32)
    # float32 itself holds the data to 1e-3 of its standard deviation.
    demand_close(together(actual), wanted, 2e-3)
    variance = actual[0]["buffer running_var"].double(), wanted["buffer running_var"]
    assert float((variance[0] / variance[1] - 1).abs().max()) < 1e-5


def test_strides_and_half_precision_change_no_message(routes: Routes) -> None:
    plain = routes.ask("called", "BatchNorm", ("auto", "auto"), (4, 4))
    strided = routes.ask("called", "BatchNorm", ("auto", "auto"), (4, 4), strided=True)
    demand_close(together(strided), together(plain), 1e-6)
    half = routes.ask("called", "BatchNorm", ("auto", "torch"), (4, 4), dtype=torch.bfloat16)
    assert [[len(m) for m in f["sent"]] for f in half] == [[15, 15]] * 2
    wanted = alone(routes.paths["BatchNorm"], "BatchNorm", 0.0, torch.bfloat16)
    demand_close(together(half), wanted, 2e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", tiered(NORMS, CORE))
def test_messages_of_half_precision_are_in_double(
    name: str, dtype: torch.dtype, routes: Routes
) -> None:
    """The same on all routes, to the rounding of what is computed in float32."""
    shards = (7, 1)
    on_torch = routes.ask("called", name, TORCH, shards, dtype=dtype)
    wanted = alone(routes.paths[name], name, 0.0, dtype)
    for route in (NATIVE, MIXED):
        actual = routes.ask("called", name, route, shards, dtype=dtype)
        assert all(m.dtype == torch.float64 for f in (*actual, *on_torch) for m in f["sent"])
        demand_same_messages(actual, on_torch, rtol=2e-2, atol=2e-2)
        demand_close(together(actual), wanted, 3e-2)


FIXED = {  # what a message has no gradient of, though the kernel before it reads it
    "a mean of what is fixed": "x * w - mean(stop(x) over N)",
    "what is fixed beside a weight": "x - mean(stop(x) * w over N)",
    "a largest value of what is fixed": "x * w - max(stop(x) over N)",
}


@pytest.mark.parametrize("frozen", [False, True], ids=["learned", "frozen"])
@pytest.mark.parametrize("what", FIXED)
def test_processes_agree_whether_a_message_goes_back(
    what: str, frozen: bool, routes: Routes
) -> None:
    """Also one without samples, which has no kernels: none waits for another."""
    output = FIXED[what]
    text = f"norm A {{\ninput x[N, C = channels]\nparam w[C] = 1\noutput {output}\n}}"
    ask = "members:gradients_beside_what_is_fixed"
    (wanted,) = routes.team.run(ask, text, (6,), ("torch",), frozen, size=1)
    for shards, targets in (((6, 0), ("native", "auto")), ((4, 2), ("torch", "native"))):
        each = routes.team.run(ask, text, shards, targets, frozen, size=2)
        torch.testing.assert_close(sum(f["w"] for f in each if f["w"] is not None), wanted["w"])
        if not frozen:
            torch.testing.assert_close(torch.cat([f["x"] for f in each]), wanted["x"])


def test_a_process_without_samples_has_no_kernel_to_run(routes: Routes) -> None:
    assert routes.ask("kernel_runs", "BatchNorm", (8, 0)) == [[4, 4], [0, 0]]


def test_a_process_without_kernels_sends_the_same(routes: Routes) -> None:
    first, second = routes.ask("without_c_file", "BatchNorm")
    assert any("the C file" in text for text in first["warnings"]) and not second["warnings"]
    assert torch.equal(first["buffer running_var"], second["buffer running_var"])


@pytest.mark.parametrize("odd", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("name", ["BatchNorm", "IterNorm"])
def test_where_one_process_cannot_run_kernels_that_are_asked_for_all_raise(
    name: str, odd: tuple[int, ...], routes: Routes
) -> None:
    """None waits for another, and the group can be used again."""
    actual = routes.ask("refused", name, odd)
    for rank, each in enumerate(actual):
        is_refused = rank in odd or name == "IterNorm"  # which has no kernels among processes
        assert each["kind"] == ("NotServed" if is_refused else "ExchangeError"), each["text"]
        assert ("cannot run natively" if is_refused else "a process cannot run this call") in each[
            "text"
        ]
        assert each["kept"]
    wanted = alone(routes.paths[name], name, 0.0, torch.float32)
    kept = [{n: v for n, v in f.items() if n not in ("kind", "text", "kept")} for f in actual]
    if name == "BatchNorm":
        demand_close(together(kept), wanted, 2e-5)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_message_that_fails(direction: str, routes: Routes) -> None:
    for actual in routes.ask("failing", "BatchNorm", direction):
        assert actual["kept"] and actual["again"]
        assert "Connection closed by peer" in actual["text"]
        assert actual["kind"] == "ExchangeError"
        place = "over N" if direction == "forward" else "over N, in the backward pass"
        assert actual["text"].startswith(f"BatchNorm, {place}: the exchange among 2 processes")


def test_a_module_without_a_file_has_kernels_for_its_sweeps() -> None:
    spec = "norm Mine {\n input x[N, C]\n output x - mean(x over N)\n}"
    files = compile_specs(
        {"mine.norm": Source.of("mine.norm", spec)}, ["mine.norm"], Options()
    ).files
    module = module_from_files(files, "mine")
    norm = dividable(module.Mine())
    assert norm is not None
    sums = norm.variants[0].forward.__globals__["sums_of_mine"]
    x = torch.randn(50, 3)
    with runtime.use("native"):
        assert sums(x).dtype is torch.float64
        torch.testing.assert_close(sums(x), x.double().sum(0), rtol=1e-6, atol=1e-5)
