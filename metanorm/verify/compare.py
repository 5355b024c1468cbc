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
from metanorm.ir.reachable import outputs_without_first_input
from metanorm.runtime import ShapeError
from metanorm.runtime.dispatch import NotServed
from metanorm.runtime.errors import SingleValueError
from metanorm.verify.agreement import (
    TOLERANCE,
    any_finite,
    conditioning,
    difference,
    expected_dtype,
)
from metanorm.verify.cases import F64, Example, NoExample, Setting, make_example
from metanorm.verify.finding import ILL_CONDITIONED, OK, REFUSED, UNDEFINED, Finding
from metanorm.verify.initial_values import check_initial_values
from metanorm.verify.layouts import to_device
from metanorm.verify.reference import Reference, combined_loss, reference
from metanorm.verify.required_errors import must_refuse
from metanorm.verify.rounding import ROUNDING_DRAWS, random_rounding

RoundingHook = Callable[[Tensor], Tensor]
ComparedPair = tuple[str, Tensor, Tensor, Tensor, float]


def compare(
    program: Program, module: ModuleType, setting: Setting, seed: int = 0, device: str = "cpu"
) -> Finding:
    """Run module and oracle on the same numbers; the module on the device, the oracle on the CPU.

    What a NaN or an infinity has touched may be NaN where the oracle has a number, since sums are
    taken in another order; what it has not touched must be right. Whatever goes wrong is a
    finding, in the module or beside it. Raises `NotServed` where kernels are demanded that there
    are not, and `NoExample`.
    """
    found = _finding_or_error(program, module, setting, seed, device)
    return replace(found, dtype=str(setting.dtype).removeprefix("torch."))


def _finding_or_error(
    program: Program, module: ModuleType, setting: Setting, seed: int, device: str
) -> Finding:
    try:
        return _compare(program, module, setting, seed, device)
    except (NotServed, NoExample):
        raise
    except _ModuleRaised as raised:
        error = raised.error
        if isinstance(error, ShapeError):
            return Finding(setting.name, f"raised: {error}")
        return Finding(setting.name, f"raised {type(error).__name__}: {error}")
    except Exception as error:
        return Finding(setting.name, f"could not be checked: {type(error).__name__}: {error}")


class _ModuleRaised(Exception):
    """An error of the module under test."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _run_module(step: Callable[[], Any]) -> Any:
    try:
        return step()
    except NotServed:
        raise
    except Exception as error:  # whatever a module does wrong is a finding, not a bug of ours
        raise _ModuleRaised(error) from error


def _compare(
    program: Program, module: ModuleType, setting: Setting, seed: int, device: str
) -> Finding:
    built = make_example(program, setting, seed)
    norm: nn.Module = _run_module(lambda: make_module(program, module, built, setting))
    buffers = {n: b.detach().clone() for n, b in norm.named_buffers()}
    norm = norm.to(device)
    inputs = {n: _input_leaf(x, device) for n, x in built.inputs.items()}
    expects_refusal = must_refuse(program, setting, built)
    try:
        outputs: dict[str, Tensor] = _run_module(lambda: call_module(program, norm, inputs, built))
    except _ModuleRaised as raised:
        if expects_refusal and isinstance(raised.error, SingleValueError):
            return Finding(setting.name, REFUSED)
        raise
    if expects_refusal:
        return Finding(setting.name, "took the variance of a single value")
    wrong = check_initial_values(program, module, built, setting)
    if wrong is not None:
        return Finding(setting.name, wrong.outcome, wrong.error)

    def oracle(rounded: RoundingHook | None = None) -> Reference:
        return reference(program, norm, inputs, buffers, built, setting, rounded)

    wanted = oracle()
    calm = wanted
    if setting.values.startswith("one "):
        other = make_example(program, replace(setting, values="ordinary"), seed)
        calm = reference(program, norm, other.inputs, buffers, other, setting)
    found = _ModuleResult(program, outputs, norm, inputs)
    return _Comparison(program, setting, found, oracle).finding(wanted, calm)


def make_module(
    program: Program, module: ModuleType, built: Example, setting: Setting
) -> nn.Module:
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


def _input_leaf(x: Tensor | None, device: str) -> Tensor | None:
    there = None if x is None else to_device(x, device)
    return there.requires_grad_() if there is not None and there.is_floating_point() else there


def call_module(
    program: Program, norm: nn.Module, inputs: Mapping[str, Tensor | None], built: Example
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
class _ModuleResult:
    program: Program
    outputs: dict[str, Tensor]
    norm: nn.Module
    inputs: Mapping[str, Tensor | None]

    @functools.cached_property
    def gradients(self) -> dict[str, Tensor]:
        """The gradients of all leaves; the graph is walked once."""
        return _run_module(self._gradients)  # type: ignore[no-any-return]

    def _gradients(self) -> dict[str, Tensor]:
        leaves = {n: x for n, x in self.inputs.items() if x is not None and x.requires_grad}
        leaves |= dict(self.norm.named_parameters())
        loss = combined_loss(self.outputs, self.program)
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
        found: _ModuleResult,
        oracle: Callable[[RoundingHook], Reference],
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
            map(any_finite, self.found.outputs.values(), wanted.outputs.values())
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

    def _doubted(self, doubtful: Mapping[str, float], pairs: Sequence[ComparedPair]) -> Finding:
        """A module that is off where the oracle itself moves as far is not wrong.

        The oracle is asked again with each number, of its inputs and on the way, a unit in the last
        place off.
        """
        moves = dict.fromkeys(doubtful, 0.0)
        for seed in range(ROUNDING_DRAWS):
            other = self.oracle(random_rounding(self.setting.dtype, seed))
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

    def _pairs(self, wanted: Reference, calm: Reference) -> Iterator[ComparedPair]:
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
            floor = _gradient_scale(found.inputs[first]) if name == first else 1.0
            yield f"gradient of {name}", gradients[name], right, untouched, floor

    def _left(self, known: Reference) -> Reference:
        """Of an input without elements there are no statistics: all is zero that depends on it."""
        right = {name for name, _ in outputs_without_first_input(self.program)}
        right |= {self.program.outputs[0][0]} if self.program.keeps_shape else set()
        kept = {n: o if n in right else torch.zeros_like(o) for n, o in known.outputs.items()}
        return replace(known, outputs=kept)


def _gradient_scale(x: Tensor | None) -> float:
    """A derivative that is not small: one over the spread of the input."""
    assert x is not None
    known = x.detach()[torch.isfinite(x.detach())].to(F64)
    return 1 / max(1.0, float((known - known.mean()).abs().max())) if known.numel() else 1.0
