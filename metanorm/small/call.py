"""A call of a module with small tensors, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from metanorm.ir.program import Program
from metanorm.ir.scalar import Hyper, Scalar, evaluate, leaves
from metanorm.small.tensor import Tensor

EPSILON = 1e-6  # the value of a hyperparameter that is `None`


@dataclass(frozen=True)
class Call:
    """One call of a norm, in training mode, that leaves out no tensor.

    `lengths` has the length of each axis, of an axis group the product. `hypers` holds the
    arguments of the constructor, tensors among them. `tensor` makes an input, a parameter or a
    buffer by its name: of large ones, those that nobody asks for are never made.
    """

    program: Program
    lengths: Mapping[str, int]
    hypers: Mapping[str, object]
    tensor: Callable[[str], Tensor]

    def number(self, scalar: Scalar) -> float:
        """The number that a scalar is with these hyperparameters and lengths."""
        names = {n: float(v) for n, v in self.hypers.items() if isinstance(v, (int, float))}
        for leaf in leaves(scalar):
            if isinstance(leaf, Hyper) and self.hypers.get(leaf.name) is None:
                names[leaf.name] = EPSILON
        names.update(
            {a.name: self.lengths[a.axes[0]] for a in self.program.arguments if a.type == "size"}
        )
        return evaluate(scalar, names, self.lengths)

    def matrix(self, name: str) -> Tensor:
        """A square matrix: an argument, an input or a parameter."""
        argument = self.hypers.get(name)
        return argument if isinstance(argument, Tensor) else self.tensor(name)

    def cells_of_index(self, name: str) -> tuple[list[int], int]:
        """The cell of each position that an index input names, and the number of cells."""
        cells = [int(cell) for cell in self.tensor(name).elements]
        decl = self.program.index.inputs[name]
        if decl.offsets:
            segments = list(enumerate(pairwise(cells)))
            return [i for i, (start, end) in segments for _ in range(start, end)], len(segments)
        return cells, max(cells) + 1 if decl.table is None else self.lengths[decl.table]
