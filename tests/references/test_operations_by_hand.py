"""Operators, functions and statistics of the language page, each by hand in plain torch."""

from __future__ import annotations

import pytest
import torch
from by_hand import References
from torch import Tensor
from torch.nn import functional as F

references = References()


@references(
    "norm Operators { input x[N, C], u[N, C]  output y = x + u, a = x - u, b = x * u, c = x / (2 + u^2),"
    " d = x^3, e = (1 + u^2)^-0.5, f = -x, g = 2 ^ u, h = 2 - x - 3 * u / 4 }",
    x=(3, 4), u=(3, 4),
)  # fmt: skip
def operators(x: Tensor, u: Tensor) -> tuple[Tensor, ...]:
    powers = x * x * x, 1 / torch.sqrt(1 + u * u)
    return x + u, x - u, x * u, x / (2 + u * u), *powers, -x, torch.exp(u * 0.6931471805599453), (
        2 - x) - (3 * u) / 4  # fmt: skip


@references(
    "norm Precedence { input x[N, C], u[N, C]  output y = x - u - x * u * x / 3 - -x^2, z = 2^x^2 * 0.1 }",
    x=(3, 4), u=(3, 4),
)  # fmt: skip
def precedence(x: Tensor, u: Tensor) -> tuple[Tensor, ...]:
    return x - u - x * u * x / 3 + x * x, torch.exp(x * x * 0.6931471805599453) * 0.1


@references(
    "norm Comparisons { input x[N, C], u[N, C]  output y = x * (x < u), a = x * (x <= u), b = x * (x > u),"
    " c = x * (x >= u), d = x * (x == u), e = x * (x != u), f = where(x < u, x, 2 * u) }",
    x=(3, 4), u=(3, 4),
)  # fmt: skip
def comparisons(x: Tensor, u: Tensor) -> tuple[Tensor, ...]:
    less = (x < u).double()
    more = 1 - less  # no two random numbers are equal
    return x * less, x * less, x * more, x * more, x * 0, x, less * x + more * 2 * u


@references(
    "norm Wholes { input x[N, T, C], lengths: index[N], kind: index[C]  output y = x - mean(x over T"
    " where position(T) < lengths), a = where(kind == 2, x, 2 * x), b = x * (lengths >= kind) }",
    x=(3, 4, 5), lengths=torch.tensor([1, 4, 7]), kind=torch.tensor([0, 2, 5, 2, 7]),
    torch_only="a comparison of whole numbers that may be large",
)  # fmt: skip
def wholes(x: Tensor, lengths: Tensor, kind: Tensor) -> tuple[Tensor, ...]:
    means = torch.stack([row[:n].mean(0, keepdim=True) for row, n in zip(x, lengths)])
    many = torch.tensor([[1, 0, 0, 0, 0], [1, 1, 0, 1, 0], [1, 1, 1, 1, 1]])
    return x - means, x * torch.tensor([2, 1, 2, 1, 2]), x * many[:, None]


@references(
    "norm FirstSteps { input x[N, T, C], lengths: index[N]  reduce T where position(T) < lengths }",
    x=(3, 4, 5), lengths=torch.tensor([2, 4, 3]),
)  # fmt: skip
def first_steps(x: Tensor, lengths: Tensor) -> Tensor:
    series = [row[:n] for row, n in zip(x, lengths)]
    means = torch.stack([rows.mean(0, keepdim=True) for rows in series])
    stds = torch.stack([(rows.var(0, correction=0, keepdim=True) + 1e-5) ** 0.5 for rows in series])
    return (x - means) / stds


@references(
    "norm Conditions { input x[N, C], label: index[N] of K = 3  param table[K] = 1"
    "  output y = x * tanh(mode(train: x > 0, eval: x <= 0)), z = exp((table > 0.5)[label]) }",
    x=(3, 4), label=torch.tensor([2, 0, 2]),
)  # fmt: skip
def conditions(x: Tensor, label: Tensor, table: Tensor, training: bool) -> tuple[Tensor, ...]:
    holds = (x > 0) == training
    chosen = torch.stack([(table[i] > 0.5).double() for i in label])
    return x * 0.7615941559557649 * holds, 1 + 1.718281828459045 * chosen


@references(
    "norm Ties { input x[N, C]  output x * (x == x) + (x <= x) + 2 * (x >= x) + 4 * (x < x) + 8 * (x != x) }",
    x=(3, 4),
)  # fmt: skip
def ties(x: Tensor) -> Tensor:
    return x + 3


