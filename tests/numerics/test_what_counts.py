"""What `where` leaves out and what `weight` weighs, for every statistic and pool, on both targets.

Each pool has a norm with all statistics in it, and a parameter for each, so that one can be looked
at alone. The references are dense matrices in float64: row i says how much each position counts
in the pool of position i. Gradients are autograd's of that, and differences along a line.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import metanorm
from metanorm.runtime import use
from metanorm.runtime.targets import Target

sys.path.append(str(Path(__file__).parents[1] / "native"))
from layers import kernels_counted

F64 = torch.float64
N, T, C = 3, 6, 2
GROUP = torch.tensor([2, 0, 2])  # no position is in group 1
EDGES = torch.tensor([[0, 1, 1, 2], [1, 1, 0, 1]])  # none lead to node 2
SUMMED = ("sum", "mean", "var", "std", "rms", "l1", "l2")
ROOTS = ("std", "rms", "l2")  # of a sum with a negative weight, they are no number
EXTREMES = ("max", "min")


def cut(cells: Tensor) -> Tensor:
    """Positions count for each other where they are in one cell."""
    return (cells[:, None] == cells[None, :]).to(F64)


def window(width: int, replicate: bool = False) -> Tensor:
    rows = torch.zeros(T, T, dtype=F64)
    for t in range(T):
        for s in range(t - width // 2, t + (width - 1) // 2 + 1):
            if replicate or 0 <= s < T:
                rows[t, min(max(s, 0), T - 1)] += 1
    return rows


def into(edges: Tensor) -> Tensor:
    rows = torch.zeros(N, N, dtype=F64)
    for source, target in edges.T.tolist():
        rows[target, source] += 1
    return rows


POSITION = torch.arange(T)
ALONG_T: Mapping[str, Tensor] = {
    "T": cut(torch.zeros(T)),
    "T: blocks(2)": cut(POSITION // 3),
    "T: chunks(2)": cut(POSITION // 2),
    "T: interleave(3)": cut(POSITION % 3),
    "T: window(3)": window(3),
    "T: window(4, edge = replicate)": window(4, replicate=True),
    "T: causal": torch.ones(T, T, dtype=F64).tril(),
    "T: causal(2)": torch.ones(T, T, dtype=F64).tril().triu(-1),
}
ALONG_N: Mapping[str, Tensor] = {
    "N": cut(torch.zeros(N)),
    "N: group": cut(GROUP),
    "N: edges": into(EDGES),
    "N: edges with self": into(EDGES) + torch.eye(N, dtype=F64),
}
NEAR = "N: near"
POOLS = (
    *ALONG_T, *ALONG_N, NEAR, "N, T", "N: group, T", "N, T: blocks(2)", "N: near, T",
    "N: near, T: causal", "N: edges, T: window(3)", "N: group, T: causal",
)  # fmt: skip
# Those whose statistics kernels can add up. The others run on torch, and say so.
KERNELS = (
    "T", "N", "N, T", "T: blocks(2)", "T: chunks(2)", "T: interleave(3)", "N: group", "N: group, T",
    "N, T: blocks(2)",
)  # fmt: skip


def text_of(kind: str, pool: str) -> str:
    """A norm of a pool: of what is added up, the same with a mask and weights of all elements,
    without roots, and of extremes, which have no kernels."""
    over = f"over {pool} where keep weight t"
    further = {"group": "group: index[N]", "edges": "edges: edges[N]", "near": "near: matrix[N, N]"}
    declarations = "".join(f", {text}" for name, text in further.items() if name in pool)
    axes = "N, T, C" if kind == "Wide" else "N, T"
    inputs = f"input x[N, T, C = channels], keep: mask[{axes}] = true, t[{axes}] = 1{declarations}"
    if kind == "Extremes":
        extremes = "".join(f" + a[{i}] * {s}(x {over})" for i, s in enumerate(EXTREMES))
        return f"""
            # allow: MN0702
            norm Extremes {{
              {inputs}
              param a[K = 10] = 0, p[C] = 1
              output x * p * a[8]{extremes}
            }}
        """
    terms = {s: f" + a[{i}] * {s}(x {over})" for i, s in enumerate(SUMMED)}
    chosen = "".join(term for s, term in terms.items() if kind != "Smooth" or s not in ROOTS)
    return f"""
        # allow: MN0702
        norm {kind}(eps = 1e-2) {{
          {inputs}
          param a[K = 10] = 0, p[C] = 1
          let half = 0.5 * mean(x {over})
          output silu(normalize(x {over}) * p) * a[8] + a[7] * var(x {over}, about = half)
            + a[9] * var(x {over}, ddof = 1){chosen}
        }}
    """


@functools.cache
def norm_class(kind: str, pool: str) -> type[nn.Module]:
    return getattr(metanorm.loads(text_of(kind, pool)), kind)  # type: ignore[no-any-return]


@dataclass
class Call:
    """The tensors of a call; `t` and `near` are weights."""

    x: Tensor
    keep: Tensor
    t: Tensor
    near: Tensor
    p: Tensor

    def leaves(self) -> dict[str, Tensor]:
        tensors = {"x": self.x, "t": self.t, "near": self.near, "p": self.p}
        return {name: leaf.detach().clone().requires_grad_() for name, leaf in tensors.items()}


def matrix(pool: str, near: Tensor) -> Tensor:
    """How much position (m, s) counts for the pool of (n, t), without mask and weight."""
    along_n, along_t = torch.eye(N, dtype=F64), torch.eye(T, dtype=F64)
    for part in pool.split(", "):
        part = part if not part.startswith("edge =") else ""
        along_n = near if part == NEAR else ALONG_N.get(part, along_n)
        along_t = ALONG_T.get(part, along_t)
    along_t = ALONG_T.get(pool, along_t)
    return torch.kron(along_n, along_t)


def root(x: Tensor) -> Tensor:
    """With a derivative of zero at zero."""
    return torch.where(x > 0, torch.where(x > 0, x, 1).sqrt(), 0)


def finite(x: Tensor) -> Tensor:
    return torch.where(x.isfinite(), x, 0)


def statistics(pool: str, call: Call, leaves: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """What each `a` is multiplied with; NaN where a derivative is a matter of rounding."""
    keep, t = call.keep.flatten(), leaves["t"].flatten()
    each = finite(leaves["x"].flatten(0, 1))
    x = torch.where(keep[:, None], each, 0)
    w = matrix(pool, leaves["near"]) * torch.where(keep, t, 0)
    total = w.sum(1)[:, None]
    some = total != 0

    def mean(terms: Tensor) -> Tensor:
        """The mean of terms [positions] or [pools, positions]."""
        added = (w[:, :, None] * terms).sum(1)
        return torch.where(some, added / torch.where(some, total, 1), 0)

    centre = mean(x)
    var = mean((x - centre[:, None]) ** 2)
    has_several = total > 1
    more = torch.where(has_several, total / torch.where(has_several, total - 1, 1), 1)
    y = torch.where(some, (each - centre) / (var + 1e-2).sqrt(), 0)
    return {
        0: w @ x,
        1: centre,
        2: var,
        3: torch.where(
            some & (var < 1e-12), torch.nan, root(var)
        ),  # of one value, but for rounding
        4: root(mean(x**2)),
        5: w @ x.abs(),
        6: root(w @ x**2),
        7: mean((x - 0.5 * centre[:, None]) ** 2),
        8: F.silu(y * leaves["p"]),
        9: var * more,
    }


def extremes(pool: str, call: Call, leaves: Mapping[str, Tensor]) -> dict[int, Tensor]:
    keep, t = call.keep.flatten(), leaves["t"].flatten()
    x = leaves["x"].flatten(0, 1)
    counts = (matrix(pool, leaves["near"]) != 0) & keep & (t != 0)
    some = counts.any(1)[:, None]

    def largest(v: Tensor) -> Tensor:
        best = torch.where(counts[:, :, None], v, -torch.inf).amax(1)
        return torch.where(some, best, 0)

    return {0: largest(x), 1: -largest(-x), 8: finite(x) * leaves["p"]}


Reference = Callable[[str, Call, Mapping[str, Tensor]], dict[int, Tensor]]
REFERENCES: dict[str, Reference] = {
    "Summed": statistics, "Wide": statistics, "Extremes": extremes,
}  # fmt: skip


def call_of(case: str, seed: int = 0) -> Call:
    """Random numbers, with weights that are zero, pools of which nothing counts, or NaN."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(N, T, C, generator=random, dtype=F64) + 1
    keep = torch.rand(N, T, generator=random) < 0.6
    t = torch.rand(N, T, generator=random, dtype=F64) + 0.5
    near = torch.rand(N, N, generator=random, dtype=F64) + 0.2
    p = torch.rand(C, generator=random, dtype=F64) + 0.5
    if "mask" not in case:
        keep = torch.ones(N, T, dtype=torch.bool)
    if "weight" in case:
        t[:, 1], t[1, 4], near[0, 1], near[2, 2] = 0, 0, 0, 0
    if "empty" in case:
        if "mask" in case:
            keep[0], keep[1:, 0], keep[:, 3:] = False, False, False
        else:
            t[0], t[:, 0], near[1] = 0, 0, 0
    counts = keep & (t != 0)
    if "NaN" in case:
        x = torch.where(counts[..., None], x, torch.tensor([torch.nan, torch.inf], dtype=F64))
    return Call(x, keep, t, near, p)


