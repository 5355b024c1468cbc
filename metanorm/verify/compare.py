"""A compiled module against the oracle: values, gradients, buffers, dtypes, layouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from metanorm.ir.nodes import Program, Several
from metanorm.oracle.call import Call
from metanorm.oracle.interpret import interpret
from metanorm.runtime import ShapeError
from metanorm.verify.cases import F64, Built, Setting, build, settings

# How far a result may be from the oracle, relative to the largest number in it.
TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 2e-5,
    torch.bfloat16: 2e-2,
    torch.float16: 4e-3,
}


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


def verify_norm(program: Program, module: ModuleType) -> Verification:
    """Hold the class of a generated module against the oracle under every setting."""
    return Verification(norm=program.name, findings=tuple(findings(program, module)))


def findings(program: Program, module: ModuleType) -> Iterator[Finding]:
    """One finding for each setting."""
    for setting in settings(program):
        yield compare(program, module, setting)


def compare(program: Program, module: ModuleType, setting: Setting, seed: int = 0) -> Finding:
    """Run module and oracle on the same numbers."""
    built = build(program, setting, seed)
    norm = make(program, module, built, setting)
    buffers = {n: b.detach().clone() for n, b in norm.named_buffers()}
    inputs = {n: _leaf(x) for n, x in built.inputs.items()}
    try:
        outputs = call(program, norm, inputs, built)
    except ShapeError as error:
        refused = _refuses(program, setting)
        return Finding(setting=setting.name, outcome="refused" if refused else f"raised: {error}")
    expected = _oracle(program, norm, inputs, buffers, built, setting)
    return _compared(program, norm, inputs, outputs, expected, setting)


def make(program: Program, module: ModuleType, built: Built, setting: Setting) -> nn.Module:
    """The module, with random parameters so that none is at its neutral value."""
    switches = {s.name: setting.switches.get(s.name, s.default) for s in program.switches}
    norm: nn.Module = getattr(module, program.name)(**built.arguments, **switches).double()
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


def _leaf(x: Tensor | None) -> Tensor | None:
    return x.requires_grad_() if x is not None and x.is_floating_point() else x


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


def _oracle(
    program: Program,
    norm: nn.Module,
    inputs: Mapping[str, Tensor | None],
    buffers: Mapping[str, Tensor],
    built: Built,
    setting: Setting,
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Outputs, updates, and the leaves whose gradients are compared: inputs and parameters."""
    leaves = {n: _twin(x) for n, x in inputs.items() if x is not None}
    params = {n: _twin(p) for n, p in norm.named_parameters()}
    hypers = {a.name: getattr(norm, a.name) for a in program.arguments}
    counter = getattr(norm, "num_batches_tracked", None)
    result = interpret(
        program,
        Call(
            inputs={n: leaves.get(n) for n in inputs},
            params=params,
            buffers=buffers,
            hypers=hypers,
            groups=built.groups,
            training=setting.training,
            keeps=counter is not None,
            batches=int(counter) if counter is not None else 1,
            epsilon=torch.finfo(setting.dtype).eps,
        ),
    )
    return result.outputs, result.updates, leaves, params


def _twin(x: Tensor) -> Tensor:
    """The same numbers in float64, as a leaf of a graph of their own."""
    return x.detach().to(F64).clone().requires_grad_() if x.is_floating_point() else x


def _compared(
    program: Program,
    norm: nn.Module,
    inputs: Mapping[str, Tensor | None],
    outputs: Mapping[str, Tensor],
    expected: tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]],
    setting: Setting,
) -> Finding:
    wanted, updates, leaves, params = expected
    tolerance = TOLERANCE[setting.dtype] * _conditioning(setting)
    pairs: list[tuple[str, Tensor, Tensor]] = []
    for name, output in outputs.items():
        if output.dtype != setting.dtype:
            return Finding(setting=setting.name, outcome=f"{name} has dtype {output.dtype}")
        if output.shape != wanted[name].shape:
            shapes = f"{tuple(output.shape)}, expected {tuple(wanted[name].shape)}"
            return Finding(setting=setting.name, outcome=f"{name} has shape {shapes}")
        pairs.append((name, output, wanted[name]))
    if not setting.empty:
        pairs += [(n, getattr(norm, n), u) for n, u in updates.items()]
    pairs += _gradients(norm, inputs, outputs, wanted, leaves, params)
    worst = 0.0
    for name, found, reference in pairs:
        # The gradient of x has the scale of 1 / x; everything else is of the order of one.
        of_x = name == f"gradient of {program.inputs[0].name}"
        error = difference(found, reference, 1e-30 if of_x else 1.0)
        if not error <= tolerance:
            return Finding(setting=setting.name, outcome=f"{name} is off", error=error)
        worst = max(worst, error)
    return Finding(setting=setting.name, outcome="ok", error=worst)


def _conditioning(setting: Setting) -> float:
    """How much the input amplifies rounding: by the ratio of its mean to its spread."""
    if setting.single:
        return 1e3
    return {"mean 1e4": 2e4, "constant": 1e2}.get(setting.values, 1.0)


def _gradients(
    norm: nn.Module,
    inputs: Mapping[str, Tensor | None],
    outputs: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    leaves: Mapping[str, Tensor],
    params: Mapping[str, Tensor],
) -> list[tuple[str, Tensor, Tensor]]:
    """The gradients of one random combination of all outputs."""
    generator = torch.Generator().manual_seed(2)
    loss = torch.zeros((), dtype=F64)
    reference = torch.zeros((), dtype=F64)
    for name, output in outputs.items():
        weights = torch.randn(output.shape, generator=generator, dtype=F64)
        loss = loss + (output.to(F64) * weights).sum()
        reference = reference + (wanted[name] * weights).sum()
    mine = {n: x for n, x in inputs.items() if x is not None and x.requires_grad}
    mine |= dict(norm.named_parameters())
    theirs = {n: x for n, x in {**leaves, **params}.items() if x.requires_grad}
    if not loss.requires_grad:
        return []
    found = torch.autograd.grad(loss, list(mine.values()), allow_unused=True)
    right = torch.autograd.grad(
        reference, [theirs[n] for n in mine], allow_unused=True, materialize_grads=True
    )
    return [
        (f"gradient of {name}", torch.zeros_like(x) if g is None else g, r)
        for (name, x), g, r in zip(mine.items(), found, right)
    ]


def difference(found: Tensor, reference: Tensor, floor: float) -> float:
    """The largest difference, relative to the largest finite number of the reference, or `floor`.

    Infinity where one has a NaN, or an infinity of its own, and the other has not.
    """
    found, reference = found.detach().to(F64), reference.detach().to(F64)
    if found.numel() == 0:
        return 0.0
    odd = ~torch.isfinite(reference)
    if bool((odd != ~torch.isfinite(found)).any()):
        return float("inf")
    found, reference = found[~odd], reference[~odd]
    if found.numel() == 0:
        return 0.0
    return float((found - reference).abs().max() / reference.abs().max().clamp_min(floor))
