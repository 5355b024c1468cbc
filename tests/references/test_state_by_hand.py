"""What calls leave behind: running statistics, buffers and first values, by hand in plain torch."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from comparing import programs_of, route_of
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from metanorm import loads, runtime

F64 = torch.float64
SPEC = """
norm Tracked(momentum = 0.1, eps = 1e-5) { input x[N, C = c, *S]
  let m = moments(x over N, *S track momentum)
  output (x - m.mean) / sqrt(m.var + eps) }
norm Clause { input x[N, C = c, *S]  reduce N, *S  track 0.2  affine C }
norm Average { input x[N, C = c]  output x - mean(x over N track None) }
norm Instances { input x[N, C = c, *S]  let inst = normalize(x over *S track 0.5)  output inst }
norm Several { input x[N, C = c, *S]
  stat inst over *S  stat batch over N, *S  track 0.1  mix inst, batch by softmax
  output normalized + var(x over N, *S track 0.3) }
norm OfLabels { input x[N, C = c], label: index[N] of K = num_classes
  output x - mean(x over N: label track 0.1) + var(x over N: label track 0.1) }
norm OfWhatCounts { input x[N, C = c, T], keep: mask[N, T]
  output normalize(x over N, T where keep track 0.1) }
norm SeveralMasked { input x[N, C = c, T], keep: mask[T], label: index[N] of K = num_classes
  let a = moments(x over N: label, T where keep track 0.3)
  let b = normalize(x over T where keep track 0.3)
  output a.mean + a.var + b }
norm Shared { input x[N, C = c]
  let a = mean(x over N track 0.1)  let b = normalize(x over N track 0.1)
  output a + mode(train: b, eval: 2 * b) }
norm Reused { input x[N, C = c]
  let a = moments(x over N track 0.1)
  output affine(x * 2 + a.var per weight[C]) }
norm OffAtFirst { input x[N, C = c]  reduce N  track 0.1 off  affine C off }
norm OffInACall { input x[N, C = c]  output 2 * OffAtFirst(x) }
norm OnInACall { input x[N, C = c]
  let y = OffAtFirst(x, affine = true, track = true)
  output 2 * y }
norm Kept { input x[N, C = c]
  buffer seen[C] = 0.5, steps = 0
  update seen = 0.9 * seen + 0.1 * mean(x over N)
  update steps = steps + 1
  output x - seen * steps }
norm Lenient(eps = 1e-5) { input x[N, C = c]
  buffer centre[C] = 0, spread[C] = 1
  let m = moments(x over N)
  let several = count(over N) > 1
  update centre = where(several, m.mean, centre)
  update spread = where(several, m.var, spread)
  let mean = mode(train: where(several, m.mean, centre), eval: centre)
  let var = mode(train: where(several, m.var, spread), eval: spread)
  output (x - mean) / sqrt(var + eps) }
norm Largest(momentum = 0.1) { input x[N, C = c, *S]
  let m = mean(x over N, *S track momentum from -2)
  let d = max(abs(x - m) over N, *S track momentum)
  output (x - m) / d + rms(x over N, *S track 0.5 from 3) }
norm Whitened { input x[N, C = c, *S]
  axis C = (G = 2, D)
  let  products = sum(x * x[D -> E] over *S)
  output sum(mean(products over N track 0.1 from eye) * x[D -> E] over E) }
norm Served(rate = 0.1) { input x[N, C = c]
  buffer calls = 0, drift[C] = 0, both = 0, turned[C, D = 3] = eye
  update calls = calls + 1 in always
  update drift = (1 - rate) * drift + rate * mean(x over N) in eval
  update both = both + 1
  update both = both - calls in eval
  param w[C, E = 2] = eye
  output x - drift + calls + sum(turned over D) + sum(w * position(E) over E) }
norm Random(std = 0.02) { input x[N, C = c]
  param w[K = 2, C] = normal(0, std), u[C] = uniform(-1 / sqrt(size(C)), 1 / sqrt(size(C)))
  output x + sum(w over K) + u }
norm Squeezed { input x[N, C = c]  param p[C] = 0.5 in [0, 1]  output p * x }
norm Inner { input x[N, C = c]  reduce N  track 0.1  affine C }
norm Outer { input x[N, C = c]  let b = Inner(x)  output x + b }
norm FromFirst(eps = 1e-5) { input x[N, C = c, *S], keep: mask[N] = true
  param offset[C] = 0 first -mean(x over N, *S where keep)
  param size[C] = 2 first exp(-offset) * (std(x over N, *S) + eps) in [0.1, 10]
  buffer most = 0 first max(abs(x) over N, C, *S)
  output (x + offset) / size + most }
