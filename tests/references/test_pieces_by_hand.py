"""Runs of positions of an axis, by hand in plain torch: slices, and `torch.cat`."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from comparing import assert_close_with_gradients
from torch import Tensor, nn

from metanorm import load, loads, runtime

F64 = torch.float64
SPEC = """
norm Parts(first: int = 2, eps = 1e-5) {
  input  x[N, *S, C = c]
  axis   C = (A = first) + (M = size(C) / 4) + Z
  param  gain[A] = 1, offset[Z] = 0
  let    a = gain * x[A] / (rms(x[A] over A) + eps)
  output concat(a, normalize(x[M] over *S, M), x[Z] + offset over C) }
norm Gated {
  input  x[N, C]
  axis   C = (A = size(C) / 2) + B
  output concat(x[A] * sigmoid(x[B][B -> A]), x[B] over C), a = x[A] }
norm Partial(share = 0.3, eps = 1e-6) {
  input  x[*B, D]
  axis   D = (P = share * size(D)) + Q
  output x * rsqrt(mean(x[P]^2 over P) + eps) }
norm Begin {
  input  x[N, T, C]
  axis   T = (Begin = 2) + End
  output x - mean(x[Begin] over Begin) }
norm Places(last: int = 2) {
  input  x[N, C, *S]
  axis   C = A + (M = size(C) / 3)
  axis   C = P + (Q = 1) + (R = last)
  axis   C = (F = 1) + G + (H = last)
  let    y = concat(mean(x[A] over A) * x[A], x[M] over C)
  let    z = concat(2 * x[P], mean(x[P] over P) * x[Q], x[R] - mean(x[Q] over Q) over C)
  output concat(x[F], x[G] - mean(x[G] over G), x[H] over C) + y + z }
