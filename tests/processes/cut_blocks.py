"""What each process of a team does with a norm whose blocks lie on several of them. Every function
gets the group and the rank first, then the text of a norm `A` and how it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from routes import Messages
from torch import Tensor, nn

import metanorm
from metanorm import runtime

Found = dict[str, Any]


def norm_of(text: str, how: Mapping[str, Any], lengths: Mapping[str, int]) -> nn.Module:
    """The whole norm, with parameters that are not those it begins with."""
    norm: nn.Module = metanorm.loads(text).A(**how, **lengths).double()
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for tensor in norm.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=random))
    return norm


def results(norm: nn.Module, x: Tensor, arriving: Tensor, call: Any = None) -> Found:
    """What a forward and a backward pass give, for a loss that is a sum over `arriving`."""
    leaf = x.clone().requires_grad_()
    y = (norm if call is None else call)(leaf)
    (y * arriving).sum().backward()
    gradients = {f"gradient of {name}": p.grad for name, p in norm.named_parameters()}
    buffers = {f"buffer {name}": b.clone() for name, b in norm.named_buffers()}
    return {"y": y.detach(), "dx": leaf.grad, **gradients, **buffers}


def passed(
    group: Any, rank: int, text: str, how: Mapping[str, Any], lengths: Mapping[str, int],
    axis: str, pieces: Sequence[int], xs: Sequence[Tensor], arriving: Sequence[Tensor],
    training: bool = True, route: str = "auto",
) -> Found:  # fmt: skip
    """The results for the piece of this process, and what it sent; `route` may be `compiled`."""
    norm = norm_of(text, how, lengths).train(training)
    runtime.shard(norm, {axis: group}, reduce_gradients="sum", pieces={axis: pieces[rank]})
    if route == "compiled":
        torch.compiler.reset()
        call = torch.compile(norm, backend="aot_eager", fullgraph=True)
        return {**results(norm, xs[rank], arriving[rank], call), "sent": []}
    sent = Messages()
    with runtime.use(route), sent:  # type: ignore[arg-type]
        tensors = results(norm, xs[rank], arriving[rank])
    return {**tensors, "sent": sent.messages}


def as_tensors_on_a_mesh(
    group: Any, rank: int, text: str, how: Mapping[str, Any], lengths: Mapping[str, int],
    dim: int, x: Tensor, arriving: Tensor,
) -> Found:  # fmt: skip
    """The results for `DTensor`s, as whole tensors, and how many collectives the call ran."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Shard, distribute_module, distribute_tensor
    from torch.distributed.tensor.debug import CommDebugMode

    mesh = DeviceMesh.from_group(group, "cpu")
    norm = norm_of(text, how, lengths)
    distribute_module(norm, mesh)
    leaf = distribute_tensor(x, mesh, [Shard(dim)]).requires_grad_()
    with runtime.use("torch"), CommDebugMode() as forward:
        y = norm(leaf)
    (y * distribute_tensor(arriving, mesh, [Shard(dim)])).sum().backward()
    gradients = {f"gradient of {n}": p.grad for n, p in norm.named_parameters()}
    buffers = {f"buffer {n}": b for n, b in norm.named_buffers()}
    values = {"y": y.detach(), "dx": leaf.grad, **gradients, **buffers}
    whole = {n: v.full_tensor().detach() for n, v in values.items() if v is not None}
    return {**whole, "messages": forward.get_total_counts()}


def refused(
    group: Any, rank: int, text: str, how: Mapping[str, Any], lengths: Mapping[str, int],
    axes: Sequence[str], pieces: Sequence[Mapping[str, int]],
) -> str:  # fmt: skip
    """The error of dividing a norm, and whether it is as before."""
    norm = norm_of(text, how, lengths)
    before = {n: t.clone() for n, t in norm.state_dict().items()}
    try:
        runtime.shard(norm, dict.fromkeys(axes, group), reduce_gradients="sum", pieces=pieces[rank])
    except runtime.ShardingError as error:
        assert all(torch.equal(t, before[n]) for n, t in norm.state_dict().items())
        return str(error)
    return ""
