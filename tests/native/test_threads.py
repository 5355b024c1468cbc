"""Threads, processes that fork, and workers: the same bits each time, and nobody waits forever."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from conftest import ROOT
from layers import LAYERS, beside, everything, kernels_counted, layer, use, weighted
from limited import HANGS

from metanorm.runtime.native import calls
from metanorm.runtime.targets import Target

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(autouse=True)
def threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_the_same_bits_each_time(name: str, threads: int, library: ModuleType) -> None:
    """Enough elements that they are divided among threads, whose turns must not matter."""
    torch.set_num_threads(threads)
    shape = {2: (6000, 4), 3: (40, 4, 500), 4: (40, 4, 40, 25)}[len(LAYERS[name][1])]
    module = library.LayerNorm((40, 25)) if name == "layer_norm" else layer(name, library)
    module, x = module.float(), torch.randn(shape)
    others = beside(name, x)
    first = everything("native", module, x, others, weighted)
    for _ in range(4):
        again = everything("native", module, x, others, weighted)
        assert all(torch.equal(again[n], t) for n, t in first.items())


def test_numbers_of_threads_change_nothing_but_bits(library: ModuleType) -> None:
    module, x = library.BatchNorm(4), torch.randn(40, 4, 40, 25)
    results = []
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        assert calls.num_threads() == threads
        results.append(everything("native", module, x, {}, weighted))
    for other in results[1:]:
        for name, tensor in other.items():
            torch.testing.assert_close(tensor, results[0][name], rtol=1e-4, atol=1e-5)


def test_threads_of_python(library: ModuleType) -> None:
    """One module, whose layouts are all new, in several threads: ctypes lets go of the lock."""
    modules = [library.GroupNorm(2, 4), library.LayerNorm(30), library.BatchNorm(4).eval()]
    cases = [
        (module, x, everything("torch", module, x, {}, weighted))
        for module in modules
        for x in (torch.randn(n, 4, 30) for n in (1, 2, 3, 300))
    ]
    problems: list[str] = []

    def work() -> None:
        try:
            for _ in range(5):
                for module, x, right in cases:
                    actual = everything("auto", module, x, {}, weighted)
                    for name in ("output 0", "gradient of x"):
                        torch.testing.assert_close(actual[name], right[name], rtol=1e-3, atol=1e-4)
        except BaseException as problem:
            problems.append(repr(problem))

    workers = [threading.Thread(target=work) for _ in range(4)]
    with kernels_counted() as kernels:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(HANGS)
    assert problems == [] and not any(worker.is_alive() for worker in workers)
    assert len(kernels) == 4 * 5 * 12 * 2


# In a process of its own, which ran kernels in two threads before it forks.
PARENT = """
import os, signal, torch, metanorm
from metanorm import runtime
from metanorm.runtime.backends import use
from metanorm.runtime.native import calls
torch.set_num_threads(2)
use("native")
class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, i):
        with torch.no_grad():
            return norm(torch.full((1, 4, 200, 200), float(i)) + x[:1])[0]
if __name__ == "__main__":
    norm = metanorm.load("specs/group_norm.norm").GroupNorm(2, 4)
    x = torch.randn(8, 4, 200, 200)
    right = norm(x).detach()
    norm(x.clone().requires_grad_()).sum().backward()
"""
FORK = """
    leaf, dy = x.clone().requires_grad_(), torch.randn(x.shape)
    norm(leaf).backward(dy)
    dx, leaf.grad = leaf.grad, None
    for _ in range(3):
        child = os.fork()
        if child == 0:
            signal.alarm(600)
            # Nothing but kernels, for torch's own loops wait forever for the pool of the parent.
            y = norm(leaf)
            y.backward(dy)
            grandchild = os.fork()
            if grandchild == 0:
                signal.alarm(600)
                z = norm(x)
                torch.set_num_threads(1)
                os._exit(0 if torch.allclose(z, right, atol=1e-5) else 1)
            assert os.waitpid(grandchild, 0)[1] == 0
            torch.set_num_threads(1)
            good = torch.allclose(y, right, atol=1e-5) and torch.allclose(leaf.grad, dx, atol=1e-4)
            os._exit(0 if good and calls.num_threads() == 1 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert calls.num_threads() == 2
        assert torch.equal(norm(x), right)
    print("done")
"""
LOADER = """
    loader = torch.utils.data.DataLoader(Data(), batch_size=4, num_workers=2, timeout=300)
    for epoch in range(2):
        found = torch.cat(list(loader))
        alone = torch.stack([Data()[i] for i in range(8)])
        assert torch.allclose(found, alone, atol=1e-3), (found - alone).abs().max()
    print("done")
"""


@posix
@pytest.mark.parametrize("script", [FORK, LOADER], ids=["fork", "DataLoader"])
def test_processes_that_fork(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARENT + script],
        cwd=ROOT, capture_output=True, text=True, timeout=HANGS,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def test_use_holds_in_its_own_thread(library: ModuleType) -> None:
    """What one thread demands is nothing to another, which may time or test something else."""
    module, x = library.GroupNorm(2, 4), torch.randn(3, 4, 5)
    with use("torch"), kernels_counted() as kernels:
        worker = threading.Thread(target=lambda: module(x))
        worker.start()
        worker.join()
        assert len(kernels) == 1
        module(x)
        assert len(kernels) == 1


def test_use_holds_in_its_own_task(library: ModuleType) -> None:
    """Tasks of one event loop take turns in one thread."""
    module, x = library.GroupNorm(2, 4), torch.randn(3, 4, 5)

    async def task(target: Target) -> int:
        use(target)
        await asyncio.sleep(0)  # so that the other one says what it wants
        with kernels_counted() as kernels:
            module(x)
        return len(kernels)

    async def both() -> list[int]:
        return await asyncio.gather(task("torch"), task("native"))

    assert asyncio.run(both()) == [0, 1]
