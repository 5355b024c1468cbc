"""The normalization layers of torch, and which of them a norm is.

Each layer is written down as what it is for any axes, from which comes its spec for the axes of a
norm. The norm is that layer where both come out of the optimiser as the same program, whatever
either calls its parts. Its class then derives from the layer's class, for tools that look for it,
provided that what those read can be served.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from metanorm.frontend import check
from metanorm.ir.fingerprint import Fingerprint
from metanorm.ir.nodes import Axis, Pool, Program
from metanorm.ir.scalar import Const, Hyper
from metanorm.passes.pipeline import optimize
from metanorm.source import Source
from metanorm.targets.torch.base import (
    BaseAttribute,
    FixedAttribute,
    RenamedAttribute,
    ShapeAttribute,
    TorchBase,
)

PARAMETERS = ("weight", "bias")
RUNNING = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Layer:
    """A layer of torch: the class that tools know, and what it computes.

    Its input has the groups of axes `axes`, in order. `pools` says how each of some groups is
    pooled, and `affine` is the group that parameters lie on. `attributes` are what tools read
    besides tensors, with the part of the spec that each stands for: a hyperparameter, or a group
    of axes for its length.
    """

    name: str
    hyperparameters: str
    axes: str
    pools: Mapping[str, str]
    affine: str
    attributes: Mapping[str, str]
    switch: str
    clauses: tuple[str, ...] = ()
    parameters: tuple[str, ...] = PARAMETERS
    nullable: tuple[str, ...] = ("momentum",)


LAYERS = (
    Layer(
        "nn.modules.batchnorm._BatchNorm",
        "eps = 1e-5, momentum = 0.1",
        axes="NCS",
        pools={"N": "", "S": ""},
        affine="C",
        attributes={"num_features": "C", "eps": "eps", "momentum": "momentum"},
        switch="affine",
    ),
    Layer(
        "nn.modules.instancenorm._InstanceNorm",
        "eps = 1e-5, momentum = 0.1",
        axes="NCS",
        pools={"S": ""},
        affine="C",
        attributes={"num_features": "C", "eps": "eps", "momentum": "momentum"},
        switch="affine",
    ),
    Layer(
        "nn.GroupNorm",
        "num_groups: int, eps = 1e-5",
        axes="NCS",
        pools={"C": ": blocks(num_groups)", "S": ""},
        affine="C",
        attributes={"num_groups": "num_groups", "num_channels": "C", "eps": "eps"},
        switch="affine",
    ),
    Layer(
        "nn.LayerNorm",
        "eps = 1e-5",
        axes="BD",
        pools={"D": ""},
        affine="D",
        attributes={"normalized_shape": "D", "eps": "eps"},
        switch="elementwise_affine",
    ),
    Layer(
        "nn.RMSNorm",
        "eps = None",
        axes="BD",
        pools={"D": ""},
        affine="D",
        attributes={"normalized_shape": "D", "eps": "eps"},
        switch="elementwise_affine",
        clauses=("shift none",),
        parameters=("weight",),
        nullable=("eps",),
    ),
)


class CannotServe(Exception):
    """Tools would not find in a norm what they read of the layer that it equals."""


@dataclass(frozen=True)
class LayerMatch:
    """The layer of torch that a norm is; without a base where tools could not use it as one."""

    layer: str
    base: TorchBase | None
    why_not: str = ""


def matching_layer(program: Program, optimised: Program) -> LayerMatch | None:
    """The layer of torch that computes what a norm computes, if there is one."""
    if not _may_match(program):
        return None
    own = Fingerprint(optimised)
    for layer in LAYERS:
        groups = _groups(layer, program)
        if groups is None:
            continue
        theirs = _fingerprint(_spec(layer, groups, program))
        if theirs is not None and theirs.digest == own.digest:
            parts = {name: own.names[part] for part, name in theirs.names.items()}
            try:
                return LayerMatch(layer.name, _base_class(layer, groups, program, parts))
            except CannotServe as problem:
                return LayerMatch(layer.name, None, str(problem))
    return None


def _may_match(program: Program) -> bool:
    """Whether a norm has no more than a layer of torch has."""
    return (
        program.target == "activation"
        and len(program.inputs) == len(program.outputs) == 1
        and len(program.params) <= len(PARAMETERS)
        and len(program.buffers) <= len(RUNNING)
        and any(isinstance(let.op, Pool) for let in program.body)
    )


def _groups(layer: Layer, program: Program) -> dict[str, list[Axis]] | None:
    """The axes of the input in the place of each group of a layer, if they can stand there."""
    axes = {axis.name: axis for axis in program.axes}
    dims = [axes[name] for name in program.inputs[0].dims]
    if layer.axes == "BD":
        first = next((i for i, axis in enumerate(dims) if axis.size is not None), len(dims))
        groups = {"B": dims[:first], "D": dims[first:]}
    else:
        groups = {"N": dims[:1], "C": dims[1:2], "S": dims[2:]}
    sized = [axis for part in layer.attributes.values() for axis in groups.get(part, ())]
    whole = all(axis.size is not None for axis in sized)
    fit = whole and all(axis in sized for axis in dims if axis.size is not None)
    single = not any(axis.variadic for name in "NC" for axis in groups.get(name, ()))
    filled = all(groups[name] for name in groups if name != "S" or tuple(layer.pools) == ("S",))
    return groups if fit and single and filled else None


def _spec(layer: Layer, groups: Mapping[str, Sequence[Axis]], program: Program) -> str:
    """The spec of a layer for inputs with these axes, with as many parameters as a norm has."""

    def axes(group: str, suffix: str = "") -> list[str]:
        stars = ("*" if axis.variadic else "" for axis in groups[group])
        return [f"{star}{group}{i}{suffix.format(i=i)}" for i, star in enumerate(stars)]

    sized = set(layer.attributes.values())
    sizes = {g: f" = length_{g.lower()}{{i}}" if g in sized else "" for g in layer.axes}
    dims = [axis for group, size in sizes.items() for axis in axes(group, size)]
    pools = [axis for group, cut in layer.pools.items() for axis in axes(group, cut)]
    affine = ", ".join(axes(layer.affine))
    parameters = {0: "", 1: f"affine weight[{affine}]", 2: f"affine {affine}"}
    clauses = (
        f"input x[{', '.join(dims)}]",
        f"reduce {', '.join(pools)}",
        *layer.clauses,
        "track momentum" if program.buffers else "",
        parameters[len(program.params)],
    )
    return f"norm Layer({layer.hyperparameters}) {{\n" + "\n".join(clauses) + "\n}"


@lru_cache(maxsize=256)
def _fingerprint(spec: str) -> Fingerprint | None:
    """The fingerprint of a layer; none where the axes are such that it has no meaning."""
    source = Source.of("torch.norm", spec)
    norms = check({source.name: source}, [source.name]).norms[source.name]
    return Fingerprint(optimize(norms[0].program)) if norms else None


def _base_class(
    layer: Layer,
    groups: Mapping[str, Sequence[Axis]],
    program: Program,
    parts: Mapping[str, str],
) -> TorchBase:
    """How a norm serves what tools read of a layer. Raises `CannotServe`."""
    for name in (*PARAMETERS, *RUNNING):
        if parts.get(name, name) != name:
            raise CannotServe(f"its `{parts[name]}` is what torch calls `{name}`")
    switches = {switch.name for switch in program.switches}
    served: dict[str, BaseAttribute] = {}
    for attribute, part in layer.attributes.items():
        if part in groups:
            found = _served_length(groups[part], attribute == "normalized_shape")
        elif part == "momentum" and not program.buffers:
            found = FixedAttribute(None)
        else:
            found = _served_number(parts.get(part), program, attribute in layer.nullable)
        if found is None:
            raise CannotServe(f"nothing of it can stand for `{attribute}`")
        if found != RenamedAttribute(attribute):
            served[attribute] = found
    if layer.switch not in switches:
        served[layer.switch] = FixedAttribute(bool(program.params))
    if "momentum" in layer.attributes and "track_running_stats" not in switches:
        served["track_running_stats"] = FixedAttribute(False)
    for argument in program.arguments:
        if argument.name in served:
            raise CannotServe(
                f"its argument `{argument.name}` is not what torch calls by that name"
            )
    names = {p.name for p in program.params}
    without = tuple(name for name in layer.parameters if name not in names)
    untracked = RUNNING if "momentum" in layer.attributes and not program.buffers else ()
    return TorchBase(layer.name, served, without, untracked)


def _served_number(name: str | None, program: Program, nullable: bool) -> BaseAttribute | None:
    """A hyperparameter; not one that may be `None` where a tool reckons with a number."""
    argument = next((a for a in program.arguments if a.name == name), None)
    if argument is None or (argument.default is None and not argument.required and not nullable):
        return None
    return RenamedAttribute(argument.name)


def _served_length(axes: Sequence[Axis], is_shape: bool) -> BaseAttribute | None:
    """The argument that a length or a shape is, or what else it is made of."""
    sizes = [axis.size for axis in axes]
    lengths = [
        size.name if isinstance(size, Hyper) else int(size.value)
        for size in sizes
        if isinstance(size, (Hyper, Const))
    ]
    if len(lengths) < len(sizes):
        return None
    variadic = any(axis.variadic for axis in axes)
    if is_shape and not variadic:
        return ShapeAttribute(tuple(lengths))
    if len(lengths) > 1:
        return None
    (only,) = lengths
    return RenamedAttribute(only) if isinstance(only, str) else FixedAttribute(only)