@references(
    "norm Functions { input x[N, C]  output y = sqrt(x^2 + 1), a = rsqrt(x^2 + 1), b = exp(x), c = log(x^2 + 1),"
    " d = abs(x), e = sign(x), f = sin(x), g = cos(x), h = tanh(x), i = erf(x),"
    " j = round(5 * x) }",
    x=(3, 4),
)  # fmt: skip
def functions(x: Tensor) -> tuple[Tensor, ...]:
    hyperbolic = (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x))
    return (
        (x * x + 1) ** 0.5, (x * x + 1) ** -0.5, torch.exp(x), torch.log(x * x + 1), x.abs(),
        torch.sign(x).detach(), torch.sin(x), torch.cos(x), hyperbolic, torch.special.erf(x),
        5 * x + (torch.floor(5 * x + 0.5) - 5 * x).detach(),
    )  # fmt: skip


@references(
    "norm Activations { input x[N, C], u[N, C]  output y = sigmoid(x), a = softplus(x), b = relu(x), c = silu(x),"
    " d = gelu(x), e = clamp(x, -0.5, 0.5), f = clamp(x, max = 0.2), g = clamp(x, min = -0.2), h = min(x, u),"
    " i = max(x, u) }",
    x=(3, 4), u=(3, 4),
)  # fmt: skip
def activations(x: Tensor, u: Tensor) -> tuple[Tensor, ...]:
    return (
        1 / (1 + torch.exp(-x)), torch.log(1 + torch.exp(x)), torch.where(x > 0, x, 0 * x),
        x / (1 + torch.exp(-x)), x * 0.5 * (1 + torch.erf(x / 2**0.5)), F.hardtanh(x, -0.5, 0.5),
        torch.where(x < 0.2, x, 0.2 + 0 * x), torch.where(x > -0.2, x, -0.2 + 0 * x),
        torch.where(x < u, x, u), torch.where(x > u, x, u),
    )  # fmt: skip


KINKS = (-0.5, 0.0, 0.5, 1.0)


@references(
    "norm AtKinks { input x[N, C], u[N, C]  output y = clamp(x, -0.5, 0.5), a = clamp(x, min = u),"
    " b = clamp(x, max = u), c = clamp(x, u, 0.5), d = clamp(x, 0.5, u), e = clamp(0.5, min = u),"
    " f = relu(x), g = max(x, u), h = min(x, u), i = abs(x), j = x * (x >= u) }",
    x=torch.tensor([KINKS] * 4, dtype=torch.float64),
    u=torch.tensor([KINKS] * 4, dtype=torch.float64).T.contiguous(),
)  # fmt: skip
def at_kinks(x: Tensor, u: Tensor) -> tuple[Tensor, ...]:
    half = torch.full_like(u, 0.5)
    return (
        x.clamp(-0.5, 0.5), x.clamp(min=u), x.clamp(max=u), x.clamp(min=u).clamp(max=half),
        x.clamp(min=half).clamp(max=u), half.clamp(min=u), F.relu(x), torch.maximum(x, u),
        torch.minimum(x, u), x.abs(), x * (x >= u),
    )  # fmt: skip


@references(
    "norm Stopped { input x[N, C]  output x * stop(x) + stop(mean(x over C)) }",
    x=(3, 4),
)
def stopped(x: Tensor) -> Tensor:
    return x * x.detach() + x.detach().mean(1, keepdim=True)


@references(
    "norm Lengths { input x[N, C, *S]  output x * size(C) / size(*S) + position(C) * 0.1 - size(N) }",
    x=(2, 3, 4, 5),
)  # fmt: skip
def lengths(x: Tensor) -> Tensor:
    return x * 3 / 20 + torch.tensor([0.0, 0.1, 0.2], dtype=x.dtype)[:, None, None] - 2


@references(
    "norm Sums { input x[N, C]  output x + sum(x over C) + mean(x over N) + l1(x over C) + l2(x over N) }",
    x=(3, 4),
)  # fmt: skip
def sums(x: Tensor) -> Tensor:
    rows = x.sum(1, keepdim=True) + x.abs().sum(1, keepdim=True)
    return x + rows + x.sum(0) / 3 + (x * x).sum(0).sqrt()


@references(
    "norm Spreads { input x[N, C]  output x + var(x over C) + std(x over N) + rms(x over C) }",
    x=(3, 4),
)  # fmt: skip
def spreads(x: Tensor) -> Tensor:
    spread = ((x - x.mean(1, keepdim=True)) ** 2).mean(1, keepdim=True)
    deviation = ((x - x.mean(0)) ** 2).mean(0).sqrt()
    return x + spread + deviation + (x * x).mean(1, keepdim=True).sqrt()


