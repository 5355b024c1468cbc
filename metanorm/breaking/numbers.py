"""Two versions of a norm, run on the same numbers by the oracle."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from metanorm.breaking.change import Change
from metanorm.ir.dump import draw_text
from metanorm.ir.fingerprint import fingerprint
from metanorm.ir.program import Program
from metanorm.oracle.call import Call
from metanorm.oracle.interpret import interpret
from metanorm.passes.pipeline import optimize
from metanorm.show.example import CannotDraw, example
from metanorm.show.oracle_call import oracle_call

TOLERANCE = 1e-9  # of float64, relative to the largest number
SEED = 0
MODE_TEXTS = {True: "in training", False: "in evaluation"}


def number_changes(old: Program, new: Program) -> Iterator[Change]:
    """The changes of results, gradients and running statistics on a small example.

    Versions that are the same program up to names are not run. Further methods of both are
    compared, too.
    """
    yield from _program_changes(old, new)
    entries = {entry.method: entry for entry in new.entries}
    for entry in old.entries:
        if entry.method in entries:
            yield from _program_changes(entry, entries[entry.method])


def _program_changes(old: Program, new: Program) -> Iterator[Change]:
    """The same for one method: with arguments as by default, else with the first that differ."""
    if fingerprint(optimize(old)) == fingerprint(optimize(new)):
        return
    draws = list(_draw_changes(old, new))
    if draws:  # which random numbers go with which others is not known
        yield from draws
        return
    try:
        (small_old, old_call), (small_new, new_call) = _calls_alike(old, new)
    except CannotDraw as reason:
        text = f"the equations differ, and there is no small example to compare: {reason}"
        yield Change(new.name, "numbers", text)
        return
    if _call_signature(old_call) != _call_signature(new_call):
        return  # `interface_changes` reports it
    for name, value in [("", None), *_other_arguments(old, new)]:
        setting = f" with {name}={value!r}" if name else ""
        hypers = {**old_call.hypers, **_hypers(old, name, value), **_hypers(new, name, value)}
        call = replace(old_call, hypers=hypers)  # of both: the numbers are the same
        changes = [
            Change(new.name, "numbers", f"{text} {mode}{setting}")
            for training, mode in MODE_TEXTS.items()
            for text in _differences(
                _results(small_old, replace(call, training=training)),
                _results(small_new, replace(call, training=training)),
            )
        ]
        yield from changes
        if changes:
            return


def _draw_changes(old: Program, new: Program) -> Iterator[Change]:
    """What a version draws in training, where the other one draws something else, in words."""
    before, after = (Counter(map(draw_text, p.drawn_inputs)) for p in (old, new))
    for verb, texts in (("no longer", before - after), ("now", after - before)):
        for text in texts:
            yield Change(new.name, "numbers", f"it {verb} draws {text} in training")


def _differences(
    before: Mapping[str, Tensor | None], after: Mapping[str, Tensor | None]
) -> Iterator[str]:
    """What differs between two results, in words."""
    for description in before:
        text = _difference(description, before[description], after.get(description))
        if text:
            yield text


def _other_arguments(old: Program, new: Program) -> Iterator[tuple[str, object]]:
    """The strings and flags that an argument of both versions can be, one argument at a time."""
    arguments = {a.name: a for a in new.constructor_arguments}
    for argument in old.constructor_arguments:
        other = arguments.get(argument.name)
        if other is not None and argument.type == other.type == "bool":
            yield from ((argument.name, value) for value in (True, False))
        elif other is not None:
            common = (choice for choice in argument.choices if choice in other.choices)
            yield from ((argument.name, choice) for choice in common)


def _hypers(program: Program, name: str, value: object) -> dict[str, object]:
    """The arguments that change where one is set, with those that say what it is."""
    if not name:
        return {}
    flags = (a for a in program.arguments if a.test is not None and a.test.of == name)
    tests = {flag.name: flag.test.text == value for flag in flags if flag.test is not None}
    return {name: value, **tests}


def _calls_alike(old: Program, new: Program) -> tuple[tuple[Program, Call], tuple[Program, Call]]:
    """Both versions with short axes, and a call of each with inputs of the same shapes.

    Each version has lengths of its own, such as multiples of the number of its blocks: where they
    differ, both get the larger ones, the smaller ones, or multiples of both. Raises `CannotDraw` if
    an axis cannot have the same length in both. Calls with other inputs are returned as they are.
    """
    before, after = example(old).lengths, example(new).lengths
    pairs = [
        (old_dim, new_dim)
        for old_input in old.inputs
        for new_input in new.inputs
        if old_input.name == new_input.name and len(old_input.dims) == len(new_input.dims)
        for old_dim, new_dim in zip(old_input.dims, new_input.dims)
    ]
    if all(before[old_dim] == after[new_dim] for old_dim, new_dim in pairs):
        return oracle_call(old), oracle_call(new)
    for common in (max, min, math.lcm):
        lengths = [common(before[old_dim], after[new_dim]) for old_dim, new_dim in pairs]
        old_lengths, new_lengths = (dict(zip(dims, lengths)) for dims in zip(*pairs))
        with suppress(CannotDraw):
            calls = oracle_call(old, old_lengths), oracle_call(new, new_lengths)
            if _shapes(calls[0][1].inputs) == _shapes(calls[1][1].inputs):
                return calls
    raise CannotDraw("no lengths of axes fit both versions")


def _call_signature(call: Call) -> list[object]:
    """The signature of a call: names and shapes of tensors, and names of hyperparameters."""
    return [*map(_shapes, (call.inputs, call.params, call.buffers)), set(call.hypers)]


def _shapes(tensors: Mapping[str, Tensor | None]) -> dict[str, torch.Size | None]:
    return {name: None if x is None else x.shape for name, x in tensors.items()}


def _results(program: Program, call: Call) -> Mapping[str, Tensor | None]:
    """The results of a call by description: outputs, gradients and running statistics."""
    torch.manual_seed(SEED)
    leaves = {**_leaves(call.inputs), **_leaves(call.params)}
    inputs = {name: leaves.get(name, x) for name, x in call.inputs.items()}
    params = {name: leaves.get(name, x) for name, x in call.params.items()}
    result = interpret(program, replace(call, inputs=inputs, params=params))
    results: dict[str, Tensor | None] = {}
    total = torch.zeros((), dtype=torch.float64)
    for position, output in enumerate(result.outputs.values()):
        results["the result" if not position else f"output {position + 1}"] = output.detach()
        grad_output = torch.cos(torch.arange(output.numel(), dtype=torch.float64)).reshape(
            output.shape
        )
        total = total + (output * grad_output).sum()
    if total.requires_grad:
        grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        for name, grad in zip(leaves, grads):
            results[f"the gradient of `{name}`"] = grad
    for name, value in result.updates.items():
        results[f"`{name}` after a call"] = value.detach()
    return results


def _leaves(tensors: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    return {
        name: x.detach().clone().requires_grad_()
        for name, x in tensors.items()
        if x is not None and x.is_floating_point()
    }


def _difference(description: str, before: Tensor | None, after: Tensor | None) -> str:
    """How much a value differs, in words; empty if it does not."""
    if before is None and after is None:
        return ""
    if before is None or after is None:
        x = before if before is not None else after
        assert x is not None
        before, after = (torch.zeros_like(x) if t is None else t for t in (before, after))
    if before.shape != after.shape:
        return f"{description} has another shape"
    distances = (before - after).abs().nan_to_num(torch.inf)
    distances[(before == after) | (before.isnan() & after.isnan())] = 0
    largest = float(distances.max()) if distances.numel() else 0.0
    scale = float(before.nan_to_num(0, 0, 0).abs().max()) if before.numel() else 0.0
    if largest <= TOLERANCE * max(1.0, scale):
        return ""
    return f"{description} differs by up to {largest:.2g}, where numbers are up to {scale:.2g},"
