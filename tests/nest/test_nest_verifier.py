"""The rules of nests, each broken once. That all nests of the corpus keep them, its tests ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from conftest import PROGRAMS

from metanorm.ir.nodes import Pool as PoolOp
from metanorm.nest.kernels import kernels_of
from metanorm.nest.nest import Block, Nest
from metanorm.nest.statements import Accumulate, Finish, Load, Pool, Scan, Statement, Store
from metanorm.nest.verify import IllegalNest, verify
from metanorm.passes.pipeline import optimize


def nest(name: str = "GroupNorm", direction: str = "forward") -> Nest:
    """A nest of the library, in training, as declared."""
    variant = kernels_of(optimize(PROGRAMS[name])).variants[0]
    return next(iter(getattr(variant, direction).values()))


def changed(original: Nest, when: str, change: Callable[[list[Statement]], None]) -> Nest:
    """A nest with other statements in the first block of a kind."""
    blocks: list[Block] = []
    was_changed = False
    for block in original.blocks:
        statements = list(block.statements)
        if block.when == when and not was_changed:
            change(statements)
            was_changed = True
        blocks.append(replace(block, statements=tuple(statements)))
    assert was_changed
    return replace(original, blocks=tuple(blocks))


def drop(kind: type) -> Callable[[list[Statement]], None]:
    """Leave out the first statement of a kind."""
    return lambda all_: all_.remove(next(s for s in all_ if isinstance(s, kind)))


def again(kind: type) -> Callable[[list[Statement]], None]:
    """Repeat the first statement of a kind."""
    return lambda all_: all_.append(next(s for s in all_ if isinstance(s, kind)))


def read_nothing(statements: list[Statement]) -> None:
    load = next(s for s in statements if isinstance(s, Load))
    statements.insert(0, replace(load, array="nothing"))


def pool(statements: list[Statement]) -> None:
    other_nest = nest("SwitchNorm", "backward")
    statements.append(next(s for _, s in other_nest.statements() if isinstance(s, Pool)))


BROKEN: dict[str, tuple[str, Callable[[list[Statement]], None]]] = {
    "x before it is read": ("sweep", drop(Load)),
    "x once": ("sweep", again(Load)),
    "each reduction is measured once": ("sweep", again(Accumulate)),
    "mean is measured before it is finished": ("sweep", drop(Accumulate)),
    "mean before it is read": ("between", drop(Finish)),
    "each result is written once": ("end", again(Store)),
    "a place for to.output": ("end", lambda all_: all_.append(Store("to.output", "mean"))),
    "an array nothing to read": ("sweep", read_nothing),
    "before it is read": ("sweep", pool),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_named(rule: str) -> None:
    when, change = BROKEN[rule]
    with pytest.raises(IllegalNest, match=rule):
        verify(changed(nest(), when, change))


def test_blocks_stand_in_their_order() -> None:
    legal = nest()
    with pytest.raises(IllegalNest, match="blocks in their order"):
        verify(replace(legal, blocks=legal.blocks[1:]))
    with pytest.raises(IllegalNest, match="blocks in their order"):
        verify(replace(legal, blocks=tuple(reversed(legal.blocks))))


def test_islands_lie_along_loops() -> None:
    with pytest.raises(IllegalNest, match="islands along loops"):
        verify(replace(nest(), islands=("K",)))


def test_the_dtypes_that_values_are_rounded_to_are_known() -> None:
    legal = nest("LlamaRMSNorm")
    assert legal.followed_dtypes == ("x",)
    with pytest.raises(IllegalNest, match="the dtype of x"):
        verify(replace(legal, followed_dtypes=()))


def test_the_edges_that_loops_follow_are_given() -> None:
    legal = nest("AdjacencyNorm", "backward")
    verify(legal)
    assert legal.array["edge_index"].role == "edges"
    without = tuple(array for array in legal.arrays if array.name != "edge_index")
    with pytest.raises(IllegalNest, match="edges edge_index to follow"):
        verify(replace(legal, arrays=without))


def test_what_belongs_to_islands_has_their_axes() -> None:
    legal = nest()
    with pytest.raises(IllegalNest, match="for each island"):
        verify(replace(legal, islands=("N", "C.outer", "S")))


def test_what_is_scanned_along_is_at_hand() -> None:
    legal = nest("CumulativeLayerNorm")
    split_islands = tuple(a for a in legal.data_axes if a != "C")  # which has the axis of the scan
    with pytest.raises(IllegalNest, match=r"all of the axis that .* is found along"):
        verify(replace(legal, islands=split_islands))


def test_a_scan_has_one_axis() -> None:
    legal = nest("LocalContextNorm")

    def scan_two_axes(statements: list[Statement]) -> None:
        index, scan = next((i, s) for i, s in enumerate(statements) if isinstance(s, Scan))
        assert isinstance(scan, Scan) and isinstance(scan.let.op, PoolOp)
        (axis, reach), *_ = scan.let.op.over
        over = ((axis, reach), ("W" if axis == "H" else "H", reach))
        statements[index] = Scan(replace(scan.let, op=replace(scan.let.op, over=over)))

    with pytest.raises(IllegalNest, match="one axis to scan for"):
        verify(changed(legal, "between", scan_two_axes))


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_segments_that_a_scan_stays_within_are_given(direction: str) -> None:
    legal = nest("PackedCumulativeLayerNorm", direction)
    verify(legal)
    labels = legal.array["cu_seqlens"]
    assert labels.role == "index"
    others = tuple(array for array in legal.arrays if array is not labels)
    for arrays in (others, (*others, replace(labels, axes=("C",)))):
        with pytest.raises(IllegalNest, match="the segments cu_seqlens of T for"):
            verify(replace(legal, arrays=arrays, blocks=without_load(legal, "cu_seqlens")))


def without_load(legal: Nest, name: str) -> tuple[Block, ...]:
    """The blocks of a nest without the statement that reads an array."""
    return tuple(
        replace(
            block,
            statements=tuple(
                s for s in block.statements if not (isinstance(s, Load) and s.array == name)
            ),
        )
        for block in legal.blocks
    )


KEEPING = ["GroupNorm", "BatchNorm", "GraphNorm", "SwitchNorm", "MetaNorm", "LocalContextNorm"]


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", KEEPING)
def test_a_nest_as_it_is_keeps_them(name: str, direction: str) -> None:
    verify(nest(name, direction))


def test_a_nest_knows_its_parts() -> None:
    batch_norm = nest("BatchNorm")
    (update, *_) = batch_norm.block("end").updates
    assert update.array == "running_mean" and update.momentum == "momentum"
    assert batch_norm.array["weight"].optional and batch_norm.array["weight"].absent == 1
    assert batch_norm.axis_orders["x"] == ("N", "C", "S") and batch_norm.array["x"].role == "data"
    assert [block.when for block in batch_norm.blocks][:3] == ["begin", "before", "sweep"]