"""


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(SPEC)


@pytest.fixture(params=["torch", "native"])
def route(request: pytest.FixtureRequest) -> Iterator[str]:
    """All calls of the test go this way."""
    with runtime.use(request.param):
        yield request.param


def data(*shape: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(*shape, dtype=F64, requires_grad=True)


@pytest.mark.parametrize("shape", [(3, 9), (3, 2, 9), (2, 3, 2, 11)])
@pytest.mark.parametrize("first", [0, 1, 3])
def test_each_run_has_a_norm_of_its_own(
    shape: tuple[int, ...], first: int, norms: ModuleType, route: str
) -> None:
    norm = norms.Parts(shape[-1], first=first).double()
    nn.init.normal_(norm.gain)
    nn.init.normal_(norm.offset)
    assert (norm.gain.shape, norm.offset.shape) == ((first,), (shape[-1] - first - shape[-1] // 4,))
    x = data(*shape)
    a, m, z = x.split((first, shape[-1] // 4, shape[-1] - first - shape[-1] // 4), -1)
    dims = tuple(range(1, x.dim()))
    var, mean = torch.var_mean(m, dims, correction=0, keepdim=True)
    scaled = norm.gain * a / (a.square().mean(-1, keepdim=True).sqrt() + 1e-5) if first else a
    right = torch.cat((scaled, (m - mean) / (var + 1e-5).sqrt(), z + norm.offset), -1)
    # A parameter of no elements has no memory, of which kernels want the address.
    with runtime.use(route if first else "auto"):
        assert_close_with_gradients(norm(x), right, x, norm.offset, *([norm.gain] if first else []))


def test_halves_gate_each_other(norms: ModuleType) -> None:
    x = data(4, 6)
    a, b = x.chunk(2, 1)
    y = norms.Gated()(x)
    assert_close_with_gradients(
        y.output if hasattr(y, "output") else y[0], torch.cat((a * b.sigmoid(), b), 1), x
    )
    torch.testing.assert_close(y.a, a)
    with pytest.raises(runtime.ShapeError, match="must be equal"):
        norms.Gated()(data(4, 5))


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("length", [4, 7, 10])
def test_a_share_is_rounded_down(length: int, norms: ModuleType) -> None:
    x = data(3, length)
    head = x[:, : int(0.3 * length)]
    right = x * torch.rsqrt(head.square().mean(1, keepdim=True) + 1e-6)
    assert_close_with_gradients(norms.Partial()(x), right, x)


@pytest.mark.usefixtures("route")
def test_a_run_of_an_axis_of_any_length(norms: ModuleType) -> None:
    for length in (2, 3, 7, 3):
        x = data(3, length, 2)
        assert_close_with_gradients(norms.Begin()(x), x - x[:, :2].mean(1, keepdim=True), x)


def test_a_run_that_is_longer_than_its_axis_is_refused(norms: ModuleType) -> None:
    with pytest.raises(runtime.ShapeError, match=r"^Begin: T = 1 has no run of 2 positions$"):
        norms.Begin()(data(3, 1, 2))


def test_lengths_that_do_not_fit_are_refused_by_the_constructor(norms: ModuleType) -> None:
    for first in (-1, 8):
        with pytest.raises(runtime.ShapeError, match="Parts: C = 8 has no run"):
            norms.Parts(8, first=first)


@pytest.mark.parametrize("name", ["Gated", "Partial", "Begin"])
def test_a_graph_has_no_lengths_of_its_own(name: str, norms: ModuleType) -> None:
    norm = getattr(norms, name)()
    compiled = torch.compile(norm, backend="aot_eager", fullgraph=True, dynamic=True)
    for length in (6, 8):
        x = data(4, length, 2) if name == "Begin" else data(4, length)
        first = lambda y: y if isinstance(y, Tensor) else y[0]  # noqa: E731
        torch.testing.assert_close(first(compiled(x)), first(norm(x)))


class IBN(nn.Module):
    """The layer of the authors (ibnnet/modules.py), written anew from the paper."""

    def __init__(self, planes: int, ratio: float = 0.5) -> None:
        super().__init__()
        self.half = int(planes * ratio)
        self.instance = nn.InstanceNorm2d(self.half, affine=True)
        self.batch = nn.BatchNorm2d(planes - self.half)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.split(x, (self.half, x.shape[1] - self.half), 1)
        return torch.cat((self.instance(a.contiguous()), self.batch(b.contiguous())), 1)


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("planes, ratio", [(8, 0.5), (7, 0.5), (6, 0.25), (4, 0.9), (10, 0.7)])
def test_ibn_is_that_of_its_authors(planes: int, ratio: float) -> None:
    ours = load("specs/ibn_norm.norm").IBNNorm(planes, ratio=ratio).double()
    theirs = IBN(planes, ratio).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    state = {name.replace(".", "_"): value for name, value in theirs.state_dict().items()}
    state["num_batches_tracked"] = state.pop("batch_num_batches_tracked")
    ours.load_state_dict(state)
    for training in (True, True, False):
        x = data(5, planes, 3, 4)
        right = theirs.train(training)(x)
        dy, parameters = torch.randn_like(right), dict(theirs.named_parameters())
        wanted = torch.autograd.grad(right, (x, *parameters.values()), dy)
        learned = [getattr(ours, name.replace(".", "_")) for name in parameters]
        y = ours.train(training)(x)
        torch.testing.assert_close(y, right)
        torch.testing.assert_close(torch.autograd.grad(y, (x, *learned), dy), wanted)
    torch.testing.assert_close(ours.batch_running_var, theirs.batch.running_var)


@pytest.mark.parametrize("shape", [(2, 7), (2, 8, 3), (2, 6, 4, 3)])
@pytest.mark.parametrize("last", [2, 3])
@pytest.mark.usefixtures("route")
def test_the_run_without_a_length_may_stand_anywhere(
    norms: ModuleType, shape: tuple[int, ...], last: int
) -> None:
    x, c = torch.randn(shape, dtype=F64), shape[1]

    def mean(t: Tensor) -> Tensor:
        return t.mean(1, keepdim=True)

    a, m = x.split([c - c // 3, c // 3], 1)
    p, q, r = x.split([c - 1 - last, 1, last], 1)
    f, g, h = x.split([1, c - 1 - last, last], 1)
    expected = torch.cat([f, g - mean(g), h], 1) + torch.cat([mean(a) * a, m], 1)
    expected = expected + torch.cat([2 * p, mean(p) * q, r - q], 1)
    torch.testing.assert_close(norms.Places(last)(x), expected)


ODD = """
norm Odd(eps = 1e-5) {
  input  x[N, C, *S], keep: mask[N, *S], trust[C]
  axis   C = (A = size(C) / 2) + B
  let    a = x[A] / (l2(x[A] over A, *S where keep weight trust[A]) + eps)
  output concat(a, log(abs(x[B])) - max(x[B] over B) over C), far = mean(trust over C) }
