"""Workloads: shapes of the first input, matched to the axes of a norm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metanorm.ir.program import Divisible, Equal, InputDecl, Program
from metanorm.ir.scalar import evaluate
from metanorm.ir.space import Space
from metanorm.verify.cases import Example, Setting, make_example


@dataclass(frozen=True)
class Workload:
    """A shape of the first input. With `groups`, its first axis has the nodes of so many graphs.

    `edges` is the number of edges between nodes. `numbers` are arguments of the constructor by
    name, such as the width of a window or the number of classes, which replace defaults.
    """

    shape: tuple[int, ...]
    groups: int | None = None
    dtype: torch.dtype = torch.float32
    memory: str = "contiguous"
    edges: int | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name, such as `32x64x56x56 channels last`, or `8x32x64x64 width=31`."""
        words = ["x".join(map(str, self.shape))]
        if self.groups is not None:
            words.append(f"in {self.groups}")
        if self.edges is not None:
            words.append(f"{self.edges} edges")
        words += [f"{name}={number}" for name, number in self.numbers.items()]
        if self.dtype is not torch.float32:
            words.append(str(self.dtype).removeprefix("torch."))
        if self.memory != "contiguous":
            words.append(self.memory)
        return " ".join(words)

    @property
    def nbytes(self) -> int:
        """Bytes of the first input."""
        return math.prod(self.shape) * self.dtype.itemsize


# Images, sequences, rows of features and batches of graphs, from 4 KB to several times the cache.
WORKLOADS = (
    Workload((128, 64, 56, 56)),
    Workload((32, 64, 56, 56)),
    Workload((32, 512, 14, 14)),
    Workload((32, 64, 56, 56), memory="channels last"),
    Workload((8, 16, 4, 4)),
    Workload((8, 64, 2000)),
    Workload((8192, 768)),
    Workload((4096, 2048)),
    Workload((1024, 1024)),
    Workload((8192, 768), dtype=torch.bfloat16),
    Workload((64, 768)),
    Workload((16, 64)),
    Workload((98_046, 64), groups=4096),
    Workload((7_972, 128), groups=256),
    Workload((512, 64), groups=16),
)

# Workloads that are large for a GPU: several times its cache, and at least 64 MB.
GPU_WORKLOADS = (
    Workload((256, 64, 56, 56)),
    Workload((256, 512, 14, 14)),
    Workload((64, 512, 64, 64), dtype=torch.bfloat16),
    Workload((128, 256, 56, 56), memory="channels last"),
    Workload((128, 256, 56, 56), dtype=torch.bfloat16, memory="channels last"),
    Workload((65_536, 768)),
    Workload((32_768, 2048)),
    Workload((65_536, 768), dtype=torch.bfloat16),
    Workload((32_768, 4096), dtype=torch.bfloat16),
    Workload((4096, 16_384), dtype=torch.bfloat16),
    Workload((2048, 65_536), dtype=torch.bfloat16),
    Workload((980_460, 64), groups=40_960),
    Workload((500_000, 256), groups=64),
)


def workloads(
    program: Program, only: str = "", choices: Iterable[Workload] = WORKLOADS
) -> Iterator[tuple[Workload, Example]]:
    """Every workload that fits the axes of a norm, with an example call."""
    for workload in choices:
        shapes = fitted_lengths(workload, program)
        if shapes is not None and only in workload.name:
            yield workload, _example(program, workload, shapes)


def fitted_lengths(workload: Workload, program: Program) -> dict[str, tuple[int, ...]] | None:
    """The shape of each axis of the first input; `None` if the workload does not fit."""
    dims = program.inputs[0].dims
    if (_graph_index(program) is not None) != (workload.groups is not None):
        return None
    is_image = len(workload.shape) > 2
    if is_image and len(dims) < 3:
        return None
    space, remaining = Space(program.axes), list(workload.shape)
    lengths: dict[str, tuple[int, ...]] = {}
    for position, dim in enumerate(dims):
        dims_after = len(dims) - position - 1
        count = (
            max(0, len(remaining) - dims_after)
            if space[dim].variadic and not (dims_after and is_image)
            else 1
        )
        lengths[dim] = tuple(remaining[:count])
        remaining = remaining[count:]
    are_single = all(space[d].variadic or len(shape) == 1 for d, shape in lengths.items())
    equal = (c for c in program.checks if isinstance(c, Equal))
    are_equal = all(lengths.get(c.first) == lengths.get(c.second) for c in equal)
    return lengths if are_single and are_equal and not remaining else None


def _graph_index(program: Program) -> InputDecl | None:
    """The index or the offsets with the group of each element of the leading axis."""
    leading = program.inputs[0].dims[:1]
    indices = (i for i in program.inputs if i.names_groups)
    return next((i for i in indices if i.dims == leading), None)


def _example(program: Program, workload: Workload, lengths: dict[str, tuple[int, ...]]) -> Example:
    axis_of_argument = {a.name: a.axes[0] for a in program.arguments if a.type == "size"}
    given_shapes = {
        axis_of_argument[name]: (n,)
        for name, n in workload.numbers.items()
        if name in axis_of_argument
    }
    setting = Setting(
        workload.name,
        dtype=workload.dtype,
        memory=workload.memory,
        lengths={**given_shapes, **lengths},
        number=_number(program, lengths),
        numbers=workload.numbers,
    )
    example = make_example(program, setting)
    if workload.edges is not None:
        for decl in program.inputs:
            if decl.sort == "edges":
                example.inputs[decl.name] = _edges(workload.shape[0], workload.edges)
    index = _graph_index(program)
    if index is not None and workload.groups is not None:
        groups, sorted_index = workload.groups, _sorted_index(workload.shape[0], workload.groups)
        if index.offsets:
            bounds = torch.searchsorted(sorted_index, torch.arange(groups + 1))
            example.inputs[index.name] = bounds
        else:
            example.inputs[index.name] = sorted_index
            example.groups[index.name] = groups
    return example


def _number(program: Program, lengths: dict[str, tuple[int, ...]]) -> int:
    """The largest number of blocks, 32 at most, that all checks allow."""
    sizes = {axis: math.prod(shape) for axis, shape in lengths.items()}

    def divides(number: int) -> bool:
        numbers = {a.name: number for a in program.arguments if a.type in ("int", "size")}
        checks = (c for c in program.checks if isinstance(c, Divisible) and c.axis in sizes)
        return all(sizes[c.axis] % evaluate(c.by, numbers, sizes) == 0 for c in checks)

    return next(n for n in (32, 16, 8, 4, 2, 1) if n == 1 or divides(n))


def _sorted_index(elements: int, groups: int) -> Tensor:
    """The graph of each node, sorted as by data loaders; graphs have different sizes."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, groups, (elements,), generator=generator).sort().values


def _edges(nodes: int, number: int) -> Tensor:
    """Random sources and targets of edges, unsorted: shape [2, number]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, nodes, (2, number), generator=generator)