@references(
    "norm Unbiased { input x[N, C]  output x + var(x over C, ddof = 1) + std(x over N, ddof = 1)"
    " + normalize(x over N, C, ddof = 1) + moments(x over C, ddof = 1).var }",
    x=(3, 4),
)  # fmt: skip
def unbiased(x: Tensor) -> Tensor:
    whole = (x - x.mean()) / torch.sqrt(x.var() + 1e-5)
    return x + 2 * x.var(1, keepdim=True) + x.std(0) + whole


@references(
    "norm About { input x[N, C], u[N]  output x + var(x over C, about = u) + var(x over C, about = 2) }",
    x=(3, 4), u=(3,),
)  # fmt: skip
def about(x: Tensor, u: Tensor) -> Tensor:
    return x + ((x - u[:, None]) ** 2).mean(1, keepdim=True) + ((x - 2) ** 2).mean(1, keepdim=True)


@references(
    "norm AboutOfWeighed { input x[N, C], w[N, C], p[C]\n"
    " output x + var(p over C weight w, about = mean(p over C weight w)) }",
    x=(3, 4), w=torch.rand(3, 4, dtype=torch.float64) + 0.5, p=(4,),
)  # fmt: skip
def about_of_weighed(x: Tensor, w: Tensor, p: Tensor) -> Tensor:
    total = w.sum(1, keepdim=True)
    mean = (w * p).sum(1, keepdim=True) / total
    return x + (w * (p - mean) ** 2).sum(1, keepdim=True) / total


@references("norm Extremes { input x[N, C]  output x + max(x over C) - min(x over N) }", x=(3, 4))
def extremes(x: Tensor) -> Tensor:
    return x + x.max(1, keepdim=True).values - x.min(0).values


@references(
    "norm EqualExtremes { input x[N, C]  output x * max(x over C) }",
    x=torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], dtype=torch.float64),
)
def equal_extremes(x: Tensor) -> Tensor:
    """Equal ones share the gradient."""
    largest = (x.detach() == x.detach().max(1, keepdim=True).values).double()
    return x * ((x * largest).sum(1, keepdim=True) / largest.sum(1, keepdim=True))


@references(
    "norm AtZero { input x[N, C]  output x + std(x over C) + rms(0 * x over C) + l2(x - x over N) }",
    x=torch.tensor([[2.0, 2.0], [1.0, 4.0]], dtype=torch.float64),
)  # fmt: skip
def at_zero(x: Tensor) -> Tensor:
    """The derivative of a root is zero where the root is."""
    second = x[1].std(unbiased=False)
    return x + torch.stack((torch.zeros_like(second), second))[:, None]


@references(
    "norm Counts { input x[N, C, *S], keep: mask[N, C], w[C]  output x + count(over C, *S)"
    " + count(over N, C where keep weight w) + log(1 + count(over C where keep)) }",
    x=(2, 3, 4), keep=torch.tensor([[True, False, True], [False, False, False]]), w=(3,),
)  # fmt: skip
def counts(x: Tensor, keep: Tensor, w: Tensor) -> Tensor:
    return x + 12 + (keep * w).sum() + torch.log(1 + keep.double().sum(1))[:, None, None]


