"""Layers that are written by hand, by the norm of the library that they equal.

On operations of torch, and for graphs on those of torch-scatter, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from metanorm.bench.peers.by_hand import conditional, kinds, matrices, mixtures, sequences
from metanorm.bench.peers.by_hand import graphs as of_graphs
from metanorm.bench.peers.by_hand import whitening as of_whitening
from metanorm.bench.peers.by_hand import windows as of_windows
from metanorm.bench.peers.by_hand.graphs import Sums
from metanorm.bench.peers.peer import Arguments, MakeLayer, Package, Peer, Shape

BY_HAND = Package("by hand", "torch", "torch", by_hand=True)
# Formulas around layers of torch: what comes to mind first, where something else is quicker.
OF_LAYERS = Package("torch.nn", "torch", "torch", by_hand=True)
TORCH_SCATTER = Package("torch-scatter", "torch_scatter", "'metanorm[scatter]'", by_hand=True)


def _on_torch(make: MakeLayer) -> tuple[Peer, ...]:
    return (Peer(BY_HAND, make),)


def _on_both(make: Callable[[Sums, Shape, Arguments], nn.Module]) -> tuple[Peer, ...]:
    """The same formula, with sums by torch and by torch-scatter."""
    return (
        Peer(BY_HAND, lambda shape, given: make(of_graphs.index_add, shape, given)),
        Peer(TORCH_SCATTER, lambda shape, given: make(of_graphs.scatter, shape, given)),
    )


def _united(shares: of_graphs.Shares) -> tuple[Peer, ...]:
    return _on_both(lambda sums, shape, _: of_graphs.UnitedNorm(sums, shape[1], shares))


def _whitening(coupled: bool) -> tuple[Peer, ...]:
    def make(shape: Shape, given: Arguments) -> nn.Module:
        groups, steps, eps = given["num_groups"], given["steps"], 1e-3 if coupled else 1e-5
        return of_whitening.IterNorm(shape[1], groups, steps, eps, coupled=coupled)

    return _on_torch(make)


def _switchable(weights: int) -> tuple[Peer, ...]:
    return _on_torch(
        lambda shape, given: of_whitening.SwitchableWhitening(
            shape[1], given["num_pergroup"], given["steps"], weights
        )
    )


def _pair(individually: bool) -> tuple[Peer, ...]:
    return _on_both(lambda sums, *_: of_graphs.PairNorm(sums, individually))


HAND_WRITTEN: Mapping[str, tuple[Peer, ...]] = {
    "ConditionalBatchNorm": (
        Peer(
            OF_LAYERS,
            lambda shape, given: conditional.batch_norm_and_embeddings(
                len(shape), given["num_classes"], shape[1]
            ),
        ),
        Peer(
            BY_HAND,
            lambda shape, given: conditional.ConditionalBatchNorm(given["num_classes"], shape[1]),
        ),
    ),
    "ConditionalInstanceNorm": (
        Peer(
            OF_LAYERS,
            lambda shape, given: conditional.instance_norm_and_embeddings(
                len(shape), given["num_classes"], shape[1]
            ),
        ),
        Peer(
            BY_HAND,
            lambda shape, given: conditional.ConditionalInstanceNorm(
                given["num_classes"], shape[1]
            ),
        ),
    ),
    "ConditionalGroupNorm": (
        Peer(
            OF_LAYERS,
            lambda shape, given: conditional.group_norm_and_embeddings(
                given["num_groups"], given["num_classes"], shape[1]
            ),
        ),
    ),
    "DomainBatchNorm": (
        Peer(
            OF_LAYERS,
            lambda shape, given: kinds.CycleBatchNorm(len(shape), given["num_domains"], shape[1]),
        ),
        Peer(BY_HAND, lambda shape, given: kinds.DomainBatchNorm(given["num_domains"], shape[1])),
    ),
    "HeteroLayerNorm": _on_torch(
        lambda shape, given: kinds.HeteroLayerNorm(given["num_types"], shape[1])
    ),
    "HeteroBatchNorm": _on_torch(
        lambda shape, given: kinds.HeteroBatchNorm(given["num_types"], shape[1])
    ),
    "LocalContextNorm": _on_torch(
        lambda shape, given: of_windows.LocalContextNorm(
            shape[1], given["channels_per_group"], given["width"]
        )
    ),
    "DivisiveNorm": _on_torch(
        lambda shape, given: of_windows.DivisiveNorm(
            shape[1], given["sum_window"], given["sup_window"]
        )
    ),
    "CumulativeLayerNorm": _on_torch(lambda shape, _: sequences.CumulativeLayerNorm(shape[1])),
    "LlamaRMSNorm": _on_torch(lambda shape, _: sequences.LlamaRMSNorm(shape[-1])),
    "T5LayerNorm": _on_torch(lambda shape, _: sequences.T5LayerNorm(shape[-1])),
    "GraphNorm": _on_both(lambda sums, shape, _: of_graphs.GraphNorm(sums, shape[1])),
    "GraphInstanceNorm": _on_both(lambda sums, *_: of_graphs.GraphInstanceNorm(sums)),
    "GraphLayerNorm": _on_both(lambda sums, shape, _: of_graphs.GraphLayerNorm(sums, shape[1])),
    "MeanSubtractionNorm": _on_both(lambda sums, *_: of_graphs.MeanSubtractionNorm(sums)),
    "PairNorm": _pair(individually=False),
    "PairNormSI": _pair(individually=True),
    "AdjacencyNorm": _on_both(lambda sums, shape, _: of_graphs.AdjacencyNorm(sums, shape[1])),
    "UnitedNorm": _united(of_graphs.as_given),
    "UnitedNormCommon": _united(of_graphs.of_total),
    "UnitedNormSoftmax": _united(of_graphs.softmax),
    "ModeNorm": _on_torch(lambda shape, given: mixtures.ModeNorm(shape[1], given["num_modes"])),
    "DiffGroupNorm": _on_torch(
        lambda shape, given: mixtures.DiffGroupNorm(shape[1], given["groups"])
    ),
    "SparseSwitchNorm": _on_torch(lambda shape, _: mixtures.SparseSwitchNorm(shape[1])),
    "IterNorm": _whitening(coupled=False),
    "DecorrelatedBatchNorm": _whitening(coupled=True),
    "SwitchableWhitening": _switchable(weights=2),
    "SwitchableWhiteningAll": _switchable(weights=5),
    "DoublyStochastic": _on_torch(lambda _, given: matrices.DoublyStochastic(given["steps"])),
    "Muon": _on_torch(lambda _, given: matrices.Muon(given["steps"])),
}
