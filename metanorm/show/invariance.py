"""Changes of the first input that leave the output of a norm as it is.

They are tested on the small example, in training mode, by the oracle: that is no proof, but no
reported invariance fails there. Inputs have two magnitudes, since a function may saturate at one.
Differences that an `eps` makes are tolerated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metanorm.ir.aggregation import PARTITIONS, Grouping, grouping_text
from metanorm.ir.nodes import Count, Pool
from metanorm.ir.operands import every_let
from metanorm.ir.program import Program
from metanorm.oracle.call import Call
from metanorm.oracle.dense import pooling_matrix
from metanorm.oracle.interpret import interpret, values
from metanorm.show.oracle_call import oracle_call

F64 = torch.float64
MAGNITUDES_AND_TOLERANCES = (
    (0.3, 1e-2),
    (3.0, 2e-3),
)  # of inputs, with the tolerance of outputs

Change = Callable[[Tensor, Tensor, float], Tensor]  # of an input, by numbers, at a magnitude

CHANGES: Mapping[str, Change] = {
    "scaling": lambda x, numbers, magnitude: x * (1 + 0.6 * numbers),
    "shifting": lambda x, numbers, magnitude: x + 2 * magnitude * numbers,
}

ChangedAxes = tuple[str, ...]  # the axes or cells that have a number each


def invariances(program: Program) -> dict[str, tuple[ChangedAxes, ...]]:
    """For `scaling` and `shifting`, the finest changes that leave the output as it is.

    `("N", "C")` means a number for each position of N and C, `()` a single number.
    """
    trial = _Trial(program)
    if not trial.reacts():
        return dict.fromkeys(CHANGES, ())
    return {name: tuple(trial.finest(change)) for name, change in CHANGES.items()}


@dataclass(frozen=True)
class _Partition:
    """A partition of an axis: the cell of each position. All positions of a cell get one number."""

    label: str
    cells: Tensor


class _Trial:
    def __init__(self, program: Program) -> None:
        self.program, call = oracle_call(program)
        self.call = replace(call, params={n: _away_from_initial(p) for n, p in call.params.items()})
        self.values = values(self.program, self.call)
        self.first = self.program.inputs[0]
        space = self.values.space
        self.leaves = [leaf for dim in self.first.dims for leaf in space.leaves(dim)]
        self.partitions = [self._partitions(leaf) for leaf in self.leaves]
        first_input = call.inputs[self.first.name]
        assert first_input is not None
        self.inputs = [first_input * magnitude for magnitude, _ in MAGNITUDES_AND_TOLERANCES]
        self.outputs = [self._output(x) for x in self.inputs]

    def _partitions(self, axis: str) -> list[_Partition]:
        """The partitions of an axis: all positions, cells of pools, single positions."""
        length = self.values.size(axis)
        label = f"*{axis}" if self.values.space[axis].variadic else axis
        matrices: list[Grouping] = []
        for let in every_let(self.program.body):
            if isinstance(let.op, (Pool, Count)):
                pooled = [m for a, m in let.op.over if a == axis and isinstance(m, PARTITIONS)]
                matrices += [m for m in pooled if m not in matrices]
        partitions = [_Partition("", torch.zeros(length, dtype=torch.long))]
        for matrix in matrices:
            dense, _ = pooling_matrix(matrix, length, self.values.env.grouping_data)
            partitions.append(_Partition(f"{label}/{grouping_text(matrix)}", dense.argmax(dim=0)))
        return [*partitions, _Partition(label, torch.arange(length))]

    def finest(self, change: Change) -> Iterator[ChangedAxes]:
        """The invariant partitions of which no refinement is invariant."""
        start = (0,) * len(self.leaves)
        if not self._is_invariant(change, start):
            return
        visited, queue = {start}, [start]
        while queue:
            partitions = queue.pop(0)
            refined = list(self._refinements(change, partitions))
            queue += [partition for partition in refined if partition not in visited]
            visited.update(refined)
            if not refined:
                yield self._labels(partitions)

    def _labels(self, partitions: tuple[int, ...]) -> ChangedAxes:
        """The labels of the partitions. A split axis is whole if all of its parts have numbers."""
        space = self.values.space
        labels = {
            leaf: axis_partitions[partition].label
            for leaf, axis_partitions, partition in zip(self.leaves, self.partitions, partitions)
        }
        labelled = [leaf for leaf, label in labels.items() if label]
        whole_axes = space.unsplit([leaf for leaf in labelled if "/" not in labels[leaf]])
        names = {space.leaves(name)[0]: name for name in whole_axes}
        return tuple(
            f"*{names[leaf]}"
            if leaf in names and space[names[leaf]].variadic
            else names.get(leaf, labels[leaf])
            for leaf in labelled
            if leaf in names or "/" in labels[leaf]
        )

    def _refinements(
        self, change: Change, partitions: tuple[int, ...]
    ) -> Iterator[tuple[int, ...]]:
        """The invariant refinements of one axis: by positions, else by cells."""
        for position, partition in enumerate(partitions):
            finest = len(self.partitions[position]) - 1
            for choices in ([finest], range(1, finest) if partition == 0 else ()):
                candidates = [
                    (*partitions[:position], choice, *partitions[position + 1 :])
                    for choice in choices
                    if choice > partition
                ]
                invariant = [
                    candidate for candidate in candidates if self._is_invariant(change, candidate)
                ]
                yield from invariant
                if invariant:
                    break

    def _is_invariant(self, change: Change, partitions: tuple[int, ...]) -> bool:
        numbers = self._numbers(partitions)
        for x, before, (magnitude, tolerance) in zip(
            self.inputs, self.outputs, MAGNITUDES_AND_TOLERANCES
        ):
            after = self._output(change(x, numbers, magnitude))
            if not bool((after - before).abs().max() <= tolerance * before.abs().max()):
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

    def _numbers(self, partitions: tuple[int, ...]) -> Tensor:
        """Numbers between -1 and 1, one for each cell, in the shape of the input."""
        cell = torch.zeros((), dtype=torch.long)
        for position, partition in enumerate(partitions):
            cells = self.partitions[position][partition].cells
            cell = cell[..., None] * (int(cells.max()) + 1) + cells
        return torch.sin(2.3 * cell.to(F64) + 1).reshape(self.inputs[0].shape)

    def _output(self, x: Tensor) -> Tensor:
        call: Call = replace(self.call, inputs={**self.call.inputs, self.first.name: x})
        return next(iter(interpret(self.program, call).outputs.values()))


def _away_from_initial(param: Tensor | None) -> Tensor | None:
    """A parameter away from its initial value, at which many norms are the identity.

    Values between zero and one stay there.
    """
    if param is None:
        return None
    wave = torch.sin(1.3 * torch.arange(param.numel(), dtype=F64) + 0.5)
    return 0.5 * param + 0.25 + 0.2 * wave.reshape(param.shape)