"""


@pytest.mark.usefixtures("route")
def test_masks_weights_and_extremes_of_runs() -> None:
    """Elements that a run lacks say nothing, whatever they are."""
    x, keep = data(3, 7, 5), torch.rand(3, 5) < 0.6
    trust = torch.rand(7, dtype=F64, requires_grad=True)
    with torch.no_grad():
        x[0, 1, 2], x[1, 2] = 0, 0  # whose logarithm nobody asks for
    y, _ = loads(ODD).Odd()(x, keep, trust)
    a, b = x.split([3, 4], 1)
    total = (a.square() * trust[:3, None] * keep[:, None]).sum((1, 2), keepdim=True)
    right = torch.cat((a / (total.sqrt() + 1e-5), b.abs().log() - b.amax(1, keepdim=True)), 1)
    assert_close_with_gradients(y, right, x, trust)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("memory", ["contiguous", "channels_last", "strided"])
def test_kernels_of_runs_in_any_memory(dtype: torch.dtype, memory: str) -> None:
    torch.manual_seed(0)
    norm = load("specs/ibn_norm.norm").IBNNorm(11, ratio=0.4)
    for shape in ((4, 11, 3, 5), (2, 11, 9, 9), (4, 11, 3, 5)):
        x = torch.randn(*shape[:3], shape[3] + 2, dtype=F64)[..., 1:-1] * 2 + 1
        if memory == "contiguous":
            x = x.contiguous()
        elif memory == "channels_last":
            x = x.contiguous(memory_format=torch.channels_last)
        dy = torch.randn_like(x)
        results = []
        for route, of in (("native", dtype), ("torch", F64)):
            layer = norm.to(torch.float64 if of == F64 else torch.float32)
            layer.reset_parameters()
            with torch.no_grad():
                for number, parameter in enumerate(layer.parameters()):
                    parameter.copy_(torch.linspace(0.5, number + 1, len(parameter)))
            inner = x.to(dtype).to(of).requires_grad_()
            with runtime.use(route):
                y = layer(inner)
                grads = torch.autograd.grad(y, (inner, *layer.parameters()), dy.to(dtype).to(of))
            results.append((y, *grads, layer.batch_running_var.clone()))
        for actual, right in zip(*results):
            bound = {F64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 0.03}[dtype]
            error = (actual.double() - right.double()).abs().max() / right.abs().max()
            assert error < bound, error


def test_what_a_run_does_not_have_stays_out_of_its_gradient(norms: ModuleType) -> None:
    x = data(2, 9).detach()
    x[0, 4] = torch.nan  # of the last run, which no statistic reads
    norm = norms.Parts(9, first=2).double()
    for route in ("torch", "native"):
        x = x.detach().requires_grad_()
        with runtime.use(route):
            y = norm(x)
            gradients = torch.autograd.grad(y, (x, norm.gain), torch.ones_like(y))
        assert y.isnan().nonzero().tolist() == [[0, 4]]
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_tensors_of_other_lengths_are_refused() -> None:
    norm = load("specs/ibn_norm.norm").IBNNorm(8)
    for channels in (7, 9, 10, 16):
        with pytest.raises(runtime.ShapeError):
            norm(torch.randn(2, channels, 3, 3))
