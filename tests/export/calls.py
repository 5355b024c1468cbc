"""Two calls of a norm that differ in every length that a call may bring."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from metanorm.ir.program import Divisible, Equal, Program
from metanorm.ir.space import Space
from metanorm.verify.cases import Example, Setting, make_example
from metanorm.verify.compare import make_module


@dataclass
class Calls:
    """A module, the arguments of both calls, and which dimensions torch.export may not fix."""

    module: nn.Module
    first: dict[str, Any]
    second: dict[str, Any]
    dynamic: dict[str, Any]


def calls(program: Program, library: ModuleType, training: bool, **setting: Any) -> Calls:
    """Both calls in float64; the axes of the second are longer or shorter than the first's."""
    space = Space(program.axes)
    cut = {c.axis for c in program.checks if isinstance(c, Divisible) and not space[c.axis].size}
    first = Setting("first", training=training, space=(6, 5), **setting)
    parts = {axis: make_example(program, first).shapes[axis][0] for axis in cut}
    # More than one part of each: for torch, lengths of one are special.
    lengths = {axis: (2 * parts[axis],) for axis in cut}
    first = Setting("first", training=training, space=(6, 5), lengths=lengths, **setting)
    before = make_example(program, first)
    kept = {axis for argument in program.arguments for axis in argument.axes}
    free = [
        axis.name
        for axis in program.axes
        if axis.size is None and axis.cells_of is None and axis.name not in kept
    ]
    longer = {name: tuple(3 * n for n in before.shapes[name]) for name in free}
    longer.update({name: (7, 3) for name in free if space[name].variadic})
    second = Setting("second", training=training, lengths=longer, **setting)
    after = make_example(program, second, seed=1)
    module = make_module(program, library, before, first)
    open_dims = _dynamic(program, before, after, parts)
    arguments = [_of_finite_result(module, _arguments(example)) for example in (before, after)]
    return Calls(module, *arguments, open_dims)


def _arguments(built: Example) -> dict[str, Any]:
    counts = {f"{name}_size": count for name, count in built.groups.items()}
    return {**built.inputs, **counts}


def _of_finite_result(module: nn.Module, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments; further ones are positive where some of them, such as a variance, have to be
    so that the results are finite."""
    with torch.no_grad():
        results = copy.deepcopy(module)(**arguments)
    outputs = [results] if isinstance(results, Tensor) else results
    if all(bool(y.isfinite().all()) for y in outputs):
        return arguments
    _, *further = arguments
    reals = {n: x for n, x in arguments.items() if isinstance(x, Tensor) and x.is_floating_point()}
    positive = {name: reals[name].abs() for name in further if name in reals}
    return {**arguments, **positive}


def _dynamic(
    program: Program, before: Example, after: Example, parts: dict[str, int]
) -> dict[str, Any]:
    """A name for each length in which the calls differ, the same one for the same axis."""
    equal = {c.second: c.first for c in program.checks if isinstance(c, Equal)}
    actual: dict[str, Any] = {f"{name}_size": None for name in before.groups}
    names: dict[str, Any] = {}
    for decl in program.given_inputs:
        x, y = before.inputs[decl.name], after.inputs[decl.name]
        assert x is not None and y is not None
        if decl.sort == "edges":
            actual[decl.name] = {1: Dim("edges", min=2, max=4096)}
            continue
        places = [(equal.get(d, d), i) for d in decl.dims for i in range(len(before.shapes[d]))]
        sizes_of_input = actual[decl.name] = {}
        for place, (axis, number) in enumerate(places):
            if x.shape[place] != y.shape[place]:
                name = f"{axis}_{number}"
                whole = Dim(name, min=2, max=4096)
                if axis in parts:
                    whole = parts[axis] * Dim(name, min=1, max=1000)
                sizes_of_input[place] = names.setdefault(name, whole)
    return actual


def saved(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """What `torch.export.load` makes of what `torch.export.save` has written."""
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file)


def agree(ours: Any, module: nn.Module, arguments: dict[str, Any], **close: float) -> None:
    """Hold outputs, and what buffers are after the call, against those of a norm."""
    twin = copy.deepcopy(module)
    torch.manual_seed(0)
    actual = ours(**arguments)
    torch.manual_seed(0)
    wanted = twin(**arguments)
    if not isinstance(wanted, Tensor):
        actual, wanted = tuple(actual), tuple(wanted)
    torch.testing.assert_close(actual, wanted, **close)
    state = twin.state_dict()
    for name, value in ours.state_dict().items():
        if name in state:
            torch.testing.assert_close(value, state[name], **close)
    module.load_state_dict(state)