@references(
    "norm Forms(eps = 1e-3) { input x[N, C = c]  let m = moments(x over C)\n"
    " output affine(normalize(x over C) + m.mean + m.var per C) }",
    x=(3, 4), arguments={"c": 4},
)  # fmt: skip
def forms(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    return ((x - mean) / torch.sqrt(var + 1e-3) + mean + var) * weight + bias


@references(
    "norm WeightAlone { input x[N, C = c]  output affine(x per weight[C]) }",
    x=(3, 4), arguments={"c": 4},
)  # fmt: skip
def weight_alone(x: Tensor, weight: Tensor) -> Tensor:
    return x * weight


@references("norm SwitchedOff { input x[N, C = c]  output affine(x per C off) }",
            x=(3, 4), arguments={"c": 4})  # fmt: skip
def switched_off(x: Tensor) -> Tensor:
    return x


@references(
    "norm Modes { input x[N, C]  output mode(train: x - mean(x over N), eval: 2 * x) }",
    x=(3, 4),
)  # fmt: skip
def modes(x: Tensor, training: bool) -> Tensor:
    return x - x.mean(0) if training else 2 * x


@references(
    "norm Shares { input x[N, C], u[K, C]  output x + softmax(x over C) + sum(u * softmax(u over K) over K) }",
    x=(3, 4), u=(2, 4), torch_only="a softmax as large as the input",
)  # fmt: skip
def shares(x: Tensor, u: Tensor) -> Tensor:
    return x + x.exp() / x.exp().sum(1, keepdim=True) + (u * (u.exp() / u.exp().sum(0))).sum(0)


@references(
    "norm RowsAtPlaces { input x[N, C = channels, T], label: index[N] of K = kinds  param q[K, C] = 0.5"
    "  let v = q[label]  output x * v[N = 0] + q[label][N = -1] }",
    {"channels": 2, "kinds": 3}, x=(3, 2, 4), label=torch.tensor([2, 0, 1]),
)  # fmt: skip
def rows_at_places(x: Tensor, label: Tensor, q: Tensor) -> Tensor:
    return x * q[2][:, None] + q[1][:, None]


@references(
    "norm RowsOfRuns { input x[N, C = channels, T], label: index[C] of K = kinds  axis C = (I = 2) + B"
    "  param q[K] = 0.5  let v = q[label]  output concat(x[I] * v[I], x[B] + mean(v[B] over B) over C) }",
    {"channels": 5, "kinds": 2}, x=(3, 5, 4), label=torch.tensor([1, 1, 0, 1, 0]),
)  # fmt: skip
def rows_of_runs(x: Tensor, label: Tensor, q: Tensor) -> Tensor:
    return torch.cat((x[:, :2] * q[1], x[:, 2:] + (2 * q[0] + q[1]) / 3), 1)


@references(
    "norm GroupsAlongRuns { input x[N, C = channels, T]  axis C = (I = size(C) / 3) + B"
    "  let v = mean(x over T, C: interleave(3))  let m = scan(v over C, decay = 0.5)"
    "  output x * m + mean(x[B] over B) }",
    {"channels": 6}, x=(2, 6, 3), torch_only="a window, a given matrix or blocks of several sizes",
)  # fmt: skip
def groups_along_runs(x: Tensor) -> Tensor:
    v = x.mean(2).unflatten(1, (2, 3)).mean(1).repeat(1, 2)
    m = torch.zeros(2, dtype=x.dtype)
    states = [m := 0.5 * m + v[:, c] for c in range(6)]
    return x * torch.stack(states, 1)[..., None] + x[:, 2:].mean(1, keepdim=True)


@references(
    "norm Exact { input x[N, C]  output y = x - mean(x over N), m = mean(x over N) as float64,"
    " top = max(x over N) as float64, low = min(x over N) as float64, s = sum(x over N) as float64 }",
    x=(3, 4),
)  # fmt: skip
def exact(x: Tensor) -> tuple[Tensor, ...]:
    return x - x.mean(0), x.mean(0), x.max(0).values, x.min(0).values, x.sum(0)


@references(
    "norm Sparse(r = 0.3) { input x[N, K = 3]  param w[K] = 1\n"
    " output x * sparsestmax(w over K, radius = r) + sparsestmax(x over K, radius = 0.9) }",
    x=torch.tensor([[0.2, 0.1, 0.05], [2.0, -1.0, 0.5]], dtype=torch.float64),
    torch_only="a sparsestmax as large as the input",
)  # fmt: skip
def sparse(x: Tensor, w: Tensor) -> Tensor:
    """Shao et al., 2019, Alg. 1: to the simplex, then out to the sphere, then to a face of it."""
    return x * _sparsestmax(w, 0.3) + torch.stack([_sparsestmax(row, 0.9) for row in x])


def _sparsestmax(z: Tensor, radius: float) -> Tensor:
    support = torch.ones_like(z, dtype=torch.bool)
    p = _to_simplex(z, support)
    for _ in z:
        if support.sum() == 1:
            break
        centre = support.double() / support.sum()
        away = p - centre
        distance = away.norm()
        # All faces have the same ball about the centre of the whole simplex.
        needed = radius**2 - ((centre - 1 / len(z)) ** 2).sum()
        if needed <= 0 or distance**2 >= needed:
            return p
        p = centre + away * (needed**0.5 / distance)
        if (p >= 0).all():
            return p
        support = support & (p > 0)
        p = _to_simplex(p, support)
    return p


def _to_simplex(z: Tensor, support: Tensor) -> Tensor:
    """The nearest point of the simplex with no more than this support."""
    kept = support.clone()
    p = z
    for _ in z:
        p = torch.where(kept, z - (z[kept].sum() - 1) / kept.sum(), 0.0)
        kept = kept & (p > 0)
    return p


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("name", references.names())
def test_what_is_written_by_hand_agrees(name: str, target: str) -> None:
    references.check(name, target)
