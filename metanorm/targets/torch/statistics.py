"""How the torch target calls each statistic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metanorm.ir.ops import POOLED_STATISTICS


@dataclass(frozen=True)
class TorchStatistic:
    """One row. A function of the runtime has the name of a method of `runtime.Groups`, and with
    `_along` that of the function for pools that overlap."""

    function: str
    variable: str  # the name of a result that has none in the spec
    argument: int | None = None  # the order of a norm, or the exponent of the terms of a sum
    part: str = ""  # the attribute of what the function returns
    takes_centre: bool = False  # whether the function takes `about`, where a pool has it
    from_sums: str = ""  # what makes it of the sums of processes; empty where nothing does


TORCH_STATISTICS: Mapping[str, TorchStatistic] = {
    "count": TorchStatistic("count", "count", from_sums="whole"),
    "sum": TorchStatistic("total", "total", from_sums="whole"),
    "mean": TorchStatistic("mean", "mean", from_sums="mean_from_sums"),
    "var": TorchStatistic("moments", "var", part="var", from_sums="var_from_sums"),
    "second": TorchStatistic("mean_square", "mean_square", from_sums="second_from_sums"),
    "max": TorchStatistic("largest", "largest", from_sums="whole"),
    "min": TorchStatistic("smallest", "smallest", from_sums="whole"),
    "l1": TorchStatistic("norm", "l1", 1),
    "l2": TorchStatistic("norm", "l2", 2),
    "quantile": TorchStatistic("quantile", "quantile"),
    "gaps": TorchStatistic("power_sum", "total", 1, takes_centre=True),
    "squares": TorchStatistic("power_sum", "squares", 2, takes_centre=True),
    "ties": TorchStatistic("ties", "ties", takes_centre=True),
    "exact_mean": TorchStatistic("exact_moments", "mean", part="mean"),
    "exact_var": TorchStatistic("exact_moments", "var", part="var"),
}
assert TORCH_STATISTICS.keys() >= POOLED_STATISTICS, POOLED_STATISTICS - TORCH_STATISTICS.keys()


@dataclass(frozen=True)
class StatisticPair:
    """Two statistics that one call returns, in this order."""

    first: str
    second: str
    call: TorchStatistic


PAIRS = (
    StatisticPair("mean", "var", TorchStatistic("moments", "")),
    StatisticPair("gaps", "squares", TorchStatistic("power_sums", "", takes_centre=True)),
    StatisticPair("exact_mean", "exact_var", TorchStatistic("exact_moments", "")),
)
