"""What may happen to the first input of a norm without its output noticing.

Tried on the small example, in training mode, by the oracle: not proven, but nothing is said that
does not hold there. Inputs are tried at two magnitudes: what is saturated at the one reacts at the
other. Differences that an `eps` makes are allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metanorm.ir.aggregation import PARTITIONS, Grouping, grouping_text
from metanorm.ir.nodes import Count, Pool, Program
from metanorm.oracle.call import Call
from metanorm.oracle.dense import pooling_matrix
from metanorm.oracle.interpret import interpret, values
from metanorm.show.example import example, nested_lets

F64 = torch.float64
MAGNITUDES_AND_TOLERANCES = (
    (0.3, 1e-2),
    (3.0, 2e-3),
)  # magnitudes, and how far outputs may be apart

Change = Callable[[Tensor, Tensor, float], Tensor]  # of an input, by numbers, at a magnitude

CHANGES: Mapping[str, Change] = {
    "scaling": lambda x, numbers, magnitude: x * (1 + 0.6 * numbers),
    "shifting": lambda x, numbers, magnitude: x + 2 * magnitude * numbers,
}

ChangedAxes = tuple[str, ...]  # for what there is a number of its own: axes or their cells


def invariances(program: Program) -> dict[str, tuple[ChangedAxes, ...]]:
    """For `scaling` and `shifting`, the finest ways in which the first input may be changed.

    `("N", "C")` stands for a number for each position of N and C, `()` for a single number.
    """
    trial = _Trial(program)
    if not trial.reacts():
        return dict.fromkeys(CHANGES, ())
    return {name: tuple(trial.finest(change)) for name, change in CHANGES.items()}


@dataclass(frozen=True)
class _Labelling:
    """How an axis is told apart: which number each of its positions gets."""

    label: str
    cells: Tensor


class _Trial:
    def __init__(self, program: Program) -> None:
        self.program, call = example(program)
        self.call = replace(call, params={n: _away_from_initial(p) for n, p in call.params.items()})
        self.values = values(self.program, self.call)
        self.first = self.program.inputs[0]
        space = self.values.space
        self.leaves = [leaf for dim in self.first.dims for leaf in space.leaves(dim)]
        self.ways = [self._ways(leaf) for leaf in self.leaves]
        given = call.inputs[self.first.name]
        assert given is not None
        self.inputs = [given * magnitude for magnitude, _ in MAGNITUDES_AND_TOLERANCES]
        self.outputs = [self._output(x) for x in self.inputs]

    def _ways(self, axis: str) -> list[_Labelling]:
        """From one number for all positions to one for each; between them the cells of pools."""
        length = self.values.size(axis)
        label = f"*{axis}" if self.values.space[axis].variadic else axis
        matrices: list[Grouping] = []
        for let in nested_lets(self.program.body):
            if isinstance(let.op, (Pool, Count)):
                pooled = [m for a, m in let.op.over if a == axis and isinstance(m, PARTITIONS)]
                matrices += [m for m in pooled if m not in matrices]
        ways = [_Labelling("", torch.zeros(length, dtype=torch.long))]
        for matrix in matrices:
            dense, _ = pooling_matrix(matrix, length, self.values.env.grouping_data)
            ways.append(_Labelling(f"{label}/{grouping_text(matrix)}", dense.argmax(dim=0)))
        return [*ways, _Labelling(label, torch.arange(length))]

    def finest(self, change: Change) -> Iterator[ChangedAxes]:
        """The ways that hold and of which no refinement does."""
        start = (0,) * len(self.leaves)
        if not self._holds(change, start):
            return
        done, queue = {start}, [start]
        while queue:
            ways = queue.pop(0)
            finer = list(self._finer(change, ways))
            queue += [way for way in finer if way not in done]
            done.update(finer)
            if not finer:
                yield self._named(ways)

    def _named(self, ways: tuple[int, ...]) -> ChangedAxes:
        """Axes that a spec splits are whole again where all of their parts have numbers."""
        space = self.values.space
        labels = {leaf: own[way].label for leaf, own, way in zip(self.leaves, self.ways, ways)}
        told = [leaf for leaf, label in labels.items() if label]
        each = space.unsplit([leaf for leaf in told if "/" not in labels[leaf]])
        names = {space.leaves(name)[0]: name for name in each}
        return tuple(
            f"*{names[leaf]}"
            if leaf in names and space[names[leaf]].variadic
            else names.get(leaf, labels[leaf])
            for leaf in told
            if leaf in names or "/" in labels[leaf]
        )

    def _finer(self, change: Change, ways: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """The refinements that hold, of one axis: for each of its positions, else by its cells."""
        for place, way in enumerate(ways):
            each = len(self.ways[place]) - 1
            for tried in ([each], range(1, each) if way == 0 else ()):
                finer = [(*ways[:place], t, *ways[place + 1 :]) for t in tried if t > way]
                found = [one for one in finer if self._holds(change, one)]
                yield from found
                if found:
                    break

    def _holds(self, change: Change, ways: tuple[int, ...]) -> bool:
        numbers = self._numbers(ways)
        for x, before, (magnitude, most) in zip(
            self.inputs, self.outputs, MAGNITUDES_AND_TOLERANCES
        ):
            after = self._output(change(x, numbers, magnitude))
            if not bool((after - before).abs().max() <= most * before.abs().max()):
                return False
        return True

    def reacts(self) -> bool:
        """Whether the output depends on the input at all, at each magnitude."""
        return all(
            bool(
                (self._output(x.flip(0).sin() * x) - before).abs().max() > 1e-3 * before.abs().max()
            )
            for x, before in zip(self.inputs, self.outputs)
        )

    def _numbers(self, ways: tuple[int, ...]) -> Tensor:
        """Between -1 and 1, in the shape of the input."""
        cell = torch.zeros((), dtype=torch.long)
        for place, way in enumerate(ways):
            own = self.ways[place][way].cells
            cell = cell[..., None] * (int(own.max()) + 1) + own
        return torch.sin(2.3 * cell.to(F64) + 1).reshape(self.inputs[0].shape)

    def _output(self, x: Tensor) -> Tensor:
        call: Call = replace(self.call, inputs={**self.call.inputs, self.first.name: x})
        return next(iter(interpret(self.program, call).outputs.values()))


def _away_from_initial(param: Tensor | None) -> Tensor | None:
    """A parameter away from where it begins, for at the beginning much is the identity.

    What lies between zero and one stays there.
    """
    if param is None:
        return None
    wave = torch.sin(1.3 * torch.arange(param.numel(), dtype=F64) + 0.5)
    return 0.5 * param + 0.25 + 0.2 * wave.reshape(param.shape)
