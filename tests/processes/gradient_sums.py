"""What each process of a team does with a norm that adds gradients up itself. Every function gets
the group and the rank first, the file of a norm and its name."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from pieces import module_at
from routes import Route
from torch import Tensor, nn
from torch.nn.utils import parametrize

from metanorm import runtime

Gradients = dict[str, Tensor]


class Tagged(Tensor):
    """A subclass of torch's tensors."""


def norm_at(path: str, name: str) -> nn.Module:
    """A norm of which each parameter has other values."""
    sizes = (2, 4) if name == "GroupNorm" else (4,)
    norm: nn.Module = getattr(module_at(path), name)(*sizes)
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    return norm


def batch(samples: int = 2) -> tuple[Tensor, Tensor]:
    """Images of eight points, and weights of a loss."""
    random = torch.Generator().manual_seed(3)
    x, w = (torch.randn(samples, 4, 8, generator=random) for _ in range(2))
    return x, w


def gradients(norm: nn.Module, x: Tensor, w: Tensor, route: Route = "torch") -> Gradients:
    """The gradients of the parameters, for a loss that is a weighted sum."""
    norm.zero_grad()
    with runtime.use(route):
        (norm(x) * w).sum().backward()
    return {n: torch.zeros(()) if p.grad is None else p.grad.clone()
            for n, p in norm.named_parameters()}  # fmt: skip


def piece(rank: int, lengths: Sequence[int], samples: int = 2) -> list[Tensor]:
    start = sum(lengths[:rank])
    return [t[..., start : start + lengths[rank]].clone() for t in batch(samples)]


def on_routes(
    group: Any, rank: int, path: str, name: str, routes: Sequence[Route], lengths: Sequence[int]
) -> Gradients:
    """The gradients where each process runs on a route of its own."""
    norm = runtime.shard(norm_at(path, name), {"S": group}, reduce_gradients="sum")
    return gradients(norm, *piece(rank, lengths), routes[rank])


def changed(group: Any, rank: int, path: str, name: str) -> dict[str, Gradients]:
    """The gradients after what is done to a norm once it is divided."""
    norm, data = norm_at(path, name), piece(rank, (5, 3))
    runtime.shard(norm, {"S": group}, reduce_gradients="sum")
    seen = {"sum once": gradients(norm, *data)}
    seen["sum of a copy"] = gradients(copy.deepcopy(norm), *data)
    runtime.shard(norm, {"S": group}, reduce_gradients="sum")
    seen["sum twice"] = gradients(norm, *data)
    runtime.shard(norm, {"S": group}, reduce_gradients="leave")
    seen["part"] = gradients(norm, *data)
    return seen


def frozen(group: Any, rank: int, path: str, name: str) -> Gradients:
    """The gradients where a parameter wants none."""
    norm = norm_at(path, name)
    norm.weight.requires_grad_(False)
    runtime.shard(norm, {"S": group}, reduce_gradients="sum")
    return gradients(norm, *piece(rank, (5, 3)))


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def parametrized(group: Any, rank: int, path: str, name: str, alone: bool = False) -> Gradients:
    """The gradients where a parameter is computed from another one."""
    norm = norm_at(path, name)
    parametrize.register_parametrization(norm, "weight", Doubled())
    if alone:
        return gradients(norm, *batch())
    runtime.shard(norm, {"S": group}, reduce_gradients="sum")
    return gradients(norm, *piece(rank, (5, 3)))


def without_pools(group: Any, rank: int, path: str, name: str) -> Gradients:
    """The gradients of a norm that needs no message forward."""
    norm = runtime.shard(norm_at(path, name), {"B": group}, reduce_gradients="sum")
    x, w = (t.mT[rank] for t in batch())
    return gradients(norm, x, w)


def marked(group: Any, rank: int, path: str, name: str) -> list[bool]:
    """Whether a parameter is marked for Megatron: at first, then otherwise, again and reverted."""
    norm, seen = norm_at(path, name), []
    for reduction in ("mark", "leave", "mark"):
        runtime.shard(norm, {"S": group}, reduce_gradients=reduction)  # type: ignore[arg-type]
        seen.append(hasattr(norm.weight, "sequence_parallel"))
    runtime.revert_sync(norm)
    return [*seen, hasattr(norm.weight, "sequence_parallel")]


def subclasses(group: Any, rank: int, path: str, name: str) -> list[bool]:
    """Whether results for tensors of other classes are those for torch's own."""
    import torch.distributed._functional_collectives as collectives

    norm = runtime.convert_sync(norm_at(path, name), group)
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(rank)) + rank
    late = collectives.all_gather_tensor(x, 0, group)  # the same on all processes
    assert type(late) is not Tensor
    with torch.no_grad(), runtime.use("torch"):
        of_subclass = torch.equal(norm(x.as_subclass(Tagged)).as_subclass(Tensor), norm(x))
        return [of_subclass, torch.equal(norm(late), norm(late + 0))]


