"""Under `torch.compile` every function of the runtime is part of one graph, for any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from naive import F64
from torch import Tensor, nn

from metanorm import runtime

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch's own compiler warns of is not ours

MODULE = nn.Identity()
INDEX = torch.tensor([2, 0, 2, 2, 0])
MASK = torch.tensor([True, False, True, True, True])[:, None]


def rows(x: Tensor) -> Tensor:
    return torch.arange(1.0, x.shape[0] + 1, dtype=x.dtype).expand(x.shape[0], -1)


def groups(x: Tensor) -> runtime.Groups:
    index = torch.arange(x.shape[0]) % 3
    return runtime.Groups(index, 4, x.shape[0])


def segments(x: Tensor) -> runtime.Groups:
    length = x.shape[0]
    offsets = torch.arange(4) * length // 3
    index = runtime.segment_of_position(offsets, length, x, "Packed", "offsets")
    return runtime.Groups(index, runtime.segment_count(offsets), length)


WINDOW = runtime.Window(3, edge="replicate")


def ring(x: Tensor) -> runtime.Neighbours:
    nodes = torch.arange(x.shape[0])
    return runtime.Neighbours(torch.stack((nodes, (nodes + 1) % x.shape[0])), x.shape[0], loop=True)


def tracked(x: Tensor) -> Tensor:
    running, count = torch.zeros_like(x[0]), torch.tensor(3)
    momentum = runtime.momentum_of(None, count)
    runtime.store_((running, runtime.moved(running, x.mean(0), momentum)))
    runtime.store_((running, runtime.moved(running, x.mean(0), 0.1)))
    runtime.store_((running, running * 2))
    count += 1
    return running


def multiplied(multiplier: runtime.Multiplier) -> Tensor:
    vector = multiplier.matrix[0]
    return runtime.matmul(runtime.matmul(multiplier, vector), multiplier)


def first_rows(x: Tensor) -> Tensor:
    """As an entry takes a run of an axis."""
    runtime.demand_alone(MODULE, "first_rows")
    runtime.demand_room("Packed", "N", x.shape[0], 2)
    return x[:2]


CALLS: dict[str, Callable[[Tensor], Any]] = {
    "moments": lambda x: tuple(runtime.moments(x, (0,))),
    "moments, kept": lambda x: tuple(runtime.moments(x, (0, 1), keepdim=True)),
    "moments where": lambda x: tuple(runtime.moments(x, (0,), where=x > -1)),
    "moments weight": lambda x: tuple(runtime.moments(x, (0,), weight=x.detach().abs())),
    "mean": lambda x: runtime.mean(x, (0,)),
    "mean_square": lambda x: runtime.mean_square(x, (1,)),
    "total": lambda x: runtime.total(x, (1,), where=x > -1),
    "norm": lambda x: (runtime.norm(x, 1, (0,)), runtime.norm(x, 2, (0,), where=x > -1)),
    "norm of rows": lambda x: runtime.norm(x, 2, (1,)),
    "extremes": lambda x: (runtime.largest(x, (0,)), runtime.smallest(x, (0,), where=x > -1)),
    "second_along": lambda x: runtime.second_along(x, x.mean(0, keepdim=True), {0: WINDOW}),
    "only_counted": lambda x: runtime.only_counted(x, where=x > -1, weight=x.detach().relu()),
    "guarded": lambda x: runtime.guarded(torch.sqrt, x.square() + 1),
    "at": lambda x: runtime.at(x, 0, -1, "N"),
    "rounded": lambda x: runtime.rounded(x, torch.bfloat16),
    "maps": lambda x: (runtime.root(x.abs()), runtime.maximum(x, 0.5), runtime.minimum(0.5, x)),
    "unbiased": lambda x: runtime.unbiased(x.abs(), x.shape[0]),
    "count": lambda x: runtime.count(x, (x.shape[0],), where=x[:, 0] > -1) * x,
    "tiled": lambda x: runtime.tiled(x, 2, 1),
    "contracted": lambda x: runtime.contracted("nk,mk->nm", x, x),
    "matmul": lambda x: runtime.matmul(x, x.mT, x, plus=x, beta=0.5, alpha=-2),
    "multiplier": lambda x: multiplied(runtime.Multiplier(x, 2)),
    "rescale": lambda x: runtime.rescale(x, x.mean(0), x.std(0), x.amax(0), x.amin(0)),
    "groups": lambda x: tuple(groups(x).moments(x, 0)),
    "groups where": lambda x: tuple(groups(x).moments(x, 0, where=x[:, :1] > -1)),
    "group sums": lambda x: (groups(x).total(x, 0), groups(x).mean(x, 0), groups(x).norm(x, 2, 0)),
    "group extremes": lambda x: (groups(x).largest(x, 0), groups(x).smallest(x, 0)),
    "group spread": lambda x: groups(x).spread(groups(x).mean(x, 0), 0),
    "segments": lambda x: tuple(segments(x).moments(x, 0)),
    "segments, windows": lambda x: (
        *runtime.moments_along(x, {0: runtime.within(runtime.Causal(), segments(x))}),
        runtime.total_along(x, {0: runtime.within(runtime.Window(3), segments(x))}),
        runtime.largest_along(x, {0: runtime.within(runtime.Causal(2), segments(x))}),
    ),
    "runs": lambda x: first_rows(x) * x.mean(0),
    "scan": lambda x: runtime.scan(x, x.sigmoid(), x[:1], 0),
    "scan before": lambda x: runtime.scan(x, 0.9, 0.5, 0, reverse=True, before=True),
    "state_before": lambda x: runtime.state_before(x, x[:1], 0),
    "rows_mean": lambda x: runtime.rows_mean(x, runtime.pooling_rows(rows(x), "M", x, len(x)), 0),
    "rows_var": lambda x: runtime.rows_var(x, runtime.pooling_rows("ones", "M", x, len(x)), 0),
    "rows_var given": lambda x: runtime.rows_var(
        x, runtime.pooling_rows(rows(x), "M", x, len(x)), 0
    ),
    "windows": lambda x: tuple(runtime.moments_along(x, {0: WINDOW}, dim=(1,))),
    "windows where": lambda x: tuple(runtime.moments_along(x, {0: WINDOW}, where=x > -1)),
    "the past": lambda x: tuple(runtime.moments_along(x, {0: runtime.Causal()})),
    "neighbours": lambda x: tuple(runtime.moments_along(x, {0: ring(x)})),
    "window sums": lambda x: (
        runtime.total_along(x, {0: WINDOW}),
        runtime.norm_along(x, 2, {0: WINDOW}),
        runtime.mean_along(x, {0: WINDOW}, weight=x.detach().abs()),
        runtime.mean_square_along(x, {0: runtime.Causal(2)}),
    ),
    "window extremes": lambda x: (
        runtime.largest_along(x, {0: WINDOW}),
        runtime.smallest_along(x, {0: ring(x)}, dim=(1,)),
    ),
    "quantile": lambda x: (
        runtime.quantile(x, 0.3, (0,)),
        runtime.quantile(x, 0.5, (0, 1), where=x > -1),
    ),
    "sparsestmax": lambda x: runtime.sparsestmax(x, 0.5, 1),
    "straight_through_round": lambda x: runtime.straight_through_round(10 * x),
    "quotient": lambda x: x * runtime.quotient(2, x.shape[0] - 1),
    "power": lambda x: x * runtime.power(x.shape[0] - 1, 0.5),
    "square_root": lambda x: x * runtime.square_root(x.shape[0] - 2),
    "numbers": lambda x: x * runtime.exponential(2.5) + x * runtime.logarithm(0.5),
    "chosen": lambda x: runtime.chosen(x, torch.tensor([[2, 0], [2, 1]])),
    "widened": lambda x: runtime.widened(x.half()).to(x.dtype) + x,
    "state": lambda x: tracked(x) * x,
    "no_elements": lambda x: runtime.no_elements(x, [x]),
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def run(function: Callable[[Tensor], Any], x: Tensor) -> list[Tensor]:
    """The results, and the gradient of their sum."""
    leaf = x.clone().requires_grad_()
    result = function(leaf)
    results = [result] if isinstance(result, Tensor) else list(result)
    (gradient,) = torch.autograd.grad(sum(r.square().sum() for r in results), leaf)
    return [*results, gradient]


def seen_and_stored(buffer: Tensor, x: Tensor) -> Tensor:
    before = runtime.copied(buffer)
    runtime.store_((buffer, runtime.moved(buffer, x.var().expand(buffer.shape), 0.1)))
    return x * torch.rsqrt(before + 1)


@pytest.mark.parametrize("shape", [(), (4,)], ids=str)
def test_buffers_keep_what_is_stored_and_gradients_what_was_read(shape: tuple[int, ...]) -> None:
    compiled = torch.compile(seen_and_stored, fullgraph=True, backend="aot_eager")
    results = []
    for function in (compiled, seen_and_stored):
        x = torch.arange(20, dtype=F64).view(5, 4).requires_grad_()
        buffer = torch.ones(shape, dtype=F64)
        y = function(buffer, x).square().sum()
        results.append((y, buffer, *torch.autograd.grad(y, x)))
    torch.testing.assert_close(*results)


# What may differ in the backward graph, or once writes are taken out of a graph, is in these calls.
FURTHER = ("moments where", "groups", "windows", "state")
WAYS = [
    *((name, "eager", F64, True) for name in CALLS),  # one graph, whatever becomes of it
    *((name, "aot_eager", F64, name in FURTHER) for name in CALLS),
    *((name, "aot_eager", torch.float32, False) for name in CALLS),
]


@pytest.mark.parametrize(
    ("name", "backend", "dtype"),
    [pytest.param(*way, marks=() if quick else pytest.mark.extended) for *way, quick in WAYS],
)
def test_one_graph_for_all_sizes(name: str, backend: str, dtype: torch.dtype) -> None:
    function = CALLS[name]
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=backend)
    for length in (5, 8):
        x = torch.randn(length, 4, generator=torch.Generator().manual_seed(length), dtype=dtype)
        for actual, wanted in zip(run(compiled, x), run(function, x)):
            torch.testing.assert_close(actual, wanted)


def test_every_function_that_computes_is_here() -> None:
    used = " ".join(
        " ".join(c.co_names)
        for f in (*CALLS.values(), tracked, seen_and_stored, groups, segments, first_rows)
        for c in (f.__code__,)
    )
    computing = {
        n
        for n in runtime.__all__
        if n[0].islower() and n not in NOT_COMPUTING and n not in ("moments",)
    }
    assert {name for name in computing if name not in used} == set()


NOT_COMPUTING = {
    "eye_",  # of constructors
    # Among processes: tests/processes compiles these.
    "among_processes",
    "exact_moments",
    "gaps_of_moments",
    "in_sweeps",
    "squares_of_moments",
    "sweep",
    # Random numbers: norms in tests/references/test_draws_by_hand.py, test_permutations_by_hand.py.
    "demand_drawn",
    "draw_bernoulli",
    "draw_normal",
    "draw_permutation",
    "draw_uniform",
    # Stated backward passes: tests/numerics/test_torch_compile.py does.
    "with_backward",
    "store_where_",
    "take_",
    "ties",
    "whole",
    "convert_sync",
    "demand_several_in_all",
    "mean_from_sums",
    "mean_square_from_sums",
    "no_exchange",
    "power_sum",
    "power_sums",
    "revert_sync",
    "second_from_sums",
    "shard",
    "synchronized",
    "var_from_sums",
    "call_path",
    "who_adds",
    "demand_min_ranks",
    "demand_ranks",
    "demand_shapes",
    "demand_tensors",
    "demand_tensors_or_none",
    "tensors_of",
    "as_choice",
    "is_choice",
    "as_length",
    "as_number",
    "as_number_or_none",
    "as_whole",
    "counter_of",
    "renamed",
    "shape_of",
    "swap",
    "torch_only",
    "update_statistics",
    "native",
    "use",
    "as_shape",
    "begin_",
    "count_batch",
    "collect",
    "demand_several",
    "gpu",
    "handle_override",
    "has_override",
    "keep_matrix",
    "leaf",
    "not_divisible",
    "not_equal",
    "numel",
    "on_weights",
    "project_",
    "register_output",
    "require",
    "shape_error",
    "waits",
}
