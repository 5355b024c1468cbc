"""A compiled module against the oracle: values, gradients, buffers, dtypes, layouts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.ir.nodes import Program
from metanorm.ir.reachable import outputs_of_others
from metanorm.runtime import ShapeError
from metanorm.runtime.dispatch import NotServed
from metanorm.runtime.errors import SingleValueError
from metanorm.verify.agreement import (
    TOLERANCE,
    any_known,
    conditioning,
    difference,
    expected_dtype,
)
from metanorm.verify.begins import begins_wrong
from metanorm.verify.cases import F64, Built, NoExample, Setting, build
from metanorm.verify.finding import ILL_CONDITIONED, OK, REFUSED, UNDEFINED, Finding
from metanorm.verify.layouts import moved
from metanorm.verify.reference import Reference, combined, reference
from metanorm.verify.refusals import refuses
from metanorm.verify.rounding import DRAWS, rounding

Rounded = Callable[[Tensor], Tensor]
Pair = tuple[str, Tensor, Tensor, Tensor, float]


def compare(
    program: Program, module: ModuleType, setting: Setting, seed: int = 0, device: str = "cpu"
) -> Finding:
    """Run module and oracle on the same numbers; the module on the device, the oracle on the CPU.

    What a NaN or an infinity has touched may be NaN where the oracle has a number, since sums are
    taken in another order; what it has not touched must be right. Whatever goes wrong is a
    finding, in the module or beside it. Raises `NotServed` where kernels are demanded that there
    are not, and `NoExample`.
    """
    found = _finding(program, module, setting, seed, device)
    return replace(found, dtype=str(setting.dtype).removeprefix("torch."))


def _finding(
    program: Program, module: ModuleType, setting: Setting, seed: int, device: str
) -> Finding:
    try:
        return _compare(program, module, setting, seed, device)
    except (NotServed, NoExample):
        raise
    except _Raised as raised:
        error = raised.error
        if isinstance(error, ShapeError):
            return Finding(setting.name, f"raised: {error}")
        return Finding(setting.name, f"raised {type(error).__name__}: {error}")
    except Exception as error:
        return Finding(setting.name, f"could not be checked: {type(error).__name__}: {error}")


class _Raised(Exception):
    """An error of the module under test."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _tried(step: Callable[[], Any]) -> Any:
    try:
        return step()
    except NotServed:
        raise
    except Exception as error:  # whatever a module does wrong is a finding, not a bug of ours
        raise _Raised(error) from error


def _compare(
    program: Program, module: ModuleType, setting: Setting, seed: int, device: str
) -> Finding:
    built = build(program, setting, seed)
    norm: nn.Module = _tried(lambda: make(program, module, built, setting))
    buffers = {n: b.detach().clone() for n, b in norm.named_buffers()}
    norm = norm.to(device)
    inputs = {n: _leaf(x, device) for n, x in built.inputs.items()}
    must_refuse = refuses(program, setting, built)
    try:
        outputs: dict[str, Tensor] = _tried(lambda: call(program, norm, inputs, built))
    except _Raised as raised:
        if must_refuse and isinstance(raised.error, SingleValueError):
            return Finding(setting.name, REFUSED)
        raise
    if must_refuse:
        return Finding(setting.name, "took the variance of a single value")
    wrong = begins_wrong(program, module, built, setting)
    if wrong is not None:
        return Finding(setting.name, wrong.outcome, wrong.error)

    def oracle(rounded: Rounded | None = None) -> Reference:
        return reference(program, norm, inputs, buffers, built, setting, rounded)

    wanted = oracle()
    calm = wanted
    if setting.values.startswith("one "):
        other = build(program, replace(setting, values="ordinary"), seed)
        calm = reference(program, norm, other.inputs, buffers, other, setting)
    found = _Found(program, outputs, norm, inputs)
    return _Comparison(program, setting, found, oracle).finding(wanted, calm)


def make(program: Program, module: ModuleType, built: Built, setting: Setting) -> nn.Module:
    """The module, with random parameters so that none is at its neutral value.

    A norm for weights has been put on its input, where it has parameters to begin with.
    """
    switches = {s.name: setting.switches.get(s.name, s.default) for s in program.switches}
    norm: nn.Module = getattr(module, program.name)(**built.arguments, **switches).double()
    begin = getattr(norm, "right_inverse", None)
    if begin is not None:
        begin(built.inputs[program.inputs[0].name])
    if hasattr(norm, "has_begun"):
        norm.has_begun = True  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in norm.named_parameters():
            low, high = _bounds(program, name)
            parameter.uniform_(low, high, generator=generator)
        for buffer in norm.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5, generator=generator)
    return norm.to(setting.dtype).train(setting.training)


def _bounds(program: Program, name: str) -> tuple[float, float]:
    param = program.index.params[name]
    low, high = getattr(param.low, "value", 0.5), getattr(param.high, "value", 1.5)
    return float(low), float(high)


def _leaf(x: Tensor | None, device: str) -> Tensor | None:
    there = None if x is None else moved(x, device)
    return there.requires_grad_() if there is not None and there.is_floating_point() else there


def call(
    program: Program, norm: nn.Module, inputs: Mapping[str, Tensor | None], built: Built
) -> dict[str, Tensor]:
    """The outputs of a module, by name."""
    arguments: dict[str, Any] = dict(inputs)
    for name, count in built.groups.items():
        if inputs[name] is not None:
            arguments[f"{name}_size"] = count
    result = norm(**arguments)
    if len(program.outputs) == 1:
        return {program.outputs[0][0]: result}
    return dict(result._asdict())


