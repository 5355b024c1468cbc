"""Norms that split an axis into blocks, on kernels in C among processes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from conftest import PROGRAMS
from pieces import cut, norm_of, run, weights_of
from team import Team
from test_samples import POOLING, difference, differences
from tiers import tiered

from metanorm import runtime
from metanorm.verify.cases import Setting, make_example

SAMPLES = ("GhostBatchNorm", "BatchChannelNorm", "FourThingsNorm", "SubSpectralNorm")
IMAGES = ("GroupNorm", "EvoNormS0", "AdaGroupNorm", "ILMGroupNorm", "InstanceLayerNorm")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("shards", [(6, 2), (2, 4, 2), (8, 0)], ids=str)
@pytest.mark.parametrize("name", tiered(SAMPLES, SAMPLES[:2]))
def test_samples_on_several_processes(
    name: str, shards: tuple[int, ...], dtype: torch.dtype, team: Team, paths: Mapping[str, str]
) -> None:
    setting = Setting("train", dtype=dtype)
    errors = differences(
        team, paths[name], PROGRAMS[name], POOLING[name], shards, setting, "native"
    )
    bound = 2e-11 if dtype == torch.float64 else 1e-3
    assert not {what: e for what, e in errors.items() if not e <= bound}


@pytest.mark.parametrize("lengths", [(3, 1), (4, 0)], ids=str)
@pytest.mark.parametrize("name", tiered(IMAGES, IMAGES[:2]))
def test_pieces_of_images(
    name: str, lengths: tuple[int, int], team: Team, paths: Mapping[str, str]
) -> None:
    program, path = PROGRAMS[name], paths[name]
    setting = Setting("call", training=True, lengths={"S": (4, 2)})
    built = make_example(program, setting)
    norm = norm_of(path, program, built, setting)
    parts = cut(program, built, norm, "S", lengths)
    x = built.inputs[program.inputs[0].name]
    assert x is not None
    weights = weights_of({"output output": tuple(x.shape)}, 5)
    with runtime.use("torch"):
        wanted = run(norm, program, built, weights)
    place = program.inputs[0].dims.index("S")
    weights_by_rank = [
        {n: w.narrow(place, sum(lengths[:rank]), length) for n, w in weights.items()}
        for rank, length in enumerate(lengths)
    ]
    arguments = (path, program, parts, ["S"], weights_by_rank, True, "native")
    results = team.run("members:sharded", *arguments, size=2)
    first = program.inputs[0].name
    for what, right in wanted.items():
        each = [result[what] for result in results]
        if what in ("output output", f"gradient of input {first}"):
            each = [torch.cat(each, place)]
        elif what.startswith("gradient of input"):
            each = [sum(each)]  # type: ignore[list-item]
        assert max(difference(one, right) for one in each) <= 1e-11, what
