"""AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer over the C kernels.

`make sanitize` does this for the whole library; one norm of each construct is quick enough for
every commit.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from recorded import CC, MEMORY, RACES, Recorder, problems, recording
from torch import Tensor, nn

import metanorm
from metanorm import frontend, runtime
from metanorm.runtime.dispatch import NotServed
from metanorm.runtime.native.compiler import HEADERS
from metanorm.verify.cases import NoExample, settings
from metanorm.verify.compare import compare
from metanorm.verify.kernels import has_kernels
from metanorm.workspace import load

pytestmark = pytest.mark.skipif(
    not CC or sys.platform != "linux", reason="needs the sanitizers of GCC on Linux"
)


def layer(file: str, cls: str, *arguments: Any) -> Any:
    return getattr(metanorm.load(ROOT / "specs" / f"{file}.norm"), cls)(*arguments)


def strided(*shape: int) -> Tensor:
    """A tensor that lies in the middle of a larger one, with gaps between its rows."""
    wide = torch.randn(*shape[:-1], shape[-1] + 3)
    return wide[..., 1 : shape[-1] + 1]


def both_ways(norm: nn.Module, *inputs: Tensor) -> None:
    with runtime.use("native"):
        x = inputs[0].detach().requires_grad_()
        y = norm(x, *inputs[1:])
        y = y[0] if isinstance(y, tuple) else y
        y.backward(torch.randn_like(y))


def batch() -> None:
    norm = layer("batch_norm", "BatchNorm", 5)
    for x in (
        torch.randn(3, 5, 7),
        strided(3, 5, 7),
        torch.randn(2, 5, 3, 3).to(memory_format=torch.channels_last),
        torch.randn(9, 5).half(),
    ):
        both_ways(norm, x)
    both_ways(norm.eval(), torch.randn(3, 5, 7))


def group() -> None:
    norm = layer("group_norm", "GroupNorm", 2, 6)
    for x in (
        torch.randn(3, 6, 5),
        strided(3, 6, 5),
        torch.randn(2, 6, 3, 3).to(memory_format=torch.channels_last),
    ):
        both_ways(norm, x)


def rows() -> None:
    norm = layer("layer_norm", "LayerNorm", 33)
    for x in (torch.randn(7, 33), strided(7, 33), torch.randn(7, 33).bfloat16()):
        both_ways(norm, x)
    rounded = layer("llm_norm", "LlamaRMSNorm", 33)
    for x in (strided(7, 33), torch.randn(7, 33).half()):
        both_ways(rounded, x)


def graphs() -> None:
    norm = layer("graph_norm", "GraphNorm", 3)
    for labels in ([0, 0, 0, 0, 0, 0], [5, 0, 5, 1, 0, 3], [0, 1, 2, 3, 4, 5], [9, 9, 9, 9, 9, 9]):
        both_ways(norm, torch.randn(6, 3), torch.tensor(labels))
    norm = layer("adjacency_norm", "AdjacencyNorm", 3)
    for ends in ([[0, 5, 5, 5], [5, 0, 0, 5]], [[1], [1]]):
        both_ways(norm, torch.randn(6, 3), torch.tensor(ends))


def rows_of_graphs() -> None:
    norm = layer("pair_norm", "PairNormSI")
    for labels in ([0, 0, 0, 0, 0, 0], [5, 0, 5, 1, 0, 3], [9, 9, 9, 9, 9, 9]):
        both_ways(norm, torch.randn(6, 5), torch.tensor(labels))


def scans() -> None:
    """More lines than are scanned at once, windows longer than the axis, pasts, one position."""
    for width in (1, 2, 7, 40):
        norm = layer("local_context_norm", "LocalContextNorm", 4, 2, width)
        both_ways(norm, strided(2, 4, 9, 21))
    norm = layer("cumulative_layer_norm", "CumulativeLayerNorm", 8)
    for x in (torch.randn(19, 8, 5), strided(9, 8, 1), torch.randn(40, 8, 99)):
        both_ways(norm, x)


def scans_within_segments() -> None:
    """Segments of nothing, of one position, of all; of cells and of elements, windows and pasts."""
    module = metanorm.loads("""
norm Near(w: int) {
  input  x[N, T, C], trust[N, T], o: offsets[T]
  let    m = moments(x over C, T: window(w) within o)
  output (x - m.mean) / sqrt(m.var + 1) + mean(x over T: causal(w) within o weight trust) }
