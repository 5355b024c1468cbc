"""Norms among processes on Triton kernels, which run in its interpreter here, on torch, and on
both at once."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch
from routes import Route
from team import Team
from test_routes import Routes, alone, demand_close, demand_same_messages, together
from tiers import tiered

from metanorm.driver import compile_specs
from metanorm.options import Options
from metanorm.source import Source
from metanorm.workspace import load_library

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

FILES = {
    "BatchNorm": "batch_norm",
    "SwitchNorm": "switch_norm",
    "MaskedBatchNorm": "masked_batch_norm",
    "BatchRenorm": "batch_renorm",
    "EvoNormB0": "evo_norm",
}
OWN = """
norm Peaks {
  input  x[N, C = num_features, *S]
  param  weight[C] = 1
  let    low = min(x over N, *S)
  output weight * (x - low) * max(x over N, *S)
}

norm Halves {
  input  x[N, C = num_features, *S]
  param  weight[C] = 1
  output weight * normalize(x over N, C: blocks(2), *S)
}
"""
CORE = ("BatchNorm", "MaskedBatchNorm", "Peaks", "Halves")
TRITON: tuple[Route, ...] = ("triton", "triton")
TORCH: tuple[Route, ...] = ("torch", "torch")
MIXED: tuple[Route, ...] = ("triton", "torch")


@pytest.fixture(scope="module")
def interpreting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routes]:
    """Two processes with Triton's interpreter, and norms with kernels in Triton."""
    library = load_library()
    roots = [r for r in library.roots if r.split(":")[-1] in {f"{f}.norm" for f in FILES.values()}]
    files = compile_specs(library.sources, roots, Options(target="triton")).files
    source = {"own.norm": Source.of("own.norm", OWN)}
    files = {**files, **compile_specs(source, [*source], Options(target="triton")).files}
    folder = tmp_path_factory.mktemp("triton")
    for file, text in files.items():
        (folder / file).write_text(text)
    team = Team(2, environment={"TRITON_INTERPRET": "1"})
    names = {**FILES, "Peaks": "own", "Halves": "own"}
    yield Routes(team, {name: str(folder / f"{file}.py") for name, file in names.items()})
    team.close()


@pytest.mark.parametrize("shards", [(5, 3), (8, 0)], ids=str)
@pytest.mark.parametrize("name", tiered((*FILES, "Peaks", "Halves"), CORE))
def test_the_same_messages_and_results(
    name: str, shards: tuple[int, ...], interpreting: Routes
) -> None:
    wanted = alone(interpreting.paths[name], name, 0.0, torch.float32)
    on_torch = interpreting.ask("called", name, TORCH, shards)
    for routes in (TRITON, MIXED):
        actual = interpreting.ask("called", name, routes, shards)
        demand_close(together(actual), wanted, 2e-5)
        demand_same_messages(actual, on_torch, rtol=1e-5, atol=2e-5)


def test_a_mean_far_from_zero_keeps_its_digits(interpreting: Routes) -> None:
    """What is sent is added up in float64, as it would cancel otherwise."""
    actual = interpreting.ask("called", "BatchNorm", TRITON, (7, 1), centre=1e4)
    wanted = alone(interpreting.paths["BatchNorm"], "BatchNorm", 1e4, torch.float32)
    demand_close(together(actual), wanted, 2e-3)
    variance = actual[0]["buffer running_var"].double(), wanted["buffer running_var"]
    assert float((variance[0] / variance[1] - 1).abs().max()) < 1e-6


def test_half_precision_is_sent_in_double(interpreting: Routes) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        actual = interpreting.ask("called", "BatchNorm", TRITON, (5, 3), dtype=dtype)
        assert all(m.dtype == torch.float64 for f in actual for m in f["sent"])
        wanted = alone(interpreting.paths["BatchNorm"], "BatchNorm", 0.0, dtype)
        demand_close(together(actual), wanted, 2e-2)


def test_double_precision_takes_a_message_more(interpreting: Routes) -> None:
    actual = interpreting.ask(
        "called", "BatchNorm", TRITON, (7, 1), centre=1e6, dtype=torch.float64
    )
    assert [len(f["sent"]) for f in actual] == [3, 3]
    wanted = alone(interpreting.paths["BatchNorm"], "BatchNorm", 1e6, torch.float64)
    demand_close(together(actual), wanted, 1e-8)
