"""Compares a call of a compiled module with the oracle: outputs, gradients, buffers, dtypes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.ir.program import Program
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
from metanorm.verify.initial_state import initialize_state
from metanorm.verify.initial_values import check_initial_values
from metanorm.verify.layouts import to_device
from metanorm.verify.reference import Reference, combined_loss, reference
from metanorm.verify.required_errors import must_refuse
from metanorm.verify.rounding import ROUNDING_DRAWS, random_rounding
from metanorm.verify.seeds import seeded

RoundingHook = Callable[[Tensor], Tensor]
ComparedPair = tuple[str, Tensor, Tensor, Tensor, float]


def compare(
    program: Program, module: ModuleType, setting: Setting, seed: int = 0, device: str = "cpu"
) -> Finding:
    """Run module and oracle on the same numbers: the module on `device`, the oracle on the CPU.

    An element that depends on a NaN or an infinity may be NaN although the oracle has a number,
    since sums are taken in another order. All other elements must agree. Any exception becomes a
    finding, except `NotServed`, if kernels are demanded and missing, and `NoExample`.
    """
    finding = _finding_or_error(program, module, setting, seed, device)
    return replace(finding, dtype=str(setting.dtype).removeprefix("torch."))


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
    """The module under test raised an exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _run_module(step: Callable[[], Any]) -> Any:
    try:
        return step()
    except NotServed:
        raise
    except Exception as error:  # any exception of a module is a finding
        raise _ModuleRaised(error) from error


def _compare(
    program: Program, module: ModuleType, setting: Setting, seed: int, device: str
) -> Finding:
    example = make_example(program, setting, seed)
    norm: nn.Module = _run_module(lambda: make_module(program, module, example, setting))
    buffers = {n: b.detach().clone() for n, b in norm.named_buffers()}
    norm = norm.to(device)
    inputs = {n: _input_leaf(x, device) for n, x in example.inputs.items()}
    expects_refusal = must_refuse(program, setting, example)
    try:
        outputs: dict[str, Tensor] = _run_module(
            lambda: call_module(program, norm, inputs, example)
        )
    except _ModuleRaised as raised:
        if expects_refusal and isinstance(raised.error, SingleValueError):
            return Finding(setting.name, REFUSED)
        raise
    if expects_refusal:
        return Finding(setting.name, "took the variance of a single value")
    # The norm of an entry is checked by itself.
    initial_value_error = (
        None if program.is_entry else check_initial_values(program, module, example, setting)
    )
    if initial_value_error is not None:
        return Finding(setting.name, initial_value_error.outcome, initial_value_error.error)

    def oracle(rounded: RoundingHook | None = None) -> Reference:
        return reference(program, norm, inputs, buffers, example, setting, rounded)

    expected = oracle()
    ordinary = expected
    if setting.values.startswith("one "):
        ordinary_example = make_example(program, replace(setting, values="ordinary"), seed)
        ordinary = reference(
            program, norm, ordinary_example.inputs, buffers, ordinary_example, setting
        )
    result = _ModuleResult(program, outputs, norm, inputs)
    return _Comparison(program, setting, result, oracle).finding(expected, ordinary)


def make_module(
    program: Program, module: ModuleType, example: Example, setting: Setting
) -> nn.Module:
    """The module with random parameters, so that none has its neutral initial value.

    State that has the lengths of an input is made from it first.
    """
    switches = {s.name: setting.switches.get(s.name, s.default) for s in program.switches}
    norm: nn.Module = getattr(module, program.norm_name)(**example.arguments, **switches).double()
    initialize_state(program, norm, example.inputs)
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
    param = program.index.params.get(name)  # an entry has those alone that it reads
    if param is None:
        return 0.5, 1.5
    low, high = getattr(param.low, "value", 0.5), getattr(param.high, "value", 1.5)
    return float(low), float(high)


def _input_leaf(x: Tensor | None, device: str) -> Tensor | None:
    on_device = None if x is None else to_device(x, device)
    return (
        on_device.requires_grad_()
        if on_device is not None and on_device.is_floating_point()
        else on_device
    )


def call_module(
    program: Program, norm: nn.Module, inputs: Mapping[str, Tensor | None], example: Example
) -> dict[str, Tensor]:
    """The outputs of a module, by name."""
    arguments: dict[str, Any] = dict(inputs)
    for name, count in example.groups.items():
        if inputs[name] is not None:
            arguments[f"{name}_size"] = count
    method = getattr(norm, program.method) if program.is_entry else norm
    first = inputs[program.inputs[0].name]
    device = first.device if isinstance(first, Tensor) else torch.device("cpu")
    with seeded(device) if program.drawn_inputs else nullcontext():
        result = method(**arguments)
    if len(program.outputs) == 1:
        return {program.outputs[0][0]: result}
    return dict(result._asdict())


@dataclass
class _ModuleResult:
    program: Program
    outputs: dict[str, Tensor]
    norm: nn.Module
    inputs: Mapping[str, Tensor | None]

    def kept(self, name: str) -> Tensor:
        """What a buffer holds now."""
        buffer: Tensor = getattr(self.norm, name)
        return buffer.detach().clone()

    @functools.cached_property
    def gradients(self) -> dict[str, Tensor]:
        """The gradients of all leaves, computed once."""
        return _run_module(self._gradients)  # type: ignore[no-any-return]

    def _gradients(self) -> dict[str, Tensor]:
        leaves = {n: x for n, x in self.inputs.items() if x is not None and x.requires_grad}
        leaves |= dict(self.norm.named_parameters())
        loss = combined_loss(self.outputs, self.program)
        if not loss.requires_grad:
            return {}
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        return {
            n: torch.zeros_like(x) if g is None else g
            for (n, x), g in zip(leaves.items(), gradients)
        }


