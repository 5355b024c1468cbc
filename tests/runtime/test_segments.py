"""Sums over sorted labels by torch-scatter, where that is installed: `make test-scatter`.

What needs it is left out elsewhere; what does not, such as what is said without it, runs always.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest
import torch
from commands import in_this
from conftest import LIBRARY, PROGRAMS
from torch import Tensor

from metanorm import runtime
from metanorm.driver import compile_specs
from metanorm.ir.program import Program
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.runtime import segments, torch_scatter
from metanorm.runtime.groups import Groups
from metanorm.runtime.segments import segments_of
from metanorm.targets.live import module_from_files
from metanorm.verify.cases import quick_settings
from metanorm.verify.compare import compare

F64 = torch.float64
needs_torch_scatter = pytest.mark.skipif(
    bool(torch_scatter.problem()), reason="torch-scatter is not installed"
)
SORTED = torch.tensor([0, 0, 1, 1, 1, 3])  # nobody is in the third group, nor in the last
GROUPED = [
    name for name, program in PROGRAMS.items()
    if any(i.sort == "edges" or (i.sort == "index" and i.table is None) for i in program.inputs)
]  # fmt: skip


@pytest.fixture
def by_torch_scatter() -> Iterator[None]:
    with runtime.use("torch", "torch-scatter"):
        yield


def groups(labels: Tensor = SORTED) -> Groups:
    return Groups(labels, 5, len(labels))


def dense(labels: Tensor = SORTED) -> Tensor:
    return torch.nn.functional.one_hot(labels, 5).to(F64)


# ---- who adds


def test_sums_are_those_of_torch_where_nobody_asks() -> None:
    assert groups().segments is None


def test_what_is_asked_for_and_cannot_be_done_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_scatter, "problem", lambda: "torch-scatter is not installed")
    with pytest.raises(RuntimeError, match=r"not installed: pip install 'metanorm\[scatter\]'"):
        runtime.use("torch", "torch-scatter")
    with pytest.raises(ValueError, match="sums are 'auto', 'torch' or 'torch-scatter', got 'me'"):
        runtime.use("torch", "me")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("problem", "cuda", "said"),
    (
        ("", True, ("torch-scatter", "")),
        ("", False, ("torch", "torch-scatter was built without CUDA")),
        ("torch-scatter is not installed", False, ("torch", "torch-scatter is not installed")),
    ),
)
def test_the_version_says_who_adds(
    problem: str, cuda: bool, said: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_scatter, "problem", lambda: problem)
    monkeypatch.setattr(torch_scatter, "on_cuda", lambda: cuda)
    assert torch_scatter.who_adds() == said
    document = json.loads(in_this("version", "--json").stdout)
    assert (document["sums"], document["sums_why"]) == said
    line = in_this("version").stdout.splitlines()[-2]
    assert line == "sums over graphs on a GPU by " + ": ".join(word for word in said if word)


def test_it_is_worth_it_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_scatter, "on_cuda", lambda: True)
    assert segments.prefers_torch_scatter(torch.device("cuda", 0))
    assert not segments.prefers_torch_scatter(torch.device("cpu"))


@needs_torch_scatter
def test_a_choice_holds_until_the_end_and_in_choices_within() -> None:
    with runtime.use("torch", "torch-scatter"):
        with runtime.use("auto"):
            assert groups().segments is not None
        with runtime.use("torch", "torch"):
            assert groups().segments is None
        assert groups().segments is not None
    assert groups().segments is None


@needs_torch_scatter
@pytest.mark.usefixtures("by_torch_scatter")
def test_labels_that_are_not_sorted_are_left_to_torch() -> None:
    assert groups(SORTED.flip(0)).segments is None
    assert groups(SORTED[:0]).segments is None
    labels = SORTED.clone()
    assert groups(labels).segments is not None
    labels[0] = 3  # which is noticed, though the tensor was looked at before
    assert groups(labels).segments is None
    with torch.inference_mode():
        assert groups(SORTED.clone()).segments is not None  # has no version to go by


@needs_torch_scatter
@pytest.mark.usefixtures("by_torch_scatter")
def test_the_same_labels_are_looked_at_once() -> None:
    labels = SORTED.clone()
    first, again = segments_of(labels, 5), segments_of(labels, 5)
    wider = segments_of(labels, 7)
    assert first is not None and again is not None and wider is not None
    assert first.pointers is again.pointers and first.pointers.tolist() == [0, 2, 5, 5, 6, 6]
    assert wider.pointers.tolist() == [0, 2, 5, 5, 6, 6, 6, 6]


# ---- sums


@needs_torch_scatter
@pytest.mark.usefixtures("by_torch_scatter")
@pytest.mark.parametrize("dim", (0, 1, -1))
@pytest.mark.parametrize("kind", (torch.int64, torch.int32))
def test_totals_and_their_adjoint(dim: int, kind: torch.dtype) -> None:
    shape = [2, 3, 4]
    shape[dim] = 6
    x, pools = torch.randn(shape, dtype=F64), groups(SORTED.to(kind))
    total = pools.total(x, dim)
    by_hand = torch.tensordot(x.movedim(dim, -1), dense(), 1).movedim(-1, dim)
    torch.testing.assert_close(total, by_hand)
    torch.testing.assert_close(pools.spread(total, dim), total.index_select(dim, SORTED))


@needs_torch_scatter
@pytest.mark.usefixtures("by_torch_scatter")
def test_derivatives_to_the_second_order() -> None:
    pools = groups()
    x = torch.randn(6, 2, dtype=F64, requires_grad=True)
    value = torch.randn(5, 2, dtype=F64, requires_grad=True)
    for function, leaf in (
        (lambda x: pools.total(x, 0).square(), x),
        (lambda v: pools.spread(v, 0).square(), value),
        (lambda x: torch.stack(pools.moments(x, 0)), x),
    ):
        assert torch.autograd.gradcheck(function, (leaf,), check_batched_grad=True)
        assert torch.autograd.gradgradcheck(function, (leaf,))


@needs_torch_scatter
@pytest.mark.usefixtures("by_torch_scatter")
def test_transforms_go_by_torch() -> None:
    def mean(x: Tensor) -> Tensor:
        return groups().mean(x, 0)

    x = torch.randn(6, 2, dtype=F64)
    by_hand = (dense() / dense().sum(0).clamp(min=1)).T
    torch.testing.assert_close(torch.func.jacrev(mean)(x)[:, 0, :, 0], by_hand)
    torch.testing.assert_close(torch.func.jacfwd(mean)(x)[:, 0, :, 0], by_hand)
    torch.testing.assert_close(torch.vmap(mean)(x.expand(3, 6, 2))[1], by_hand @ x)


@needs_torch_scatter
@pytest.mark.usefixtures("by_torch_scatter")
def test_sums_of_single_precision_lose_no_digits() -> None:
    """A million rows: added up in float32 the fourth digit would be wrong."""
    x = torch.full((1_000_000, 1), 0.1)
    labels = torch.zeros(1_000_000, dtype=torch.int64)
    total = Groups(labels, 1, len(labels)).total(x, 0)
    assert math.isclose(float(total), 1e6 * float(torch.tensor(0.1)), rel_tol=1e-7)


@needs_torch_scatter
@pytest.mark.usefixtures("by_torch_scatter")
def test_saved_tensors_that_come_back_changed_are_refused() -> None:
    x = torch.randn(6, 2, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t[:-1]):
        total = groups().total(x, 0)
    with pytest.raises(RuntimeError, match="came back"):
        total.sum().backward()


# ---- norms


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return dict(compile_specs(LIBRARY.sources, LIBRARY.roots, Options(target="torch")).files)


@needs_torch_scatter
@pytest.mark.usefixtures("by_torch_scatter")
@pytest.mark.parametrize("name", GROUPED)
def test_norms_agree_with_the_oracle(
    name: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of inputs by an index that is sorted, in a few settings; sums are seen to be taken."""
    program = PROGRAMS[name]
    (root,) = (r for r in LIBRARY.roots if f"class {name}(" in files[f"{module_name(r)}.py"])
    module = module_from_files(files, module_name(root))
    monkeypatch.setattr(torch, "randint", _sorted(torch.randint))
    seen: list[Tensor] = []
    monkeypatch.setattr(segments, "_segment_sums", _seen(segments._segment_sums, seen))
    for setting in quick_settings(program):
        actual = compare(program, module, setting)
        assert not actual.bad, (setting.name, actual)
    assert seen or _unsorted(program)


def _sorted(randint):  # type: ignore[no-untyped-def]
    return lambda *arguments, **named: randint(*arguments, **named).sort().values


def _seen(function, seen):  # type: ignore[no-untyped-def]
    def added(x, *rest):  # type: ignore[no-untyped-def]
        seen.append(x)
        return function(x, *rest)

    return added


def _unsorted(program: Program) -> bool:
    """Whether labels are those of edges, which a norm takes as they come, or none are summed."""
    return program.name in ("AdjacencyNorm", "GraphSizeNorm")
