"""What each process of a team does with a norm on one route: kernels in C, or torch. Every function
gets the group and the rank first, the file of a norm and its name."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from pieces import module_at
from torch import Tensor, nn

from metanorm import runtime
from metanorm.runtime.backends import through_python
from metanorm.runtime.native.calls import runs
from metanorm.runtime.processes.message import BACKWARD, FORWARD, tag_of

Route = Literal["native", "triton", "torch", "auto"]
Found = dict[str, Any]
SAMPLES = 8


def batch(centre: float = 0.0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """All samples, and the weights of a loss."""
    random = torch.Generator().manual_seed(3)
    x = torch.randn(SAMPLES, 6, 5, 4, generator=random, dtype=torch.float64) * 2 + centre
    return x.to(dtype), torch.randn(SAMPLES, 6, 5, 4, generator=random).to(dtype)


def norm_at(path: str, name: str) -> nn.Module:
    """A norm whose parameters are not those it begins with."""
    norm: nn.Module = getattr(module_at(path), name)(6)
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    return norm


def passed(norm: nn.Module, x: Tensor, w: Tensor) -> Found:
    """What a forward and a backward pass give."""
    y = norm(x)
    (y * w).sum().backward()
    gradients = {name: p.grad for name, p in norm.named_parameters()}
    buffers = {f"buffer {name}": b.clone() for name, b in norm.named_buffers()}
    return {"y": y.detach(), "dx": x.grad, **gradients, **buffers}


def shard(rank: int, shards: Sequence[int], centre: float, dtype: torch.dtype) -> list[Tensor]:
    start = sum(shards[:rank])
    return [t[start : start + shards[rank]].clone() for t in batch(centre, dtype)]


def called(
    group: Any, rank: int, path: str, name: str, routes: Sequence[Route], shards: Sequence[int],
    centre: float = 0.0, dtype: torch.dtype = torch.float32, strided: bool = False,
) -> Found:  # fmt: skip
    """A call on the route of this process, and the messages that it sent."""
    norm = runtime.convert_sync(norm_at(path, name).to(dtype), group)
    x, w = shard(rank, shards, centre, dtype)
    if strided and rank == 0:  # rows that are further apart than they are long
        x = torch.stack((x, x), -1)[..., 0]
    with runtime.use(routes[rank]):
        sent = Messages()
        with sent:
            actual = passed(norm, x.requires_grad_(), w)
    return {**actual, "sent": sent.messages, "identity": norm.process_groups.identity}


def stage_and_direction(message: Tensor, identity: int) -> tuple[int, int]:
    """What the header of a message says, which a norm with this identity has sent."""
    tag, check = message[:2].tolist()
    assert check == (tag * tag if message.is_floating_point() else -tag)
    length = message.numel() - 2
    (said,) = (
        (stage, direction)
        for stage, direction in product(range(20), (FORWARD, BACKWARD))
        if tag_of(identity, stage, direction, length) == tag
    )
    return said


class Messages(torch.utils._python_dispatch.TorchDispatchMode):
    """Keeps every message, its header included."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops._c10d_functional.all_reduce.default:
            self.messages.append(args[0].clone())
        return func(*args, **(kwargs or {}))


def kernel_runs(group: Any, rank: int, path: str, name: str, shards: Sequence[int]) -> list[int]:
    """How many kernels ran forward and backward in two calls."""
    norm = runtime.convert_sync(norm_at(path, name), group)
    before = list(runs)
    for _ in range(2):
        x, w = shard(rank, shards, 0.0, torch.float32)
        with through_python():
            passed(norm, x.requires_grad_(), w)
    return [now - then for now, then in zip(runs, before)]


def without_c_file(group: Any, rank: int, path: str, name: str) -> Found:
    """A call in which the first process has no kernels for what lies between messages."""
    folder = Path(tempfile.mkdtemp())
    for file in Path(path).parent.glob(f"{Path(path).stem}*"):
        if rank or not file.name.endswith("_processes.c"):
            shutil.copy(file, folder)
    norm = runtime.convert_sync(getattr(_module_of(folder / Path(path).name), name)(6), group)
    x, w = shard(rank, (4, 4), 0.0, torch.float32)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        actual = passed(norm, x.requires_grad_(), w)
    return {**actual, "warnings": [str(w.message) for w in warned]}


def refused(group: Any, rank: int, path: str, name: str, odd: Sequence[int]) -> Found:
    """A call that has to run on kernels, of data that they do not take in `odd` processes; then the
    same norm again as it may."""
    norm = runtime.convert_sync(norm_at(path, name), group)
    x, w = shard(rank, (5, 3), 0.0, torch.float32)
    before = [b.clone() for b in norm.buffers()]
    inputs = x.mT.contiguous().mT if rank in odd else x  # dimensions of *S in another order
    try:
        with runtime.use("native"):
            norm(inputs)
        kind, text = "", ""
    except RuntimeError as error:
        kind, text = type(error).__name__, str(error)
    kept = all(map(torch.equal, before, norm.buffers()))
    return {"kind": kind, "text": text, "kept": kept, **passed(norm, x.requires_grad_(), w)}


def _module_of(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"copied_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def failing(group: Any, rank: int, path: str, name: str, direction: str) -> Found:
    """A message that fails on all processes: in the forward pass, or in the backward one."""
    norm = runtime.convert_sync(norm_at(path, name), group)
    x, w = shard(rank, (4, 4), 0.0, torch.float32)
    x.requires_grad_()
    before = [b.clone() for b in norm.buffers()]
    y = norm(x) if direction == "backward" else None
    moved = [b.clone() for b in norm.buffers()]
    with _Broken():
        try:
            (y * w).sum().backward() if y is not None else norm(x)
        except RuntimeError as error:
            kind, text = type(error).__name__, str(error)
    after = moved if direction == "backward" else before
    kept = all(map(torch.equal, after, norm.buffers()))
    again = passed(norm, x.detach().requires_grad_(), w)["y"].isfinite().all()
    return {"kind": kind, "text": text, "kept": kept, "again": bool(again)}


class _Broken(torch.utils._python_dispatch.TorchDispatchMode):
    """A connection that closes before anything is sent."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops._c10d_functional.all_reduce.default:
            raise RuntimeError("Connection closed by peer")
        return func(*args, **(kwargs or {}))
