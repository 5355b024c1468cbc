"""The normalization layers of torch, and which of them a norm is.

A table describes each layer for any axes. From it follows the spec of the layer on the axes of a
norm. The norm is the layer if both optimise to the same program, up to names. The generated class
then derives from the class of the layer, so that `isinstance` checks of tools hold, provided that
the norm can serve the attributes that those tools read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from metanorm.frontend import check
from metanorm.ir.fingerprint import Fingerprint
from metanorm.ir.nodes import Axis, Pool
from metanorm.ir.program import Program
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
    """A layer of torch: its class, and what it computes.

    Its input has the groups of axes `axes`, in order. `pools` says how some groups are pooled, and
    `affine` is the group that parameters have. `attributes` maps attributes that tools read, other
    than tensors, to parts of the spec: a hyperparameter, or a group of axes, whose length it is.
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
    """A norm lacks an attribute that tools read of the layer that it equals."""


@dataclass(frozen=True)
class LayerMatch:
    """The layer of torch that a norm equals; without `base` if tools could not use it as one."""

    layer: str
    base: TorchBase | None
    why_not: str = ""


def matching_layer(program: Program, optimised: Program) -> LayerMatch | None:
    """The layer of torch that computes what a norm computes, if there is one."""
    if not _may_match(program):
        return None
    norm_fingerprint = Fingerprint(optimised)
    for layer in LAYERS:
        groups = _groups(layer, program)
        if groups is None:
            continue
        layer_fingerprint = _fingerprint(_spec(layer, groups, program))
        if layer_fingerprint is not None and layer_fingerprint.digest == norm_fingerprint.digest:
            parts = {
                name: norm_fingerprint.names[part] for part, name in layer_fingerprint.names.items()
            }
            try:
                return LayerMatch(layer.name, _base_class(layer, groups, program, parts))
            except CannotServe as problem:
                return LayerMatch(layer.name, None, str(problem))
    return None


def _may_match(program: Program) -> bool:
    """Whether a norm may equal a layer of torch: a cheap test before programs are compared."""
    return (
        program.target == "activation"
        and len(program.inputs) == len(program.outputs) == 1
        and len(program.params) <= len(PARAMETERS)
        and len(program.buffers) <= len(RUNNING)
        and any(isinstance(let.op, Pool) for let in program.body)
    )


def _groups(layer: Layer, program: Program) -> dict[str, list[Axis]] | None:
    """The axes of the input for each group of axes of a layer; `None` if they do not fit."""
    axes = {axis.name: axis for axis in program.axes}
    dims = [axes[name] for name in program.inputs[0].dims]
    if layer.axes == "BD":
        first = next((i for i, axis in enumerate(dims) if axis.size is not None), len(dims))
        groups = {"B": dims[:first], "D": dims[first:]}
    else:
        groups = {"N": dims[:1], "C": dims[1:2], "S": dims[2:]}
    sized = [axis for part in layer.attributes.values() for axis in groups.get(part, ())]
    are_sized = all(axis.size is not None for axis in sized)
    fits = are_sized and all(axis in sized for axis in dims if axis.size is not None)
    are_single = not any(axis.variadic for name in "NC" for axis in groups.get(name, ()))
    are_filled = all(groups[name] for name in groups if name != "S" or tuple(layer.pools) == ("S",))
    return groups if fits and are_single and are_filled else None


def _spec(layer: Layer, groups: Mapping[str, Sequence[Axis]], program: Program) -> str:
    """The spec of a layer for inputs with these axes, with as many parameters as the norm has."""

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
    """The fingerprint of the spec of a layer; `None` if the spec has errors for these axes."""
    source = Source.of("torch.norm", spec)
    norms = check({source.name: source}, [source.name]).norms[source.name]
    return Fingerprint(optimize(norms[0].program)) if norms else None


def _base_class(
    layer: Layer,
    groups: Mapping[str, Sequence[Axis]],
    program: Program,
    parts: Mapping[str, str],
) -> TorchBase:
    """How a norm serves the attributes of the layer that it equals. Raises `CannotServe`."""
    for name in (*PARAMETERS, *RUNNING):
        if parts.get(name, name) != name:
            raise CannotServe(f"its `{parts[name]}` is what torch calls `{name}`")
    switches = {switch.name for switch in program.switches}
    served: dict[str, BaseAttribute] = {}
    for attribute, part in layer.attributes.items():
        if part in groups:
            attribute_source = _served_length(groups[part], attribute == "normalized_shape")
        elif part == "momentum" and not program.buffers:
            attribute_source = FixedAttribute(None)
        else:
            attribute_source = _served_number(parts.get(part), program, attribute in layer.nullable)
        if attribute_source is None:
            raise CannotServe(f"nothing of it can stand for `{attribute}`")
        if attribute_source != RenamedAttribute(attribute):
            served[attribute] = attribute_source
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
    absent_parameters = tuple(name for name in layer.parameters if name not in names)
    absent_buffers = RUNNING if "momentum" in layer.attributes and not program.buffers else ()
    return TorchBase(layer.name, served, absent_parameters, absent_buffers)


def _served_number(name: str | None, program: Program, nullable: bool) -> BaseAttribute | None:
    """A hyperparameter as an attribute; `None` if it may be `None` and tools expect a number."""
    argument = next((a for a in program.arguments if a.name == name), None)
    if argument is None or (argument.default is None and not argument.required and not nullable):
        return None
    return RenamedAttribute(argument.name)


def _served_length(axes: Sequence[Axis], is_shape: bool) -> BaseAttribute | None:
    """The lengths of axes as an attribute: an argument, a fixed number, or a shape of both."""
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
