"""Calls whose launches are kept ready: what is left to do is to say where tensors are."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from metanorm.runtime.kernels.reading import Place
from metanorm.runtime.kernels.refusals import CannotBuild, Unfit, warn_once
from metanorm.runtime.tensors import capturing
from metanorm.runtime.triton import driver, tuning
from metanorm.runtime.triton.driver import Direct
from metanorm.runtime.triton.groups import rows_of_groups
from metanorm.runtime.triton.interpreter import interpreting
from metanorm.runtime.triton.launches import Brought, Frame, Launch, Piece, pieces, room

Tensors = dict[str, "Tensor | None"]
Looks = tuple[tuple[int, ...], bool]  # what kernels are compiled for: odd addresses, sorted rows

COLD = "kernels that never ran, and a CUDA graph is captured"

_captured: dict[int, Calls] = {}  # whose constants a CUDA graph may read from now on


@dataclass
class Prepared:
    """A call for one layout.

    `arrays` are narrow values for this call alone, and `saved` those that pass from the forward
    call to the backward one, each with its shape.
    """

    device: torch.device
    real: torch.dtype
    operands: list[tuple[str, int]]
    constants: Tensors
    momenta: list[str]
    index: tuple[str, int, int] | None  # its name, the number of groups, and of rows
    results: list[Place] = field(default_factory=list)
    result_keys: list[str] = field(default_factory=list)
    arrays: dict[str, tuple[int, ...]] = field(default_factory=dict)
    saved: dict[str, tuple[int, ...]] = field(default_factory=dict)
    steps: list[Launch] = field(default_factory=list)
    copies: list[tuple[str, str]] = field(default_factory=list)  # of what no kernel writes
    written: list[int] = field(default_factory=list)  # operands that kernels may change
    rivals: list[Prepared] = field(default_factory=list)  # with other tiles, which nobody tried yet
    calls: Calls | None = None
    refusal: str = ""  # why this layout has no kernels

    @functools.cached_property
    def kept(self) -> int:
        """How many elements are saved for the way back."""
        return room(self.saved)

    def run(
        self, operands: Sequence[Tensor | None], momenta: Sequence[float],
        results: Sequence[Tensor], kept: Tensor | None,
    ) -> None:  # fmt: skip
        """All launches of a call. Raises `Unfit` where its kernels cannot be compiled, or not
        now: what is compiled or copied while a CUDA graph is captured breaks that."""
        if self.refusal:
            raise Unfit(self.refusal)
        try:
            if self.calls is None:
                if capturing(self.device):
                    raise Unfit(COLD)
                self.calls = self._calls(operands, momenta, results, kept)
            self.calls.run(operands, momenta, results, kept)
        except CannotBuild as problem:
            self.refusal = f"kernels that cannot be had here: {problem.reason}"
            warn_once(str(problem))
            raise Unfit(self.refusal) from problem

    def _calls(
        self, operands: Sequence[Tensor | None], momenta: Sequence[float],
        results: Sequence[Tensor], kept: Tensor | None,
    ) -> Calls:  # fmt: skip
        """The launches, or the fastest ones where others may be tried, on copies of what they
        change; all else they only read, or write anew."""
        usual = Calls(self, operands)
        if not self.rivals:
            return usual
        copies = [
            given.clone() if given is not None and number in self.written else given
            for number, given in enumerate(operands)
        ]
        candidates = [usual, *(Calls(rival, operands) for rival in self.rivals)]
        self.rivals = []
        return tuning.fastest(
            candidates, lambda calls: calls.run(copies, momenta, results, kept), tuning.on_device
        )


class Calls:
    """The launches of a layout, with a place for whatever changes from call to call.

    Kernels are compiled at the first call, all before any is launched: some change running
    statistics, which must not happen again where a later one fails and torch does all of it.
    """

    def __init__(self, made: Prepared, operands: Sequence[Tensor | None]) -> None:
        self.made = made
        first = len(made.results)
        given = dict(zip(made.result_keys, range(first)))
        given.update((key, first + number) for key, number in made.operands)
        constants = dict(made.constants)
        self.own: int | None = None  # the number of the index among the operands
        if made.index is not None:
            name, _, length = made.index
            self.own = dict(made.operands).get(f"tensor {name}")
            if self.own is None:
                whole = torch.tensor([0, length], device="cpu")
                constants.update(starts=whole, order=None, index=None)
            else:
                after = first + len(operands)
                given.update(starts=after, order=after + 1, index=first + self.own)
        # A copy from the CPU has ended when it returns, so that any stream may read it.
        moved = {k: c if c is None else c.to(made.device) for k, c in constants.items()}
        self.lasting = any(c is not None for c in moved.values())
        arrays: dict[str, tuple[int, Piece]] = {}
        for number, shapes in enumerate((made.arrays, made.saved)):
            arrays.update((key, (number, piece)) for key, piece in pieces(shapes).items())
        # A kernel that only writes results has nothing to do where none of them is wanted.
        there = given.keys() | arrays.keys()
        self.steps = [s for s in made.steps if not s.writes or there.intersection(s.writes)]
        self.frame = Frame(self.steps, moved, made.momenta, arrays, given, made.real.itemsize)
        self.room = room(made.arrays)
        self.copies = [(source, target) for source, target in made.copies if target in there]
        self.ready: dict[Looks, list[Direct] | None] = {}
        self.interpreted = interpreting()

    def run(
        self, operands: Sequence[Tensor | None], momenta: Sequence[float],
        results: Sequence[Tensor], kept: Tensor | None,
    ) -> None:  # fmt: skip
        """One call. Raises `CannotBuild` and `Unfit` before anything has happened."""
        made = self.made
        given: tuple[Tensor | None, ...] = (*results, *operands)
        if self.own is not None:
            index = operands[self.own]
            assert index is not None and made.index is not None
            given += rows_of_groups(index, made.index[1])
        memory = None
        if self.room:
            memory = torch.empty(self.room, dtype=made.real, device=made.device)
        brought = Brought(given, momenta, (memory, kept))
        if self.interpreted:
            self._dispatched(brought)
        else:
            self._launched(brought)
        for source, target in self.copies:
            value, result = (self.frame.tensor(key, brought) for key in (source, target))
            if value is not None and result is not None:
                result.copy_(value.view(result.shape))

    def _launched(self, brought: Brought) -> None:
        frame, odd = self.frame.addresses(brought)
        looks = (odd, self.own is not None and brought.given[-1] is None)
        if looks not in self.ready:
            if capturing(self.made.device):
                raise Unfit(COLD)
            self.ready[looks] = self._compiled(brought)
        if self.lasting and capturing(self.made.device):
            _captured[id(self)] = self
        ready = self.ready[looks]
        if ready is None or driver.hooked():
            return self._dispatched(brought)
        stream = driver.stream(self.made.device)
        for run, programs, function, metadata, pick, _ in ready:
            run(programs, 1, 1, stream, function, metadata, None, None, None, *pick(frame))

    def _compiled(self, brought: Brought) -> list[Direct] | None:
        """Every kernel, and how it is launched; `None` where the dispatcher has to do that."""
        driver.demand_able({t.dtype for t in brought.given if t is not None})
        frame = self.frame.tensors(brought)
        found = []
        for step, pick in zip(self.steps, self.frame.picks):
            compiled = driver.compiled(step.kernel, step.programs, step.warps, pick(frame))
            found.append(driver.direct(compiled, step.programs, pick))
        return None if None in found else found  # type: ignore[return-value]

    def _dispatched(self, brought: Brought) -> None:
        """The launches as Triton documents them."""
        frame = self.frame.tensors(brought)
        for step, pick in zip(self.steps, self.frame.picks):
            step.kernel[(step.programs,)](*pick(frame), num_warps=step.warps, **driver.OPTIONS)
