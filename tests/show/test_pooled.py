"""Pictures show what the oracle pools: every element that is coloured counts, and no other.

The oracle is asked in another way than the pictures ask it: a statistic becomes a sum, and the
gradient of the chosen element's sum says how much each element counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest
import torch
from conftest import PROGRAMS
from torch import Tensor

from metanorm.frontend import check
from metanorm.ir.nodes import Pool
from metanorm.ir.operands import every_let
from metanorm.ir.program import Program
from metanorm.oracle.interpret import values
from metanorm.oracle.pools import Pools
from metanorm.oracle.values import Values
from metanorm.show.example import CannotDraw
from metanorm.show.matrices import matrices
from metanorm.show.oracle_call import oracle_call
from metanorm.show.pooled import pool_views
from metanorm.show.shapes import CHOSEN, NEUTRAL, POOLED, Polygon
from metanorm.show.solids import SHADED_COLOURS, solid
from metanorm.show.view import Edge, PoolView
from metanorm.small import tensor as small
from metanorm.source import Source


def program_of(text: str) -> Program:
    checked = check({"a.norm": Source.of("a.norm", text)}, ["a.norm"])
    assert checked.ok, checked.diagnostics
    return checked.norms["a.norm"][0].program


def norm(inputs: str, pool: str, arguments: str = "") -> Program:
    return program_of(
        f"norm A{f'({arguments})' if arguments else ''} {{\n"
        f"  input  {inputs}\n  output x - mean(x over {pool})\n}}\n"
    )


def elements(edges: tuple[Edge, ...]) -> Iterator[tuple[int, ...]]:
    yield from product(*(range(edge.length) for edge in edges))


def axes_of(element: tuple[int, ...], pooled: PoolView, v: Values) -> dict[str, int]:
    """The position on each axis; of what is left out, the first one."""
    index_of_axis: dict[str, int] = {}
    for edge, position in zip(pooled.edges, element):
        for axis in reversed(edge.axes):
            position, index_of_axis[axis] = divmod(position, v.size(axis))
    return index_of_axis


def as_torch(tensor: small.Tensor) -> Tensor:
    return torch.tensor(tensor.elements, dtype=torch.float64).reshape(tensor.shape)


def gradient(example: Program, v: Values, name: str, pooled: PoolView) -> Tensor:
    """How much each element of the pooled value counts for the sum of the chosen element's pool."""
    let = next(let for let in every_let(example.body) if let.name == name)
    assert isinstance(let.op, Pool)
    # What lives on cells of an axis is spread over its positions, which are what is drawn.
    named, type_ = dict(let.op.over), v.types[let.op.value]
    axes = v.space.ordered(a if a in named else v.space.base(a) for a in type_.axes)
    leaf = v.broadcast(let.op.value, axes).to(torch.float64).detach().clone().requires_grad_()
    v.values[let.op.value], v.types[let.op.value] = leaf, replace(type_, axes=axes)
    v.values["%sum"] = Pools(v).pool(replace(let.op, statistic="sum", about=None), let.type)
    v.types["%sum"] = let.type
    drawn = tuple(axis for edge in pooled.edges for axis in edge.axes)
    left = [a for a in v.space.join(let.type.axes, drawn) if a not in drawn]
    spread = v.broadcast("%sum", v.space.ordered((*drawn, *left)))
    chosen = axes_of(tuple(edge.chosen for edge in pooled.edges), pooled, v)
    order = v.space.ordered((*drawn, *left))
    spread[tuple(chosen.get(axis, 0) for axis in order)].backward()
    assert leaf.grad is not None
    return leaf.grad


def check_shares(program: Program, pooled: PoolView) -> None:
    example, call = oracle_call(program)
    for name in pooled.names:
        v = values(example, call)
        op = next(let.op for let in every_let(example.body) if let.name == name)
        if not isinstance(op, Pool):
            continue
        counts = gradient(example, v, name, pooled)
        axes = v.types[op.value].axes
        for element in elements(pooled.edges):
            at = axes_of(element, pooled, v)
            expected = counts[tuple(at.get(axis, 0) for axis in axes)]
            assert pooled.shares[element] == pytest.approx(float(expected)), (name, element)


@pytest.mark.parametrize("name", PROGRAMS)
def test_shares_are_what_counts(name: str) -> None:
    for pooled in pool_views(PROGRAMS[name]):
        assert any(pooled.shares.elements)
        check_shares(PROGRAMS[name], pooled)


