"""What each process of a team does with a small network. Every function gets the group and the
rank first, and the file of a norm."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from pieces import module_at
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from metanorm import runtime

Found = list[Tensor]
SHARDS = {2: (5, 3), 3: (4, 0, 4)}


def net(path: str, name: str) -> nn.Sequential:
    """Two layers with a norm between them, the same on every process."""
    torch.manual_seed(0)
    norm = getattr(module_at(path), name)(5)
    return nn.Sequential(nn.Linear(6, 5), norm, nn.Tanh(), nn.Linear(5, 3)).double()


def batch() -> tuple[Tensor, Tensor]:
    """Eight samples, and weights of a loss."""
    random = torch.Generator().manual_seed(1)
    x = torch.randn(8, 6, generator=random, dtype=torch.float64)
    return x, torch.randn(8, 3, generator=random, dtype=torch.float64)


def piece(group: Any, rank: int) -> tuple[Tensor, Tensor]:
    shards = SHARDS[group.size()]
    start = sum(shards[:rank])
    return tuple(t[start : start + shards[rank]] for t in batch())  # type: ignore[return-value]


def mean_loss(group: Any, y: Tensor, w: Tensor) -> Tensor:
    """What each process has to give of a mean over all samples where gradients are averaged."""
    return (y * w).sum() * (group.size() / runtime.total(len(y), group))


def state(model: nn.Module) -> Found:
    """The gradients of a network and its buffers."""
    gradients = [p.grad for p in model.parameters()]
    results = [g.full_tensor() if hasattr(g, "full_tensor") else g for g in gradients]
    return [t.detach().clone() for t in (*results, *model.buffers())]  # type: ignore[union-attr]


def alone(path: str, name: str, steps: int = 1) -> Found:
    """The same by one process."""
    model = net(path, name)
    x, w = batch()
    for _ in range(steps):
        ((model(x) * w).sum() / len(x)).backward()
    return state(model)


def trained(group: Any, rank: int, path: str, name: str, wrap: Callable[..., nn.Module]) -> Found:
    model = runtime.convert_sync(net(path, name), group)
    x, w = piece(group, rank)
    wrapped = wrap(model)  # which reduces gradients for as long as it lives
    mean_loss(group, wrapped(x), w).backward()
    return state(model)


def ddp(group: Any, rank: int, path: str, name: str, **how: Any) -> Found:
    def wrap(model: nn.Module) -> nn.Module:
        return DistributedDataParallel(model, process_group=group, **how)

    return trained(group, rank, path, name, wrap)


def compiled(group: Any, rank: int, path: str, name: str, backend: str) -> Found:
    torch.compiler.reset()

    def wrap(model: nn.Module) -> nn.Module:
        whole = torch.compile(model, backend=backend, fullgraph=True)
        return DistributedDataParallel(whole, process_group=group)  # type: ignore[arg-type]

    return trained(group, rank, path, name, wrap)


def no_sync(group: Any, rank: int, path: str, name: str) -> Found:
    """Two passes, of which the second one reduces the gradients of both."""
    model = runtime.convert_sync(net(path, name), group)
    parallel = DistributedDataParallel(model, process_group=group)
    x, w = piece(group, rank)
    with parallel.no_sync():
        mean_loss(group, parallel(x), w).backward()
    mean_loss(group, parallel(x), w).backward()
    return state(model)


def fsdp(group: Any, rank: int, path: str, name: str, half: bool = False) -> Found:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    model = net(path, name)
    mesh = DeviceMesh.from_group(group, "cpu")
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if half else MixedPrecisionPolicy()
    for part in (*model, model):
        if any(True for _ in part.parameters()):
            fully_shard(part, mesh=mesh, mp_policy=policy)
    runtime.convert_sync(model, mesh)
    x, w = piece(group, rank)
    mean_loss(group, model(x), w).backward()
    return state(model)


def checkpointed(group: Any, rank: int, path: str, name: str, reentrant: bool) -> Found:
    model = runtime.convert_sync(net(path, name), group)
    x, w = piece(group, rank)
    y = checkpoint(model, x.requires_grad_(), use_reentrant=reentrant)
    mean_loss(group, y, w).backward()
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad, group=group)
        parameter.grad /= group.size()  # type: ignore[operator]
    return state(model)[: len(list(model.parameters()))]  # statistics move twice, as torch's do


def recorded(group: Any, rank: int, path: str, name: str, training: bool) -> list[tuple[int, ...]]:
    """The messages of a pass: how long each is, and what it begins with."""
    sent: list[tuple[int, ...]] = []
    plain = torch.ops._c10d_functional.all_reduce

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is plain.default:
                sent.append((args[0].numel(), *map(int, args[0][:2].tolist())))
            return func(*args, **(kwargs or {}))

    model = runtime.convert_sync(net(path, name), group).train(training)
    x, w = piece(group, rank)
    with Recorder():
        (model(x) * w).sum().backward()
    return sent


def copies(group: Any, rank: int, path: str, name: str) -> dict[str, Any]:
    """What copying, saving and taking back make of a converted network."""
    plain = net(path, name)
    model = runtime.convert_sync(copy.deepcopy(plain), group)
    twin = copy.deepcopy(model)
    x, _ = piece(group, rank)
    results = [m(x).detach() for m in (model, twin)]
    refusal = ""
    try:
        pickle.dumps(model)
    except runtime.ShardingError as error:
        refusal = str(error)
    torch.save(model.state_dict(), io.BytesIO())
    keys = (list(plain.state_dict()), list(model.state_dict()))
    shown, classes = repr(model[1]), type(model[1]) is type(plain[1])
    named = runtime.synchronized(model)
    back = pickle.loads(pickle.dumps(runtime.revert_sync(model)))
    return {
        "same": torch.equal(*results),
        "own": twin[1].weight is not model[1].weight,
        "keys": keys[0] == keys[1],
        "refusal": refusal,
        "shown": shown,
        "class": classes,
        "named": named,
        "left": runtime.synchronized(back),
    }


def silent(group: Any, rank: int, path: str, name: str) -> bool:
    """Whether a norm measures its own piece alone where that is asked for."""
    plain = net(path, name)
    model = runtime.convert_sync(copy.deepcopy(plain), group)
    x, _ = piece(group, rank)
    with runtime.no_exchange():
        ours = model(x)
    return torch.equal(ours, plain(x)) and not torch.equal(model(x), plain(x))


def frozen(group: Any, rank: int, path: str, name: str) -> int:
    """How many messages a backward pass sends where no input wants a gradient."""
    model = runtime.convert_sync(net(path, name), group)
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    x, w = piece(group, rank)
    loss = (model(x) * w).sum()
    count = 0

    class Counter(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal count
            count += func is torch.ops._c10d_functional.all_reduce.default
            return func(*args, **(kwargs or {}))

    with Counter():
        loss.backward()
    return count


def twice_differentiated(group: Any, rank: int, path: str, name: str) -> list[Tensor]:
    """The derivative of a squared gradient, of all pieces together and by one process."""
    model = runtime.convert_sync(net(path, name), group)
    x, w = piece(group, rank)

    def second(m: nn.Module, x: Tensor, w: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (first,) = torch.autograd.grad((m(x) * w).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    whole = second(net(path, name), *batch())
    start = sum(SHARDS[group.size()][:rank])
    return [second(model, x, w), whole[start : start + len(x)]]


# ---- what is wrong


def swapped(group: Any, rank: int, path: str, name: str) -> str:
    """Two norms that one process calls in another order."""
    first, second = (getattr(module_at(path), name)(5).double() for _ in range(2))
    model = runtime.convert_sync(nn.ModuleList([first, second]), group)
    order = (0, 1) if rank == 0 else (1, 0)
    x = torch.randn(4, 5, dtype=torch.float64)
    before = [b.clone() for b in model.buffers()]
    try:
        for i in order:
            model[i](x)
    except runtime.ExchangeError as error:
        unchanged = all(map(torch.equal, before, model.buffers()))
        return f"{error} {'buffers as before' if unchanged else 'buffers moved'}"
    return ""


def swapped_apart(group: Any, rank: int, path: str, name: str, axis: str, backward: bool) -> str:
    """Two norms that are divided one by one, and that one process goes through in another order:
    in the forward pass, or in the backward pass alone."""
    norms = [getattr(module_at(path), name)(5).double() for _ in range(2)]
    if rank == 1:  # which has divided one more, in a group of its own
        alone_group = dist.new_group([1], use_local_synchronization=True)
        runtime.convert_sync(getattr(module_at(path), name)(5), alone_group)
    for norm in norms:
        if axis == "N":
            runtime.convert_sync(norm, group)
        else:
            runtime.shard(norm, {axis: group}, reduce_gradients="leave")
    order = (0, 1) if rank == 0 else (1, 0)
    x = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    try:
        if not backward:
            for i in order:
                norms[i](x)
            return ""
        ys = [norm(x) for norm in norms]
        for i in order:
            ys[i].square().sum().backward()
    except runtime.ExchangeError as error:
        return str(error)
    return ""


def other_model(group: Any, rank: int, path: str, name: str) -> str:
    norm = getattr(module_at(path), name)(5 + rank)
    try:
        runtime.convert_sync(norm, group)
    except runtime.ShardingError as error:
        return str(error)
    return ""


def one_value(group: Any, rank: int, path: str, name: str) -> str:
    """One sample in all processes together."""
    norm = runtime.convert_sync(getattr(module_at(path), name)(5), group)
    try:
        norm(torch.randn(1 if rank == 0 else 0, 5))
    except runtime.ShapeError as error:
        return str(error)
    return ""


def one_value_each(group: Any, rank: int, path: str, name: str) -> bool:
    """One sample in each process: enough."""
    norm = runtime.convert_sync(getattr(module_at(path), name)(5), group)
    return bool(norm(torch.randn(1, 5)).isfinite().all())


def outsider(group: Any, rank: int, path: str, name: str) -> str:
    """A group that this process is not a member of."""
    inner = dist.new_group([0])
    norm = getattr(module_at(path), name)(5)
    try:
        runtime.convert_sync(norm, inner)
        norm(torch.randn(3, 5))
    except runtime.ShardingError as error:
        return str(error)
    return ""


def kernels_demanded(group: Any, rank: int, path: str, name: str) -> str:
    norm = runtime.convert_sync(getattr(module_at(path), name)(5), group)
    with runtime.use("native"):
        try:
            norm(torch.randn(3, 5))
        except RuntimeError as error:
            return str(error)
    return ""