def run(
    norm: nn.Module, pool: str, call: Call, leaves: Mapping[str, Tensor], one: int,
    wide: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The result with one statistic alone, and the gradients of what counts."""
    inputs = {"group": GROUP, "edges": EDGES, "near": leaves["near"]}
    further = {name: inputs[name] for name in inputs if name in pool}
    with torch.no_grad():
        norm.a.zero_()[one] = 1
        norm.p.copy_(leaves["p"])
    keep, t = call.keep, leaves["t"]
    if wide:
        keep, t = (each[:, :, None].expand(N, T, C) for each in (keep, t))
    y = norm(leaves["x"], keep, t, **further)
    return y, {**leaves, "p": norm.p}


def seen(call: Call) -> Tensor:
    """Random gradients of results, and none where nothing counts."""
    random = torch.Generator().manual_seed(7)
    d = torch.randn(N, T, C, generator=random, dtype=F64)
    counts = call.keep & (call.t != 0)
    return torch.where(counts[..., None], d, 0) if call.x.isnan().any() else d


def gradients(y: Tensor, d: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    y = torch.where(d != 0, y, 0)
    grads = torch.autograd.grad(
        y, list(leaves.values()), d, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return dict(zip(leaves, grads))


def agree(
    what: str, actual: Tensor, expected: Tensor, rtol: float = 1e-7, atol: float = 1e-7
) -> None:
    torch.testing.assert_close(
        actual, expected, rtol=rtol, atol=atol, msg=lambda text: f"{what}: {text}"
    )


CASES = (
    "weight", "mask", "mask and weight", "empty mask", "empty weight", "NaN in mask",
    "NaN in weight", "NaN in empty mask",
)  # fmt: skip


def checked(kind: str, pool: str, case: str, target: Target) -> None:
    """Results and gradients of each statistic of a pool."""
    norm = norm_class(kind, pool)(C, dtype=F64)
    call = call_of(case)
    leaves = call.leaves()
    for one, right in REFERENCES[kind](pool, call, leaves).items():
        module_leaves, right = call.leaves(), right.view(N, T, C)
        d = torch.where(right.isnan(), 0, seen(call))
        with use(target):
            y, named = run(norm, pool, call, module_leaves, one, wide=kind == "Wide")
            grads = gradients(y, d, named)
        # What does not count has a result as well, which may be NaN.
        what = f"{kind} {one} over {pool}, {case}, on {target}"
        agree(what, torch.where(d != 0, y, 0), torch.where(d != 0, right, 0))
        wanted = gradients(right, d, leaves)
        for name, gradient in grads.items():
            if name == "t":  # what the weight of a NaN would change is anything finite
                assert gradient.isfinite().all(), what
                is_finite = call.x.isfinite().all(2)
                gradient, wanted[name] = gradient[is_finite], wanted[name][is_finite]
            agree(f"gradient of {name}, {what}", gradient, wanted[name])


def product() -> Iterator[object]:
    """Every pool and case; a part of them, in which each of both is, at every commit."""
    for i, pool in enumerate(POOLS):
        for j, case in enumerate(CASES):
            marks = () if (i + j) % 3 == 0 else (pytest.mark.extended,)
            yield pytest.param(pool, case, marks=marks)


@pytest.mark.parametrize(("pool", "case"), list(product()))
@pytest.mark.parametrize("kind", ["Summed", "Extremes"])
def test_on_torch(kind: str, pool: str, case: str) -> None:
    checked(kind, pool, case, "torch")


def some(pools: Sequence[str], every: int) -> list[object]:
    """All pools, of which one in so many is tested at every commit."""
    return [
        pytest.param(pool, marks=pytest.mark.extended if i % every else ())
        for i, pool in enumerate(pools)
    ]


@pytest.mark.parametrize("pool", some(KERNELS, 4))
def test_on_kernels(pool: str) -> None:
    # Groups have no kernels beside values for each row, as a mask or weights of [N, T] are.
    kind = "Wide" if "group" in pool else "Summed"
    for case in CASES:
        with kernels_counted() as ran:
            checked(kind, pool, case, "native")
        assert len(ran) == 2 * 10, case


@pytest.mark.parametrize("pool", some(POOLS, 3))
def test_differences_along_a_line(pool: str) -> None:
    """Weights of zero become positive, then negative, all of one sign, as variances have to be."""
    norm = norm_class("Smooth", pool)(C, dtype=F64)
    call, d, step = call_of("weight"), torch.randn(N, T, C, dtype=F64), 1e-6
    for one in (0, 1, 2, 5, 7, 8, 9):
        leaves = call.leaves()
        y, _ = run(norm, pool, call, leaves, one)
        actual = gradients(y, d, leaves)
        for name in ("x", "t", *(["near"] if "near" in pool else [])):
            line = torch.randn(leaves[name].shape, dtype=F64)
            line = line if name == "x" else line.abs()
            ends = []
            for sign in (1, -1):
                moved = {**leaves, name: leaves[name] + sign * step * line}
                ends.append((run(norm, pool, call, moved, one)[0] * d).sum())
            slope = (ends[0] - ends[1]) / (2 * step)
            agree(f"{name} of {one}", (actual[name] * line).sum(), slope, 1e-5, 1e-6)