""")
    for width in (1, 4, 50):
        for ends in ([19], [0, 1, 1, 2, 19], [18, 18, 19, 19], [*range(1, 20)]):
            offsets = torch.tensor([0, *ends])
            both_ways(module.Near(width), strided(18, 19, 3), torch.rand(18, 19), offsets)
            norm = layer("packed_norm", "PackedCumulativeLayerNorm", 5)
            both_ways(norm, strided(19, 5), offsets)


def runs_of_an_axis() -> None:
    """Runs of one position and of all but one, values of them before and behind the loops."""
    for planes, ratio in ((2, 0.5), (9, 0.2), (40, 0.97)):
        norm = layer("ibn_norm", "IBNNorm", planes, ratio)
        for x in (
            torch.randn(3, planes, 5),
            strided(2, planes, 9),
            torch.randn(2, planes, 3, 3).to(memory_format=torch.channels_last),
        ):
            both_ways(norm, x)
        both_ways(norm.eval(), torch.randn(3, planes, 5))
    module = metanorm.loads("""
norm Cut {
  input  x[N, C, *S]
  axis   C = (A = 1) + (B = size(C) / 2) + Z
  param  gain[Z] = 1
  output concat(x[A], x[B] / (1 + l2(x[B] over B)), gain * x[Z] over C) }
