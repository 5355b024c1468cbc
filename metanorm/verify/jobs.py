"""Verifies norms in several processes, each of which takes one norm after the other."""

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
    """A process, our end of its pipe, and its current task."""

    process: SpawnProcess
    pipe: Connection
    task: Task | None = None


def verify_in_processes(tasks: Sequence[Task], jobs: int) -> Iterator[Verification | None]:
    """The verifications as they arrive, in any order, and `None` after each second without one.

    A process that dies is a problem of its current norm; a new process takes its place.
    """
    pending = list(reversed(tasks))
    workers: list[_Worker] = []
    try:
        while pending or any(worker.task for worker in workers):
            while pending and len(workers) < jobs:
                workers.append(_start_worker())
            for worker in workers:
                if worker.task is None and pending:
                    worker.task = pending.pop()
                    with suppress(ConnectionError), _raise_broken_pipe():
                        worker.pipe.send(worker.task)  # a worker that has ended is noticed below
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
    """Let a write to a process that has ended raise `BrokenPipeError`, although SIGPIPE ends the
    command when its own output is closed."""
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
        verification = worker.pipe.recv()
        assert isinstance(verification, Verification)
        return verification
    except (EOFError, ConnectionError):
        workers.remove(worker)
        worker.process.join()
        return Verification(task.norm, problem=f"the process ended: {_exit_text(worker.process)}")


def _exit_text(process: SpawnProcess) -> str:
    code = process.exitcode or 0
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _start_worker() -> _Worker:
    context = get_context("spawn")  # a fork would copy the threads of torch in an undefined state
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(pipe: Connection) -> None:
    """Verify each task from the pipe, until it is closed."""
    import torch

    torch.set_num_threads(1)  # the processes share the cores
    try:
        while True:
            pipe.send(verify_task(pipe.recv()))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        os._exit(0)