KINDS = {
    "ones": norm("x[N, C]", "N"),
    "blocks": norm("x[N, C]", "C: blocks(2)"),
    "the last block": norm("x[N, T, C]", "C: blocks(2)"),
    "chunks": norm("x[N, C]", "C: chunks(k)", "k: int"),
    "interleave": norm("x[N, C, *S]", "C: interleave(3), *S"),
    "window": norm("x[N, T, D]", "T: window(3), D"),
    "even window": norm("x[N, T]", "T: window(4, edge = replicate)"),
    "zero edge": norm("x[N, H, W]", "H: window(3, edge = zero), W: window(5, edge = zero)"),
    "causal": norm("x[N, T]", "T: causal"),
    "causal window": norm("x[N, T]", "T: causal(2)"),
    "index": norm("x[V, D], batch: index[V]", "V: batch"),
    "index of a table": norm("x[V, D], kind: index[V] of K = 3", "V: kind"),
    "neighbours": norm("x[V, D], e: edges[V]", "V: e"),
    "neighbours with self": norm("x[V, D], e: edges[V]", "V: e with self, D"),
    "given": norm("x[N, C]", "N: U", "U: matrix[N, N] = eye"),
    "mask": norm("x[N, T], mask: mask[N, T]", "T where mask"),
    "weight": norm("x[N, T], w[N, T]", "T weight w"),
    "four axes": norm("x[A, B, C, D]", "A, B, C, D"),
    "long": norm("x[N, C = 512]", "C: blocks(32)"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_pool(kind: str) -> None:
    (pooled,) = pool_views(KINDS[kind])
    check_shares(KINDS[kind], pooled)


def test_known_pools() -> None:
    """By hand: what group norm, a window and neighbours pool."""
    (blocks,) = pool_views(PROGRAMS["GroupNorm"])
    assert [edge.label for edge in blocks.edges] == ["N", "C", "*S"]
    shares = as_torch(blocks.shares)
    assert shares[0, :3].eq(1).all() and shares.sum() == 3 * 7
    (window,) = pool_views(KINDS["window"])
    shares = as_torch(window.shares)
    assert shares[0, 2:5].eq(1).all() and shares.sum() == 3 * 7
    (around,) = pool_views(KINDS["neighbours"])
    assert as_torch(around.shares)[:, 0].tolist() == [0, 1, 1, 0, 1, 0, 0, 0]
    assert not around.counts_itself
    (weighted,) = pool_views(KINDS["even window"])
    assert weighted.edges[1].matrix.rows()[0] == [3, 1, 0, 0, 0, 0, 0]


def test_each_position_has_the_row_of_its_block() -> None:
    (blocks,) = pool_views(norm("x[N, C]", "C: blocks(2)"))
    matrix = as_torch(blocks.edges[1].matrix)
    first = torch.arange(len(matrix)) < len(matrix) // 2
    assert torch.equal(matrix != 0, first[:, None] == first)


def test_matrices_and_shares_agree() -> None:
    """Without masks the shares are the product of the chosen rows."""
    for name in ("BatchNorm", "GroupNorm", "LocalContextNorm", "MetaNorm", "AdjacencyNorm"):
        for pooled in pool_views(PROGRAMS[name]):
            rows = torch.ones((), dtype=torch.float64)
            for edge in pooled.edges:
                rows = rows[..., None] * as_torch(edge.matrix)[edge.chosen]
            assert torch.equal(rows, as_torch(pooled.shares)), name


def faces(pooled: PoolView) -> dict[str, int]:
    """How many faces of a solid have each colour."""
    shapes = solid(pooled.edges, pooled.shares).shapes
    faces_by_colour: dict[str, int] = {}
    for shape in shapes:
        if isinstance(shape, Polygon):
            faces_by_colour[shape.fill] = faces_by_colour.get(shape.fill, 0) + 1
    return faces_by_colour


def seen(shares: Tensor) -> tuple[int, int, int]:
    """How many elements count that are at the front, at the top and at the right."""
    full = shares.reshape([1] * (3 - shares.dim()) + list(shares.shape)) != 0
    flat = shares.dim() < 3
    sides = (full[0], full[:0] if flat else full[:, 0], full[:0] if flat else full[:, :, -1])
    front, top, right = (int(side.sum()) for side in sides)
    return front, top, right


@pytest.mark.parametrize("name", ["BatchNorm", "GroupNorm", "SwitchNorm", "GraphNorm", "ASNorm"])
def test_a_face_is_coloured_where_its_element_counts(name: str) -> None:
    for pooled in pool_views(PROGRAMS[name]):
        colours = faces(pooled)
        lit = colours.get(POOLED, 0) + colours.get(SHADED_COLOURS[POOLED], 0)
        orange = colours.get(CHOSEN, 0) + colours.get(SHADED_COLOURS[CHOSEN], 0)
        chosen_faces = orange if pooled.counts_itself else 0
        assert lit + chosen_faces == sum(seen(as_torch(pooled.shares)))
        assert colours[NEUTRAL] == sum(seen(torch.ones(pooled.shares.shape)))


@pytest.mark.parametrize("name", ["GroupNorm", "LocalContextNorm", "AdjacencyNorm"])
def test_a_cell_is_coloured_where_its_entry_counts(name: str) -> None:
    (pooled,) = pool_views(PROGRAMS[name])
    cells = [s for s in matrices(pooled.edges).shapes if isinstance(s, Polygon)]
    nonzero = sum(weight != 0 for edge in pooled.edges for weight in edge.matrix.elements)
    assert sum(cell.fill == POOLED for cell in cells) == nonzero


def test_what_is_too_large_says_so() -> None:
    huge = norm("x[N, C]", "C: blocks(5000)")
    with pytest.raises(CannotDraw, match="axis C would have 5000 positions"):
        pool_views(huge)


def test_long_axes_are_cut() -> None:
    (pooled,) = pool_views(KINDS["long"])
    assert pooled.edges[1].length == 16 and pooled.edges[1].cut
