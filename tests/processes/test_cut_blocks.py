"""Blocks of which parts lie on several processes, against plain torch on the whole tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from cut_blocks import norm_of
from team import Team
from test_samples import difference
from torch import Tensor

from metanorm.runtime.processes.dividable import dividable

F = torch.nn.functional
Reference = Callable[[Tensor, Mapping[str, Tensor]], Tensor]

GROUP_NORM = """norm A(g: int, eps = 1e-5) {
  input x[N, C = channels, *S]
  reduce C: blocks(g), *S
  affine C
}"""


def group_norm(x: Tensor, state: Mapping[str, Tensor], g: int = 3) -> Tensor:
    return F.group_norm(x, g, state["weight"], state["bias"], 1e-5)


RMS_OF_CHUNKS = """norm A(k: int, eps = 1e-6) {
  input x[N, C = channels, *S]
  param weight[C] = 1
  output weight * x * rsqrt(mean(x^2 over C: chunks(k)) + eps)
}"""


def rms_of_chunks(x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    rows = x.unflatten(1, (-1, 4))
    scaled = rows * (rows.square().mean(2, keepdim=True) + 1e-6).rsqrt()
    return scaled.flatten(1, 2) * state["weight"][:, None]


INTERLEAVED = """norm A(eps = 1e-5) {
  input x[N, C = channels, *S]
  output x / (std(x over C: interleave(4), *S) + eps) - max(x over C: interleave(4))
}"""


def interleaved(x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    rows = x.unflatten(1, (-1, 4))
    std = rows.std((1, 3), correction=0, keepdim=True)
    return (rows / (std + 1e-5) - rows.amax(1, keepdim=True)).flatten(1, 2)


TWO_PARTITIONS = """norm A(g: int) {
  input x[N, C = channels, *S]
  buffer seen[C] = 0
  update seen = mean(x over N, *S)
  let whole = mean(x over C, *S)
  output g * (x - mean(x over C: blocks(g), *S)) * x - l2(x over C: blocks(2)) * whole + size(C)
}"""


def two_partitions(x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    rows = x.unflatten(1, (3, -1))
    centred = (rows - rows.mean((2, 3), keepdim=True)).flatten(1, 2)
    halves = x.unflatten(1, (2, -1))
    length = halves.norm(dim=2, keepdim=True).expand_as(halves).flatten(1, 2)
    return 3 * centred * x - length * x.mean((1, 2), keepdim=True) + x.shape[1]


WEIGHED = """norm A(g: int, eps = 1e-5) {
  input x[N, C = channels, *S]
  param weight[C] = 1
  let m = mean(x over C: blocks(g) weight exp(weight))
  let v = mean((x - m)^2 over C: blocks(g) where x > m, *S)
  output (x - m) / sqrt(v + eps) + mean(m over C)
}"""


def weighed(x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    rows, weights = x.unflatten(1, (3, -1)), state["weight"].exp().reshape(3, -1, 1)
    mean = (rows * weights).sum(2, keepdim=True) / weights.sum(1, keepdim=True)
    above = (rows > mean).to(x.dtype)
    var = ((rows - mean).square() * above).sum((2, 3), keepdim=True)
    var = var / above.sum((2, 3), keepdim=True)
    return ((rows - mean) / (var + 1e-5).sqrt() + mean.mean(1, keepdim=True)).flatten(1, 2)


NORMS: dict[str, tuple[str, Mapping[str, Any], Reference]] = {
    "GroupNorm": (GROUP_NORM, {"g": 3}, group_norm),
    "chunks": (RMS_OF_CHUNKS, {"k": 4}, rms_of_chunks),
    "interleave": (INTERLEAVED, {}, interleaved),
    "two partitions": (TWO_PARTITIONS, {"g": 3}, two_partitions),
    "weights and masks": (WEIGHED, {"g": 3}, weighed),
}
PIECES = ((6, 6), (5, 7), (12, 0), (8, 4), (3, 4, 5), (4, 4, 4), (5, 1, 0, 6), (0, 0, 12, 0))


def data() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(2)
    x, arriving = torch.randn(2, 3, 12, 5, generator=random, dtype=torch.float64)
    return x, arriving


def expected(text: str, how: Mapping[str, Any], reference: Reference) -> dict[str, Tensor]:
    """What the reference gives for the whole tensor, by torch's own derivatives."""
    x, arriving = data()
    norm = norm_of(text, how, {"channels": 12})
    state = dict(norm.named_parameters())
    leaf = x.clone().requires_grad_()
    y = reference(leaf, state)
    (y * arriving).sum().backward()  # type: ignore[no-untyped-call]
    gradients = {f"gradient of {n}": p.grad for n, p in state.items() if p.grad is not None}
    tensors = {"y": y.detach(), "dx": leaf.grad, **gradients}
    if dict(norm.named_buffers()):
        tensors["buffer seen"] = x.mean((0, 2))
    return tensors  # type: ignore[return-value]


