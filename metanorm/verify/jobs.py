"""Verification in several processes, each of which verifies one norm after the other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from metanorm.verify.finding import Verification
from metanorm.verify.report import Task, verify_task


@dataclass
class _Worker:
    """A process, our end of its pipe, and the task that it is at."""

    process: SpawnProcess
    pipe: Connection
    task: Task | None = None


def verify_in_processes(tasks: Sequence[Task], jobs: int) -> Iterator[Verification | None]:
    """The verifications as they come, in any order, and `None` where a second brings none.

    A process that dies is a finding about the norm that it was at, and another one takes its place.
    """
    waiting = list(reversed(tasks))
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.task for worker in workers):
            while waiting and len(workers) < jobs:
                workers.append(_start_worker())
            for worker in workers:
                if worker.task is None and waiting:
                    worker.task = waiting.pop()
                    with suppress(ConnectionError), _raise_broken_pipe():
                        worker.pipe.send(worker.task)  # if it has ended, its pipe says so below
            ready = wait([worker.pipe for worker in workers if worker.task], timeout=1)
            if not ready:
                yield None
            for worker in [worker for worker in workers if worker.pipe in ready]:
                yield _receive(worker, workers)
    finally:
        for worker in workers:
            worker.process.terminate()


@contextmanager
def _raise_broken_pipe() -> Iterator[None]:
    """Let a write to a process that has ended raise `BrokenPipeError`, although the command ends by
    SIGPIPE where nobody reads what it prints."""
    if not hasattr(signal, "SIGPIPE"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        yield
    finally:
        if signal.SIGPIPE in signal.sigpending():
            signal.sigwait({signal.SIGPIPE})
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _receive(worker: _Worker, workers: list[_Worker]) -> Verification:
    assert worker.task is not None
    task, worker.task = worker.task, None
    try:
        done = worker.pipe.recv()
        assert isinstance(done, Verification)
        return done
    except (EOFError, ConnectionError):
        workers.remove(worker)
        worker.process.join()
        return Verification(task.norm, problem=f"the process ended: {_exit_text(worker.process)}")


def _exit_text(process: SpawnProcess) -> str:
    code = process.exitcode or 0
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _start_worker() -> _Worker:
    context = get_context("spawn")  # a fork would take over the threads of torch, half alive
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(pipe: Connection) -> None:
    """Verify what comes in, until nothing more does."""
    import torch

    torch.set_num_threads(1)  # the processes share the cores
    try:
        while True:
            pipe.send(verify_task(pipe.recv()))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        os._exit(0)