@dataclass
class _Found:
    program: Program
    outputs: dict[str, Tensor]
    norm: nn.Module
    inputs: Mapping[str, Tensor | None]

    @functools.cached_property
    def gradients(self) -> dict[str, Tensor]:
        """The gradients of all leaves; the graph is walked once."""
        return _tried(self._gradients)  # type: ignore[no-any-return]

    def _gradients(self) -> dict[str, Tensor]:
        leaves = {n: x for n, x in self.inputs.items() if x is not None and x.requires_grad}
        leaves |= dict(self.norm.named_parameters())
        loss = combined(self.outputs, self.program)
        if not loss.requires_grad:
            return {}
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        return {
            n: torch.zeros_like(x) if g is None else g for (n, x), g in zip(leaves.items(), found)
        }


class _Comparison:
    """What a module gave beside what the oracle gives."""

    def __init__(
        self,
        program: Program,
        setting: Setting,
        found: _Found,
        oracle: Callable[[Rounded], Reference],
    ) -> None:
        self.program = program
        self.setting = setting
        self.found = found
        self.oracle = oracle

    def finding(self, wanted: Reference, calm: Reference) -> Finding:
        misshapen = self._misshapen(wanted)
        if misshapen:
            return Finding(self.setting.name, misshapen)
        spoilt = self.setting.values.startswith("one ")  # where NaN has to come out
        undefined = not (self.setting.empty or spoilt) and not any(
            map(any_known, self.found.outputs.values(), wanted.outputs.values())
        )
        conditioned = conditioning(self.setting)
        worst = 0.0
        doubtful: dict[str, float] = {}
        pairs = list(self._pairs(wanted, calm))
        for name, own, right, untouched, floor in pairs:
            error = difference(own, right, untouched, floor)
            tolerance = self._tolerance(name) * conditioned
            if error <= tolerance:
                worst = max(worst, error)
            elif error == float("inf"):
                return Finding(self.setting.name, f"{name} is off", error)
            else:
                doubtful[name] = error
        if undefined:
            outcome = "no output has a finite number" if self.setting.ordinary else UNDEFINED
            return Finding(self.setting.name, outcome)
        if not doubtful:
            return Finding(self.setting.name, OK, worst)
        return self._doubted(doubtful, pairs)

    def _tolerance(self, name: str) -> float:
        """How far a result may be off: that of an output in a dtype of its own by that, too."""
        own = TOLERANCE[self.setting.dtype]
        if name not in self.found.outputs:
            return own
        return max(own, TOLERANCE[expected_dtype(self.program, name, self.setting)])

    def _misshapen(self, wanted: Reference) -> str:
        for name, output in self.found.outputs.items():
            if output.dtype != expected_dtype(self.program, name, self.setting):
                return f"{name} has dtype {output.dtype}"
            if output.shape != wanted.outputs[name].shape:
                expected = tuple(wanted.outputs[name].shape)
                return f"{name} has shape {tuple(output.shape)}, expected {expected}"
        return ""

    def _doubted(self, doubtful: Mapping[str, float], pairs: Sequence[Pair]) -> Finding:
        """A module that is off where the oracle itself moves as far is not wrong.

        The oracle is asked again with each number, of its inputs and on the way, a unit in the last
        place off.
        """
        moves = dict.fromkeys(doubtful, 0.0)
        for seed in range(DRAWS):
            other = self.oracle(rounding(self.setting.dtype, seed))
            others = {name: right for name, _, right, *_ in self._pairs(other, other)}
            for name, _, right, untouched, floor in pairs:
                if name in doubtful:
                    moves[name] = max(
                        moves[name], difference(others[name], right, untouched, floor)
                    )
        for name, error in doubtful.items():
            if not moves[name] >= error:
                return Finding(self.setting.name, f"{name} is off", error, moves[name])
        name = max(doubtful, key=lambda n: doubtful[n])
        return Finding(self.setting.name, ILL_CONDITIONED, doubtful[name], moves[name])

    def _pairs(self, wanted: Reference, calm: Reference) -> Iterator[Pair]:
        """All to compare: its name, both values, the oracle's without bad numbers, its scale."""
        program, found, empty = self.program, self.found, self.setting.empty
        if empty:
            is_calm = calm is wanted
            wanted = self._left(wanted)
            calm = wanted if is_calm else self._left(calm)
        for name, output in found.outputs.items():
            yield name, output, wanted.outputs[name], calm.outputs[name], 1.0
        if not empty:
            for name, update in wanted.updates.items():
                yield name, getattr(found.norm, name), update, calm.updates[name], 1.0
        gradients = found.gradients
        names = list(gradients)
        first = program.inputs[0].name
        rights = wanted.gradients(names)
        calms = rights if calm is wanted else calm.gradients(names)
        for name, right, untouched in zip(names, rights, calms):
            # The gradient of x is as large as x is small; all else is of the order of one.
            floor = _slope(found.inputs[first]) if name == first else 1.0
            yield f"gradient of {name}", gradients[name], right, untouched, floor

    def _left(self, known: Reference) -> Reference:
        """Of an input without elements there are no statistics: all is zero that depends on it."""
        right = {name for name, _ in outputs_of_others(self.program)}
        right |= {self.program.outputs[0][0]} if self.program.keeps_shape else set()
        kept = {n: o if n in right else torch.zeros_like(o) for n, o in known.outputs.items()}
        return replace(known, outputs=kept)


def _slope(x: Tensor | None) -> float:
    """A derivative that is not small: one over the spread of the input."""
    assert x is not None
    known = x.detach()[torch.isfinite(x.detach())].to(F64)
    return 1 / max(1.0, float((known - known.mean()).abs().max())) if known.numel() else 1.0
