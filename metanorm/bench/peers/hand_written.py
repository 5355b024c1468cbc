"""Layers written by hand, by the norm of the library that they equal.

They use operations of torch, and those for graphs also torch-scatter.
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
# Formulas around layers of torch: the obvious code, which is not always the fastest.
OF_LAYERS = Package("torch.nn", "torch", "torch", by_hand=True)
TORCH_SCATTER = Package("torch-scatter", "torch_scatter", "'metanorm[scatter]'", by_hand=True)


def _on_torch(make: MakeLayer) -> tuple[Peer, ...]:
    return (Peer(BY_HAND, make),)


def _on_both(make: Callable[[Sums, Shape, Arguments], nn.Module]) -> tuple[Peer, ...]:
    """The same formula, with sums by torch and by torch-scatter."""
    return (
        Peer(BY_HAND, lambda shape, arguments: make(of_graphs.index_add, shape, arguments)),
        Peer(TORCH_SCATTER, lambda shape, arguments: make(of_graphs.scatter, shape, arguments)),
    )


def _united(shares: of_graphs.Shares) -> tuple[Peer, ...]:
    return _on_both(lambda sums, shape, _: of_graphs.UnitedNorm(sums, shape[1], shares))


def _whitening(coupled: bool) -> tuple[Peer, ...]:
    def make(shape: Shape, arguments: Arguments) -> nn.Module:
        groups, steps, eps = arguments["num_groups"], arguments["steps"], 1e-3 if coupled else 1e-5
        return of_whitening.IterNorm(shape[1], groups, steps, eps, coupled=coupled)

    return _on_torch(make)


def _switchable(weights: int) -> tuple[Peer, ...]:
    return _on_torch(
        lambda shape, arguments: of_whitening.SwitchableWhitening(
            shape[1], arguments["num_pergroup"], arguments["steps"], weights
        )
    )


def _pair(individually: bool) -> tuple[Peer, ...]:
    return _on_both(lambda sums, *_: of_graphs.PairNorm(sums, individually))


HAND_WRITTEN: Mapping[str, tuple[Peer, ...]] = {
    "ConditionalBatchNorm": (
        Peer(
            OF_LAYERS,
            lambda shape, arguments: conditional.batch_norm_and_embeddings(
                len(shape), arguments["num_classes"], shape[1]
            ),
        ),
        Peer(
            BY_HAND,
            lambda shape, arguments: conditional.ConditionalBatchNorm(
                arguments["num_classes"], shape[1]
            ),
        ),
    ),
    "ConditionalInstanceNorm": (
        Peer(
            OF_LAYERS,
            lambda shape, arguments: conditional.instance_norm_and_embeddings(
                len(shape), arguments["num_classes"], shape[1]
            ),
        ),
        Peer(
            BY_HAND,
            lambda shape, arguments: conditional.ConditionalInstanceNorm(
                arguments["num_classes"], shape[1]
            ),
        ),
    ),
    "ConditionalGroupNorm": (
        Peer(
            OF_LAYERS,
            lambda shape, arguments: conditional.group_norm_and_embeddings(
                arguments["num_groups"], arguments["num_classes"], shape[1]
            ),
        ),
    ),
    "DomainBatchNorm": (
        Peer(
            OF_LAYERS,
            lambda shape, arguments: kinds.CycleBatchNorm(
                len(shape), arguments["num_domains"], shape[1]
            ),
        ),
        Peer(
            BY_HAND,
            lambda shape, arguments: kinds.DomainBatchNorm(arguments["num_domains"], shape[1]),
        ),
    ),
    "HeteroLayerNorm": _on_torch(
        lambda shape, arguments: kinds.HeteroLayerNorm(arguments["num_types"], shape[1])
    ),
    "HeteroBatchNorm": _on_torch(
        lambda shape, arguments: kinds.HeteroBatchNorm(arguments["num_types"], shape[1])
    ),
    "LocalContextNorm": _on_torch(
        lambda shape, arguments: of_windows.LocalContextNorm(
            shape[1], arguments["channels_per_group"], arguments["width"]
        )
    ),
    "DivisiveNorm": _on_torch(
        lambda shape, arguments: of_windows.DivisiveNorm(
            shape[1], arguments["sum_window"], arguments["sup_window"]
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
    "ModeNorm": _on_torch(
        lambda shape, arguments: mixtures.ModeNorm(shape[1], arguments["num_modes"])
    ),
    "DiffGroupNorm": _on_torch(
        lambda shape, arguments: mixtures.DiffGroupNorm(shape[1], arguments["groups"])
    ),
    "SparseSwitchNorm": _on_torch(lambda shape, _: mixtures.SparseSwitchNorm(shape[1])),
    "IterNorm": _whitening(coupled=False),
    "DecorrelatedBatchNorm": _whitening(coupled=True),
    "SwitchableWhitening": _switchable(weights=2),
    "SwitchableWhiteningAll": _switchable(weights=5),
    "DoublyStochastic": _on_torch(
        lambda _, arguments: matrices.DoublyStochastic(arguments["steps"])
    ),
    "Muon": _on_torch(lambda _, arguments: matrices.Muon(arguments["steps"])),
}
