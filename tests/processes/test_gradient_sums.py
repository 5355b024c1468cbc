"""Gradients of parameters that lack a divided axis, added up by the norm; and how calls find out
that they are divided."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gradient_sums import batch, gradients, norm_at, parametrized
from routes import Route
from team import Team
from torch import Tensor

from metanorm import runtime

NORM = "FilterResponseNorm"  # three parameters of one shape: a swap would go unnoticed otherwise


class Sums:
    """Asks two processes for the gradients of norms."""

    def __init__(self, team: Team, paths: dict[str, str]) -> None:
        self.team, self.paths = team, paths

    def ask(self, what: str, name: str = NORM, *how: Any) -> list[Any]:
        return self.team.run(f"gradient_sums:{what}", self.paths[name], name, *how, size=2)


@pytest.fixture
def sums(team: Team, paths: dict[str, str]) -> Sums:
    return Sums(team, paths)


def demand_same(actual: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert actual.keys() == wanted.keys()
    for name, right in wanted.items():
        torch.testing.assert_close(actual[name], right, rtol=1e-4, atol=1e-5, msg=name)


ROUTES: list[tuple[tuple[Route, Route], tuple[int, int]]] = [
    (("native", "torch"), (5, 3)),
    (("torch", "native"), (5, 3)),
    (("auto", "auto"), (8, 0)),
    (("torch", "auto"), (0, 8)),
]


@pytest.mark.parametrize(("routes", "lengths"), ROUTES)
def test_sums_do_not_depend_on_the_order_of_backward_passes(
    routes: tuple[Route, Route], lengths: tuple[int, int], sums: Sums
) -> None:
    wanted = gradients(norm_at(sums.paths[NORM], NORM), *batch())
    for actual in sums.ask("on_routes", NORM, routes, lengths):
        demand_same(actual, wanted)


def test_the_last_reduction_counts(sums: Sums) -> None:
    wanted = gradients(norm_at(sums.paths[NORM], NORM), *batch())
    results = sums.ask("changed")
    parts = [result.pop("part") for result in results]
    demand_same({name: parts[0][name] + parts[1][name] for name in wanted}, wanted)
    for result in results:
        for actual in result.values():
            demand_same(actual, wanted)


def test_frozen_and_computed_parameters(sums: Sums) -> None:
    path = sums.paths[NORM]
    wanted = gradients(norm_at(path, NORM), *batch())
    wanted["weight"] = torch.zeros(())
    for actual in sums.ask("frozen"):
        demand_same(actual, wanted)
    computed = parametrized(None, 0, path, NORM, alone=True)
    for actual in sums.ask("parametrized"):
        demand_same(actual, computed)


def test_a_norm_without_pools_adds_gradients_up(sums: Sums) -> None:
    x, w = (t.mT for t in batch())
    wanted = gradients(norm_at(sums.paths["DynamicTanh"], "DynamicTanh"), x, w)
    for actual in sums.ask("without_pools", "DynamicTanh"):
        demand_same(actual, wanted)


def test_marks_go_with_the_reduction(sums: Sums) -> None:
    assert sums.ask("marked") == [[True, False, True, False]] * 2


def test_marked_gradients_are_parts_of_sums(sums: Sums) -> None:
    """Of copies, too, though torch copies no attributes of parameters."""
    wanted = gradients(norm_at(sums.paths[NORM], NORM), *batch())
    for actual in sums.ask("marked_sums"):
        demand_same(actual, wanted)


@pytest.mark.parametrize("samples_first", [False, True])
def test_samples_and_images_on_two_groups(samples_first: bool, sums: Sums) -> None:
    path = sums.paths["BatchNorm"]
    x, w = batch(samples=4)
    norm = norm_at(path, "BatchNorm")
    wanted = gradients(norm, x.requires_grad_(), w)
    with torch.no_grad(), runtime.use("torch"):
        assert x.grad is not None
        wanted |= {"x": x.grad, "y": norm(x)}
    ask = "gradient_sums:on_a_mesh"
    results = sums.team.run(ask, path, "BatchNorm", samples_first, size=4)
    rows = (slice(0, 1), slice(1, 4)), (slice(0, 5), slice(5, 8))
    for rank, actual in enumerate(results):
        samples, points = rows[0][rank // 2], rows[1][rank % 2]
        cut = {name: wanted[name][samples, :, points] for name in ("x", "y")}
        demand_same(actual, {**wanted, **cut})


def test_a_piece_that_is_divided_no_longer_has_groups_of_its_own(sums: Sums) -> None:
    for kept, made in sums.ask("reverted", "GroupNorm"):
        assert kept[:2] == (1, 2) and kept[2] < 1e-6
        assert made == (2, 2, 0)


def test_tensors_of_other_classes_are_synchronized(sums: Sums) -> None:
    assert sums.ask("subclasses", "BatchNorm") == [[True, True]] * 2


def test_a_further_axis_keeps_what_convert_sync_has_said(sums: Sums) -> None:
    assert sums.ask("kept_from_convert_sync", "BatchNorm") == [("always", "0 (BatchNorm)")] * 2


def test_no_exchange_keeps_the_share_of_blocks(sums: Sums) -> None:
    for gap, refusal in sums.ask("shared_groups", "GroupNorm"):
        assert gap < 1e-5
        assert "GroupNorm: a piece has parts of blocks" in refusal


def test_a_problem_of_one_process_is_told_to_all(sums: Sums) -> None:
    told_by_itself, told_by_other = sums.ask("one_problem", "BatchNorm", sums.paths["MetaNorm"])[
        ::-1
    ]
    assert len(told_by_itself) == len(told_by_other) == 2
    for ours, theirs in zip(told_by_itself, told_by_other):
        assert "MetaNorm: N: it is pooled by a matrix" in ours
        assert "process 1: MetaNorm: N: it is pooled by a matrix" in theirs


def test_a_mesh_without_the_group_of_samples_is_refused(sums: Sums) -> None:
    for text in sums.ask("other_mesh", "BatchNorm"):
        assert "its mesh lacks the group that has the pieces of N: call" in text
