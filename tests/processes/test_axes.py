"""Norms of which each process has a piece of other axes than that of samples, and refusals."""

from __future__ import annotations

import pytest
import torch
from conftest import PROGRAMS
from pieces import cut, norm_of, run, weights_of
from team import Team
from test_samples import difference

import metanorm
from metanorm import runtime
from metanorm.ir.outputs import output_dims
from metanorm.runtime.processes.message import must_check
from metanorm.verify.cases import Setting, make_example

# Norms, an axis of each, and how long its pieces are.
CASES = [
    ("BatchNorm", "S", (3, 1)),
    ("GroupNorm", "S", (4, 0)),
    ("SwitchNorm", "S", (1, 3)),
    ("SwitchNorm", "C", (3, 2)),
    ("PixelNorm", "C", (4, 1)),
    ("BatchNorm", "C", (2, 3)),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "axis", "lengths"), CASES)
def test_pieces_of_an_axis(
    name: str, axis: str, lengths: tuple[int, int], training: bool,
    team: Team, paths: dict[str, str],
) -> None:  # fmt: skip
    program, path = PROGRAMS[name], paths[name]
    whole = {"S": (4, 2), "C": (5,)}[axis]
    setting = Setting("call", training=training, lengths={axis: whole})
    built = make_example(program, setting)
    norm = norm_of(path, program, built, setting)
    parts = cut(program, built, norm, axis, lengths)
    dims = {d.name: d.dims for d in program.declarations}
    dims |= {f"output {n}": output_dims(program, n, ref) for n, ref in program.outputs}
    x = built.inputs[program.inputs[0].name]
    assert x is not None
    weights = weights_of({"output output": tuple(x.shape)}, 5)
    with runtime.use("torch"):
        wanted = run(norm, program, built, weights)
    place = dims["output output"].index(axis)
    weights_by_rank = [
        {n: w.narrow(place, sum(lengths[:rank]), length) for n, w in weights.items()}
        for rank, length in enumerate(lengths)
    ]
    arguments = (path, program, parts, [axis], weights_by_rank, training)
    results = team.run("members:sharded", *arguments, size=2)
    for what, right in wanted.items():
        each = [f[what] for f in results]
        has = dims.get(what, dims.get(what.split()[-1], ()))
        if axis in has:
            each = [torch.cat(each, has.index(axis))]
        assert max(difference(one, right) for one in each) <= 1e-11, what


def test_what_cannot_be_synchronized_is_listed() -> None:
    MetaNorm = metanorm.load("specs/meta_norm.norm").MetaNorm
    model = torch.nn.Sequential(MetaNorm(3), torch.nn.ReLU(), MetaNorm(3))
    with pytest.raises(runtime.ShardingError) as raised:
        runtime.convert_sync(model)
    assert str(raised.value).split("\n")[1:] == [
        f"  {path} (MetaNorm): N: it is pooled by a matrix, which needs the values of all processes"
        for path in ("0", "2")
    ]
    assert runtime.synchronized(model) == {}


def batch_mean() -> torch.nn.Module:
    text = "norm A { input x[N, C, *S]  output x - mean(x over N, *S) }"
    norm: torch.nn.Module = metanorm.loads(text).A()
    return norm


def test_an_axis_that_is_not_pooled_can_be_divided() -> None:
    norm = runtime.shard(batch_mean(), {"C": None}, reduce_gradients="leave")
    assert norm(torch.ones(2, 3)).eq(0).all()


def test_an_axis_that_is_none_is_refused() -> None:
    with pytest.raises(runtime.ShardingError, match="not an axis of its inputs: those are C, N"):
        runtime.shard(batch_mean(), {"Z": None}, reduce_gradients="leave")
    with pytest.raises(ValueError, match="reduce_gradients is"):
        runtime.shard(batch_mean(), {"N": None}, reduce_gradients="average")  # type: ignore[arg-type]


def test_numbers_that_are_no_integers_are_refused_in_words() -> None:
    GroupNorm = metanorm.load("specs/group_norm.norm").GroupNorm
    with pytest.raises(runtime.ShardingError) as raised:
        runtime.shard(GroupNorm(3, 6), {"C": None}, pieces={"C": 6.0}, reduce_gradients="leave")
    assert "GroupNorm: C: the length of a piece is a whole number, got 6.0" in str(raised.value)
    with pytest.raises(TypeError, match=r"runtime\.total adds up integers, .*, got 1\.5"):
        runtime.total(1.5)  # type: ignore[arg-type]


def test_tags_are_checked_on_other_devices_where_the_environment_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    received = torch.empty(3, device="meta")
    assert must_check(torch.empty(3)) and not must_check(received)
    monkeypatch.setenv("METANORM_CHECK_EXCHANGE", "1")
    assert must_check(received)


def test_without_processes_a_norm_is_what_it_was() -> None:
    BatchNorm = metanorm.load("specs/batch_norm.norm").BatchNorm
    norm, plain = runtime.convert_sync(BatchNorm(3)), BatchNorm(3)
    x = torch.randn(5, 3)
    with runtime.use("torch"):
        torch.testing.assert_close(norm(x), plain(x), rtol=0, atol=0)
    assert "process_groups={'N': all processes}" in repr(norm)
    assert runtime.total(5) == 5
