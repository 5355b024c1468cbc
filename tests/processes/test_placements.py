"""Norms whose inputs are `DTensor`s, against one process with whole tensors."""

from __future__ import annotations

import math
from typing import Any

import members
import pytest
import torch
from conftest import PROGRAMS
from pieces import norm_of, run, weights_of
from team import Team
from test_samples import difference
from torch.distributed.tensor import Partial, Replicate, Shard

from metanorm import runtime
from metanorm.ir.program import Program
from metanorm.passes.divided import Divided, divided
from metanorm.passes.pipeline import optimize
from metanorm.verify.cases import Example, Setting, make_example

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch warns of itself is not ours
DIVIDED = {
    name: known
    for name, program in PROGRAMS.items()
    if program.target == "activation" and (known := divided(optimize(program))) is not None
}


def expected(
    path: str, program: Program, example: Example, setting: Setting
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Results of one process, and a weight for each element of its outputs."""
    norm = norm_of(path, program, example, setting)
    with runtime.use("torch"):
        outputs = run(norm, program, example, None)
        weights = weights_of({n: tuple(y.shape) for n, y in outputs.items()}, 5)
        norm = norm_of(path, program, example, setting)
        return run(norm, program, example, weights), weights


def dims_of_first(program: Program, example: Example) -> list[str]:
    """The axis of each dimension of the first input. An axis with a star stands for two."""
    space = program.index.space
    first = example.inputs[program.inputs[0].name]
    assert first is not None
    dims = [d for dim in program.inputs[0].dims for d in [dim] * (2 if space[dim].variadic else 1)]
    assert len(dims) == first.dim()
    return dims


def can_be_cut(known: Divided, axis: str, example: Example, size: int) -> bool:
    """Whether pieces of an axis can be computed one by one."""
    blocks = example.arguments.get(known.block_counts.get(axis, ""), size)
    return not (
        axis in known.refusals
        or axis in known.outputs_without_axis
        or axis in known.aligned
        or blocks % size
    )


@pytest.mark.parametrize("name", DIVIDED)
def test_every_dimension_in_turn(name: str, team: Team, paths: dict[str, str]) -> None:
    program, known = PROGRAMS[name], DIVIDED[name]
    # Processes draw numbers of their own.
    for training in (False,) if program.drawn_inputs else (True, False):
        setting = Setting("call", training=training, space=(3, 2))
        example = make_example(program, setting)
        wanted, weights = expected(paths[name], program, example, setting)
        for d, axis in enumerate(dims_of_first(program, example)):
            arguments = (paths[name], program, example, setting, weights, [Shard(d)])
            for answer in team.run("members:distributed", *arguments, size=2):
                is_cut = can_be_cut(known, axis, example, 2)
                if isinstance(answer, str):
                    assert not is_cut, answer  # torch has no such operation for these placements
                    continue
                actual, where, on_pieces = answer
                assert on_pieces or not is_cut or training, (axis, where)
                compare(actual, wanted)


def compare(actual: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    for what, right in wanted.items():
        assert actual[what].shape == right.shape, what
        assert difference(actual[what], right) <= 1e-9, what


S0, S1, S2, P, R = Shard(0), Shard(1), Shard(2), Partial(), Replicate()
# Norm, lengths of axes, placements of x, mesh, and where some results lie.
CASES: list[tuple[str, dict[str, tuple[int, ...]], list[Any], tuple[int, ...], dict[str, Any]]] = [
    ("LayerNorm", {"B": (5,), "D": (6,)}, [S0], (4,), {"output": [S0], "weight": [P]}),
    ("LayerNorm", {"B": (3,), "D": (5,)}, [S1], (4,), {"output": [S1], "weight": [R]}),
    ("LayerNorm", {"B": (1,), "D": (5,)}, [S0], (2,), {"output": [S0], "bias": [P]}),
    ("BatchNorm", {"N": (1,), "C": (3,)}, [S0], (4,), {"output": [S0], "weight": [P]}),
    ("BatchNorm", {"N": (3,), "C": (5,)}, [S0, S1], (2, 2), {"weight": [R, R]}),
    ("BatchNorm", {"N": (3,), "S": (5, 2)}, [S0, S2], (2, 2), {"weight": [P, P]}),
    ("BatchNorm", {"N": (3,), "C": (3,)}, [R, S0], (2, 2), {"weight": [R, P]}),
    ("BatchNorm", {"N": (3,), "C": (3,)}, [P], (2,), {"output": [R], "weight": [R]}),
    ("SwitchNorm", {"N": (3,), "C": (3,)}, [S1, S0], (2, 2), {"output": [S1, S0]}),
    ("MaskedBatchNorm", {"N": (3,), "S": (5,)}, [S2], (4,), {"output": [S2]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "lengths", "placements", "mesh", "where"), CASES, ids=lambda value: str(value)[:40]
)
def test_uneven_pieces_sums_and_meshes(
    name: str, lengths: dict[str, tuple[int, ...]], placements: list[Any], mesh: tuple[int, ...],
    where: dict[str, Any], team: Team, paths: dict[str, str],
) -> None:  # fmt: skip
    """Also a process without elements, and a tensor of which each process has a summand."""
    program = PROGRAMS[name]
    setting = Setting("call", training=True, lengths=lengths)
    example = make_example(program, setting)
    wanted, weights = expected(paths[name], program, example, setting)
    arguments = (paths[name], program, example, setting, weights, placements)
    size = math.prod(mesh)
    named = {"mesh_shape": mesh} if len(mesh) > 1 else {}
    for actual, found_where, on_pieces in team.run(
        "members:distributed", *arguments, size=size, **named
    ):
        assert on_pieces
        for what, right in where.items():
            label = "output output" if what == "output" else f"gradient of parameter {what}"
            assert found_where[label] == str(tuple(right)), label
        compare(actual, wanted)


def test_what_divides_an_axis_twice_is_gathered(team: Team, paths: dict[str, str]) -> None:
    program = PROGRAMS["BatchNorm"]
    setting = Setting("call", training=True, lengths={"N": (8,)})
    example = make_example(program, setting)
    wanted, weights = expected(paths["BatchNorm"], program, example, setting)
    arguments = (paths["BatchNorm"], program, example, setting, weights, [S0, S0])
    for actual, _, on_pieces in team.run("members:distributed", *arguments, mesh_shape=(2, 2)):
        assert not on_pieces
        compare(actual, wanted)


@pytest.mark.parametrize(
    ("name", "placement", "messages"),
    [("LayerNorm", 0, (0, 0)), ("LayerNorm", 1, (1, 3)), ("GroupNorm", 1, (0, 2)),
     ("BatchNorm", 0, (1, 1)), ("BatchNorm", 1, (2, 2)), ("SwitchNorm", 0, (1, 1))],
)  # fmt: skip
def test_pieces_are_not_gathered(
    name: str, placement: int, messages: tuple[int, int], team: Team, paths: dict[str, str]
) -> None:
    """A call sends sums alone, one message in each direction, and none where nothing is pooled.

    Where channels are divided, and parameters and buffers are not, the gradients of two parameters
    and two running statistics are put together, too.
    """
    program = PROGRAMS[name]
    lengths = {axis: (4,) for axis in ("N", "C", "B", "D") if axis in program.inputs[0].dims}
    setting = Setting("call", training=True, lengths=lengths, dtype=torch.float32)
    example = make_example(program, setting)
    arguments = (paths[name], program, example, setting, placement)
    for counted in team.run("members:messages_of", *arguments, size=2):
        assert counted == messages


@pytest.mark.parametrize("name", ["LayerNorm", "BatchNorm", "SwitchNorm"])
def test_optimizers_take_the_gradients_of_pieces(
    name: str, team: Team, paths: dict[str, str]
) -> None:
    program = PROGRAMS[name]
    setting = Setting("call", training=True)
    example = make_example(program, setting)
    wanted = members.optimized(None, 0, paths[name], program, example, setting)
    arguments = (paths[name], program, example, setting)
    for actual in team.run("members:optimized", *arguments, size=2):
        compare(actual, wanted)


@pytest.mark.parametrize(
    ("name", "dim"),
    [("LayerNorm", 0), ("LayerNorm", 1), ("BatchNorm", 0), ("SwitchNorm", 0), ("MinMaxScaler", 1)],
)
def test_graphs_of_torch_compile_take_them_on_the_operations_of_torch(
    name: str, dim: int, team: Team, paths: dict[str, str]
) -> None:
    program = PROGRAMS[name]
    setting = Setting("call", training=True)
    example = make_example(program, setting)
    wanted, weights = expected(paths[name], program, example, setting)
    arguments = (paths[name], program, example, setting, weights, dim)
    for actual in team.run("members:compiled", *arguments, size=2):
        compare(actual, wanted)


def test_tensors_on_two_meshes_are_no_pieces_of_one_call(team: Team, paths: dict[str, str]) -> None:
    program = PROGRAMS["BatchNorm"]
    setting = Setting("call", training=True)
    example = make_example(program, setting)
    arguments = (paths["BatchNorm"], program, example, setting)
    raised = team.run("members:with_buffers_on_another_mesh", *arguments, size=2)
    assert [*raised] == ["CannotPlace", "CannotPlace"]
