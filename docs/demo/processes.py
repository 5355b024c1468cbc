"""Train with four samples on each of four processes, and with all sixteen on one.

make demo-processes                                   compiles the specs and runs this
PYTHONPATH=build/demo python docs/demo/processes.py   once they are compiled

With a norm that pools over the batch, four processes learn something else than one does: unless the
norm takes its samples from all of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from requirements import missing

PROCESSES = 4
BATCH = 16  # of all processes together


class Row(NamedTuple):
    """A norm, and whether it takes its samples from all processes."""

    name: str
    synchronized: bool


ROWS = (
    Row("BatchNorm", synchronized=False),
    Row("BatchNorm", synchronized=True),
    Row("SwitchNorm", synchronized=True),
    Row("GroupNorm", synchronized=True),  # has nothing to take from them
)


class Trained(NamedTuple):
    """The parameters and buffers of a network, and how many of the held-out digits it tells."""

    state: list[Any]
    accuracy: float


def main() -> int:
    """The demo; 0 if it ran, 2 if it could not."""
    parser = argparse.ArgumentParser(description="One process beside four.")
    parser.add_argument("--quick", action="store_true", help="a few steps on a part of the data")
    quick = parser.parse_args().quick
    problem = missing()
    if problem is not None:
        print(problem, file=sys.stderr, end="")
        return 2
    print(f"Digits: a small CNN, {BATCH} samples a step\n")
    print(
        f"  {'norm':<26}{'one process':>13}{f'{PROCESSES} processes':>14}{'weights differ by':>20}"
    )
    for row, one, several in zip(ROWS, together(1, quick), together(PROCESSES, quick)):
        apart = max(float((a - b).abs().max()) for a, b in zip(one.state, several.state))
        name = f"{row.name}{', synchronized' if row.synchronized else ' of each'}"
        print(
            f"  {name:<26}{one.accuracy:>11.1f} %{several.accuracy:>12.1f} %{apart:>20.0e}",
            flush=True,
        )
    return 0


def together(size: int, quick: bool) -> list[Trained]:
    """What so many processes learn together, with each norm."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (size, folder, quick), size)
        trained = torch.load(Path(folder) / "trained.pt")
    return [Trained(state, accuracy) for state, accuracy in trained]


def work(rank: int, size: int, folder: str, quick: bool) -> None:
    """One of the processes."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    batches, held_out = data(quick)
    rows = slice(rank * BATCH // size, (rank + 1) * BATCH // size)
    pieces = [(images[rows], target[rows]) for images, target in batches]
    trained = [train(row, pieces, held_out) for row in ROWS]
    if rank == 0:
        torch.save(trained, Path(folder) / "trained.pt")
    dist.destroy_process_group()


def train(row: Row, batches: list[tuple[Any, Any]], held_out: tuple[Any, Any]) -> tuple[Any, Any]:
    """What a network has learned from the samples of this process, and from others by gradients."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    from metanorm import runtime

    network = made(row.name)
    if row.synchronized:
        runtime.convert_sync(network)  # all that it takes
    parallel = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.05, momentum=0.9)
    for images, target in batches:
        loss = torch.nn.functional.cross_entropy(parallel(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        right = network(held_out[0]).argmax(1) == held_out[1]
    state = [tensor.double() for tensor in network.state_dict().values()]
    return state, 100 * float(right.double().mean())


def made(name: str) -> Any:
    """The network of the other demo in double precision, from the same weights everywhere."""
    import digits
    import norms
    import torch

    torch.manual_seed(0)
    norm: Callable[[int], Any] = getattr(norms, name)
    if name == "GroupNorm":
        norm = partial(norm, digits.GROUPS)
    return digits.Network(norm).double()


def data(quick: bool) -> tuple[list[tuple[Any, Any]], tuple[Any, Any]]:
    """Two epochs of batches, all of one size, and what is held out."""
    import digits
    import torch

    known = digits.experiment(quick)
    generator = torch.Generator().manual_seed(0)
    pairs = ((batch.inputs, batch.target) for batch in known.training(generator))
    images, target = (torch.cat(tensors) for tensors in zip(*pairs))
    batches = []
    for _ in range(1 if quick else 2):
        order = torch.randperm(len(images), generator=generator)
        batches += [(images[i], target[i]) for i in order.split(BATCH) if len(i) == BATCH]
    return batches, (known.held_out.inputs, known.held_out.target)


if __name__ == "__main__":
    sys.exit(main())
