"""Print how the axes of a norm can be divided among processes, as the runtime reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from metanorm.ir.fingerprint import fingerprint
from metanorm.ir.outputs import output_dims
from metanorm.ir.program import Declaration, InputDecl, Program
from metanorm.ir.space import Space
from metanorm.passes.divided import Divided, DividedVariant
from metanorm.targets.python.pyir import Dict, Expr, Literal, Tuple
from metanorm.targets.torch.layout import call

# Dimensions of inputs that have none of the data's, by the sort of the input.
OWN_DIMS: Mapping[str, Callable[[str], tuple[str, ...]]] = {
    "offsets": lambda name: (f"{name}.offsets",),
    "edges": lambda name: (f"{name}.ends", f"{name}.edges"),
    "matrix": lambda name: (f"{name}.rows", f"{name}.columns"),
}


def dividable_entry(
    program: Program, division: Divided, variants: Sequence[tuple[Expr, DividedVariant]]
) -> Expr:
    """The `runtime.Dividable` of a norm. Each variant has what calls it."""
    space = program.index.space
    forwards = tuple(
        call(
            "runtime.AmongProcesses",
            forward,
            axes=_words(variant.axes),
            exchanged=_words(variant.exchanged),
            cuts=Literal(True) if variant.labels else None,
        )
        for forward, variant in variants
    )
    outputs = (output_dims(program, name, ref) for name, ref in program.outputs)
    return call(
        "runtime.Dividable",
        digest=Literal(fingerprint(program)[:16]),
        samples=_words(division.sample_axes),
        inputs=_dims_by_name(program.given_inputs, space),
        outputs=Tuple(tuple(_words(_starred(dims, space)) for dims in outputs)),
        parameters=_dims_by_name(program.params, space),
        buffers=_dims_by_name(program.buffers, space) if program.buffers else None,
        lengths=_table({a.name: a.axes[0] for a in program.arguments if a.type == "size"}),
        parts=_table({space.leaves(axis)[0]: axis for axis in division.block_counts}),
        aligned=_words(division.aligned) if division.aligned else None,
        adapts=Literal(True) if any(u.when != "train" for u in program.updates) else None,
        refused=_table(division.refusals),
        shares=_table(division.block_counts),
        blocks=_blocks(division),
        lacking=_table(division.outputs_without_axis),
        variants=Tuple(forwards) if forwards else None,
    )


def _dims_by_name(declarations: Sequence[Declaration], space: Space) -> Dict:
    return Dict(tuple((Literal(d.name), _words(_dims(d, space))) for d in declarations))


def _dims(declaration: Declaration, space: Space) -> tuple[str, ...]:
    if isinstance(declaration, InputDecl) and declaration.written_sort in OWN_DIMS:
        return OWN_DIMS[declaration.written_sort](declaration.name)
    return _starred(declaration.dims, space)


def _starred(dims: Sequence[str], space: Space) -> tuple[str, ...]:
    return tuple(f"*{dim}" if space[dim].variadic else dim for dim in dims)


def _words(items: Sequence[str]) -> Tuple:
    return Tuple(tuple(map(Literal, items)))


def _blocks(division: Divided) -> Expr | None:
    """By axis, the partitions into blocks that pieces may cut."""
    pairs = tuple(
        (
            Literal(axis),
            Tuple(tuple(Tuple((Literal(x.kind), Literal(x.number))) for x in labels)),
        )
        for axis, labels in division.blocks.items()
    )
    return Dict(pairs) if pairs else None


def _table(pairs: Mapping[str, str]) -> Expr | None:
    return Dict(tuple((Literal(k), Literal(v)) for k, v in pairs.items())) if pairs else None
