"""States that move along an axis, on kernels, against loops in plain torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from layers import F64, channels_last, kernels_counted, shifted, transposed, use
from torch import Tensor, nn

import metanorm

Layout = Callable[[Tensor], Tensor]
LAYOUTS: tuple[Layout, ...] = (Tensor.contiguous, channels_last, transposed, shifted)


def norm(axis: str, reverse: str) -> type[nn.Module]:
    """A state of elements, with decays that differ, beside one of cells that starts with it."""
    module = metanorm.loads(f"""
norm Moved {{
  input  x[N, C, T], state[N, T] = 0
  let    m = scan(tanh(x) over {axis}, decay = sigmoid(x), start = 0.5, reverse = {reverse})
  let    cells = mean(m over C)
  let    n = scan(cells over T, decay = 0.7, start = cells[T = -1], reverse = {reverse})
  let    k = scan(x over C, decay = -0.9, start = state)
  output m + x * m.before + n * n.before + k.before
}}
""")
    actual: type[nn.Module] = module.Moved
    return actual


def moved(
    x: Tensor, decay: Tensor, start: Tensor, dim: int, reverse: bool
) -> tuple[Tensor, Tensor]:
    """The states after each step, and before each."""
    after, before, state = [], [], start
    steps = list(zip(x.unbind(dim), decay.expand_as(x).unbind(dim)))
    for value, share in reversed(steps) if reverse else steps:
        before.append(state.expand_as(value))
        state = share * state + value
        after.append(state)
    if reverse:
        after, before = after[::-1], before[::-1]
    return torch.stack(after, dim), torch.stack(before, dim)


def right(x: Tensor, state: Tensor, axis: str, reverse: bool) -> Tensor:
    half = torch.tensor(0.5, dtype=x.dtype)
    m, m_before = moved(x.tanh(), x.sigmoid(), half, "NCT".index(axis), reverse)
    cells = m.mean(1)
    n, n_before = moved(cells, 0 * cells + 0.7, cells[:, -1], 1, reverse)
    _, k_before = moved(x, 0 * x - 0.9, state, 1, False)
    return m + x * m_before + (n * n_before)[:, None] + k_before


@pytest.mark.parametrize("layout", LAYOUTS, ids=["plain", "channels last", "transposed", "shifted"])
@pytest.mark.parametrize("reverse", ["true", "false"])
@pytest.mark.parametrize("axis", ["C", "T"])
def test_states_are_those_of_a_loop(axis: str, reverse: str, layout: Layout) -> None:
    module = norm(axis, reverse)()
    for shape in ((2, 3, 1), (1, 1, 7), (3, 37, 5), (2, 5, 70)):
        x = layout(torch.randn(shape, dtype=F64)).requires_grad_()
        state = torch.randn(shape[0], shape[2], dtype=F64, requires_grad=True)
        wanted = right(x, state, axis, reverse == "true")
        seed = torch.randn_like(wanted)
        with use("native"), kernels_counted() as counted:
            y = module(x, state)
            gradients = torch.autograd.grad(y, (x, state), seed)
        assert len(counted) == 2
        torch.testing.assert_close(y, wanted)
        torch.testing.assert_close(gradients, torch.autograd.grad(wanted, (x, state), seed))


def test_a_long_state_does_not_drift_in_float32() -> None:
    layer = metanorm.loads("""
norm Slow(keep = 0.9999) {
  input  x[N, T]
  output scan((1 - keep) * x over T, decay = keep)
}
""").Slow()
    x = torch.rand(2, 100_000)
    exact, _ = moved(
        (1 - 0.9999) * x.double(), torch.tensor(0.9999).double(), x[:, 0] * 0.0, 1, False
    )
    for target in ("torch", "native"):
        with use(target):  # type: ignore[arg-type]
            torch.testing.assert_close(layer(x).double(), exact, rtol=1e-4, atol=1e-5)
