"""Whether parameters and buffers begin with what the spec says, random numbers included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TypeGuard

import torch
from torch import Tensor, nn

from metanorm.ir.initializers import initialization_order, initializers, shared_draws
from metanorm.ir.nodes import Draw, ParamDecl, Program
from metanorm.oracle.call import Call
from metanorm.oracle.initial import initial
from metanorm.oracle.interpret import interpret
from metanorm.verify.agreement import TOLERANCE, conditioning, difference
from metanorm.verify.cases import F64, Example, Setting


@dataclass(frozen=True)
class InitialValueError:
    """A first value that is not the one of the spec, and by how much."""

    outcome: str
    error: float = 0.0


def check_initial_values(
    program: Program, module: ModuleType, built: Example, setting: Setting
) -> InitialValueError | None:
    """What differs in what a fresh norm holds; one for weights has been put on its input.

    Random numbers must be those that torch draws in the same order from the same seed, which is
    how `torch.manual_seed` makes a run repeatable.
    """
    switches = {s.name: setting.switches.get(s.name, s.default) for s in program.switches}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        norm: nn.Module = getattr(module, program.name)(**built.arguments, **switches)
        if hasattr(norm, "right_inverse"):
            norm.right_inverse(built.inputs[program.inputs[0].name])  # type: ignore[operator]
        torch.manual_seed(0)
        for name, right in _expected_values(program, norm, built, setting):
            found = getattr(norm, name)
            if found is None:
                continue
            if found.shape != right.shape:
                shapes = f"{tuple(found.shape)}, expected {tuple(right.shape)}"
                return InitialValueError(f"{name} begins with shape {shapes}")
            error = 0.0 if setting.empty else difference(found, right, right, 1.0)
            if not error <= TOLERANCE[found.dtype] * conditioning(setting):
                return InitialValueError(f"{name} begins with something else", error)
    return _check_first_batch(program, module, built, setting) if setting.ordinary else None


def _check_first_batch(
    program: Program, module: ModuleType, built: Example, setting: Setting
) -> InitialValueError | None:
    """What a norm takes from its first batch and should not."""
    decls = initialization_order(program)
    if not decls:
        return None
    switches = {s.name: setting.switches.get(s.name, s.default) for s in program.switches}
    norm: nn.Module = getattr(module, program.name)(**built.arguments, **switches).double()
    inputs = {n: x.double() if _is_real(x) else x for n, x in built.inputs.items()}
    sizes = {f"{name}_size": n for name, n in built.groups.items() if inputs[name] is not None}
    norm.train()(**inputs, **sizes)
    tensors = dict((*norm.named_parameters(), *norm.named_buffers()))
    call = Call(
        inputs=inputs,
        params={n: p.detach() for n, p in norm.named_parameters()},
        buffers={n: b for n, b in norm.named_buffers() if b.is_floating_point()},
        hypers={a.name: getattr(norm, a.name) for a in program.arguments},
        groups=built.groups,
        epsilon=torch.finfo(F64).eps,
    )
    computed = initializers(program)
    for decl in decls:
        right = interpret(computed[decl.name], call).outputs[decl.name]
        error = difference(tensors[decl.name].detach(), right, right, 1.0)
        if not error <= TOLERANCE[setting.dtype] * conditioning(setting):
            return InitialValueError(
                f"{decl.name} takes something else from the first batch", error
            )
    return None


def _is_real(x: Tensor | None) -> TypeGuard[Tensor]:
    return x is not None and x.is_floating_point()


def _expected_values(
    program: Program, norm: nn.Module, built: Example, setting: Setting
) -> Iterator[tuple[str, Tensor]]:
    """Each parameter and buffer with what the oracle says that it begins with, in that order."""
    computed = initializers(program)
    hypers = {a.name: getattr(norm, a.name) for a in program.arguments}
    statistics = torch.promote_types(setting.dtype, torch.float32)
    on_weight = program.target == "weight"
    call = Call(
        inputs=built.inputs,
        buffers={name: b for name, b in norm.named_buffers() if b.is_floating_point()},
        hypers=hypers,
        groups=built.groups,
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
            right = interpret(computed[decl.name], call).outputs[decl.name]
        else:
            call.draws_in = setting.dtype if on_weight else torch.get_default_dtype()
            right = initial(program, decl, call)
        low, high = (getattr(getattr(decl, b, None), "value", None) for b in ("low", "high"))
        yield decl.name, right if low is None else right.clamp(low, high)
