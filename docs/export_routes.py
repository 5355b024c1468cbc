"""The norms that are tested for each export format: `docs/export.md` and `tests/export`."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.frontend import check
from metanorm.workspace import load_library

# Thirty norms: the usual ones, and others until every construct of the library is there.
ONNX = (
    "AdaLayerNormZero", "BatchNorm", "BatchRenorm", "ConditionalGroupNorm", "LlamaRMSNorm",
    "CumulativeLayerNorm", "DynamicErf", "DynamicTanh", "EvoNormS0", "FilterResponseNorm",
    "GraphInstanceNorm", "GraphNorm", "GroupNorm", "ILMGroupNorm", "InstanceNorm", "KalmanNorm",
    "LayerNorm", "LocalContextNorm", "LocalResponseNorm", "MaskedBatchNorm", "MetaNorm", "ModeNorm",
    "PairNorm", "PartialRMSNorm", "RMSNorm", "ReturnNorm", "SparseSwitchNorm", "SphereStep",
    "SwitchNorm", "SwitchableWhiteningAll", "UnitedNormSoftmax",
)  # fmt: skip
AHEAD_OF_TIME = (
    "AdaLayerNormZero", "BatchNorm", "FilterResponseNorm", "GraphNorm", "GroupNorm", "InstanceNorm",
    "LayerNorm", "LocalResponseNorm", "RMSNorm", "SwitchNorm",
)  # fmt: skip


def activations() -> list[str]:
    """The norms of the library that are for activations."""
    library = load_library()
    norms = check(library.sources, library.roots).norms.values()
    programs = [norm.program for of_source in norms for norm in of_source]
    return sorted(program.name for program in programs if program.target == "activation")


def table() -> str:
    """A row for each norm."""
    text = "| norm | `torch.export` | `torch.jit.trace` | ONNX | AOTInductor |\n"
    text += "| --- | --- | --- | --- | --- |\n"
    for name in activations():
        tested = (_mark(name, ONNX), _mark(name, AHEAD_OF_TIME))
        text += f"| {name} | both modes | both modes | {' | '.join(tested)} |\n"
    return text


def _mark(name: str, tested: Sequence[str]) -> str:
    return "evaluation" if name in tested else "not tested"
