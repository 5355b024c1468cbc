"""Norms on pieces of a batch, as each process has one, and on the whole of it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.ir.program import InputDecl, Program
from metanorm.verify.cases import Example, Setting, make_example
from metanorm.verify.compare import make_module

Inputs = dict[str, Any]


def module_at(path: str) -> ModuleType:
    """A generated module, imported from where it lies."""
    name = f"pieces_{Path(path).stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def pieces(
    program: Program, axes: Sequence[str], lengths: Sequence[int], setting: Setting
) -> list[Example]:
    """The inputs of each process, whose piece of all `axes` has one of the lengths."""
    made = []
    for rank, length in enumerate(lengths):
        divided = dict.fromkeys(axes, (length,))
        built = make_example(
            program, replace(setting, lengths={**setting.lengths, **divided}), seed=rank
        )
        if made:  # what is not divided is the same everywhere
            same = {d.name for d in program.given_inputs if not set(axes) & set(d.dims)}
            same -= {d.name for d in program.given_inputs if d.sort == "edges"}
            built.inputs |= {name: made[0].inputs[name] for name in same}
            built.arguments = made[0].arguments
        made.append(built)
    return made


def together(program: Program, axes: Sequence[str], parts: Sequence[Example]) -> Example:
    """The inputs of a single process: all pieces behind each other."""
    inputs: dict[str, Tensor | None] = {}
    groups: dict[str, int] = {}
    for decl in program.given_inputs:
        values = [part.inputs[decl.name] for part in parts]
        inputs[decl.name] = _joined(program, decl, axes, values, parts)
        if decl.name in parts[0].groups:
            groups[decl.name] = sum(part.groups[decl.name] for part in parts)
    return replace(parts[0], inputs=inputs, groups=groups)


def _joined(
    program: Program,
    decl: InputDecl,
    axes: Sequence[str],
    values: Sequence[Tensor | None],
    parts: Sequence[Example],
) -> Tensor | None:
    inputs = [value for value in values if value is not None]
    if len(inputs) < len(values):
        return None
    if decl.sort == "edges":
        nodes = [len(_first(program, part)) for part in parts]
        starts = [sum(nodes[:i]) for i in range(len(nodes))]
        return torch.cat([v + start for v, start in zip(inputs, starts)], 1)
    if not set(axes) & set(decl.dims):
        return inputs[0]
    if decl.sort == "index" and decl.table is None:
        sizes = [part.groups[decl.name] for part in parts]
        inputs = [v + sum(sizes[:i]) for i, v in enumerate(inputs)]
    return torch.cat(inputs, place_of(decl, axes))


def place_of(decl: InputDecl, axes: Sequence[str]) -> int:
    """The dimension of a tensor that is divided. Groups of axes stand for two dimensions here."""
    return next(i for i, axis in enumerate(decl.dims) if axis in axes)


def _first(program: Program, built: Example) -> Tensor:
    first = built.inputs[program.inputs[0].name]
    assert first is not None
    return first


def arguments_of(built: Example | Piece) -> Inputs:
    """The keyword arguments of a call; what can have a gradient has one."""
    inputs: Inputs = {
        name: x.clone().requires_grad_() if x is not None and x.is_floating_point() else x
        for name, x in built.inputs.items()
    }
    sizes = {f"{name}_size": n for name, n in built.groups.items() if inputs[name] is not None}
    return {**inputs, **sizes}


def run(
    norm: nn.Module,
    program: Program,
    built: Example | Piece,
    weights: Mapping[str, Tensor] | None,
) -> dict[str, Tensor]:
    """Outputs, gradients and buffers of one call, for a loss with a weight for each element; the
    outputs alone where there are no weights."""
    inputs = arguments_of(built)
    result = norm(**inputs)
    outputs = [result] if isinstance(result, Tensor) else list(result)
    results = {f"output {name}": y for (name, _), y in zip(program.outputs, outputs)}
    if weights is None:
        return results
    loss = sum((y.double() * weights[name]).sum() for name, y in results.items())
    assert isinstance(loss, Tensor)
    loss.backward()  # type: ignore[no-untyped-call]
    leaves = {f"input {n}": x for n, x in inputs.items() if isinstance(x, Tensor)}
    leaves |= {f"parameter {n}": p for n, p in norm.named_parameters()}
    results |= {f"gradient of {n}": x.grad for n, x in leaves.items() if x.grad is not None}
    results |= {f"buffer {n}": b.clone() for n, b in norm.named_buffers()}
    return {name: value.detach() for name, value in results.items()}


def weights_of(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """A weight for each element of each output, given their shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def norm_of(path: str, program: Program, built: Example, setting: Setting) -> nn.Module:
    """The module of a norm, with the same random parameters everywhere."""
    return make_module(program, module_at(path), built, setting)


@dataclass
class Piece:
    """What one process has of a norm whose axes are divided."""

    arguments: dict[str, Any]
    inputs: dict[str, Tensor | None]
    groups: dict[str, int]
    state: dict[str, Tensor]


def cut(
    program: Program, built: Example, norm: nn.Module, axis: str, lengths: Sequence[int]
) -> list[Piece]:
    """The pieces of a norm and of its inputs along an axis."""
    results = []
    dims = {d.name: d.dims for d in program.declarations}
    for rank, length in enumerate(lengths):
        start = sum(lengths[:rank])

        def piece_of(name: str, whole: Tensor, start: int = start, length: int = length) -> Tensor:
            if axis not in dims.get(name, ()):
                return whole.clone()
            return whole.narrow(dims[name].index(axis), start, length).clone()

        arguments = dict(built.arguments)
        for argument in program.arguments:
            if argument.type == "size" and axis in argument.axes:
                arguments[argument.name] = length
        inputs = {n: None if x is None else piece_of(n, x) for n, x in built.inputs.items()}
        state = {n: piece_of(n, t.detach()) for n, t in norm.state_dict().items()}
        results.append(Piece(arguments, inputs, built.groups, state))
    return results
