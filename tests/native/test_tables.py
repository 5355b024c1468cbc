"""Rows of tables that an index chooses: references in plain torch, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from layers import F64, agree, everything, kernels_counted, use, weighted
from torch import Tensor, nn
from torch.nn.functional import batch_norm, layer_norm

import metanorm

Reference = Callable[[Any, Tensor, Tensor], Tensor]


def to_rows(actual: Tensor, x: Tensor) -> Tensor:
    """Values per row, or per row and channel, beside all that x has."""
    return actual.reshape(*actual.shape, *[1] * (x.dim() - actual.dim()))


def of_samples(m: Any, x: Tensor, label: Tensor) -> Tensor:
    y = batch_norm(x, None, None, training=True)
    return to_rows(m.gamma[label], x) * y + to_rows(m.beta[label], x)


def of_elements(m: Any, x: Tensor, label: Tensor) -> Tensor:
    return m.gamma[label] * layer_norm(x, x.shape[-1:]) + m.beta[label]


def of_a_computed_table(m: Any, x: Tensor, label: Tensor) -> Tensor:
    return x * to_rows(m.gamma.softmax(0)[label] + m.gamma.exp()[label] ** 2, x)


def pooled_again(m: Any, x: Tensor, label: Tensor) -> Tensor:
    chosen = m.gamma[label]
    return x * to_rows(chosen / (1 + chosen.square().mean(0)), x) - chosen.amax()


def beside_groups(m: Any, x: Tensor, label: Tensor) -> Tensor:
    means = {int(k): x[label == k].mean(0) for k in label}
    return (x - torch.stack([means[int(k)] for k in label])) * m.gamma[label]


def of_groups(m: Any, x: Tensor, label: Tensor) -> Tensor:
    """The rows of a group are alike, and so is their mean."""
    return x * (m.gamma[label] / m.scale[label][:, None].abs())


def beside_rows(m: Any, x: Tensor, label: Tensor) -> Tensor:
    mean_squares = x.flatten(1).square().mean(1)
    return x * to_rows(mean_squares * m.scale[label] / (1 + mean_squares), x) + to_rows(
        m.gamma[label], x
    )


def of_channels(m: Any, x: Tensor, label: Tensor) -> Tensor:
    gain = m.scale[label]
    return x * gain[:, None] + x.mean(-1, keepdim=True) * gain.square()[:, None]


BOTH = "param gamma[K, C] = 1, beta[K, C] = 0"
SAMPLES = "x[N, C = num_c, *S], label: index[N] of K = num_k"
ROWS = "x[N, C = num_c], label: index[N] of K = num_k"
SHAPES: dict[str, tuple[int, ...]] = {
    SAMPLES: (9, 3, 4, 2), ROWS: (9, 5), "x[N, C, T], label: index[C] of K = num_k": (2, 9, 4),
}  # fmt: skip
NORMS: dict[str, tuple[str, str, Reference]] = {
    "of samples": (
        SAMPLES,
        f"{BOTH} let z = normalize(x over N, *S) output gamma[label] * z + beta[label]",
        of_samples,
    ),
    "of elements": (
        ROWS, f"{BOTH} let z = normalize(x over C) output gamma[label] * z + beta[label]",
        of_elements,
    ),
    "of a computed table": (
        SAMPLES,
        """param gamma[K, C] = 1 let share = softmax(gamma over K) let e = exp(gamma)
           output x * (share[label] + e[label]^2)""",
        of_a_computed_table,
    ),
    "pooled again": (
        SAMPLES,
        """param gamma[K, C] = 1 let g = gamma[label]
           output x * (g / (1 + mean(g^2 over N))) - max(g over N, C)""",
        pooled_again,
    ),
    "beside groups": (
        ROWS, "param gamma[K, C] = 1 output (x - mean(x over N: label)) * gamma[label]",
        beside_groups,
    ),
    "of groups": (
        ROWS,
        """param gamma[K, C] = 1, scale[K] = 1
           output x * (mean(gamma[label] over N: label) / rms(scale[label] over N: label))""",
        of_groups,
    ),
    "beside rows": (
        SAMPLES,
        """param gamma[K, C] = 1, scale[K] = 1 let r = mean(x^2 over C, *S)
           output x * (r * scale[label] / (1 + r)) + gamma[label]""",
        beside_rows,
    ),
    "of channels": (
        "x[N, C, T], label: index[C] of K = num_k",
        "param scale[K] = 1 let g = scale[label] output x * g + mean(x over T) * g^2",
        of_channels,
    ),
}  # fmt: skip
LABELS = [2, 0, 2, 5, 0, 0, 5, 2, 2]


class Written(nn.Module):
    """A reference with the parameters of a norm."""

    def __init__(self, compute: Reference, norm: nn.Module) -> None:
        super().__init__()
        self.compute = compute
        for name, parameter in norm.named_parameters():
            self.register_parameter(name, parameter)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.compute(self, x, label)


def made(name: str, rows: int = 7) -> tuple[nn.Module, Written]:
    """A norm with random tables of so many rows, and its reference."""
    inputs, body, compute = NORMS[name]
    cls = metanorm.loads(f"norm A {{ input {inputs} {body} }}").A
    lengths = {"num_k": rows, "num_c": SHAPES[inputs][1]}
    module = cls(**{n: v for n, v in lengths.items() if n in inputs}).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.5, 1.5)
    return module, Written(compute, module)


@pytest.mark.parametrize("rows", [6, 200])
@pytest.mark.parametrize("labels", [LABELS, sorted(LABELS), [5] * 9], ids=str)
@pytest.mark.parametrize("name", NORMS)
def test_a_norm(name: str, labels: list[int], rows: int) -> None:
    """Rows that nothing chooses have a gradient of zero."""
    module, right = made(name, rows)
    x = torch.randn(SHAPES[NORMS[name][0]], dtype=F64)
    others = {"label": torch.tensor(labels)}
    with kernels_counted() as kernels:
        actual = everything("native", module, x, others, weighted)
    assert len(kernels) == 2
    agree(
        actual,
        everything("torch", right, x, others, weighted),
        atol=1e-7 if "samples" in name else 1e-9,
    )


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("name", ["of samples", "beside rows"])
def test_layouts(name: str, last: int) -> None:
    module, right = made(name)
    x = torch.randn(9, 3, 4, 2, dtype=F64).movedim(last, -1).contiguous().movedim(-1, last)
    others = {"label": torch.tensor(LABELS)}
    actual = everything("native", module, x, others, weighted)
    agree(actual, everything("torch", right, x, others, weighted), atol=1e-7)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["of elements", "beside groups"])
def test_many_rows(name: str, threads: int) -> None:
    module, right = made(name)
    x, others = torch.randn(9000, 5, dtype=F64), {"label": torch.randint(0, 7, (9000,))}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        actual = everything("native", module, x, others, weighted)
        again = everything("native", module, x, others, weighted)
        agree(actual, everything("torch", right, x, others, weighted), atol=1e-6)
        assert all(torch.equal(actual[key], again[key]) for key in actual)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    """Tables in the dtype of the data."""
    module, right = made("of elements")
    x, label = torch.randn(9, 5).to(dtype), torch.tensor(LABELS)
    with use("native"):
        y = module.to(dtype)(x, label)
    assert y.dtype == dtype
    wide = right.double()(x.double(), label)
    torch.testing.assert_close(y.double(), wide, rtol=0, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("label", [-1, 7, 1 << 40])
@pytest.mark.parametrize("name", ["of samples", "of elements", "beside groups"])
def test_labels_that_no_table_has(name: str, label: int) -> None:
    """The error is that of torch, in the first call and when a plan is at hand."""
    module, _ = made(name)
    x, good = torch.randn(SHAPES[NORMS[name][0]], dtype=F64), torch.tensor(LABELS)
    said = set()
    for target in ("torch", "auto"):
        with use(target):  # type: ignore[arg-type]
            for _ in range(2):
                with pytest.raises(Exception) as caught:  # type: ignore[arg-type]
                    module(x, torch.tensor([label, *LABELS[1:]]))
                said.add((caught.type, str(caught.value)))
                module(x, good), module(x, good)
    assert len(said) == 1


def test_labels_that_are_changed_after_the_call() -> None:
    module, _ = made("of elements")
    x, label = torch.randn(9, 5, dtype=F64, requires_grad=True), torch.tensor(LABELS)
    with use("native"):
        y = module(x, label)
        label.numpy()[3] = 1 << 40  # past what autograd sees
        with pytest.raises(RuntimeError, match="changed in place"):
            y.sum().backward()  # type: ignore[no-untyped-call]


def test_no_rows() -> None:
    module, _ = made("of elements")
    assert module(torch.zeros(0, 5, dtype=F64), torch.zeros(0, dtype=torch.int64)).shape == (0, 5)
