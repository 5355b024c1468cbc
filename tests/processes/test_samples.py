"""Norms that take their samples from several processes, against one process with all of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from conftest import PROGRAMS
from pieces import norm_of, pieces, place_of, run, together, weights_of
from team import Team
from torch import Tensor

from metanorm import runtime
from metanorm.ir.outputs import output_dims
from metanorm.ir.program import Program
from metanorm.passes.divided import Divided, divided
from metanorm.passes.pipeline import optimize
from metanorm.verify.cases import Setting

F32 = torch.float32
# With most seeds some gradient nearly cancels, such as that of ModeNorm's `gate_bias`, of which one
# process too computes what rounding leaves. With this one none does, however samples are divided.
SEED = 22


def pooling() -> dict[str, Divided]:
    """The norms that pool over samples, with what is known of them."""
    results = {name: divided(optimize(program)) for name, program in PROGRAMS.items()}
    return {
        name: known
        for name, known in results.items()
        if known is not None
        and not any(axis in known.refusals for axis in known.sample_axes)
        and known.variants
        and {*known.sample_axes} & {*known.variants[0].exchanged}
    }


POOLING = pooling()


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest one, by the largest number that is right."""
    if not theirs.numel():
        return 0.0
    ours, theirs = ours.double(), theirs.double()
    scale = theirs.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    return float((ours - theirs).abs().max() / scale)


def differences(
    team: Team, path: str, program: Program, known: Divided, shards: Sequence[int],
    setting: Setting, target: str = "auto",
) -> dict[str, float]:  # fmt: skip
    """How far results, gradients and buffers of several processes are from those of one process
    that computes in float64."""
    axes, first = known.sample_axes, program.inputs[0]
    parts = pieces(program, axes, shards, setting)
    whole = together(program, axes, parts)
    wide = Setting("train", training=setting.training)
    exact = {n: x.double() if x is not None and x.is_floating_point() else x
             for n, x in whole.inputs.items()}  # fmt: skip
    whole.inputs = exact
    with runtime.use("torch"):
        shapes = run(norm_of(path, program, whole, wide), program, whole, None)
        outputs = {n: v.shape for n, v in shapes.items() if n.startswith("output")}
        weights = weights_of(outputs, SEED)
        # With parameters as those of the pieces are rounded.
        norm = norm_of(path, program, whole, setting).double()
        wanted = run(norm, program, whole, weights)
    lacking = {f"output {name}" for name, ref in program.outputs
               if not {*axes} & {*output_dims(program, name, ref)}}  # fmt: skip
    starts = [sum(shards[:rank]) for rank in range(len(shards))]
    place = place_of(first, axes)
    weights_by_rank = [
        {
            name: w / len(shards) if name in lacking else w.narrow(place, start, length)
            for name, w in weights.items()
        }
        for start, length in zip(starts, shards)
    ]
    when = "train" if setting.training else "always"
    arguments = (path, program, parts, setting, weights_by_rank, when, target)
    results = team.run("members:synchronized", *arguments, size=len(shards))
    dims = {f"gradient of input {decl.name}": decl for decl in program.inputs}
    dims |= {name: first for name in weights if name not in lacking}
    errors = {}
    for name, right in wanted.items():
        each = [f[name] for f in results]
        if name in dims:
            decl = dims[name]
            there = bool({*axes} & {*decl.dims})
            each = [torch.cat(each, place_of(decl, axes)) if there else sum(each)]  # type: ignore[list-item]
        errors[name] = max(difference(one, right) for one in each)
        same = all(torch.equal(one, each[0]) for one in each)
        assert same or not name.startswith("buffer"), f"{name} differs between processes"
    return errors


def check(
    team: Team, paths: dict[str, str], shards: Sequence[int], setting: Setting, tolerance: float
) -> None:
    wrong = []
    for name, known in POOLING.items():
        if setting.training and PROGRAMS[name].drawn_inputs:
            continue  # processes draw numbers of their own
        errors = differences(team, paths[name], PROGRAMS[name], known, shards, setting)
        wrong += [f"{name}: {what} by {e:.1e}" for what, e in errors.items() if not e <= tolerance]
    assert not wrong, "\n".join(wrong)


def test_at_least_thirty_norms_pool_over_samples() -> None:
    assert len(POOLING) >= 30
    refused = [n for n in PROGRAMS if (d := divided(optimize(PROGRAMS[n]))) and d.sample_axes
               and d.sample_axes[0] in d.refusals]  # fmt: skip
    assert {"MetaNorm", "MetaNormWithin", "MetaNormDeviations"} <= {*refused}


def test_pieces_of_unequal_length_and_an_empty_one(team: Team, paths: dict[str, str]) -> None:
    check(team, paths, (6, 0, 4, 2), Setting("train"), 2e-11)


def test_no_samples_at_all(team: Team, paths: dict[str, str]) -> None:
    check(team, paths, (0, 0), Setting("train"), 0.0)


@pytest.mark.extended
@pytest.mark.parametrize("shards", [(4, 4), (6, 2), (2, 4, 2), (8, 0)], ids=str)
def test_pieces_in_double_precision(
    team: Team, paths: dict[str, str], shards: tuple[int, ...]
) -> None:
    check(team, paths, shards, Setting("train"), 2e-11)


@pytest.mark.extended
def test_pieces_in_single_precision(team: Team, paths: dict[str, str]) -> None:
    check(team, paths, (6, 2), Setting("train", dtype=F32), 1e-3)


@pytest.mark.extended
def test_pieces_in_evaluation_where_it_is_asked_for(team: Team, paths: dict[str, str]) -> None:
    check(team, paths, (4, 4), Setting("eval", training=False), 2e-11)


def test_steps_of_a_fixed_number_are_no_samples() -> None:
    for name in ("TemporalEffectiveBatchNorm", "BatchNormThroughTime"):
        known = divided(optimize(PROGRAMS[name]))
        assert known is not None and known.sample_axes == ("N",)


@pytest.mark.parametrize("target", ["auto", "torch"])
def test_gradients_of_weights_that_are_zero_on_one_process(target: str, team: Team) -> None:
    x, arriving = torch.randn(2, 4, 2, dtype=torch.float64).unbind()
    weight = torch.tensor([0, 0, 0.7, 0.2], dtype=torch.float64, requires_grad=True)
    column = weight[:, None]
    mean = (column * x).sum(0) / weight.sum()
    var = (column * (x - mean) ** 2).sum(0) / weight.sum()
    loss = ((x - mean) / (var + 1e-5).sqrt() * arriving).sum()
    (wanted,) = torch.autograd.grad(loss, weight)
    arguments = (x, weight.detach(), arriving, target)
    each = team.run("members:gradients_of_weights", *arguments, size=2)
    torch.testing.assert_close(torch.cat(each), wanted)
