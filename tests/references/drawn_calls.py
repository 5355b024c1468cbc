"""Calls of drawn norms: tensors for them, and how far a module is from its reference."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from drawn_expressions import Call
from drawn_norms import DrawnNorm, Input
from named_axes import Named, nearly, rounded, values_of_variances
from torch import Tensor

from metanorm import runtime
from metanorm.runtime.native.calls import runs

F64 = torch.float64
TOLERANCE = {F64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 3e-2}
ROUNDING = {F64: 1e-15, torch.float32: 1e-6, torch.bfloat16: 1e-6}
ZEROS = 0.25  # how many weights are zero, in some calls
TOO_FEW = "Expected more than 1 value"  # as layers of torch refuse in training
GRADIENT, DIFFERENTIABLE = "gradient", "differentiable gradient"  # that can be derived again
KNOWN_LENGTHS = {"G": 3, "D": 4, "K": 3}


class Mismatch(AssertionError):
    """A module and its reference differ."""


@dataclass
class Kernels:
    """How many calls kernels in C have served."""

    forward: int = 0
    backward: int = 0


@contextmanager
def counted() -> Iterator[Kernels]:
    """Count the kernels that run in a `with`."""
    kernels, before = Kernels(), tuple(runs)
    yield kernels
    kernels.forward, kernels.backward = (now - then for now, then in zip(runs, before))


@dataclass
class Checked:
    """What became of one drawn norm."""

    seed: int
    calls: int = 0
    vague: int = 0  # tensors that differ, and that rounding moves too far to say why
    tensors: int = 0
    refused: int = 0
    kernels: Kernels = field(default_factory=Kernels)


# ---- tensors for a call


@dataclass
class Given:
    """The arguments of a call, and the lengths of all axes."""

    tensors: dict[str, Tensor]
    sizes: dict[str, int]
    spatial: tuple[int, ...]
    left_out: frozenset[str]


def lengths(norm: DrawnNorm, r: Random) -> tuple[dict[str, int], tuple[int, ...]]:
    """A length for each axis; `*S` and `*B` stand for the product of some."""
    spatial = tuple(r.choice((2, 3, 4)) for _ in range(r.choice((0, 1, 1, 2, 2))))
    sizes = dict(norm.tables)
    for axis in norm.layout.axes:
        if axis.startswith("*"):
            if axis == "*B" and not spatial:
                spatial = (3,)
            sizes[axis] = math.prod(spatial)
        elif axis in KNOWN_LENGTHS:
            sizes[axis] = KNOWN_LENGTHS[axis]
        else:
            sizes[axis] = r.choice((4, 4, 8)) if axis in norm.layout.cut else r.choice((2, 3, 5))
    if "V" in sizes:
        sizes["V"] = r.choice((5, 7, 9))
    return sizes, spatial


def shape_of(
    axes: tuple[str, ...], given_sizes: dict[str, int], spatial: tuple[int, ...]
) -> list[int]:
    lengths: list[int] = []
    for before, axis in zip(("", *axes), axes):
        if before == "G" and axis == "D":  # two parts of one dimension
            lengths[-1] *= given_sizes[axis]
        else:
            lengths += spatial if axis.startswith("*") else (given_sizes[axis],)
    return lengths


def laid_out(tensor: Tensor, r: Random) -> Tensor:
    """The same numbers in other places: in pieces, repeated, in another order."""
    kind = r.choice(("plain", "plain", "plain", "pieces", "order", "offset", "repeated"))
    if kind == "pieces" and tensor.dim():
        room = torch.zeros(*tensor.shape[:-1], 2 * tensor.shape[-1], dtype=tensor.dtype)
        room[..., ::2] = tensor
        return room[..., ::2]
    if kind == "order" and tensor.dim() > 1:
        order = list(range(tensor.dim()))
        r.shuffle(order)
        back = [order.index(i) for i in range(tensor.dim())]
        return tensor.permute(order).contiguous().permute(back)
    if kind == "offset":
        room = torch.zeros(tensor.numel() + 3, dtype=tensor.dtype)
        room[3:] = tensor.flatten()
        return room[3:].view(tensor.shape)
    if kind == "repeated" and tensor.dim() and tensor.numel():
        axis = r.randrange(tensor.dim())
        return tensor.narrow(axis, 0, 1).expand(tensor.shape)
    return tensor


def drawn_inputs(
    norm: DrawnNorm, r: Random, dtype: torch.dtype, like: Given | None = None
) -> Given:
    """Random arguments; of the fixed lengths of another call, if there was one."""
    torch.manual_seed(r.randrange(2**31))
    sizes, spatial = lengths(norm, r)
    if like is not None:
        fixed = {a for _, axes in norm.layout.fixed for a in axes}
        sizes |= {a: n for a, n in like.sizes.items() if a in fixed}
    tensors = {}
    for item in norm.inputs:
        shape = shape_of(item.axes, sizes, spatial)
        tensors[item.name] = argument(item, shape, sizes, r, dtype)
    left_out = {i.name for i in norm.inputs if i.default is not None and r.random() < 0.4}
    return Given(tensors, sizes, spatial, frozenset(left_out))


def argument(
    item: Input, shape: list[int], sizes: dict[str, int], r: Random, dtype: torch.dtype
) -> Tensor:
    if item.sort == "mask":
        return laid_out(torch.rand(shape) < r.choice((0.3, 0.6, 0.9)), r)
    if item.sort == "weight":
        weight = torch.rand(shape, dtype=F64) + 0.2
        share = r.choice((0.0, ZEROS)) if item.zeros else 0.0
        weight = torch.where(torch.rand(shape) < share, 0.0, weight)
        return laid_out(weight.to(dtype), r)
    if item.sort in ("rows", "index"):
        return torch.randint(0, 3, shape)
    if item.sort == "offsets":  # of some segments, of which some are empty
        ends = sorted(r.randrange(shape[0] + 1) for _ in range(r.choice((0, 1, 2, 3))))
        return torch.tensor([0, *ends, shape[0]], dtype=r.choice((torch.int64, torch.int32)))
    if item.sort == "whole":
        return torch.randint(0, 6, shape)
    if item.sort == "edges":
        n = sizes["V"]
        return torch.randint(0, n, (2, r.choice((0, n, 2 * n))))
    if item.sort == "matrix":
        n = shape[0]
        matrix = torch.rand(n, n, dtype=F64) + 0.1
        matrix = torch.where(torch.rand(n, n) < 0.3, 0.0, matrix)
        matrix = matrix + torch.eye(n) * 0.5
        return (matrix / matrix.sum(1, keepdim=True)).to(dtype)
    scale, centre = r.choice(((1, 0), (1, 0), (2, 1), (0.3, -3)))
    return laid_out((torch.randn(shape, dtype=F64) * scale + centre).to(dtype), r)


# ---- one call, by reference and by module


@dataclass
class Outcome:
    """Outputs, gradients and state after a call, by name."""

    results: dict[str, Tensor]
    state: dict[str, Tensor]


def by_reference(
    norm: DrawnNorm, g: Given, leaves: dict[str, Tensor], state: dict[str, Tensor],
    training: bool, cotangents: list[Tensor] | None,
) -> tuple[Outcome, list[Tensor]]:  # fmt: skip
    copies = {n: nearly(t.detach().to(F64)).requires_grad_() for n, t in leaves.items()}
    values: dict[str, Named] = {}

    def put(name: str, tensor: Tensor, axes: tuple[str, ...]) -> None:
        values[name] = Named(tensor.reshape([g.sizes[a] for a in axes]), axes)

    edges = {}
    for item in norm.inputs:
        name = item.name
        if name in g.left_out:
            if isinstance(item.default, str) and item.sort == "tensor":
                values[name] = Named(values["x"].tensor, values["x"].axes)
            else:
                full = 1.0 if item.sort == "mask" else float(item.default)  # type: ignore[arg-type]
                put(name, torch.full([g.sizes[a] for a in item.axes], full, dtype=F64), item.axes)
        elif item.sort == "offsets":
            lengths_of = g.tensors[name].diff().tolist()
            labels = [k for k, n in enumerate(lengths_of) for _ in range(n)]
            put(name, torch.tensor(labels), item.axes)
        elif item.sort == "edges":
            edges[name] = g.tensors[name]
        elif item.sort == "matrix":
            values[name] = Named(copies[name], (item.axes[0], f"{item.axes[0]} counted"))
        elif item.sort == "mask":
            put(name, g.tensors[name].to(F64), item.axes)
        else:
            put(name, copies[name] if name in copies else g.tensors[name], item.axes)
    for name, (axes, first) in norm.params.items():  # one that is switched off is as it begins
        off = torch.full([g.sizes[a] for a in axes], first, dtype=F64)
        put(name, copies.get(name, off), axes)
    for name, (axes, _) in norm.buffers.items():
        if name in state:
            put(name, state[name].to(F64), axes)
    keeps = "num_batches_tracked" in state
    if keeps:
        values["num_batches_tracked"] = Named(state["num_batches_tracked"])
    call = Call(values, g.sizes, norm.hypers, training, keeps, edges)
    for step in norm.steps:
        step(call)
    outputs = []
    for position, (_, e) in enumerate(norm.outputs):
        result = e.run(call)
        axes = norm.layout.axes if position == 0 else declared(norm, e.text, e.axes)
        tensor = result.spread(axes, g.sizes).to(F64)
        outputs.append(tensor.reshape(shape_of(axes, g.sizes, g.spatial)) if position else
                       tensor.reshape(g.tensors["x"].shape))  # fmt: skip
    if cotangents is None:
        cotangents = [torch.randn(o.shape, dtype=F64) for o in outputs]
    actual = {f"output {n}": o.detach() for (n, _), o in zip(norm.outputs, outputs)}
    total = sum((o * c).sum() for o, c in zip(outputs, cotangents))
    if isinstance(total, Tensor) and total.requires_grad:
        gradients = torch.autograd.grad(total, list(copies.values()), allow_unused=True)
        for (name, leaf), gradient in zip(copies.items(), gradients):
            for what in (GRADIENT, DIFFERENTIABLE):
                actual[f"{what} of {name}"] = (
                    torch.zeros_like(leaf) if gradient is None else gradient
                )
    new = {n: t.clone() for n, t in state.items()}
    for name, tensor in call.new_state.items():
        new[name] = tensor.reshape(state[name].shape)
    if keeps and training and norm.counts_batches:
        new["num_batches_tracked"] = state["num_batches_tracked"] + 1
    return Outcome(actual, new), cotangents


def declared(norm: DrawnNorm, text: str, axes: frozenset[str]) -> tuple[str, ...]:
    """The order of the axes of a further output: as it was declared, else as in the input."""
    for item in norm.inputs:
        if item.name == text:
            return item.axes
    if text in norm.params:
        return norm.params[text][0]
    if text in norm.buffers:
        return norm.buffers[text][0]
    return tuple(a for a in norm.layout.axes if a in axes)


def by_module(
    norm: DrawnNorm, module: Any, g: Given, leaves: dict[str, Tensor], cotangents: list[Tensor],
    dtype: torch.dtype,
) -> Outcome:  # fmt: skip
    params = dict(module.named_parameters())
    leaves_of_norm: dict[str, Tensor] = {}
    arguments: dict[str, Tensor | None] = {}
    for item in norm.inputs:
        if item.name in g.left_out:
            arguments[item.name] = None
            continue
        tensor = g.tensors[item.name]
        if item.name in leaves:
            tensor = leaves_of_norm[item.name] = tensor.detach().requires_grad_()
        arguments[item.name] = tensor
    for name in params:
        leaves_of_norm[name] = params[name]
        leaves_of_norm[name].grad = None
    result = module(**arguments)
    outputs = [result] if len(norm.outputs) == 1 else list(result)
    actual = {f"output {n}": o.detach() for (n, _), o in zip(norm.outputs, outputs)}
    for (name, _), output in zip(norm.outputs[:1], outputs):
        if output.dtype != dtype:
            raise Mismatch(f"output {name} is of {output.dtype}")
    pairs = [(o, c.to(o.dtype)) for o, c in zip(outputs, cotangents) if o.requires_grad]
    for (_, c), o in zip(pairs, outputs):
        if o.shape != c.shape:
            raise Mismatch(f"an output has shape {tuple(o.shape)}, not {tuple(c.shape)}")
    if pairs:
        results, weights = [o for o, _ in pairs], [c for _, c in pairs]
        again = torch.autograd.grad(
            results, list(leaves_of_norm.values()), weights, create_graph=True, allow_unused=True
        )
        torch.autograd.backward(results, weights)
        for (name, leaf), differentiable in zip(leaves_of_norm.items(), again):
            for what, gradient in ((GRADIENT, leaf.grad), (DIFFERENTIABLE, differentiable)):
                actual[f"{what} of {name}"] = (
                    torch.zeros_like(leaf) if gradient is None else gradient.detach()
                )
    state = {n: b.detach().clone() for n, b in module.named_buffers()}
    return Outcome(actual, state)


# ---- agreement


def agree(what: str, actual: Tensor, right: Tensor, moved: Tensor, dtype: torch.dtype) -> bool:
    """Whether two tensors agree; False where they do not, and rounding alone may be why."""
    if actual.shape != right.shape:
        raise Mismatch(f"{what} has shape {tuple(actual.shape)}, not {tuple(right.shape)}")
    if not right.numel():
        return True
    scale = right.abs().max().item()
    tolerance = TOLERANCE[dtype] * max(scale, 1)
    error = (actual.to(F64) - right).abs()
    worst = error.max().item()
    if worst <= tolerance:
        return True
    drift = (moved - right).abs().max().item() * (100 if dtype == F64 else 30)
    if not drift <= (1e-4 if dtype == F64 else 0.3) * max(scale, 1):
        return False
    if not worst <= tolerance + drift:
        at = tuple(
            int(i) for i in torch.unravel_index(error.nan_to_num(torch.inf).argmax(), error.shape)
        )
        raise Mismatch(
            f"{what} is off by {worst:.3g}: {actual[at].item()!r} for {right[at].item()!r} at {at} "
            f"(allowed {tolerance + drift:.3g})"
        )
    return True


def check(
    norm: DrawnNorm, cls: Callable[..., Any], dtype: torch.dtype = F64,
    targets: tuple[str, ...] = ("torch", "auto"),
) -> Checked:  # fmt: skip
    """Call a norm in training, again with other data, and in evaluation; raise `Mismatch`.

    A call that is refused is the last. It may be where a variance is that of a single value.
    """
    r = Random(norm.seed)
    done = Checked(norm.seed)
    calls = [drawn_inputs(norm, r, dtype)]
    calls += [drawn_inputs(norm, r, dtype, calls[0]) for _ in range(2)]
    signature = inspect.signature(cls).parameters
    sizes = {"num_c": calls[0].sizes.get("C", 12)}
    arguments = {**norm.required, **sizes, "dtype": dtype}
    off = {"track_running_stats": norm.tracks and r.random() < 0.25,
           "affine": norm.has_affine and r.random() < 0.15}  # fmt: skip
    arguments |= {n: False for n, is_off in off.items() if is_off}
    arguments = {n: v for n, v in arguments.items() if n in signature}
    modules = {target: cls(**arguments) for target in targets}
    first = modules[targets[0]]
    begin(norm, first, calls[0], arguments)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=F64) * 0.5 + 0.6)
    for module in modules.values():
        module.load_state_dict(first.state_dict())
    state = {n: b.detach().clone() for n, b in first.named_buffers()}
    for number, g in enumerate(calls):
        training = number < 2
        leaves = {
            n: t for n, t in g.tensors.items() if t.is_floating_point() and n not in g.left_out
        }
        leaves |= {n: p.detach() for n, p in first.named_parameters()}
        with values_of_variances() as values:
            right, cotangents = by_reference(norm, g, leaves, state, training, None)
        fewest = min(values, default=2)
        cotangents = [c.to(dtype).to(F64) for c in cotangents]
        right, _ = by_reference(norm, g, leaves, state, training, cotangents)
        with rounded(ROUNDING[dtype]):
            moved, _ = by_reference(norm, g, leaves, state, training, cotangents)
        for target, module in modules.items():
            module.train(training)
            with runtime.use(target), counted() as kernels:  # type: ignore[arg-type]
                try:
                    got = by_module(norm, module, g, leaves, cotangents, dtype)
                except runtime.ShapeError as error:
                    if TOO_FEW not in str(error) or fewest > 1:
                        raise
                    done.refused = 1
                    return done
            done.kernels.forward += kernels.forward
            done.kernels.backward += kernels.backward
            where = f"{'training' if training else 'evaluation'}, call {number}, {target}"
            for side, wanted, noisy in (
                (got.results, right.results, moved.results), (got.state, right.state, moved.state)
            ):  # fmt: skip
                for name, tensor in wanted.items():
                    done.tensors += 1
                    if name not in side:
                        if tensor.abs().max() > 1e-12 * (1 + scale_of(wanted)):
                            raise Mismatch(f"{where}: no {name}")
                        continue
                    if not agree(f"{where}: {name}", side[name], tensor, noisy[name], dtype):
                        done.vague += 1
        # Both go on from what is right, so that one mistake is not found twice.
        state = {n: t.to(state[n].dtype) for n, t in right.state.items()}
        for module in modules.values():
            with torch.no_grad():
                for name, buffer in module.named_buffers():
                    buffer.copy_(state[name])
        done.calls += 1
    return done


def scale_of(tensors: dict[str, Tensor]) -> float:
    return max((t.abs().max().item() for t in tensors.values() if t.numel()), default=0.0)


def begin(norm: DrawnNorm, module: Any, g: Given, arguments: Mapping[str, Any]) -> None:
    """Names, shapes and first values of parameters and buffers."""
    keeps = norm.tracks and arguments.get("track_running_stats", True)
    wanted = {**norm.params, **norm.buffers}
    if norm.has_affine and not arguments.get("affine", True):
        wanted = {n: v for n, v in wanted.items() if n not in ("weight", "bias")}
    if not keeps:
        wanted = {n: v for n, v in wanted.items() if "running_" not in n}
    names = set(wanted) | ({"num_batches_tracked"} if keeps else set())
    state = dict(module.state_dict())
    if set(state) != names:
        raise Mismatch(f"the state has {sorted(state)}, not {sorted(names)}")
    for name, (axes, value) in wanted.items():
        shape = shape_of(axes, g.sizes, g.spatial)
        if list(state[name].shape) != shape:
            raise Mismatch(f"{name} has shape {tuple(state[name].shape)}, not {tuple(shape)}")
        if not (state[name] == value).all():
            raise Mismatch(f"{name} begins with {state[name]}, not {value}")
