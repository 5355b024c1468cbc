"""Checks the initial values of parameters and buffers, random numbers included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TypeGuard

import torch
from torch import Tensor, nn

from metanorm.ir.initializers import initialization_order, initializers, shared_draws
from metanorm.ir.nodes import Draw
from metanorm.ir.program import BufferDecl, ParamDecl, Program
from metanorm.oracle.call import Call
from metanorm.oracle.initial import initial
from metanorm.oracle.interpret import interpret
from metanorm.verify.agreement import TOLERANCE, conditioning, difference
from metanorm.verify.cases import F64, Example, Setting
from metanorm.verify.initial_state import initialize_state


@dataclass(frozen=True)
class InitialValueError:
    """An initial value that differs from the spec, and by how much."""

    outcome: str
    error: float = 0.0


def check_initial_values(
    program: Program, module: ModuleType, example: Example, setting: Setting
) -> InitialValueError | None:
    """The first wrong initial value of a new norm, if any. A norm for weights is put on its input.

    Random numbers must be those that torch draws in the same order from the same seed, so that
    `torch.manual_seed` makes a run repeatable.
    """
    switches = {s.name: setting.switches.get(s.name, s.default) for s in program.switches}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        norm: nn.Module = getattr(module, program.name)(**example.arguments, **switches)
        initialize_state(program, norm, example.inputs)
        torch.manual_seed(0)
        for name, expected in _expected_values(program, norm, example, setting):
            actual = getattr(norm, name)
            if actual is None:
                continue
            if actual.shape != expected.shape:
                shapes = f"{tuple(actual.shape)}, expected {tuple(expected.shape)}"
                return InitialValueError(f"{name} begins with shape {shapes}")
            error = 0.0 if setting.empty else difference(actual, expected, expected, 1.0)
            if not error <= TOLERANCE[actual.dtype] * conditioning(setting):
                return InitialValueError(f"{name} begins with something else", error)
    return _check_first_batch(program, module, example, setting) if setting.ordinary else None


def _check_first_batch(
    program: Program, module: ModuleType, example: Example, setting: Setting
) -> InitialValueError | None:
    """The first wrong value that a norm takes from its first batch, if any."""
    decls = initialization_order(program)
    if not decls:
        return None
    switches = {s.name: setting.switches.get(s.name, s.default) for s in program.switches}
    norm: nn.Module = getattr(module, program.name)(**example.arguments, **switches).double()
    inputs = {n: x.double() if _is_real(x) else x for n, x in example.inputs.items()}
    sizes = {f"{name}_size": n for name, n in example.groups.items() if inputs[name] is not None}
    norm.train()(**inputs, **sizes)
    tensors = dict((*norm.named_parameters(), *norm.named_buffers()))
    call = Call(
        inputs=inputs,
        params={n: p.detach() for n, p in norm.named_parameters()},
        buffers={n: b for n, b in norm.named_buffers() if b.is_floating_point()},
        hypers={a.name: getattr(norm, a.name) for a in program.arguments},
        groups=example.groups,
        epsilon=torch.finfo(F64).eps,
    )
    computed = initializers(program)
    for decl in decls:
        expected = interpret(computed[decl.name], call).outputs[decl.name]
        expected = _within_interval(decl, expected)
        error = difference(tensors[decl.name].detach(), expected, expected, 1.0)
        if not error <= TOLERANCE[setting.dtype] * conditioning(setting):
            return InitialValueError(
                f"{decl.name} takes something else from the first batch", error
            )
    return None


def _is_real(x: Tensor | None) -> TypeGuard[Tensor]:
    return x is not None and x.is_floating_point()


def _expected_values(
    program: Program, norm: nn.Module, example: Example, setting: Setting
) -> Iterator[tuple[str, Tensor]]:
    """Each parameter and buffer with its initial value by the oracle, in the order of draws."""
    computed = initializers(program)
    hypers = {a.name: getattr(norm, a.name) for a in program.arguments}
    statistics = torch.promote_types(setting.dtype, torch.float32)
    dtypes = {"weight": setting.dtype, "gradient": statistics, "step": statistics}
    call = Call(
        inputs=example.inputs,
        buffers={name: b for name, b in norm.named_buffers() if b.is_floating_point()},
        hypers=hypers,
        groups=example.groups,
        epsilon=torch.finfo(statistics).eps,
    )
    call.draws_in = statistics
    drawn = {
        draw.name: initial(program, ParamDecl(draw.name, draw.dims, op), call)
        for op, draw in shared_draws(program).items()
        if isinstance(op, Draw)
    }
    call.inputs = {**call.inputs, **drawn}
    for decl in program.state:
        if decl.from_weight:
            call.draws_in = statistics
            expected = interpret(computed[decl.name], call).outputs[decl.name]
        else:
            call.draws_in = dtypes.get(program.target, torch.get_default_dtype())
            expected = initial(program, decl, call)
        yield decl.name, _within_interval(decl, expected)


def _within_interval(decl: ParamDecl | BufferDecl, value: Tensor) -> Tensor:
    """The value in the interval of its parameter, if it has one of constants."""
    low, high = (getattr(getattr(decl, bound, None), "value", None) for bound in ("low", "high"))
    return value if low is None else value.clamp(low, high)