""")
    both_ways(module.Cut(7), torch.randn(4, 7, 33))


def scans_of_elements() -> None:
    """Tiles of one strip and of several, lines across rows and along them, one channel."""
    for size in (1, 4, 9, 40):
        norm = layer("local_response_norm", "LocalResponseNorm", size)
        for x in (
            torch.randn(2, 5, 33),
            strided(3, 7, 5),
            torch.randn(2, 19, 3, 7).to(memory_format=torch.channels_last),
            torch.randn(1, 300, 50).bfloat16(),
            torch.randn(2, 1, 3),
        ):
            both_ways(norm, x)


def tables() -> None:
    for file, cls, arguments, shape in (
        ("hetero_norm", "HeteroLayerNorm", (5, 10), (6, 5)),
        ("hetero_norm", "HeteroBatchNorm", (5, 10), (6, 5)),
        ("conditional_norm", "ConditionalInstanceNorm", (10, 3), (6, 3, 5)),
    ):
        norm = layer(file, cls, *arguments)
        for labels in ([0, 0, 0, 0, 0, 0], [5, 0, 5, 1, 0, 3], [9, 9, 9, 9, 9, 9]):
            both_ways(norm, torch.randn(shape), torch.tensor(labels))


SCENES: dict[str, Callable[[], None]] = {
    "batch": batch, "group": group, "rows": rows, "graphs": graphs,
    "rows of graphs": rows_of_graphs, "scans": scans,
    "scans within segments": scans_within_segments, "runs of an axis": runs_of_an_axis,
    "scans of elements": scans_of_elements, "tables": tables,
}  # fmt: skip


def recorded(scene: str) -> Recorder:
    torch.manual_seed(0)
    with recording() as recorder:
        SCENES[scene]()
    assert sum(len(kernel.calls) for kernel in recorder.kernels.values()) > 1
    return recorder


def demand_clean(
    recorder: Recorder, place: Path, sanitizers: Sequence[Sequence[str]] = (MEMORY, RACES)
) -> None:
    for number, kernel in enumerate(recorder.kernels.values()):
        for flags in sanitizers if kernel.calls else ():
            said = problems(kernel, flags, place / f"{number}{flags[0][-6:]}")
            assert not said, (kernel.defines, said)


def test_kernels_touch_no_memory_but_their_own(tmp_path: Path) -> None:
    demand_clean(recorded("rows"), tmp_path, (MEMORY,))


@pytest.mark.extended
@pytest.mark.parametrize("scene", SCENES)
def test_nor_do_those_of_other_layouts_and_their_threads_race(scene: str, tmp_path: Path) -> None:
    demand_clean(recorded(scene), tmp_path)


# ---- a sanitizer that finds nothing has to find what is planted

PLANTED: dict[str, tuple[tuple[str, ...], str, str, str, str]] = {
    "a read beyond a row": (
        MEMORY, "metanorm/rows.h", "return (const real *)t->data + first;",
        "return (const real *)t->data + first + 1;", "heap-buffer-overflow",
    ),
    "a write beyond a row": (
        MEMORY, "metanorm/rows.h", "return direct(t) ? (real *)t->data + offset(t, at) : buffer;",
        "return direct(t) ? (real *)t->data + offset(t, at) + 1 : buffer;", "WRITE of size",
    ),
    "a label that nobody looks at": (
        MEMORY, "metanorm/groups.h", "if (labels[i] < 0 || labels[i] >= count) {", "if (0) {",
        "use-after-poison",
    ),
    "a segment that ends behind the axis": (
        MEMORY, "metanorm/scan.h",
        "while (end < l->length && l->labels[end] == l->labels[begin]) end++;",
        "while (end <= l->length && l->labels[end] == l->labels[begin]) end++;",
        "heap-buffer-overflow",
    ),
    "a length that overflows": (
        MEMORY, "metanorm/schedule.h", "d->workers = total <= SERIAL ? 1 : max(threads, 1);",
        "d->workers = total * INT64_MAX <= SERIAL ? 1 : max(threads, 1);",
        "signed integer overflow",
    ),
    "cells that workers share": (
        RACES, "metanorm/schedule.h", "work_on_islands(k, values, s, &d, a + w * count, cells, w);",
        "work_on_islands(k, values, s, &d, a, cells, w);", "data race",
    ),
}  # fmt: skip


QUICK = "a read beyond a row"


@pytest.mark.parametrize("planted", PLANTED)
def test_there_is_a_place_to_plant_it(planted: str) -> None:
    """For every commit: a header that is written anew takes its line with it."""
    _, header, right, *_ = PLANTED[planted]
    assert (HEADERS / header).read_text().count(right) == 1


@pytest.mark.parametrize(
    "planted",
    [QUICK, *(pytest.param(p, marks=pytest.mark.extended) for p in PLANTED if p != QUICK)],
)
def test_what_is_planted_is_found(planted: str, tmp_path: Path) -> None:
    flags, header, right, wrong, said = PLANTED[planted]
    shutil.copytree(HEADERS, tmp_path / "headers")
    text = (tmp_path / "headers" / header).read_text()
    (tmp_path / "headers" / header).write_text(text.replace(right, wrong))
    torch.manual_seed(0)
    with recording() as recorder:
        CALLS.get(planted, some_rows)()
    kernel = list(recorder.kernels.values())[-1]
    assert said in problems(kernel, flags, tmp_path / "build", tmp_path / "headers")


def some_rows() -> None:
    with runtime.use("native"):
        layer("layer_norm", "LayerNorm", 16)(torch.randn(64, 16))


def packed_rows() -> None:
    with runtime.use("native"):
        norm = layer("packed_norm", "PackedCumulativeLayerNorm", 16)
        norm(torch.randn(64, 16), torch.tensor([0, 9, 64]))


def broken_labels() -> None:
    """Labels that somebody writes to between the two directions."""
    norm, labels = layer("graph_norm", "GraphNorm", 3), torch.tensor([0, 1, 1, 2])
    x = torch.randn(4, 3, requires_grad=True)
    with runtime.use("native"):
        y = norm(x, labels)
        labels.numpy()[3] = 8
        with pytest.raises(RuntimeError, match="changed in place"):
            y.sum().backward()


CALLS: dict[str, Callable[[], None]] = {  # in which it shows, if not in any
    "a label that nobody looks at": broken_labels,
    "a segment that ends behind the axis": packed_rows,
}


# ---- the whole library


@pytest.mark.extended
@pytest.mark.parametrize("spec", sorted((ROOT / "specs").glob("*.norm")), ids=lambda p: p.stem)
def test_the_kernels_of_the_library(spec: Path, tmp_path: Path) -> None:
    """Whatever `verify` calls kernels with: modes, switches, lengths, dtypes, layouts."""
    sources = load([str(spec)])
    module = metanorm.load(spec)
    with recording() as recorder, runtime.use("native"):
        for norm in frontend.check(sources.sources, sources.roots).norms[sources.roots[0]]:
            for setting in settings(norm.program) if has_kernels(module, "cpu") else ():
                with suppress(NotServed, NoExample):
                    compare(norm.program, module, setting)
    demand_clean(recorder, tmp_path)