class _Comparison:
    """Compares the results of a module with those of the oracle."""

    def __init__(
        self,
        program: Program,
        setting: Setting,
        result: _ModuleResult,
        oracle: Callable[[RoundingHook], Reference],
    ) -> None:
        self.program = program
        self.setting = setting
        self.result = result
        self.oracle = oracle

    def finding(self, expected: Reference, ordinary: Reference) -> Finding:
        misshapen = self._shape_or_dtype_error(expected)
        if misshapen:
            return Finding(self.setting.name, misshapen)
        expects_nan = self.setting.values.startswith("one ")  # NaN is expected
        undefined = not (self.setting.empty or expects_nan) and not any(
            map(any_finite, self.result.outputs.values(), expected.outputs.values())
        )
        amplification = conditioning(self.setting)
        worst = 0.0
        doubtful: dict[str, float] = {}
        pairs = list(self._pairs(expected, ordinary))
        for name, actual, wanted, wanted_ordinary, floor in pairs:
            error = difference(actual, wanted, wanted_ordinary, floor)
            tolerance = self._tolerance(name) * amplification
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
        return self._judge_doubtful(doubtful, pairs)

    def _tolerance(self, name: str) -> float:
        """The tolerance of a result: that of the setting, or of a coarser dtype of an output."""
        tolerance = TOLERANCE[self.setting.dtype]
        if name not in self.result.outputs:
            return tolerance
        return max(tolerance, TOLERANCE[expected_dtype(self.program, name, self.setting)])

    def _shape_or_dtype_error(self, expected: Reference) -> str:
        for name, output in self.result.outputs.items():
            if output.dtype != expected_dtype(self.program, name, self.setting):
                return f"{name} has dtype {output.dtype}"
            if output.shape != expected.outputs[name].shape:
                shape = tuple(expected.outputs[name].shape)
                return f"{name} has shape {tuple(output.shape)}, expected {shape}"
        return ""

    def _judge_doubtful(
        self, doubtful: Mapping[str, float], pairs: Sequence[ComparedPair]
    ) -> Finding:
        """Decide whether errors above the tolerance are rounding alone.

        They are if the oracle moves as far when each of its numbers, inputs and intermediate values
        included, is perturbed by a unit in the last place.
        """
        movements = dict.fromkeys(doubtful, 0.0)
        for seed in range(ROUNDING_DRAWS):
            perturbed = self.oracle(random_rounding(self.setting.dtype, seed))
            perturbed_by_name = {
                name: wanted for name, _, wanted, *_ in self._pairs(perturbed, perturbed)
            }
            for name, _, wanted, wanted_ordinary, floor in pairs:
                if name in doubtful:
                    movements[name] = max(
                        movements[name],
                        difference(perturbed_by_name[name], wanted, wanted_ordinary, floor),
                    )
        for name, error in doubtful.items():
            if not movements[name] >= error:
                return Finding(self.setting.name, f"{name} is off", error, movements[name])
        name = max(doubtful, key=lambda n: doubtful[n])
        return Finding(self.setting.name, ILL_CONDITIONED, doubtful[name], movements[name])

    def _pairs(self, expected: Reference, ordinary: Reference) -> Iterator[ComparedPair]:
        """All results to compare: name, actual, expected, expected for ordinary inputs, scale."""
        program, result, empty = self.program, self.result, self.setting.empty
        if empty:
            is_ordinary = ordinary is expected
            expected = self._reference_of_empty(expected)
            ordinary = expected if is_ordinary else self._reference_of_empty(ordinary)
        for name, output in result.outputs.items():
            yield name, output, expected.outputs[name], ordinary.outputs[name], 1.0
        if not empty:
            # As they are before the backward pass, which may store into buffers, too.
            for name, update in expected.updates.items():
                yield name, result.kept(name), update, ordinary.updates[name], 1.0
        gradients = result.gradients
        if not empty and gradients:
            for name, update in expected.later_updates.items():
                actual, label = result.kept(name), f"{name} after the backward pass"
                yield label, actual, update, ordinary.later_updates[name], 1.0
        names = list(gradients)
        first_input = program.inputs[0].name
        expected_gradients = expected.gradients(names)
        ordinary_gradients = (
            expected_gradients if ordinary is expected else ordinary.gradients(names)
        )
        for name, wanted, wanted_ordinary in zip(names, expected_gradients, ordinary_gradients):
            # The gradient of x grows as x shrinks; all others are of the order of one.
            floor = _gradient_scale(result.inputs[first_input]) if name == first_input else 1.0
            yield f"gradient of {name}", gradients[name], wanted, wanted_ordinary, floor

    def _reference_of_empty(self, reference: Reference) -> Reference:
        """The reference for an empty input: outputs that depend on its statistics are zero."""
        independent = {name for name, _ in outputs_without_first_input(self.program)}
        independent |= {self.program.outputs[0][0]} if self.program.keeps_shape else set()
        outputs = {
            n: o if n in independent else torch.zeros_like(o) for n, o in reference.outputs.items()
        }
        return replace(reference, outputs=outputs)


def _gradient_scale(x: Tensor | None) -> float:
    """The scale of the gradient of the input: one over the spread of the input."""
    assert x is not None
    finite = x.detach()[torch.isfinite(x.detach())].to(F64)
    return 1 / max(1.0, float((finite - finite.mean()).abs().max())) if finite.numel() else 1.0
