"""The norms that are tested for each export format: `docs/export.md` and `tests/export`."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.frontend import check
from metanorm.ir.nodes import Pool
from metanorm.ir.program import Program
from metanorm.workspace import load_library

# The usual norms, and others until every construct of the library is there.
ONNX = (
    "AdaLayerNormZero", "BatchNorm", "BatchRenorm", "BitRMSNorm", "ConditionalGroupNorm",
    "LlamaRMSNorm", "EquivariantRMSNorm", "DishTS", "UnifiedNorm",
    "CumulativeLayerNorm", "DynamicErf", "DynamicTanh", "EvoNormS0", "FilterResponseNorm",
    "GraphInstanceNorm", "GraphNorm", "GroupNorm", "IBNNorm", "ILMGroupNorm", "InstanceNorm",
    "KalmanNorm",
    "LayerNorm", "LocalContextNorm", "LocalResponseNorm", "MaskedBatchNorm", "MetaNorm", "ModeNorm",
    "PairNorm", "PartialRMSNorm", "RMSNorm", "ReturnNorm", "SparseSwitchNorm", "SphereStep",
    "StreamingPCEN", "SwitchNorm", "SwitchableWhiteningAll", "UnitedNormSoftmax",
)  # fmt: skip
AHEAD_OF_TIME = (
    "AdaLayerNormZero", "BatchNorm", "FilterResponseNorm", "GraphNorm", "GroupNorm", "InstanceNorm",
    "LayerNorm", "LocalResponseNorm", "RMSNorm", "SwitchNorm",
)  # fmt: skip


def activations() -> dict[str, Program]:
    """The norms of the library that are for activations, by name."""
    library = load_library()
    norms = check(library.sources, library.roots).norms.values()
    programs = [norm.program for of_source in norms for norm in of_source]
    named = {program.name: program for program in programs if program.target == "activation"}
    return dict(sorted(named.items()))


def within_segments(program: Program) -> bool:
    """Whether a norm pools windows or pasts within segments: how often those are doubled depends on
    the longest that there may be, so that a trace serves the lengths of its example alone."""
    pools = (let.op for let in program.body if isinstance(let.op, Pool))
    return any(getattr(grouping, "within", None) for pool in pools for _, grouping in pool.over)


def table() -> str:
    """A row for each norm."""
    text = "| norm | `torch.export` | `torch.jit.trace` | ONNX | AOTInductor |\n"
    text += "| --- | --- | --- | --- | --- |\n"
    for name, program in activations().items():
        traced = "lengths of the example" if within_segments(program) else "both modes"
        tested = (_mark(name, ONNX), _mark(name, AHEAD_OF_TIME))
        text += f"| {name} | both modes | {traced} | {' | '.join(tested)} |\n"
    return text


def _mark(name: str, tested: Sequence[str]) -> str:
    return "evaluation" if name in tested else "not tested"
