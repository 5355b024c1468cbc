"""Groups of rows: whatever an index says, kernels do what the torch target does."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from layers import F64, agree, everything, kernels_counted, use, weighted
from torch import Tensor, nn

import metanorm

INDICES = {
    "sorted": [0, 0, 0, 1, 1, 2, 2, 2, 2],
    "unsorted": [2, 0, 1, 0, 2, 2, 1, 0, 2],
    "reversed": [2, 2, 2, 1, 1, 0, 0, 0, 0],
    "empty at the beginning": [2, 2, 2, 3, 3, 3, 3, 3, 3],
    "empty in the middle": [0, 0, 3, 3, 3, 3, 6, 6, 6],
    "empty in the middle, unsorted": [6, 0, 3, 3, 6, 3, 0, 6, 0],
    "one group": [0] * 9,
    "the last of many": [4] * 9,
    "rows alone": list(range(9)),
    "one row": [0],
}
every_norm = pytest.mark.parametrize("name", ["GraphNorm", "PairNorm"])


def norm(name: str, library: ModuleType) -> nn.Module:
    module: nn.Module = library.GraphNorm(5) if name == "GraphNorm" else library.PairNorm()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.5, 1.5)
    return module.double()


@every_norm
@pytest.mark.parametrize("labels", INDICES)
@pytest.mark.parametrize("more", [None, 0, 1, 3])
def test_indices(name: str, labels: str, more: int | None, library: ModuleType) -> None:
    """Without the number of groups, with it, and with groups behind the last that is used."""
    batch = torch.tensor(INDICES[labels])
    others: dict[str, object] = {"batch": batch}
    if more is not None:
        others["batch_size"] = int(batch.max()) + 1 + more
    module, x = norm(name, library), torch.randn(len(batch), 5, dtype=F64)
    agree(
        everything("native", module, x, others, weighted),
        everything("torch", module, x, others, weighted),
    )


@every_norm
@pytest.mark.parametrize("others", [{}, {"batch": None}, {"batch_size": 4}], ids=str)
def test_no_index(name: str, others: dict[str, object], library: ModuleType) -> None:
    module, x = norm(name, library), torch.randn(9, 5, dtype=F64)
    agree(
        everything("native", module, x, others, weighted),
        everything("torch", module, x, others, weighted),
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("order", ["sorted", "unsorted"])
def test_many_groups_of_odd_sizes(threads: int, order: str, library: ModuleType) -> None:
    """More than one thread works on these; blocks end between groups."""
    batch = torch.randint(0, 300, (4000,)).square() % 257
    batch = batch.sort().values if order == "sorted" else batch
    x = torch.randn(len(batch), 33, dtype=F64)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        module = library.GraphNorm(33).double()
        agree(
            everything("native", module, x, {"batch": batch}, weighted),
            everything("torch", module, x, {"batch": batch}, weighted),
        )
    finally:
        torch.set_num_threads(before)


def complaint(module: nn.Module, target: str, *args: object) -> tuple[type[Exception], str]:
    with use(target), pytest.raises(Exception) as caught:  # type: ignore[arg-type]
        module(*args)
    return caught.type, str(caught.value)


@every_norm
@pytest.mark.parametrize(
    ("labels", "size"),
    [([0, 1, 3], 3), ([0, -1, 2], None), ([0, -1, 2], 3), ([-1, -1, -1], None), ([0, 0, 9], 0),
     ([0, 0, 1 << 40], 2)],
)  # fmt: skip
def test_labels_out_of_range(
    name: str, labels: list[int], size: int | None, library: ModuleType
) -> None:
    """They would have kernels write where nothing of theirs is; the error is that of torch."""
    module, x, batch = norm(name, library), torch.randn(3, 5, dtype=F64), torch.tensor(labels)
    assert complaint(module, "auto", x, batch, size) == complaint(module, "torch", x, batch, size)


@every_norm
@pytest.mark.parametrize(
    "batch",
    [torch.tensor([0, 1]), torch.tensor([[0, 1, 1]]), torch.tensor([0.0, 1.0, 1.0])],
    ids=str,
)
def test_indices_that_are_none(name: str, batch: Tensor, library: ModuleType) -> None:
    module, x = norm(name, library), torch.randn(3, 5, dtype=F64)
    assert complaint(module, "auto", x, batch) == complaint(module, "torch", x, batch)


def test_an_index_of_32_bits(library: ModuleType) -> None:
    module, x = norm("GraphNorm", library), torch.randn(9, 5, dtype=F64)
    batch = torch.tensor(INDICES["unsorted"], dtype=torch.int32)
    with kernels_counted() as kernels:
        actual = everything("auto", module, x, {"batch": batch}, weighted)
    assert not kernels
    agree(actual, everything("torch", module, x, {"batch": batch}, weighted))


def test_an_index_with_steps(library: ModuleType) -> None:
    module, x = norm("GraphNorm", library), torch.randn(9, 5, dtype=F64)
    batch = torch.stack([torch.tensor(INDICES["unsorted"]), torch.full((9,), 1 << 40)], 1)[:, 0]
    for one in (batch, torch.tensor(1).expand(9)):
        agree(
            everything("native", module, x, {"batch": one}, weighted),
            everything("torch", module, x, {"batch": one}, weighted),
        )


@pytest.mark.parametrize("beside", ["", ", T", ", C", ", T, C", ", T, U"])
@pytest.mark.parametrize("last", [0, 1, -1], ids=["N lies last", "T lies last", "C lies last"])
def test_groups_beside_other_axes_that_are_pooled(beside: str, last: int) -> None:
    """Whichever axis rows lie along, and whether the others have loops of their own."""
    norms = metanorm.loads(f"""
    norm A {{
      input  x[N, T, U, C], w[N, T, U, C] = 1, batch: index[N]
      let    m = mean(x over N: batch{beside})
      output (x - m) * rsqrt(var(x over N: batch{beside} weight w) + 0.1)
    }}
    """)
    x = torch.randn(9, 3, 2, 4, dtype=F64).movedim(last, -1).contiguous().movedim(-1, last)
    w = torch.rand_like(x) + 0.5
    others = {"w": w, "batch": torch.tensor(INDICES["empty in the middle, unsorted"])}
    with kernels_counted() as kernels:
        actual = everything("native", norms.A(), x, others, weighted)
    assert len(kernels) == 2
    agree(actual, everything("torch", norms.A(), x, others, weighted))
