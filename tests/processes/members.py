"""What each process of a team does. Every function gets the group and the rank first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from pieces import Piece, module_at, norm_of, run
from torch import Tensor

from metanorm import runtime
from metanorm.ir.program import Program
from metanorm.verify.cases import Example, Setting


def synchronized(
    group: Any,
    rank: int,
    path: str,
    program: Program,
    parts: list[Example],
    setting: Setting,
    weights: list[dict[str, Tensor]],
    when: str = "train",
    target: str = "auto",
) -> dict[str, Tensor]:
    """A call of a norm that takes its samples from all processes."""
    norm = norm_of(path, program, parts[rank], setting)
    runtime.convert_sync(norm, group, when=when)
    with runtime.use(target):
        actual = run(norm, program, parts[rank], weights[rank])
    return added(group, actual)


def added(group: Any, actual: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with gradients of parameters added up, as DDP does but for a factor."""
    done = dict(actual)
    for name in sorted(done):
        if name.startswith("gradient of parameter"):
            done[name] = done[name].double()
            dist.all_reduce(done[name], group=group)
    return done


def sharded(
    group: Any,
    rank: int,
    path: str,
    program: Program,
    parts: list[Piece],
    axes: list[str],
    weights: list[dict[str, Tensor]],
    training: bool,
    target: str = "auto",
) -> dict[str, Tensor]:
    """A call of a norm of which each process has pieces of some axes, parameters included."""
    part = parts[rank]
    norm = getattr(module_at(path), program.name)(**part.arguments).double()
    with torch.no_grad():
        for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
            tensor.copy_(part.state[name])
    runtime.shard(norm.train(training), dict.fromkeys(axes, group), reduce_gradients="sum")
    with runtime.use(target):
        return run(norm, program, part, weights[rank])


def distributed(
    group: Any,
    rank: int,
    path: str,
    program: Program,
    example: Example,
    setting: Setting,
    weights: dict[str, Tensor],
    placements: list[Any],
    mesh_shape: tuple[int, ...] | None = None,
) -> tuple[dict[str, Tensor], dict[str, str], bool] | str:
    """A call with `DTensor`s, of which the first input is placed so, and all others everywhere.

    Returns results as whole tensors, the placements of outputs and gradients, and whether each
    process computed its pieces; or what torch cannot do.
    """
    from torch.distributed.tensor import Replicate, distribute_module, distribute_tensor

    mesh = _mesh(group, mesh_shape)
    norm = norm_of(path, program, example, setting)
    distribute_module(norm, mesh)
    everywhere = [Replicate()] * mesh.ndim
    inputs = {
        name: x if x is None else distribute_tensor(x, mesh, everywhere if i else placements)
        for i, (name, x) in enumerate(example.inputs.items())
    }
    inputs = {n: _leaf(x) for n, x in inputs.items()}
    counts = {f"{name}_size": n for name, n in example.groups.items() if inputs[name] is not None}
    try:
        with runtime.use("torch"), _recorded_pieces() as on_pieces:
            result = norm(**inputs, **counts)
    except NotImplementedError as error:
        return str(error)
    outputs = [result] if isinstance(result, Tensor) else list(result)
    actual = {f"output {name}": y for (name, _), y in zip(program.outputs, outputs)}
    whole = {name: distribute_tensor(w, mesh, everywhere) for name, w in weights.items()}
    sum((y * whole[name]).sum() for name, y in actual.items()).backward()  # type: ignore[union-attr]
    leaves = {f"input {n}": x for n, x in inputs.items() if x is not None}
    leaves |= {f"parameter {n}": p for n, p in norm.named_parameters()}
    actual |= {f"gradient of {n}": x.grad for n, x in leaves.items() if x.grad is not None}
    where = {name: str(value.placements) for name, value in actual.items()}
    actual |= {f"buffer {n}": b for n, b in norm.named_buffers()}
    return {n: x.detach().full_tensor() for n, x in actual.items()}, where, bool(on_pieces)


def compiled(
    group: Any,
    rank: int,
    path: str,
    program: Program,
    example: Example,
    setting: Setting,
    weights: dict[str, Tensor],
    dim: int,
) -> dict[str, Tensor]:
    """What a graph without breaks of a norm gives for a `DTensor`."""
    from torch.distributed.tensor import Replicate, Shard, distribute_module, distribute_tensor

    mesh = _mesh(group, None)
    torch.compiler.reset()
    norm = norm_of(path, program, example, setting)
    distribute_module(norm, mesh)
    inputs = {
        name: x if x is None else distribute_tensor(x, mesh, [Replicate() if i else Shard(dim)])
        for i, (name, x) in enumerate(example.inputs.items())
    }
    inputs = {n: _leaf(x) for n, x in inputs.items()}
    y = torch.compile(norm, backend="aot_eager", fullgraph=True)(**inputs)
    whole = distribute_tensor(weights["output output"], mesh, [Replicate()])
    (y * whole).sum().backward()
    leaves = {f"input {n}": x for n, x in inputs.items() if x is not None}
    leaves |= {f"parameter {n}": p for n, p in norm.named_parameters()}
    actual = {f"gradient of {n}": x.grad for n, x in leaves.items() if x.grad is not None}
    actual |= {"output output": y, **{f"buffer {n}": b for n, b in norm.named_buffers()}}
    return {n: x.detach().full_tensor() for n, x in actual.items()}  # type: ignore[attr-defined]


