"""Measure an effect that a paper claims of a norm, on small data: numbers, a plot, what holds.

python docs/demo/effects.py shifted-scores     one or two minutes on two cores
python docs/demo/effects.py --list             what there is
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

PACKAGES = {
    "torch": "torch",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "networkx": "networkx",
}
INSTALL = "python -m pip install -e '.[demo]'"


@dataclass(frozen=True)
class Entry:
    """An effect by its title, the module of `measured/` that measures it, and the norms of the
    library that it is about."""

    title: str
    module: str
    norms: Sequence[str]


ENTRIES: Mapping[str, Entry] = {
    "small-batches": Entry(
        "BatchNorm degrades as batches shrink",
        "small_batches",
        ("BatchNorm", "GroupNorm", "SwitchNorm"),
    ),
    "switch-weights": Entry(
        "Learned weights of SwitchNorm move as batches shrink", "switch_weights", ("SwitchNorm",)
    ),
    "tabular": Entry(
        "Variance-only LayerNorm on tabular data", "tabular", ("VarianceOnlyLayerNorm",)
    ),
    "plain-layer-norm": Entry(
        "LayerNorm without weight and bias is on par", "plain_layer_norm", ("LayerNorm",)
    ),
    "graph-speed": Entry("GraphNorm trains faster than BatchNorm", "graph_speed", ("GraphNorm",)),
    "regular-graphs": Entry(
        "The learned shift of GraphNorm matters on regular graphs",
        "regular_graphs",
        ("GraphNorm", "GraphInstanceNorm"),
    ),
    "growing-weights": Entry(
        "Norms of weights make the weights grow",
        "growing_weights",
        ("WeightNorm", "WeightStandardization"),
    ),
    "centralization": Entry(
        "Weight and gradient centralization",
        "centralization",
        ("WeightCentralization", "GradientCentralization"),
    ),
    "few-shots": Entry(
        "TaskNorm in few-shot episodes of digits", "few_shots", ("TaskNorm", "MetaBatchNorm")
    ),
    "shifted-scores": Entry(
        "Score normalization under a shifted set",
        "shifted_scores",
        ("ZNorm", "TNorm", "SNorm", "ASNorm"),
    ),
    "other-sizes": Entry(
        "Local context norm on images of other sizes", "other_sizes", ("LocalContextNorm",)
    ),
}


def run(name: str, folder: Path, seeds: int | None = None, quick: bool = False) -> str:
    """Measure an effect; the text of the result, which is in the folder too, beside a plot."""
    import torch
    from measured import report

    torch.set_num_threads(1)  # small tensors: and sums come in the same order in every run
    torch.use_deterministic_algorithms(True)
    entry = ENTRIES[name]
    effect = import_module(f"measured.{entry.module}").EFFECT
    count = effect.seeds if seeds is None else seeds
    measurement = effect.measure(range(count), quick)
    text = report.text(entry.title, effect, measurement, count)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    report.draw(entry.title, measurement, count, folder / f"{name}.png")
    return text


def _count(text: str) -> int:
    """A number of seeds as an argument."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it takes at least 1")
    return number


def main() -> int:
    """The command; 0 if it ran, 2 if something is not installed."""
    parser = argparse.ArgumentParser(description="Measure effects of norms on small data.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="effects; all if none is named")
    parser.add_argument("--list", action="store_true", help="list the effects")
    parser.add_argument("--seeds", type=_count, help="how often each network is trained")
    parser.add_argument("--quick", action="store_true", help="a few steps on a part of the data")
    parser.add_argument("--out", type=Path, default=Path("build/demo/effects"), help="%(default)s")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in ENTRIES]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(ENTRIES)}")
    if arguments.list:
        print(*(f"{name:<20}{entry.title}" for name, entry in ENTRIES.items()), sep="\n")
        return 0
    absent = [name for module, name in PACKAGES.items() if find_spec(module) is None]
    if absent:
        print(f"error: not installed: {', '.join(absent)}: {INSTALL}", file=sys.stderr)
        return 2
    for name in arguments.names or ENTRIES:
        start = time.perf_counter()
        print(run(name, arguments.out, arguments.seeds, arguments.quick))
        print(f"{time.perf_counter() - start:.0f} s; {arguments.out / name}.png", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
