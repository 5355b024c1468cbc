"""What generated modules import. It knows nothing of the compiler and needs only torch."""

from __future__ import annotations

from metanorm.runtime.arguments import (
    demand_min_ranks,
    demand_ranks,
    demand_shapes,
    demand_tensors,
    demand_tensors_or_none,
    rounded,
    widened,
)
from metanorm.runtime.attributes import is_choice, renamed, shape_of
from metanorm.runtime.backends import use
from metanorm.runtime.contraction import contracted
from metanorm.runtime.dispatch import (
    among_processes,
    call_path,
    gpu,
    in_sweeps,
    native,
    sweep,
    torch_only,
)
from metanorm.runtime.draws import (
    demand_drawn,
    draw_bernoulli,
    draw_normal,
    draw_permutation,
    draw_uniform,
)
from metanorm.runtime.elements import at, chosen, maximum, minimum, root, tiled, unbiased
from metanorm.runtime.errors import (
    ShapeError,
    as_choice,
    as_length,
    as_number,
    as_number_or_none,
    as_shape,
    as_whole,
    demand_room,
    demand_several,
    not_divisible,
    not_equal,
    numel,
    shape_error,
)
from metanorm.runtime.first_batch import take_
from metanorm.runtime.fx import count_batch, leaf
from metanorm.runtime.gradients import GradientNorm
from metanorm.runtime.groups import Groups
from metanorm.runtime.guarded import guarded
from metanorm.runtime.hooks import Attached
from metanorm.runtime.losses import Collected, collect
from metanorm.runtime.matrices import Given, Rows, keep_matrix, pooling_rows, rows_mean, rows_var
from metanorm.runtime.mean_and_variance import Moments
from metanorm.runtime.neighbours import Members, Neighbours
from metanorm.runtime.numbers import exponential, logarithm, power, quotient, square_root
from metanorm.runtime.offsets import segment_count, segment_of_position
from metanorm.runtime.order import quantile
from metanorm.runtime.outputs import register_output
from metanorm.runtime.overlapping import (
    largest_along,
    mean_along,
    mean_square_along,
    moments_along,
    norm_along,
    second_along,
    smallest_along,
    total_along,
)
from metanorm.runtime.overrides import handle_override, has_override
from metanorm.runtime.pools import largest, mean, mean_square, moments, norm, smallest, total
from metanorm.runtime.processes.call import Processes
from metanorm.runtime.processes.convert import convert_sync, revert_sync, shard, synchronized
from metanorm.runtime.processes.dividable import AmongProcesses, Dividable
from metanorm.runtime.processes.errors import ExchangeError, ShardingError
from metanorm.runtime.processes.process_groups import demand_alone, no_exchange
from metanorm.runtime.processes.sums import (
    demand_several_in_all,
    exact_moments,
    gaps_of_moments,
    mean_from_sums,
    power_sum,
    power_sums,
    second_from_sums,
    squares_of_moments,
    store_where_,
    ties,
    var_from_sums,
    whole,
)
from metanorm.runtime.products import Multiplier, matmul
from metanorm.runtime.rescaling import rescale
from metanorm.runtime.rounding import straight_through_round
from metanorm.runtime.scan import scan, state_before
from metanorm.runtime.simplex import sparsestmax
from metanorm.runtime.state import (
    copied,
    counter_of,
    eye_,
    momentum_of,
    moved,
    no_elements,
    project_,
    store_,
    tensors_of,
)
from metanorm.runtime.stated_backward import with_backward
from metanorm.runtime.statistics import update_statistics
from metanorm.runtime.steps import StepNorm
from metanorm.runtime.swapping.report import SwapError
from metanorm.runtime.swapping.swap import swap
from metanorm.runtime.torch_scatter import who_adds
from metanorm.runtime.weighing import count, only_counted
from metanorm.runtime.weights import begin_, on_weights, waits
from metanorm.runtime.windows import Causal, Window
from metanorm.runtime.within import within

# Raised when generated modules and runtimes of other versions stop understanding each other.
ABI = 4


def require(abi: int) -> None:
    """Fail with the remedy where a module and this runtime do not belong together."""
    if abi != ABI:
        older = "module" if abi < ABI else "installed metanorm"
        raise ImportError(
            f"this module was generated for runtime {abi}, installed is runtime {ABI}: "
            f"the {older} is older; compile the spec again or install the matching metanorm"
        )


__all__ = [
    "ABI",
    "AmongProcesses",
    "Attached",
    "Causal",
    "Collected",
    "Dividable",
    "ExchangeError",
    "Given",
    "GradientNorm",
    "Groups",
    "Members",
    "Moments",
    "Multiplier",
    "Neighbours",
    "Processes",
    "Rows",
    "ShapeError",
    "ShardingError",
    "StepNorm",
    "SwapError",
    "Window",
    "among_processes",
    "as_choice",
    "as_length",
    "as_number",
    "as_number_or_none",
    "as_shape",
    "as_whole",
    "at",
    "begin_",
    "call_path",
    "chosen",
    "collect",
    "contracted",
    "convert_sync",
    "copied",
    "count",
    "count_batch",
    "counter_of",
    "demand_alone",
    "demand_drawn",
    "demand_min_ranks",
    "demand_ranks",
    "demand_room",
    "demand_several",
    "demand_several_in_all",
    "demand_shapes",
    "demand_tensors",
    "demand_tensors_or_none",
    "draw_bernoulli",
    "draw_normal",
    "draw_permutation",
    "draw_uniform",
    "exact_moments",
    "exponential",
    "eye_",
    "gaps_of_moments",
    "gpu",
    "guarded",
    "handle_override",
    "has_override",
    "in_sweeps",
    "is_choice",
    "keep_matrix",
    "largest",
    "largest_along",
    "leaf",
    "logarithm",
    "matmul",
    "maximum",
    "mean",
    "mean_along",
    "mean_from_sums",
    "mean_square",
    "mean_square_along",
    "minimum",
    "moments",
    "moments_along",
    "momentum_of",
    "moved",
    "native",
    "no_elements",
    "no_exchange",
    "norm",
    "norm_along",
    "not_divisible",
    "not_equal",
    "numel",
    "on_weights",
    "only_counted",
    "pooling_rows",
    "power",
    "power_sum",
    "power_sums",
    "project_",
    "quantile",
    "quotient",
    "register_output",
    "renamed",
    "require",
    "rescale",
    "revert_sync",
    "root",
    "rounded",
    "rows_mean",
    "rows_var",
    "scan",
    "second_along",
    "second_from_sums",
    "segment_count",
    "segment_of_position",
    "shape_error",
    "shape_of",
    "shard",
    "smallest",
    "smallest_along",
    "sparsestmax",
    "square_root",
    "squares_of_moments",
    "state_before",
    "store_",
    "store_where_",
    "straight_through_round",
    "swap",
    "sweep",
    "synchronized",
    "take_",
    "tensors_of",
    "ties",
    "tiled",
    "torch_only",
    "total",
    "total_along",
    "unbiased",
    "update_statistics",
    "use",
    "var_from_sums",
    "waits",
    "who_adds",
    "whole",
    "widened",
    "with_backward",
    "within",
]