def messages_of(
    group: Any, rank: int, path: str, program: Program, example: Example, setting: Setting, dim: int
) -> tuple[int, int]:
    """How many collectives a call with a `DTensor` runs, and how many its backward pass."""
    from torch.distributed.tensor import Shard, distribute_module, distribute_tensor
    from torch.distributed.tensor.debug import CommDebugMode

    mesh = _mesh(group, None)
    norm = norm_of(path, program, example, setting)
    distribute_module(norm, mesh)
    (x,) = (x for x in example.inputs.values() if x is not None)
    leaf = distribute_tensor(x, mesh, [Shard(dim)]).requires_grad_()
    with runtime.use("torch"), CommDebugMode() as forward:
        y = norm(leaf)
    seed = distribute_tensor(torch.ones_like(x), mesh, [Shard(dim)])
    with CommDebugMode() as backward:
        y.backward(seed)
    return forward.get_total_counts(), backward.get_total_counts()


def _leaf(x: Tensor | None) -> Tensor | None:
    return x.requires_grad_() if x is not None and x.is_floating_point() else x


def _mesh(group: Any, shape: tuple[int, ...] | None) -> Any:
    from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

    return init_device_mesh("cpu", shape) if shape else DeviceMesh.from_group(group, "cpu")


@contextmanager
def _recorded_pieces() -> Iterator[list[str]]:
    """A list that has a word for each call that was computed piece by piece."""
    from metanorm.runtime import distributed as module

    calls: list[str] = []
    original = module.call_on_pieces

    def recorded(*arguments: Any) -> Any:
        result = original(*arguments)
        calls.append("pieces")
        return result

    module.call_on_pieces = recorded
    try:
        yield calls
    finally:
        module.call_on_pieces = original


def optimized(
    group: Any, rank: int, path: str, program: Program, example: Example, setting: Setting
) -> dict[str, Tensor]:
    """Parameters of a norm after two steps, with gradients clipped; samples are divided if there
    is a group of several processes."""
    from torch.distributed.tensor import Shard, distribute_module, distribute_tensor

    norm = norm_of(path, program, example, setting)
    (x,) = (x for x in example.inputs.values() if x is not None)
    if group is not None:
        mesh = _mesh(group, None)
        distribute_module(norm, mesh)
        x = distribute_tensor(x, mesh, [Shard(0)])
    optimizer = torch.optim.AdamW(norm.parameters(), lr=0.1)
    with runtime.use("torch"):
        for _ in range(2):
            optimizer.zero_grad()
            norm(x).pow(3).sum().backward()
            torch.nn.utils.clip_grad_norm_(norm.parameters(), 0.5)
            optimizer.step()
    whole = lambda p: p.full_tensor() if hasattr(p, "full_tensor") else p  # noqa: E731
    return {name: whole(p).detach() for name, p in norm.named_parameters()}


def with_buffers_on_another_mesh(
    group: Any, rank: int, path: str, program: Program, example: Example, setting: Setting
) -> str:
    """The exception of a call in pieces whose buffers are on another mesh than its data."""
    from torch.distributed.tensor import Replicate, distribute_module, distribute_tensor

    from metanorm.runtime.processes.distributed_tensors import call_on_pieces

    mesh, other = _mesh(group, None), _mesh(group, (2, 1))
    norm = norm_of(path, program, example, setting)
    buffers = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    distribute_module(norm, mesh)
    for name, buffer in buffers.items():
        norm._buffers[name] = distribute_tensor(buffer, other, [Replicate(), Replicate()])
    inputs = [
        distribute_tensor(x, mesh, [Replicate()]) for x in example.inputs.values() if x is not None
    ]
    try:
        call_on_pieces(norm, inputs, {})
    except Exception as error:
        return type(error).__name__
    return "none"


def gradients_beside_what_is_fixed(
    group: Any, rank: int, text: str, shards: Sequence[int], targets: Sequence[str], frozen: bool
) -> dict[str, Tensor | None]:
    """The gradients of one call of a norm of three channels, of samples that may be frozen."""
    import metanorm

    norm = runtime.convert_sync(metanorm.loads(text).A(3), group)
    x, arriving = torch.randn(2, sum(shards), 3, generator=torch.Generator().manual_seed(3))
    start = sum(shards[:rank])
    leaf = x[start : start + shards[rank]].clone().requires_grad_(not frozen)
    with runtime.use(targets[rank]):  # type: ignore[arg-type]
        y = norm(leaf)
        (y * arriving[start : start + shards[rank]]).sum().backward()
    gradients = {name: p.grad for name, p in norm.named_parameters()}
    return {"x": leaf.grad, **gradients}


def gradients_of_weights(
    group: Any, rank: int, x: Tensor, weight: Tensor, arriving: Tensor, target: str
) -> Tensor:
    """The gradient of the weights of the samples of this process, of which it has two."""
    import metanorm

    text = "norm A(eps = 1e-5) { input x[N, C], w[N] = 1  output normalize(x over N weight w) }"
    norm = runtime.convert_sync(metanorm.loads(text).A(), group)
    rows = slice(2 * rank, 2 * rank + 2)
    leaf = weight[rows].clone().requires_grad_()
    with runtime.use(target):
        (norm(x[rows], w=leaf) * arriving[rows]).sum().backward()
    assert leaf.grad is not None
    return leaf.grad
