"""A compiled module against the oracle: values, gradients, buffers, dtypes, layouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from metanorm.ir.nodes import Program, Several
from metanorm.oracle.call import Call
from metanorm.oracle.interpret import interpret
from metanorm.runtime import ShapeError, use
from metanorm.verify.agreement import TOLERANCE, conditioning, difference
from metanorm.verify.begins import begins_wrong
from metanorm.verify.cases import F64, Built, Setting, build, settings
from metanorm.verify.kernels import has_kernels
from metanorm.verify.layouts import moved


class Finding(BaseModel):
    """One setting: `ok`, `refused` (with an error that the spec asks for), or what differs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    setting: str
    outcome: str
    error: float = 0.0

    @property
    def good(self) -> bool:
        """Whether module and oracle agree."""
        return self.outcome in ("ok", "refused")


class Verification(BaseModel):
    """All findings for one norm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    norm: str
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        """Whether module and oracle agree everywhere."""
        return all(f.good for f in self.findings)


def verify_norm(program: Program, module: ModuleType, device: str = "cpu") -> Verification:
    """Hold the class of a generated module against the oracle under every setting.

    The module runs on the device, the oracle always on the CPU.
    """
    return Verification(norm=program.name, findings=tuple(findings(program, module, device)))


def findings(program: Program, module: ModuleType, device: str = "cpu") -> Iterator[Finding]:
    """One finding for each setting, on kernels where there are some, and on plain torch."""
    kernels = has_kernels(module, device)
    for target in ("auto", "torch") if kernels else ("torch",):
        with use(target):
            for setting in settings(program):
                found = compare(program, module, setting, device=device)
                on = ", plain torch" if target == "torch" and kernels else ""
                yield found.model_copy(update={"setting": found.setting + on})


def compare(
    program: Program, module: ModuleType, setting: Setting, seed: int = 0, device: str = "cpu"
) -> Finding:
    """Run module and oracle on the same numbers.

    What a NaN or an infinity has touched may be NaN where the oracle has a number, since sums are
    taken in another order; what it has not touched must be right.
    """
    built = build(program, setting, seed)
    norm = make(program, module, built, setting)
    buffers = {n: b.detach().clone() for n, b in norm.named_buffers()}
    norm = norm.to(device)
    inputs = {n: _leaf(x, device) for n, x in built.inputs.items()}
    try:
        outputs = call(program, norm, inputs, built)
    except ShapeError as error:
        refused = _refuses(program, setting)
        return Finding(setting=setting.name, outcome="refused" if refused else f"raised: {error}")
    except Exception as error:  # whatever a module does wrong is a finding, not a bug of ours
        return Finding(setting=setting.name, outcome=f"raised {type(error).__name__}: {error}")
    wrong = begins_wrong(program, module, built, setting)
    if wrong is not None:
        return Finding(setting=setting.name, outcome=wrong.outcome, error=wrong.error)
    wanted = reference(program, norm, inputs, buffers, built, setting)
    calm = wanted
    if setting.values.startswith("one "):
        other = build(program, replace(setting, values="ordinary"), seed)
        calm = reference(program, norm, other.inputs, buffers, other, setting)
    found = _Found(outputs, norm, inputs)
    return _compared(program, setting, found, wanted, calm)


def make(program: Program, module: ModuleType, built: Built, setting: Setting) -> nn.Module:
    """The module, with random parameters so that none is at its neutral value.

    A norm for weights has been put on its input, where it has parameters to begin with.
    """
    switches = {s.name: setting.switches.get(s.name, s.default) for s in program.switches}
    norm: nn.Module = getattr(module, program.name)(**built.arguments, **switches).double()
    begin = getattr(norm, "right_inverse", None)
    if begin is not None:
        begin(built.inputs[program.inputs[0].name])
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
    param = next(p for p in program.params if p.name == name)
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


def _refuses(program: Program, setting: Setting) -> bool:
    """Whether the spec asks for an error: a variance of a single value."""
    several = any(isinstance(check, Several) for check in program.checks)
    return several and (setting.single or setting.space == ())


@dataclass
class Reference:
    """What the oracle makes of a call. Outputs are functions of the leaves."""

    outputs: dict[str, Tensor]
    updates: dict[str, Tensor]
    leaves: dict[str, Tensor]  # inputs and parameters

    def gradients(self, names: Sequence[str]) -> list[Tensor]:
        """The gradients of `combined` outputs by the leaves of these names."""
        loss = combined(self.outputs)
        wanted = [self.leaves[n] for n in names]
        return list(
            torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
            if loss.requires_grad
            else (torch.zeros_like(x) for x in wanted)
        )


def reference(
    program: Program,
    norm: nn.Module,
    inputs: Mapping[str, Tensor | None],
    buffers: Mapping[str, Tensor],
    built: Built,
    setting: Setting,
) -> Reference:
    """The oracle's answer to a call of a module whose buffers were these before."""
    leaves = {n: _twin(x) for n, x in inputs.items() if x is not None}
    params = {n: _twin(p) for n, p in norm.named_parameters()}
    counter = getattr(norm, "num_batches_tracked", None)
    result = interpret(
        program,
        Call(
            inputs={n: leaves.get(n) for n in inputs},
            params=params,
            buffers=buffers,
            hypers={a.name: _here(getattr(norm, a.name)) for a in program.arguments},
            groups=built.groups,
            training=setting.training,
            keeps=counter is not None,
            batches=int(counter) if counter is not None else 1,
            epsilon=torch.finfo(torch.promote_types(setting.dtype, torch.float32)).eps,
        ),
    )
    return Reference(result.outputs, result.updates, {**leaves, **params})


