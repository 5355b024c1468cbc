"""Norms in `torch.export`: any length that an example did not fix, saved and loaded again."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from calls import agree, calls, saved
from conftest import PROGRAMS
from tiers import modes, tiered
from torch.export import Dim, export

import metanorm
from metanorm import runtime

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch's own compiler warns of is not ours

ACTIVATIONS = [name for name, program in PROGRAMS.items() if program.target == "activation"]
# Norms that have, between them, every construct: running statistics, cut axes, windows, the past,
# groups, edges, given matrices, lookups, several outputs, lengths in equations, a sorted axis, the
# past within segments, quantiles.
QUICK = [
    "BatchNorm", "GroupNorm", "LocalContextNorm", "CumulativeLayerNorm", "GraphNorm",
    "AdjacencyNorm", "AdaLayerNormZero", "GradientWeightedNorm", "SparseSwitchNorm",
    "PackedCumulativeLayerNorm", "ReturnNorm",
]  # fmt: skip
WAYS = [(name, training) for name in ACTIVATIONS for training in modes(PROGRAMS[name])]


@pytest.mark.parametrize(
    "way",
    tiered(WAYS, [way for way in WAYS if way[0] in QUICK]),
    ids=lambda way: f"{way[0]} {'train' if way[1] else 'eval'}",
)
def test_programs_serve_other_lengths(way: tuple[str, bool], library: ModuleType) -> None:
    name, training = way
    with runtime.use("torch"):
        example = calls(PROGRAMS[name], library, training)
        before = {k: v.clone() for k, v in example.module.state_dict().items()}
        program = export(example.module, (), example.first, dynamic_shapes=example.dynamic)
        for key, value in example.module.state_dict().items():
            assert torch.equal(value, before[key]), f"exporting has changed {key}"
        loaded = saved(program).module()
        for arguments in (example.second, example.first):
            agree(loaded, example.module, arguments, rtol=1e-9, atol=1e-9)


def test_windows_larger_than_an_image(library: ModuleType) -> None:
    """An example that is wider than the window serves images that are not, and the reverse."""
    norm = library.LocalContextNorm(4, 2, 5).eval()
    size = {d: Dim(f"d{d}", min=2, max=64) for d in (0, 2, 3)}
    program = export(norm, (torch.randn(2, 4, 9, 3),), dynamic_shapes=(size,)).module()
    for shape in ((3, 4, 2, 17), (2, 4, 9, 3), (5, 4, 33, 2)):
        x = torch.randn(shape)
        torch.testing.assert_close(program(x), norm(x), rtol=1e-4, atol=1e-4)


def test_pools_within_segments_that_are_shorter_or_longer_than_the_window() -> None:
    norm = metanorm.loads(
        "norm Packed { input x[T, C], cu: offsets[T] "
        "output mean(x over T: window(5) within cu) + max(x over T: causal(3) within cu)"
        " + var(x over C, T: causal within cu) }"
    ).Packed()
    length = Dim("length", min=2, max=1 << 20)
    segments = Dim("segments", min=2, max=1 << 20)
    example = (torch.randn(6, 3).double(), torch.tensor([0, 1, 6]))
    shapes = ({0: length}, {0: segments})
    with runtime.use("torch"):
        program = export(norm, example, dynamic_shapes=shapes).module()
        for offsets in ([0, 1, 6], [0, 2, 2, 3], [0, 11, 18, 40, 41], [0, 300]):
            x = torch.randn(offsets[-1], 3).double()
            expected = norm(x, torch.tensor(offsets))
            torch.testing.assert_close(program(x, torch.tensor(offsets)), expected)


def test_gradients_of_pasts_within_segments_take_as_many_steps_for_any_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in a program that has the backward pass in it: a future is one shorter than a past."""
    x = torch.randn(9, 2, dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 4])
    past = runtime.within(runtime.Causal(), runtime.Groups(labels, 5, 9))
    largest = past.largest(x, 0)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(past.largest(x, 0), largest)
    same_segment = labels[:, None] == labels
    torch.testing.assert_close(past.total(x, 0), same_segment.tril().double() @ x)
    torch.testing.assert_close(past.transposed(x, 0), same_segment.triu().double() @ x)


def test_kernels_are_no_part_of_a_program(library: ModuleType) -> None:
    program = export(library.LayerNorm(8), (torch.randn(2, 8),))
    operations = {str(n.target) for n in program.graph.nodes if n.op == "call_function"}
    assert "aten.var_mean.correction" in operations
    assert all(name.startswith(("aten.", "<built-in function getitem")) for name in operations)