norm Inside { input x[N, C = c]  let y = FromFirst(2 * x)  output y + 1 }
norm Rated(eps = 1e-5) { input x[N, C = c]
  buffer rate = 0.5
  update rate = rate / 2
  let m = moments(x over N track rate + 0.1 * size(N) into source)
  let largest = max(abs(x) over N track 1 / (1 + rate) from 3 into other)
  output (x - m.mean) / sqrt(m.var + eps) + largest }
norm ClauseInto(momentum = 0.1) { input x[N, C = c]  reduce N  track momentum into target }
norm Kinds(eps = 1e-5, momentum = 0.25) { input x[N, C = c]
  let low = quantile(x over N track momentum, q = 0.1)
  let high = quantile(x over N track momentum, q = 0.9)
  let biased = var(x over N track 0.1)
  let unbiased = var(x over N track 0.1, ddof = 1)
  let again = var(x over N track 0.1)
  output y = (x - low) / (high - low + eps), biased, unbiased, again }
norm OnWeight(eps = 1e-12) for weight { input v[O, *I]
  param g[O] = init l2(v over *I)
  buffer u[O] = init 2 * mean(v over *I)
  output g * v / max(l2(v over *I), eps) + 0 * u }
"""
TARGETS = pytest.mark.parametrize("target", ["torch", "native"])


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(SPEC)


def close(actual: Any, right: Any) -> None:
    torch.testing.assert_close(actual, right, rtol=1e-12, atol=1e-12)


def data(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=F64) * 2 + 1


@TARGETS
@pytest.mark.parametrize("name", ["Tracked", "Clause"])
def test_running_statistics_are_those_of_torch(norms: ModuleType, name: str, target: str) -> None:
    momentum = {"Tracked": 0.1, "Clause": 0.2}[name]
    ours = getattr(norms, name)(3, dtype=F64)
    theirs = nn.BatchNorm1d(3, momentum=momentum, affine=name == "Clause", dtype=F64)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    with runtime.use(target):  # type: ignore[arg-type]
        for _ in range(3):
            x = data(4, 3, 5)
            close(ours(x), theirs(x))
            close(ours.state_dict(), theirs.state_dict())
        x = data(1, 3, 2)
        close(ours.eval()(x), theirs.eval()(x))
    close(ours.state_dict(), theirs.state_dict())


@TARGETS
def test_a_momentum_of_none_averages_all_batches(norms: ModuleType, target: str) -> None:
    norm, seen = norms.Average(3, dtype=F64), []
    with runtime.use(target):  # type: ignore[arg-type]
        for number in range(1, 4):
            x = data(4, 3)
            close(norm(x), x - x.mean(0))
            seen.append(x.mean(0))
            close(norm.running_mean, torch.stack(seen).mean(0))
            assert norm.num_batches_tracked == number
        x = data(2, 3)
        close(norm.eval()(x), x - torch.stack(seen).mean(0))


@TARGETS
def test_other_axes_are_averaged_over(norms: ModuleType, target: str) -> None:
    norm, x = norms.Instances(3, dtype=F64), data(4, 3, 5)
    with runtime.use(target):  # type: ignore[arg-type]
        close(norm(x), nn.functional.instance_norm(x))
    close(norm.running_mean, 0.5 * x.mean(2).mean(0))
    close(norm.running_var, 0.5 + 0.5 * x.var(2).mean(0))
    y = norm.eval()(x)
    close(y, (x - norm.running_mean[:, None]) / torch.sqrt(norm.running_var[:, None] + 1e-5))


def test_further_statistics_are_named_after_their_values(norms: ModuleType) -> None:
    norm, x = norms.Several(3, dtype=F64), data(4, 3, 5)
    norm(x)
    variance, total = x.var((0, 2)), x.mean((0, 2))
    state = norm.state_dict()
    assert list(state) == [
        "mean_weight", "var_weight", "running_mean", "running_var", "second_running_var",
        "num_batches_tracked",
    ]  # fmt: skip
    close(state["running_mean"], 0.1 * total)
    close(state["running_var"], 0.9 + 0.1 * variance)
    close(state["second_running_var"], 0.7 + 0.3 * variance)


@TARGETS
def test_each_label_has_statistics_of_its_own(norms: ModuleType, target: str) -> None:
    """One that a batch lacks keeps what it had."""
    norm, x, label = (
        norms.OfLabels(c=2, num_classes=3, dtype=F64),
        data(5, 2),
        torch.tensor([2, 0, 2, 2, 0]),
    )
    with runtime.use(target):  # type: ignore[arg-type]
        y = norm(x, label)
        zero, two = x[label == 0], x[label == 2]
        mean = torch.stack((zero.mean(0), zero.mean(0), two.mean(0)))[label]
        var = torch.stack((zero.var(0, unbiased=False), zero[0], two.var(0, unbiased=False)))[label]
        close(y, x - mean + var)
        nothing = torch.zeros(2, dtype=F64)
        running = 0.1 * torch.stack((zero.mean(0), nothing, two.mean(0)))
        spread = torch.stack((0.9 + 0.1 * zero.var(0), nothing + 1, 0.9 + 0.1 * two.var(0)))
        close(norm.running_mean, running)
        close(norm.running_var, spread)
        label = torch.tensor([1, 2, 0, 0, 1])
        close(norm.eval()(x, label), x - running[label] + spread[label])


@TARGETS
def test_what_a_mask_leaves_is_tracked(norms: ModuleType, target: str) -> None:
    norm, x = norms.OfWhatCounts(3, dtype=F64), data(2, 3, 4)
    keep = torch.tensor([[True, False, True, True], [False, False, True, False]])
    inside = x.transpose(1, 2)[keep]
    with runtime.use(target):  # type: ignore[arg-type]
        norm(x, keep)
        close(norm.running_mean, 0.1 * inside.mean(0))
        close(norm.running_var, 0.9 + 0.1 * inside.var(0))
        before = {n: t.clone() for n, t in norm.state_dict().items()}
        y = norm(x, torch.zeros_like(keep))
        close(y, torch.zeros_like(x))
        close(norm.running_mean, before["running_mean"])
        close(norm.running_var, before["running_var"])
        y = norm.eval()(x, torch.zeros_like(keep))
        mean, var = norm.running_mean[:, None], norm.running_var[:, None]
        close(y, (x - mean) / torch.sqrt(var + 1e-5))


@TARGETS
@pytest.mark.parametrize("training", [True, False])
def test_without_statistics_evaluation_uses_the_batch(
    norms: ModuleType, target: str, training: bool
) -> None:
    """Of which nothing may count, so that the result is zero."""
    norm = norms.OfWhatCounts(3, track_running_stats=False, dtype=F64).train(training)
    assert not norm.state_dict()
    x, keep = data(2, 3, 4), torch.rand(2, 4) < 0.7
    inside = x.transpose(1, 2)[keep]
    with runtime.use(target):  # type: ignore[arg-type]
        close(norm(x, torch.zeros_like(keep)), torch.zeros_like(x))
        mean, var = inside.mean(0)[:, None], inside.var(0, unbiased=False)[:, None]
        close(norm(x, keep), (x - mean) / torch.sqrt(var + 1e-5))


@pytest.mark.parametrize("keeps", [True, False])
def test_groups_and_masks_together_are_counted(norms: ModuleType, keeps: bool) -> None:
    """The mask lacks the axis of the index: both decide how much counts."""
    norm = norms.SeveralMasked(2, 3, track_running_stats=keeps, dtype=F64)
    x, label, keep = data(5, 2, 4), torch.tensor([2, 0, 2, 2, 0]), torch.tensor([1, 0, 1, 1]) > 0
    y, right = norm(x, keep, label), torch.zeros_like(x)
    for k in (0, 2):
        inside = x[label == k][..., keep]
        mean, var = inside.mean((0, 2)), inside.var((0, 2), unbiased=False)
        right[label == k] += (mean + var)[:, None]
        if keeps:
            close(norm.running_mean[k], 0.3 * mean)
            close(norm.running_var[k], 0.7 + 0.3 * inside.var((0, 2)))
    kept = x[..., keep]
    right += (x - kept.mean(2, keepdim=True)) / torch.sqrt(
        kept.var(2, keepdim=True, unbiased=False) + 1e-5
    )
    close(y, right)
    if keeps:
        close(norm.running_var[1], torch.ones(2, dtype=F64))


def test_equal_statistics_are_kept_once(norms: ModuleType) -> None:
    norm, x = norms.Shared(3, dtype=F64), data(4, 3)
    theirs = nn.BatchNorm1d(3, affine=False, dtype=F64)
    close(norm(x), x.mean(0) + theirs(x))
    close(norm.state_dict(), theirs.state_dict())
    close(norm.eval()(x), norm.running_mean + 2 * theirs.eval()(x))


def test_a_statistic_that_is_multiplied_is_kept_as_it_is(norms: ModuleType) -> None:
    norm, x = norms.Reused(3, dtype=F64), data(4, 3)
    with torch.no_grad():
        norm.weight.fill_(3)
    close(norm(x).detach(), 3 * (2 * x + x.var(0, unbiased=False)))
    close(norm.running_var, 0.9 + 0.1 * x.var(0))


def test_switches_that_are_off_at_first(norms: ModuleType) -> None:
    assert not norms.OffAtFirst(3).state_dict()
    on = norms.OffAtFirst(3, affine=True, track_running_stats=True).state_dict()
    assert list(on) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]


@TARGETS
def test_they_are_off_in_a_call_that_does_not_turn_them_on(norms: ModuleType, target: str) -> None:
    off, on, x = norms.OffInACall(3), norms.OnInACall(3, dtype=F64), data(4, 3)
    assert not off.state_dict()
    theirs = nn.BatchNorm1d(3, dtype=F64)
    with torch.no_grad():
        theirs.weight.copy_(on.y_weight.fill_(3))
    with runtime.use(target):  # type: ignore[arg-type]
        close(off(x), 2 * nn.functional.batch_norm(x, None, None, training=True))
        for norm in (on, on.eval()):
            close(norm(x), 2 * theirs.train(norm.training)(x))
    close(on.y_running_mean, theirs.running_mean)


@TARGETS
def test_a_call_reads_a_buffer_before_it_is_updated(norms: ModuleType, target: str) -> None:
    norm, seen = norms.Kept(3, dtype=F64), torch.full((3,), 0.5, dtype=F64)
    with runtime.use(target):  # type: ignore[arg-type]
        for steps in range(3):
            x = data(4, 3)
            close(norm(x), x - seen * steps)
            seen = 0.9 * seen + 0.1 * x.mean(0)
            close(norm.seen, seen)
        close(norm.eval()(x), x - seen * 3)
        close(norm.seen, seen)


def test_random_first_values_are_those_of_torch(norms: ModuleType) -> None:
    torch.manual_seed(3)
    norm = norms.Random(4, std=0.5)
    torch.manual_seed(3)
    close(norm.w.detach(), torch.empty(2, 4).normal_(0, 0.5))
    close(norm.u.detach(), torch.empty(4).uniform_(-0.5, 0.5))


def test_intervals_are_projected_on(norms: ModuleType) -> None:
    norm = norms.Squeezed(3)
    with torch.no_grad():
        norm.p.copy_(torch.tensor([-1.0, 0.25, 7.0]))
    runtime.project_(norm)
    close(norm.p.detach(), torch.tensor([0.0, 0.25, 1.0]))


def test_a_call_brings_state_under_the_name_of_its_value(norms: ModuleType) -> None:
    norm, x = norms.Outer(3, dtype=F64), data(4, 3)
    theirs = nn.BatchNorm1d(3, dtype=F64)
    close(norm(x), x + theirs(x))
    renamed = {f"b_{n}": t for n, t in theirs.state_dict().items()}
    renamed["num_batches_tracked"] = renamed.pop("b_num_batches_tracked")
    close(dict(norm.state_dict()), renamed)


def test_a_norm_for_weights_begins_with_the_weight(norms: ModuleType) -> None:
    layer = nn.Linear(5, 4, dtype=F64)
    v = layer.weight.detach().clone()
    register_parametrization(layer, "weight", norms.OnWeight())
    parametrization = layer.parametrizations.weight[0]  # type: ignore[union-attr, index]
    close(parametrization.g.detach(), v.norm(dim=1))
    close(parametrization.u, 2 * v.mean(1))
    close(layer.weight.detach(), v)
    with torch.no_grad():
        parametrization.g.mul_(3)
    g, w = parametrization.g.detach().requires_grad_(), v.clone().requires_grad_()
    right = g[:, None] * w / w.norm(dim=1, keepdim=True)
    weigh = torch.randn_like(right)
    (layer.weight * weigh).sum().backward()
    (right * weigh).sum().backward()
    close(layer.parametrizations.weight.original.grad, w.grad)  # type: ignore[union-attr]
    close(parametrization.g.grad, g.grad)


@TARGETS
def test_a_spec_that_counts_a_pool_says_what_becomes_of_a_single_value(
    target: Any, norms: ModuleType
) -> None:
    norm = norms.Lenient(3, dtype=F64)
    x, one = data(5, 3), data(1, 3)
    mean, var = x.mean(0), x.var(0, correction=0)
    with runtime.use(target):
        close(norm(x), (x - mean) / (var + 1e-5).sqrt())
        close(norm(one), (one - mean) / (var + 1e-5).sqrt())  # by what the batch before has left
    close((norm.centre, norm.spread), (mean, var))
    with runtime.use(target), pytest.raises(runtime.ShapeError, match="more than 1 value"):
        norms.Clause(3, dtype=F64)(one)  # as torch's batch norm


@TARGETS
def test_any_statistic_is_tracked_from_any_number(norms: ModuleType, target: str) -> None:
    norm, x = norms.Largest(3, dtype=F64), data(4, 3, 5)
    begun = torch.full((3,), -2.0, dtype=F64), torch.ones(3, dtype=F64), torch.full((3,), 3.0)
    names = ["running_mean", "d_running_max", "second_running_rms"]
    for name, right in zip(names, begun):
        close(getattr(norm, name), right.to(F64))
    with runtime.use(target):  # type: ignore[arg-type]
        m = x.mean((0, 2), keepdim=True)
        d, r = (
            (x - m).abs().amax((0, 2), keepdim=True),
            x.square().mean((0, 2), keepdim=True).sqrt(),
        )
        close(norm(x), (x - m) / d + r)
        kept = (-1.8 + 0.1 * m, 0.9 + 0.1 * d, 1.5 + 0.5 * r)
        for name, right in zip(names, kept):
            close(getattr(norm, name), right.flatten())
        close(norm.eval()(x), (x - kept[0]) / kept[1] + kept[2])
    norm.reset_running_stats()
    close(norm.running_mean, begun[0])


def test_a_covariance_begins_as_an_identity(norms: ModuleType) -> None:
    """One for each group: evaluation before training leaves its input alone."""
    norm, x = norms.Whitened(6, dtype=F64), data(4, 6, 5)
    close(norm.running_mean, torch.eye(3, dtype=F64).repeat(2, 1))
    close(norm.eval()(x), x)
    parts = x.reshape(4, 2, 3, 5)
    products = torch.einsum("ngds,nges->ngde", parts, parts).mean(0)
    close(norm.train()(x), torch.einsum("gde,nges->ngds", products, parts).reshape(4, 6, 5))
    wanted = 0.9 * torch.eye(3, dtype=F64) + 0.1 * products
    close(norm.running_mean, wanted.reshape(6, 3))


@TARGETS
def test_updates_in_evaluation(norms: ModuleType, target: str) -> None:
    program = programs_of(SPEC)["Served"]
    target = route_of(target, program, "a buffer that changes in evaluation")
    norm = norms.Served(2, dtype=F64)
    turned, w = torch.eye(2, 3, dtype=F64), torch.eye(2, dtype=F64)
    close(norm.turned, turned)
    close(norm.w, w)
    calls, drift, both = 0, torch.zeros(2, dtype=F64), 0
    with runtime.use(target), torch.no_grad():  # type: ignore[arg-type]
        for training in (True, False, False, True, False):
            x = data(4, 2)
            close(norm.train(training)(x), x - drift + calls + turned.sum(1) + w[:, 1])
            if training:
                both += 1
            else:
                both -= calls
                drift = 0.9 * drift + 0.1 * x.mean(0)
            calls += 1
            close(norm.drift, drift)
            assert (norm.calls, norm.both) == (calls, both)


def by_first(x: Tensor, offset: Tensor, size: Tensor, most: Tensor) -> Tensor:
    return (x + offset[:, None]) / size[:, None] + most


@TARGETS
def test_values_come_from_the_first_batch_in_training(norms: ModuleType, target: str) -> None:
    norm = norms.FromFirst(3, dtype=F64)
    x, keep = data(4, 3, 5), torch.tensor([True, False, True, True])
    with runtime.use(target):  # type: ignore[arg-type]
        zero, two = torch.zeros(3, dtype=F64), torch.full((3,), 2.0, dtype=F64)
        close(norm.eval()(x, keep), by_first(x, zero, two, torch.tensor(0.0, dtype=F64)))
        norm.train()(data(0, 3, 5))  # of which there is nothing to learn
        offset = -x[keep].mean((0, 2))
        size = ((-offset).exp() * (x.std((0, 2), correction=0) + 1e-5)).clamp(0.1, 10)
        assert not norm.has_begun
        close(norm(x, keep), by_first(x, offset, size, x.abs().max()))
        assert norm.has_begun
        y = data(4, 3, 5)
        close(norm(y), by_first(y, offset, size, x.abs().max()))
    close(norm.offset.detach(), offset)
    state = norm.state_dict()
    assert list(state) == ["offset", "size", "most", "_extra_state"]
    other = norms.FromFirst(3, dtype=F64)
    other.load_state_dict(state)
    close(other(y), norm(y))
    other.reset_parameters()
    assert not other.has_begun
    close(other(y, keep), norms.FromFirst(3, dtype=F64)(y, keep))


def test_gradients_of_the_first_batch_are_those_of_any(norms: ModuleType) -> None:
    norm, x = norms.FromFirst(3, dtype=F64), data(4, 3, 5).requires_grad_()
    norm(x).square().sum().backward()
    again = x.detach().clone().requires_grad_()
    offset, size = (p.detach().clone().requires_grad_() for p in (norm.offset, norm.size))
    by_first(again, offset, size, norm.most).square().sum().backward()
    close(x.grad, again.grad)
    close([norm.offset.grad, norm.size.grad], [offset.grad, size.grad])


def test_a_norm_that_is_called_takes_the_values_of_its_own_input(norms: ModuleType) -> None:
    norm, x = norms.Inside(3, dtype=F64), data(4, 3)
    y = norm(x)
    offset = -2 * x.mean(0)
    size = ((-offset).exp() * (2 * x.std(0, correction=0) + 1e-5)).clamp(0.1, 10)
    close(norm.y_offset.detach(), offset)
    close(y, (2 * x + offset) / size + 2 * x.abs().max() + 1)


@TARGETS
def test_a_momentum_may_be_computed(norms: ModuleType, target: str) -> None:
    norm, rate = norms.Rated(3, dtype=F64), 0.5
    mean, var, largest = torch.zeros(3, dtype=F64), torch.ones(3, dtype=F64), torch.full((3,), 3.0)
    with runtime.use(target):  # type: ignore[arg-type]
        for rows in (4, 3, 2):
            x = data(rows, 3)
            y = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt() + x.abs().amax(0)
            close(norm(x), y)
            mean = mean + (rate + 0.1 * rows) * (x.mean(0) - mean)
            var = var + (rate + 0.1 * rows) * (x.var(0) - var)
            largest = largest + (x.abs().amax(0) - largest) / (1 + rate)
            rate /= 2
    actual = [norm.source_mean, norm.source_var, norm.other_max]
    close(actual, [mean, var, largest])
    assert norm.num_batches_tracked == 3
    x = data(2, 3)
    close(norm.eval()(x), (x - mean) / (var + 1e-5).sqrt() + largest)


def test_a_clause_names_its_statistics(norms: ModuleType) -> None:
    state = norms.ClauseInto(3).state_dict()
    assert list(state) == ["target_mean", "target_var", "num_batches_tracked"]


def test_statistics_of_one_name_are_kept_apart_where_they_differ(norms: ModuleType) -> None:
    """Two quantiles of one value, and its variances by both divisors; what is written twice is
    kept once."""
    norm, x = norms.Kinds(3, dtype=F64), data(5, 3)
    low, high = (torch.quantile(x, q, 0) for q in (0.1, 0.9))
    y, biased, unbiased, again = norm(x)
    close(y, (x - low) / (high - low + 1e-5))
    close([biased, unbiased, again], [x.var(0, correction=0), x.var(0), biased])
    names = ["running_quantile", "high_running_quantile"]
    names += ["biased_running_var", "unbiased_running_var"]
    assert [n for n, _ in norm.named_buffers()] == [*names, "num_batches_tracked"]
    low, high = low / 4, high / 4
    close([norm.running_quantile, norm.high_running_quantile], [low, high])
    y, biased, unbiased, again = norm.eval()(x)
    close(y, (x - low) / (high - low + 1e-5))
    close([biased, again], [norm.biased_running_var] * 2)
    close(unbiased, norm.unbiased_running_var)
