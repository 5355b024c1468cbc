"""The normalization layers of torch, and which of them a norm is.

Each layer is written down as a spec. A norm is that layer where both come out of the optimiser as
the same program, whatever either calls its parts. Its class then derives from the layer's class,
for tools that look for it, provided that what those read can be served.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from metanorm.frontend import check
from metanorm.ir.fingerprint import Fingerprint
from metanorm.ir.nodes import Axis, Pool, Program
from metanorm.ir.scalar import Const, Hyper
from metanorm.passes.pipeline import optimize
from metanorm.source import Source
from metanorm.targets.torch.base import Base, Fixed, Renamed, Served, Shape

PARAMETERS = ("weight", "bias")
RUNNING = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Layer:
    """A layer of torch: the class that tools know, and what it computes, as a spec.

    `attributes` are what tools read besides tensors, with the part of the spec that each stands
    for: a hyperparameter, or an axis for its length.
    """

    name: str
    spec: str
    attributes: Mapping[str, str]
    switch: str
    parameters: tuple[str, ...] = PARAMETERS
    nullable: tuple[str, ...] = ("momentum",)


LAYERS = (
    Layer(
        "nn.modules.batchnorm._BatchNorm",
        """norm BatchNorm(eps = 1e-5, momentum = 0.1) {
          input  x[N, C = num_features, *S]
          reduce N, *S
          track  momentum
          affine C
        }""",
        {"num_features": "C", "eps": "eps", "momentum": "momentum"},
        "affine",
    ),
    Layer(
        "nn.modules.instancenorm._InstanceNorm",
        """norm InstanceNorm(eps = 1e-5, momentum = 0.1) {
          input  x[N, C = num_features, *S]
          reduce *S
          track  momentum
          affine C
        }""",
        {"num_features": "C", "eps": "eps", "momentum": "momentum"},
        "affine",
    ),
    Layer(
        "nn.GroupNorm",
        """norm GroupNorm(num_groups: int, eps = 1e-5) {
          input  x[N, C = num_channels, *S]
          reduce C: blocks(num_groups), *S
          affine C
        }""",
        {"num_groups": "num_groups", "num_channels": "C", "eps": "eps"},
        "affine",
    ),
    Layer(
        "nn.LayerNorm",
        """norm LayerNorm(eps = 1e-5) {
          input  x[*B, *D = normalized_shape]
          reduce *D
          affine *D
        }""",
        {"normalized_shape": "D", "eps": "eps"},
        "elementwise_affine",
    ),
    Layer(
        "nn.RMSNorm",
        """norm RMSNorm(eps = None) {
          input  x[*B, *D = normalized_shape]
          reduce *D
          shift  none
          affine weight[*D]
        }""",
        {"normalized_shape": "D", "eps": "eps"},
        "elementwise_affine",
        parameters=("weight",),
        nullable=("eps",),
    ),
)
GROUP = re.compile(r"(?P<comma>, )?\*?\b(?P<group>[NCSBD])\b(?P<size> = \w+)?")
AFFINE = re.compile(r"affine (?:weight\[)?(?P<axes>[^]\n]*)\]?\n")
TRACK = re.compile(r" *track .*\n")


class NotServed(Exception):
    """Tools would not find in a norm what they read of the layer that it equals."""


@dataclass(frozen=True)
class Likeness:
    """The layer of torch that a norm is; without a base where tools could not use it as one."""

    layer: str
    base: Base | None
    why_not: str = ""


def likeness(program: Program, optimised: Program) -> Likeness | None:
    """The layer of torch that computes what a norm computes, if there is one."""
    if not _could_be(program):
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
                return Likeness(layer.name, _base(layer, groups, program, parts))
            except NotServed as problem:
                return Likeness(layer.name, None, str(problem))
    return None


def _could_be(program: Program) -> bool:
    """Whether a norm has no more than a layer of torch has."""
    return (
        program.target == "activation"
        and len(program.inputs) == len(program.outputs) == 1
        and len(program.params) <= len(PARAMETERS)
        and len(program.buffers) <= len(RUNNING)
        and any(isinstance(let.op, Pool) for let in program.body)
    )


def _groups(layer: Layer, program: Program) -> dict[str, list[Axis]] | None:
    """The axes of the input in the place of each axis of a layer, if they can stand there."""
    axes = {axis.name: axis for axis in program.axes}
    dims = [axes[name] for name in program.inputs[0].dims]
    if layer.attributes.get("normalized_shape"):
        first = next((i for i, axis in enumerate(dims) if axis.size is not None), len(dims))
        groups = {"B": dims[:first], "D": dims[first:]}
    else:
        groups = {"N": dims[:1], "C": dims[1:2], "S": dims[2:]}
    sized = [axis for part in layer.attributes.values() for axis in groups.get(part, ())]
    whole = all(axis.size is not None for axis in sized)
    fit = whole and all(axis in sized for axis in dims if axis.size is not None)
    single = not any(axis.variadic for name in "NC" for axis in groups.get(name, ()))
    filled = all(groups[name] for name in groups if name != "S" or "reduce *S" in layer.spec)
    return groups if fit and single and filled else None


def _spec(layer: Layer, groups: Mapping[str, Sequence[Axis]], program: Program) -> str:
    """The spec of a layer for inputs with these axes, with as many parameters as a norm has."""

    def named(match: re.Match[str]) -> str:
        group = match["group"]
        names = [f"{group}{i}" for i, _ in enumerate(groups[group])]
        starred = [f"*{n}" if a.variadic else n for n, a in zip(names, groups[group])]
        if match["size"]:
            starred = [f"{s} = length_{n.lower()}" for s, n in zip(starred, names)]
        return (match["comma"] or "") + ", ".join(starred) if names else ""

    affine = {2: r"affine \g<axes>\n", 1: r"affine weight[\g<axes>]\n", 0: r"\n"}
    text = AFFINE.sub(affine[len(program.params)], layer.spec)
    if not program.buffers:
        text = TRACK.sub("", text)
    head, _, body = text.partition("{")
    return f"{head}{{{GROUP.sub(named, body)}"


@lru_cache(maxsize=256)
def _fingerprint(spec: str) -> Fingerprint | None:
    """The fingerprint of a layer; none where the axes are such that it has no meaning."""
    source = Source.of("torch.norm", spec)
    norms = check({source.name: source}, [source.name]).norms[source.name]
    return Fingerprint(optimize(norms[0].program)) if norms else None


def _base(
    layer: Layer,
    groups: Mapping[str, Sequence[Axis]],
    program: Program,
    parts: Mapping[str, str],
) -> Base:
    """How a norm serves what tools read of a layer. Raises `NotServed`."""
    for name in (*PARAMETERS, *RUNNING):
        if parts.get(name, name) != name:
            raise NotServed(f"its `{parts[name]}` is what torch calls `{name}`")
    switches = {switch.name for switch in program.switches}
    served: dict[str, Served] = {}
    for attribute, part in layer.attributes.items():
        if part in groups:
            found = _length(groups[part], attribute == "normalized_shape")
        elif part == "momentum" and not program.buffers:
            found = Fixed(None)
        else:
            found = _number(parts.get(part), program, attribute in layer.nullable)
        if found is None:
            raise NotServed(f"nothing of it can stand for `{attribute}`")
        if found != Renamed(attribute):
            served[attribute] = found
    if layer.switch not in switches:
        served[layer.switch] = Fixed(bool(program.params))
    if "momentum" in layer.attributes and "track_running_stats" not in switches:
        served["track_running_stats"] = Fixed(False)
    for argument in program.arguments:
        if argument.name in served:
            raise NotServed(f"its argument `{argument.name}` is not what torch calls by that name")
    names = {p.name for p in program.params}
    without = tuple(name for name in layer.parameters if name not in names)
    untracked = RUNNING if "momentum" in layer.attributes and not program.buffers else ()
    return Base(layer.name, served, without, untracked)


def _number(name: str | None, program: Program, nullable: bool) -> Served | None:
    """A hyperparameter; not one that may be `None` where a tool reckons with a number."""
    argument = next((a for a in program.arguments if a.name == name), None)
    if argument is None or (argument.default is None and not argument.required and not nullable):
        return None
    return Renamed(argument.name)


def _length(axes: Sequence[Axis], is_shape: bool) -> Served | None:
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
        return Shape(tuple(lengths))
    if len(lengths) > 1:
        return None
    (only,) = lengths
    return Renamed(only) if isinstance(only, str) else Fixed(only)
