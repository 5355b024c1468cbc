"""What a norm is timed on: shapes of the first input, fitted to the axes of any norm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metanorm.ir.nodes import Divisible, Equal, InputDecl, Program
from metanorm.ir.scalar import evaluate
from metanorm.ir.space import Space
from metanorm.verify.cases import Example, Setting, make_example


@dataclass(frozen=True)
class Workload:
    """A shape of the first input; where `groups` is set, its first axis holds so many graphs.

    `edges` is how many edges there are between nodes, and `numbers` are arguments of the
    constructor by name, such as the width of a window or the number of classes, in place of those
    that are chosen by shape.
    """

    shape: tuple[int, ...]
    groups: int | None = None
    dtype: torch.dtype = torch.float32
    memory: str = "contiguous"
    edges: int | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Such as `32x64x56x56 channels last`, or `8x32x64x64 width=31`."""
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


# From 4 KB to several times the largest cache: images, sequences, rows of features, and batches of
# graphs.
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

# What a GPU takes long enough for: several times its cache, and 64 MB at least.
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
    program: Program, only: str = "", among: Iterable[Workload] = WORKLOADS
) -> Iterator[tuple[Workload, Example]]:
    """Every workload that fits the axes of a norm, with its arguments and inputs."""
    for workload in among:
        lengths = fitted_lengths(workload, program)
        if lengths is not None and only in workload.name:
            yield workload, _example(program, workload, lengths)


def fitted_lengths(workload: Workload, program: Program) -> dict[str, tuple[int, ...]] | None:
    """The length of each axis of the first input, or `None` where the workload does not fit."""
    dims = program.inputs[0].dims
    if (_graph_index(program) is not None) != (workload.groups is not None):
        return None
    images = len(workload.shape) > 2
    if images and len(dims) < 3:
        return None
    space, rest = Space(program.axes), list(workload.shape)
    lengths: dict[str, tuple[int, ...]] = {}
    for position, dim in enumerate(dims):
        later = len(dims) - position - 1
        takes = max(0, len(rest) - later) if space[dim].variadic and not (later and images) else 1
        lengths[dim] = tuple(rest[:takes])
        rest = rest[takes:]
    singles = all(space[d].variadic or len(shape) == 1 for d, shape in lengths.items())
    equal = (c for c in program.checks if isinstance(c, Equal))
    square = all(lengths.get(c.first) == lengths.get(c.second) for c in equal)
    return lengths if singles and square and not rest else None


def _graph_index(program: Program) -> InputDecl | None:
    """The index that says which group each element of the leading axis belongs to."""
    leading = program.inputs[0].dims[:1]
    indices = (i for i in program.inputs if i.sort == "index" and i.table is None)
    return next((i for i in indices if i.dims == leading), None)


def _example(program: Program, workload: Workload, lengths: dict[str, tuple[int, ...]]) -> Example:
    asked = {a.name: a.axes[0] for a in program.arguments if a.type == "size"}
    given = {asked[name]: (n,) for name, n in workload.numbers.items() if name in asked}
    setting = Setting(
        workload.name,
        dtype=workload.dtype,
        memory=workload.memory,
        lengths={**given, **lengths},
        number=_number(program, lengths),
        numbers=workload.numbers,
    )
    built = make_example(program, setting)
    if workload.edges is not None:
        for decl in program.inputs:
            if decl.sort == "edges":
                built.inputs[decl.name] = _edges(workload.shape[0], workload.edges)
    index = _graph_index(program)
    if index is not None and workload.groups is not None:
        built.inputs[index.name] = _sorted_index(workload.shape[0], workload.groups)
        built.groups[index.name] = workload.groups
    return built


def _number(program: Program, lengths: dict[str, tuple[int, ...]]) -> int:
    """The largest number of blocks, 32 at most, that divides what it has to."""
    sizes = {axis: math.prod(shape) for axis, shape in lengths.items()}

    def divides(number: int) -> bool:
        numbers = {a.name: number for a in program.arguments if a.type in ("int", "size")}
        checks = (c for c in program.checks if isinstance(c, Divisible) and c.axis in sizes)
        return all(sizes[c.axis] % evaluate(c.by, numbers, sizes) == 0 for c in checks)

    return next(n for n in (32, 16, 8, 4, 2, 1) if n == 1 or divides(n))


def _sorted_index(elements: int, groups: int) -> Tensor:
    """Which graph each node belongs to, as loaders give it: sorted, graphs of different sizes."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, groups, (elements,), generator=generator).sort().values


def _edges(nodes: int, number: int) -> Tensor:
    """Sources and targets of edges, in no order: shape [2, number]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, nodes, (2, number), generator=generator)