def kept_from_convert_sync(group: Any, rank: int, path: str, name: str) -> tuple[str, str]:
    """What a norm knows that is converted, and then divided along another axis."""
    model = runtime.convert_sync(nn.Sequential(norm_at(path, name)), group, when="always")
    runtime.shard(model[0], {"S": group}, reduce_gradients="leave")
    return model[0].process_groups.when, model[0].process_groups.owner


def shared_groups(group: Any, rank: int, path: str, name: str) -> list[float | str]:
    """How far a piece of whole blocks is from the whole norm within `no_exchange`; and what is said
    of a piece that cuts a block."""
    GroupNorm = getattr(module_at(path), name)
    x = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(1))
    norm = runtime.shard(GroupNorm(4, 4), {"C": group}, reduce_gradients="leave")
    cut = runtime.shard(
        GroupNorm(2, 8), {"C": group}, pieces={"C": (3, 5)[rank]}, reduce_gradients="leave"
    )
    channels = slice(4 * rank, 4 * rank + 4)
    with runtime.use("torch"), runtime.no_exchange():
        gap = (norm(x[:, channels]) - GroupNorm(4, 8)(x)[:, channels]).abs().max().item()
        try:
            cut(x[:, : (3, 5)[rank]])
        except runtime.ShardingError as error:
            return [gap, str(error)]
    return [gap, ""]


def one_problem(group: Any, rank: int, path: str, name: str, other_path: str) -> list[str]:
    """What is said where one process alone has a norm that cannot be divided."""
    odd = module_at(other_path).MetaNorm if rank else getattr(module_at(path), name)
    norm = odd(3)
    said = []
    for divide in (
        lambda: runtime.convert_sync(norm, group),
        lambda: runtime.shard(norm, {"N": group}, reduce_gradients="leave"),
    ):
        try:
            divide()
        except runtime.ShardingError as error:
            said.append(str(error))
    return said


def other_mesh(group: Any, rank: int, path: str, name: str) -> str:
    """What is said of a `DTensor` whose mesh lacks the group of the samples."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Shard, distribute_module, distribute_tensor

    alone = dist.new_group([rank], use_local_synchronization=True)
    mesh = DeviceMesh.from_group(alone, "cpu")
    norm = distribute_module(norm_at(path, name), mesh)
    runtime.convert_sync(norm, group)
    try:
        norm(distribute_tensor(torch.randn(6, 4), mesh, [Shard(1)]))
    except runtime.ShardingError as error:
        return str(error)
    return ""


def marked_sums(group: Any, rank: int, path: str, name: str) -> Gradients:
    """The gradients of a copy of a norm, added up as Megatron does where parameters are marked."""
    norm = runtime.shard(norm_at(path, name), {"S": group}, reduce_gradients="mark")
    norm = copy.deepcopy(copy.deepcopy(norm))
    sums = gradients(norm, *piece(rank, (5, 3)))
    for parameter_name, parameter in norm.named_parameters():
        if getattr(parameter, "sequence_parallel", False):
            dist.all_reduce(sums[parameter_name], group=group)
    return sums


def reverted(group: Any, rank: int, path: str, name: str) -> list[tuple[int, int, float]]:
    """The groups and channels of a piece that is no longer divided, with how far it is from the
    whole norm: of pieces of whole groups, and of those that the constructor made."""
    GroupNorm = getattr(module_at(path), name)
    whole = norm_at(path, "GroupNorm")
    kept = runtime.shard(
        copy.deepcopy(whole), {"C": group}, pieces={"C": 2}, reduce_gradients="leave"
    )
    made = runtime.shard(GroupNorm(2, 2), {"C": group}, reduce_gradients="leave")
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    channels = slice(2 * rank, 2 * rank + 2)
    seen = []
    with torch.no_grad(), runtime.use("torch"):
        for norm, right in ((kept, whole(x)[:, channels]), (made, GroupNorm(2, 2)(x[:, channels]))):
            gap = (runtime.revert_sync(norm)(x[:, channels]) - right).abs().max().item()
            seen.append((norm.num_groups, norm.num_channels, gap))
    return seen


def on_a_mesh(group: Any, rank: int, path: str, name: str, samples_first: bool) -> Gradients:
    """What four processes compute of which two have other samples, and two other parts of images.
    Before, two of them have converted one more norm than the others."""
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("samples", "images"))
    row, column = mesh.get_coordinate() or ()
    if column:
        runtime.convert_sync(norm_at(path, name), mesh["samples"])
    norm = norm_at(path, name)
    if samples_first:
        runtime.convert_sync(norm, mesh["samples"])
    runtime.shard(norm, {"S": mesh["images"]}, reduce_gradients="sum")
    if not samples_first:
        runtime.convert_sync(norm, mesh["samples"])
    samples = slice(1) if row == 0 else slice(1, 4)
    x, w = (t[samples].clone() for t in piece(column, (5, 3), samples=4))
    x.requires_grad_()
    sums = gradients(norm, x, w, ("torch", "native")[row])
    for summed in sums.values():
        dist.all_reduce(summed, group=mesh["samples"].get_group())
    assert x.grad is not None
    with torch.no_grad(), runtime.use("torch"):
        return {**sums, "x": x.grad, "y": norm(x)}