def combined(outputs: Mapping[str, Tensor]) -> Tensor:
    """One random combination of all outputs, in float64.

    Its weights are the gradients of the outputs, and bfloat16 holds them without rounding.
    """
    generator = torch.Generator().manual_seed(2)
    loss = torch.zeros((), dtype=F64)
    for output in outputs.values():
        weights = torch.randn(output.shape, generator=generator, dtype=F64).bfloat16()
        loss = loss + (output.to(F64) * weights.to(output.device)).sum().cpu()
    return loss


def _here(value: object) -> object:
    """An argument of a constructor; matrices have gone to the device of the module."""
    return value.cpu() if isinstance(value, Tensor) else value


def _twin(x: Tensor) -> Tensor:
    """The same numbers in float64 where the oracle is, as a leaf of a graph of their own."""
    here = x.detach().cpu()
    return here.to(F64).clone().requires_grad_() if x.is_floating_point() else here


@dataclass
class _Found:
    outputs: dict[str, Tensor]
    norm: nn.Module
    inputs: Mapping[str, Tensor | None]

    def gradients(self) -> dict[str, Tensor]:
        leaves = {n: x for n, x in self.inputs.items() if x is not None and x.requires_grad}
        leaves |= dict(self.norm.named_parameters())
        loss = combined(self.outputs)
        if not loss.requires_grad:
            return {}
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        return {
            n: torch.zeros_like(x) if g is None else g for (n, x), g in zip(leaves.items(), found)
        }


def _compared(
    program: Program, setting: Setting, found: _Found, wanted: Reference, calm: Reference
) -> Finding:
    for name, output in found.outputs.items():
        if output.dtype != setting.dtype:
            return Finding(setting=setting.name, outcome=f"{name} has dtype {output.dtype}")
        if output.shape != wanted.outputs[name].shape:
            shapes = f"{tuple(output.shape)}, expected {tuple(wanted.outputs[name].shape)}"
            return Finding(setting=setting.name, outcome=f"{name} has shape {shapes}")
    tolerance = TOLERANCE[setting.dtype] * conditioning(setting)
    worst = 0.0
    for name, own, right, untouched, floor in _pairs(program, setting, found, wanted, calm):
        error = difference(own, right, untouched, floor)
        if not error <= tolerance:
            return Finding(setting=setting.name, outcome=f"{name} is off", error=error)
        worst = max(worst, error)
    return Finding(setting=setting.name, outcome="ok", error=worst)


def _pairs(
    program: Program, setting: Setting, found: _Found, wanted: Reference, calm: Reference
) -> Iterator[tuple[str, Tensor, Tensor, Tensor, float]]:
    """Everything to compare: its name, both values, the oracle's without bad numbers, its scale."""
    for position, (name, output) in enumerate(found.outputs.items()):
        # Of an input without elements there are no statistics: what else is put out is zero.
        zero = setting.empty and (position > 0 or not program.keeps_shape)
        known, quiet = (
            torch.zeros_like(r.outputs[name]) if zero else r.outputs[name] for r in (wanted, calm)
        )
        yield name, output, known, quiet, 1.0
    if not setting.empty:
        for name, update in wanted.updates.items():
            yield name, getattr(found.norm, name), update, calm.updates[name], 1.0
    gradients = found.gradients()
    names = list(gradients)
    first = program.inputs[0].name
    rights = wanted.gradients(names)
    calms = rights if calm is wanted else calm.gradients(names)
    for name, right, untouched in zip(names, rights, calms):
        # The gradient of x is as large as x is small; everything else is of the order of one.
        floor = _slope(found.inputs[first]) if name == first else 1.0
        yield f"gradient of {name}", gradients[name], right, untouched, floor


def _slope(x: Tensor | None) -> float:
    """A derivative that is not small: one over the spread of the input."""
    assert x is not None
    known = x.detach()[torch.isfinite(x.detach())].to(F64)
    return 1 / max(1.0, float((known - known.mean()).abs().max())) if known.numel() else 1.0
