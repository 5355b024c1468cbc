"""The targets whose kernels lie beside a module: what depends on a target is a field of its row.

The compiler has a table of the same targets, `metanorm.targets.registry`, which says how each is
printed. The runtime may not import it; `tests/test_targets.py` compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from metanorm.runtime.kernels.plan_cache import PlanCache

Target = Literal["auto", "native", "triton", "torch"]
TARGETS: tuple[Target, ...] = get_args(Target)  # what `use` takes

LoadPlans = Callable[[Callable[..., Any], tuple[str, ...], str], "PlanCache"]


@dataclass(frozen=True, eq=False)
class KernelTarget:
    """A target with kernels.

    `load_plans` takes a function, the names of its parameters and the file of its module. It raises
    `CannotBuild` if the function has no kernels in this target.
    """

    name: Target
    language: str
    device: str  # the type of device, as torch calls it
    on_kernels: str  # how an error says that a call runs on them
    in_graphs: bool  # whether calls are operations of torch, in graphs and for dispatch modes
    through_c: bool  # whether calls have a path through C
    has_kernels: Callable[[str], bool]  # whether the module in a file has kernels beside it
    load_plans: LoadPlans


# ---- what the rows load: each imports its folder at its first use


def _has_c(module_file: str) -> bool:
    from metanorm.runtime.kernels.table import kernel_source

    return bool(kernel_source(module_file))


def _plans_in_c(function: Callable[..., Any], names: tuple[str, ...], file: str) -> PlanCache:
    from metanorm.runtime.native.plan_cache import NativePlanCache

    return NativePlanCache(function, names, file)


def _has_triton(module_file: str) -> bool:
    from metanorm.runtime.triton.kernels import has_kernel_file

    return has_kernel_file(module_file)


def _plans_in_triton(function: Callable[..., Any], names: tuple[str, ...], file: str) -> PlanCache:
    from metanorm.runtime.triton.plan_cache import TritonPlanCache  # needs triton

    return TritonPlanCache(function, names, file)


KERNEL_TARGETS: Mapping[str, KernelTarget] = {
    row.name: row
    for row in (
        KernelTarget("native", "C", "cpu", "natively", True, True, _has_c, _plans_in_c),
        KernelTarget(
            "triton", "Triton", "cuda", "on Triton kernels", False, False,
            _has_triton, _plans_in_triton,
        ),
    )
}  # fmt: skip
TARGET_OF_DEVICE = {row.device: row for row in KERNEL_TARGETS.values()}
assert len(TARGET_OF_DEVICE) == len(KERNEL_TARGETS), "two targets for one type of device"
DEFAULT_TARGET = next(iter(KERNEL_TARGETS.values()))  # says why other devices have no kernels
GRAPH_TARGET = next(row for row in KERNEL_TARGETS.values() if row.in_graphs)
CALL_PATH_TARGET = next(row for row in KERNEL_TARGETS.values() if row.through_c)