def joined(name: str, each: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(each), 1 if name in ("y", "dx") else 0)


def demand_right(each: Sequence[dict[str, Any]], wanted: Mapping[str, Tensor]) -> None:
    for name, right in wanted.items():
        whole = joined(name, [one[name] for one in each])
        assert whole.shape == right.shape, name
        assert difference(whole, right) <= 1e-10, name


@pytest.mark.parametrize("pieces", PIECES, ids=str)
@pytest.mark.parametrize("name", NORMS)
def test_blocks_on_several_processes(name: str, pieces: tuple[int, ...], team: Team) -> None:
    text, how, reference = NORMS[name]
    xs, arriving = (torch.split(t, pieces, 1) for t in data())
    arguments = (text, how, {"channels": 12}, "C", pieces, xs, arriving)
    each = team.run("cut_blocks:passed", *arguments, size=len(pieces))
    demand_right(each, expected(text, how, reference))
    sent = [[(len(m), m[:2].tolist()) for m in one["sent"]] for one in each]
    assert all(messages == sent[0] for messages in sent)


@pytest.mark.parametrize("name", ["GroupNorm", "interleave"])
def test_graphs_without_breaks(name: str, team: Team) -> None:
    text, how, reference = NORMS[name]
    xs, arriving = (torch.split(t, (5, 7), 1) for t in data())
    arguments = (text, how, {"channels": 12}, "C", (5, 7), xs, arriving, True, "compiled")
    demand_right(team.run("cut_blocks:passed", *arguments, size=2), expected(text, how, reference))


def test_pieces_of_whole_blocks_send_nothing(team: Team) -> None:
    """Also pieces of unequal lengths, of which each has its share of the blocks."""
    text = "norm A(g: int) { input x[N, C = channels, *S]  output x - mean(x over C: blocks(g)) }"
    x, _ = data()
    rows = x.unflatten(1, (3, 4))
    wanted = {"y": (rows - rows.mean(2, keepdim=True)).flatten(1, 2)}
    for pieces in ((8, 4), (4, 4, 4)):
        xs = torch.split(x, pieces, 1)
        arguments = (text, {"g": 3}, {"channels": 12}, "C", pieces, xs, xs)
        each = team.run("cut_blocks:passed", *arguments, size=len(pieces))
        assert not any(one["sent"] for one in each)
        demand_right(each, wanted)


def test_distributed_tensors_are_not_gathered(team: Team) -> None:
    x, arriving = data()
    for name, (text, how, reference) in NORMS.items():
        wanted = expected(text, how, reference)
        for size in (2, 4):
            arguments = (text, how, {"channels": 12}, 1, x, arriving)
            for tensors in team.run("cut_blocks:as_tensors_on_a_mesh", *arguments, size=size):
                assert tensors["messages"] <= 4, name
                for what, right in wanted.items():
                    assert difference(tensors[what], right) <= 1e-10, (name, what)


@pytest.mark.parametrize(
    ("pieces", "expected_text"),
    [
        (({"C": 5}, {"C": 6}), "pieces of 5, 6 do not make up its length of 12"),
        (({"C": 5}, {}), "some processes say how long their piece is"),
        (({"S": 5}, {"S": 5}), "its length is no argument"),
    ],
)
def test_pieces_that_do_not_fit_are_refused_on_all_processes(
    pieces: Sequence[Mapping[str, int]], expected_text: str, team: Team
) -> None:
    arguments = (GROUP_NORM, {"g": 3}, {"channels": 12}, ["C"], pieces)
    for text in team.run("cut_blocks:refused", *arguments, size=2):
        assert expected_text in text


def test_an_axis_of_which_each_process_has_the_whole_may_have_blocks() -> None:
    """A norm whose samples can only be divided beside labels of its blocks."""
    norm = norm_of(INTERLEAVED, {}, {"channels": 12})
    info = dividable(norm)
    assert info is not None
    pieces_by_axis = info.with_whole_axes(norm, {})
    assert (
        pieces_by_axis["C"].labels("interleave", 4, torch.device("cpu")).tolist()
        == [0, 1, 2, 3] * 3
    )
    assert (
        pieces_by_axis["C"].labels("blocks", 3, torch.device("cpu")).tolist()
        == [0] * 4 + [1] * 4 + [2] * 4
    )
    assert pieces_by_axis["C"].blocks("chunks", 4) == 3
