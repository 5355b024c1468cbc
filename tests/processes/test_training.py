"""Networks with synchronized norms under what torch trains with, against one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from team import Team
from tiers import tiered
from training import alone

from metanorm import runtime

NORMS = ("BatchNorm", "SwitchNorm", "BatchRenorm")
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture
def one(team: Team, paths: dict[str, str]) -> One:
    return One(team, paths)


class One:
    """Compares what all processes find with what one process finds."""

    def __init__(self, team: Team, paths: dict[str, str]) -> None:
        self.team, self.paths = team, paths

    def ask(self, what: str, name: str, *how: Any, size: int = 2, **named: Any) -> list[Any]:
        path = self.paths[name]
        return self.team.run(f"training:{what}", path, name, *how, size=size, **named)

    def agrees(
        self, what: str, name: str, *how: Any, steps: int = 1, size: int = 2, **named: Any
    ) -> None:
        actual = self.ask(what, name, *how, size=size, **named)
        with runtime.use("torch"):
            wanted = alone(self.paths[name], name, steps)
        for result in actual:
            for ours, theirs in zip(result, wanted):
                torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("name", tiered(NORMS, ["BatchNorm"]))
def test_ddp(name: str, one: One) -> None:
    one.agrees("ddp", name)
    one.agrees("ddp", name, size=3, find_unused_parameters=True)


@pytest.mark.extended
def test_ddp_with_static_graph(one: One) -> None:
    one.agrees("ddp", "BatchNorm", static_graph=True)


def test_gradients_of_several_passes(one: One) -> None:
    one.agrees("no_sync", "BatchNorm", steps=2)


@pytest.mark.parametrize("name", tiered(NORMS[:2], ["SwitchNorm"]))
def test_fully_sharded(name: str, one: One) -> None:
    one.agrees("fsdp", name)


def test_fully_sharded_in_half_precision(one: One) -> None:
    actual = one.ask("fsdp", "BatchNorm", half=True)
    with runtime.use("torch"):
        wanted = alone(one.paths["BatchNorm"], "BatchNorm")
    for result in actual:
        for ours, theirs in zip(result, wanted):
            torch.testing.assert_close(ours.to(theirs.dtype), theirs, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints(reentrant: bool, one: One) -> None:
    one.agrees("checkpointed", "SwitchNorm", reentrant)


@pytest.mark.parametrize("size", tiered([2, 3], [3]))
def test_one_graph(size: int, one: One) -> None:
    one.agrees("compiled", "BatchNorm", "aot_eager", size=size)


@pytest.mark.extended
@pytest.mark.parametrize("name", NORMS)
def test_one_graph_of_each(name: str, one: One) -> None:
    one.agrees("compiled", name, "aot_eager", size=3)


@pytest.mark.extended
def test_inductor(one: One) -> None:
    one.agrees("compiled", "SwitchNorm", "inductor")


@pytest.mark.parametrize("name", NORMS)
def test_all_processes_send_the_same_messages(name: str, one: One) -> None:
    first, *others = one.ask("recorded", name, True, size=3)
    assert all(other == first for other in others)
    forward, backward = len(first) // 2, len(first) - len(first) // 2
    assert (forward, backward) in {(1, 1), (1, 2)}, first  # float64 asks for a number near the mean


def test_evaluation_sends_nothing(one: One) -> None:
    assert one.ask("recorded", "BatchNorm", False) == [[], []]


def test_what_wants_no_gradient_sends_none_back(one: One) -> None:
    assert one.ask("frozen", "BatchNorm") == [0, 0]


def test_gradients_of_gradients(one: One) -> None:
    for pair in one.ask("twice_differentiated", "BatchNorm", size=3):
        ours, theirs = pair
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_copies_and_files(one: One) -> None:
    for state in one.ask("copies", "SwitchNorm"):
        assert state["same"] and state["own"] and state["keys"] and state["class"]
        assert (
            "revert_sync(model) first" in state["refusal"] and "1 (SwitchNorm)" in state["refusal"]
        )
        assert state["shown"].endswith("process_groups={'N': 2 processes})")
        assert state["named"] == {"1": ("N",)} and state["left"] == {}


def test_no_exchange(one: One) -> None:
    assert one.ask("silent", "BatchNorm") == [True, True]


# ---- what is wrong


def test_layers_in_another_order(one: One) -> None:
    # The last thing that a group does: another team has it.
    team = Team(2)
    try:
        actual = One(team, one.paths).ask("swapped", "BatchNorm")
    finally:
        team.close()
    for text in actual:
        assert "the processes are not at the same norm" in str(text)
        assert "(BatchNorm), over N" in str(text) and str(text).endswith("buffers as before")


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("axis", ["N", "S"])
def test_norms_that_are_divided_one_by_one_are_told_apart(
    axis: str, backward: bool, one: One
) -> None:
    # As above, for a group whose messages have crossed.
    team = Team(2)
    try:
        actual = One(team, one.paths).ask("swapped_apart", "BatchNorm", axis, backward)
    finally:
        team.close()
    place = f"BatchNorm, over {axis}{', in the backward pass' if backward else ''}: "
    for text in actual:
        assert str(text).startswith(f"{place}the processes are not at the same norm")


def test_models_that_differ(one: One) -> None:
    for text in one.ask("other_model", "BatchNorm"):
        assert "process 1: BatchNorm: weight has shape (6,) and" in str(text)


def test_one_value_in_all(one: One) -> None:
    for text in one.ask("one_value", "BatchNorm"):
        assert text == "BatchNorm: Expected more than 1 value in each pool over N, *S"
    assert one.ask("one_value_each", "BatchNorm") == [True, True]


def test_a_group_without_this_process(one: One) -> None:
    first, second = one.ask("outsider", "BatchNorm", size=2)
    assert first == "" and "not a member of the group" in str(second)


def test_kernels_can_be_demanded_where_there_are_some(one: One) -> None:
    assert one.ask("kernels_demanded", "BatchNorm") == ["", ""]
    for text in one.ask("kernels_demanded", "IterNorm"):
        assert "axes divided among processes" in str(text)
