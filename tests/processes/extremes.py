"""What each process of a team does with a norm that takes largest and smallest values. Every
function gets the group and the rank first, then the text of a norm `A`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from routes import Messages
from torch import Tensor, nn

import metanorm
from metanorm import runtime

Found = dict[str, Any]


def norm_of(text: str, group: Any, axis: str) -> nn.Module:
    norm: nn.Module = metanorm.loads(text).A()
    return runtime.shard(norm, {axis: group}, reduce_gradients="leave")


def passed(
    group: Any, rank: int, text: str, axis: str, pieces: Sequence[dict[str, Tensor]],
    routes: Sequence[str], compiled: bool = False,
) -> Found:  # fmt: skip
    """The results of a forward and a backward pass over the piece of this process, and what it
    sent. The loss is a sum over `arriving`."""
    norm = norm_of(text, group, axis)
    call = torch.compile(norm, backend="aot_eager", fullgraph=True) if compiled else norm
    inputs = dict(pieces[rank])
    arriving = inputs.pop("arriving")
    x = inputs.pop("x").clone().requires_grad_()
    sent = Messages()
    with runtime.use(routes[rank]):
        if compiled:
            y = call(x, **inputs)
            (y * arriving).sum().backward()
        else:
            with sent:
                y = call(x, **inputs)
                (y * arriving).sum().backward()
    identity = norm.process_groups.identity
    return {"y": y.detach(), "dx": x.grad, "sent": sent.messages, "identity": identity}


def transformed(group: Any, rank: int, text: str, axis: str, xs: Sequence[Tensor]) -> Found:
    """Forward mode, a batch by vmap, and the gradient of a gradient."""
    norm, x = norm_of(text, group, axis), xs[rank]
    weights = torch.linspace(1, 2, x.numel(), dtype=x.dtype).reshape(x.shape)
    tangent = torch.func.jvp(norm, (x,), (weights,))[1]
    batch = torch.stack((x, 2 * x, -x))
    mapped = torch.vmap(norm)(batch)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((norm(leaf) ** 3).sum(), leaf, create_graph=True)
    (twice,) = torch.autograd.grad((gradient * weights).sum(), leaf)
    return {"tangent": tangent, "mapped": mapped, "gradient": gradient.detach(), "twice": twice}


def out_of_step(group: Any, rank: int, texts: Sequence[str], axis: str) -> str:
    """The error of processes of which each calls another norm, with messages of one length."""
    norms = [norm_of(text, group, axis) for text in texts]
    try:
        norms[rank](torch.ones(3, 2, dtype=torch.float64))
    except RuntimeError as error:
        return str(error)
    return ""
