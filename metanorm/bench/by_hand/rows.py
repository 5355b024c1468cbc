"""The workloads of norms beside layers written by hand, by the name of the norm."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from metanorm.bench.workload import Workload

IMAGES = (32, 64, 28, 28)
LOCAL = (8, 32, 64, 64)
NODES = (20_000, 64)
TOKENS = (4096, 1024)
GRAPHS = 100


def _images(**numbers: int) -> tuple[Workload, ...]:
    return (Workload(IMAGES, numbers=numbers),)


def _nodes(**numbers: int) -> tuple[Workload, ...]:
    return (Workload(NODES, numbers=numbers),)


LOCAL_CONTEXT = {"channels_per_group": 2, "width": 31}
CLASSES, TYPES, DOMAINS, MODES = 10, 4, 3, 4
LABELLED = (Workload(NODES, groups=GRAPHS),)
UNITED = (Workload(NODES, groups=GRAPHS, edges=160_000),)
ROWS_OF_TOKENS = (Workload(TOKENS), Workload(TOKENS, dtype=torch.bfloat16))

ROWS: Mapping[str, tuple[Workload, ...]] = {
    "LocalResponseNorm": _images(size=5),
    "LocalResponseSum": _images(size=5),
    "LocalContextNorm": (Workload(LOCAL, numbers=LOCAL_CONTEXT),),
    "DivisiveNorm": (Workload(LOCAL, numbers={"sum_window": 5, "sup_window": 5}),),
    "CumulativeLayerNorm": (Workload((8, 64, 2000)),),
    "ConditionalBatchNorm": _images(num_classes=CLASSES),
    "ConditionalInstanceNorm": _images(num_classes=CLASSES),
    "ConditionalGroupNorm": _images(num_groups=8, num_classes=CLASSES),
    "DomainBatchNorm": _images(num_domains=DOMAINS),
    "HeteroLayerNorm": _nodes(num_types=TYPES),
    "HeteroBatchNorm": _nodes(num_types=TYPES),
    "AdjacencyNorm": (Workload(NODES, edges=160_000),),
    "UnitedNorm": UNITED,
    "UnitedNormCommon": UNITED,
    "UnitedNormSoftmax": UNITED,
    "GraphNorm": LABELLED,
    "GraphInstanceNorm": LABELLED,
    "GraphLayerNorm": LABELLED,
    "MeanSubtractionNorm": LABELLED,
    "PairNorm": LABELLED,
    "PairNormSI": LABELLED,
    "DiffGroupNorm": _nodes(groups=10),
    "LlamaRMSNorm": ROWS_OF_TOKENS,
    "T5LayerNorm": ROWS_OF_TOKENS,
    "ModeNorm": _images(num_modes=MODES),
    "SparseSwitchNorm": _images(),
    "IterNorm": _images(num_groups=1, steps=5),
    "DecorrelatedBatchNorm": _images(num_groups=4, steps=25),
    "SwitchableWhitening": _images(num_pergroup=16, steps=5),
    "SwitchableWhiteningAll": _images(num_pergroup=16, steps=5),
    "DoublyStochastic": (Workload((1024, 1024), numbers={"steps": 100}),),
    "Muon": (Workload((512, 1024), numbers={"steps": 5}),),
}
