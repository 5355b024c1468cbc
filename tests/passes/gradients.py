"""A norm at random numbers: what the oracle and autograd say, and what a backward program says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metanorm.ir.flags import choosing_flags
from metanorm.ir.program import Program
from metanorm.ir.space import Space
from metanorm.oracle.call import Call
from metanorm.oracle.interpret import _Run
from metanorm.passes.backward import GRADIENT
from metanorm.verify.cases import F64, Setting, make_example

# Whether a module is in training mode and keeps running statistics, in each arm.
CALLS = {"train": (True, True), "eval": (False, True), "batch": (False, False)}
Tensors = dict[str, Tensor]


@dataclass
class Point:
    """A call of a norm, its inputs and parameters as leaves, and what it gives for them."""

    call: Call
    leaves: Tensors
    outputs: Tensors

    def gradients(self, arriving: Mapping[str, Tensor]) -> Tensors:
        """By autograd through the oracle; zero for leaves on which nothing depends."""
        loss = torch.zeros((), dtype=F64)
        for name, output in self.outputs.items():
            loss = loss + (output * arriving[GRADIENT + name].reshape(output.shape)).sum()
        gradients = torch.autograd.grad(
            loss, list(self.leaves.values()), allow_unused=True, materialize_grads=True
        )
        return {GRADIENT + name: gradient for name, gradient in zip(self.leaves, gradients)}

    def derived(self, backward: Program, further: Mapping[str, Tensor]) -> Tensors:
        """By a backward program, given its further inputs; what it leaves out is zero."""
        dims = {d.name: d.dims for d in backward.declarations}
        space = Space(backward.axes)
        inputs = {n: as_stored(x, dims[n], space) for n, x in further.items() if n in dims}
        actual = values(backward, replace(self.call, inputs={**self.call.inputs, **inputs}))
        gradients = {GRADIENT + name: torch.zeros_like(leaf) for name, leaf in self.leaves.items()}
        for name, gradient in actual.items():
            gradients[name] = as_stored(gradient, dims[name[len(GRADIENT) :]], space)
        return {name: g.reshape(self.leaves[name[2:]].shape) for name, g in gradients.items()}


def as_stored(tensor: Tensor, dims: Sequence[str], space: Space) -> Tensor:
    """A tensor with a dimension for each axis, in the order in which a call has them."""
    stored = [axis for dim in dims for axis in space.leaves(dim)]
    order = space.ordered(stored)
    if tensor.dim() != len(order):  # of a first output: as large as the first input
        return tensor
    return tensor.permute([order.index(axis) for axis in stored])


def point(program: Program, arm: str = "train") -> Point:
    """Random numbers for a program as the front end makes it, called as an arm is."""
    flat = {axis.name: (3,) for axis in program.axes if axis.variadic}
    built = make_example(program, Setting("train", lengths=flat))
    random = torch.Generator().manual_seed(1)

    def positive(dims: tuple[str, ...]) -> Tensor:
        shape = [n for dim in dims for n in built.shapes[dim]]
        return torch.rand(shape, generator=random, dtype=F64) + 0.5

    mode, *flags = arm.split("_with_")
    training, keeps = CALLS[mode]
    numbers = {a.name: a.default for a in program.arguments if a.default is not None}
    numbers |= {flag: flag in flags for flag in choosing_flags(program)}
    call = Call(
        inputs={**built.inputs, **built.drawn},
        params={p.name: positive(p.dims) for p in program.params},
        buffers={b.name: positive(b.dims) for b in program.buffers},
        hypers={**numbers, **built.arguments},
        groups=built.groups,
        training=training,
        keeps=keeps,
    )
    tensors = {**built.inputs, **call.params}  # what is drawn has no gradient
    leaves = {
        n: x.requires_grad_() for n, x in tensors.items() if x is not None and x.is_floating_point()
    }
    return Point(call, leaves, values(program, call))


def values(program: Program, call: Call) -> Tensors:
    """The outputs of a program by the oracle, with one dimension for each axis.

    They are as they are bound: `interpret` would repeat what groups of an index share.
    """
    run = _Run(replace(program, updates=()), call)
    run.result()
    return {name: run.v.values[ref] for name, ref in program.outputs}
