"""The facts about a norm that are known without running it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from metanorm.explain.kernels import Cost, direction_costs, kernels_text
from metanorm.explain.processes import exchanges_by_axis
from metanorm.frontend import CheckedNorm
from metanorm.ir.aggregation import Ones, grouping_text
from metanorm.ir.batch import crosses_samples
from metanorm.ir.dump import init_text, scan_words
from metanorm.ir.fingerprint import fingerprint
from metanorm.ir.nodes import Input, Let, Map, Pool, Recurrence
from metanorm.ir.program import BufferDecl, ParamDecl, Program
from metanorm.ir.scalar import scalar_text
from metanorm.ir.space import Space
from metanorm.passes.pipeline import optimize
from metanorm.semantics.backward_pass import backward_block
from metanorm.syntax import ast
from metanorm.syntax.text_from_ast import expr_text, norm_lines
from metanorm.torch_layers import matching_layer


@dataclass(frozen=True)
class Facts:
    """The answers of `metanorm explain SPEC`, ready to print or to serialise."""

    norm: str
    target: str  # activation, weight, gradient or loss
    about: str
    equations: str
    pools: tuple[str, ...]
    learned: tuple[str, ...]
    kept: tuple[str, ...]
    stated: tuple[str, ...]  # what the spec states of the backward pass
    samples_meet_in_training: bool
    samples_meet_in_evaluation: bool
    reads: str
    costs: tuple[Cost, ...]
    kernels: str
    among_processes: tuple[str, ...]  # a line for each axis that may be divided
    equals: tuple[str, ...]
    torch_layer: str  # the layer of torch that computes the same
    derives_from: str  # its class, for tools that look for that
    why_not_derived: str


def facts(norm: CheckedNorm, library: Mapping[str, str]) -> Facts:
    """The facts of a norm. `library` maps fingerprints to the names of norms of the library."""
    optimised = optimize(norm.program)
    has_samples = norm.program.target in ("activation", "loss")
    equal_norm = library.get(fingerprint(optimised), "")
    equations = replace(norm.equations, trivia=type(norm.norm.trivia)())
    layer = matching_layer(norm.program, optimised)
    return Facts(
        norm=norm.program.name,
        target=norm.program.target,
        about=" ".join(norm.program.doc),
        equations="\n".join(norm_lines(equations)),
        pools=tuple(_pools(norm.program)),
        learned=tuple(_learned(norm)),
        kept=tuple(_kept(norm)),
        stated=tuple(_stated(norm)),
        samples_meet_in_training=has_samples and _samples_interact(norm.program, evaluating=False),
        samples_meet_in_evaluation=has_samples and _samples_interact(norm.program, evaluating=True),
        reads=_reads(optimised),
        costs=direction_costs(optimised),
        kernels="; ".join([kernels_text(optimised), *map(_entry_kernels, norm.program.entries)]),
        among_processes=exchanges_by_axis(optimised, norm.program),
        equals=(equal_norm,) if equal_norm and equal_norm != norm.program.name else (),
        torch_layer=f"torch.{layer.layer}" if layer else "",
        derives_from=f"torch.{layer.base.name}" if layer and layer.base else "",
        why_not_derived=layer.why_not if layer else "",
    )


def _entry_kernels(entry: Program) -> str:
    return f"of `{entry.method}` {kernels_text(optimize(entry))}"


def _axes(names: Sequence[str], space: Space) -> str:
    return ", ".join(f"*{name}" if space[name].variadic else name for name in names)


def _pools(program: Program) -> list[str]:
    """Each pool once: how every axis is pooled, and which axes the result has."""
    space = program.index.space
    lines: list[str] = []
    for let in program.body:
        poolings = (
            [f"{let.op.axis} by {scan_words(let.op)}"] if isinstance(let.op, Recurrence) else []
        )
        if not isinstance(let.op, (Pool, Recurrence)):
            continue
        for axis, matrix in let.op.over if isinstance(let.op, Pool) else ():
            shown = _axes((axis,), space)
            if isinstance(matrix, Ones):
                poolings.append(f"all of {shown}")
            else:
                poolings.append(f"{shown} by {grouping_text(matrix)}")
        each = _axes([a for a in let.type.axes if "/" not in a], space)
        cells = _axes([a for a in let.type.axes if "/" in a], space)
        result_axes = " and ".join(filter(None, (each, cells)))
        line = (
            f"{', '.join(poolings)}: one value for each {result_axes}"
            if result_axes
            else f"{', '.join(poolings)}"
        )
        masked = " where the mask is true" if isinstance(let.op, Pool) and let.op.where else ""
        weighted = ", weighted" if isinstance(let.op, Pool) and let.op.weight else ""
        if (line := line + masked + weighted) not in lines:
            lines.append(line)
    return lines


def _samples_interact(program: Program, evaluating: bool) -> bool:
    if crosses_samples(program, evaluating):
        return True
    if program.backward is None or evaluating:
        return False
    return bool(crosses_samples(program.backward.program, evaluating=False))


def _learned(norm: CheckedNorm) -> list[str]:
    """A line for each parameter: its axes, its initial value, its bounds and its switches."""
    state_text = _state_texts(norm)
    lines = []
    for p in norm.program.params:
        bounds = ""
        if p.low is not None and p.high is not None:
            bounds = f", kept in [{scalar_text(p.low)}, {scalar_text(p.high)}]"
        switch = f", if {' and '.join(p.switches)}" if p.switches else ""
        lines.append(f"{state_text(p)}{bounds}{switch}")
    return lines


def _kept(norm: CheckedNorm) -> list[str]:
    """A line for each buffer: its axes and its initial value."""
    return list(map(_state_texts(norm), norm.program.buffers))


def _stated(norm: CheckedNorm) -> Iterator[str]:
    """A line for each gradient and update of a stated backward pass, and what is not in it."""
    block = backward_block(norm.equations)
    for statement in block.statements if block else ():
        match statement:
            case ast.Gradient(name=name, value=value):
                yield f"gradient {name.name} = {expr_text(value)}, not what is derived"
            case ast.Update(name=name, value=value):
                yield f"update {name.name} = {expr_text(value)}, when the backward pass runs"
    if block is not None:
        yield "on plain torch; all other gradients are derived, and all of them in evaluation"


def _state_texts(norm: CheckedNorm) -> Callable[[ParamDecl | BufferDecl], str]:
    """A function from a parameter or buffer to its axes and its initial value."""
    space = norm.program.index.space
    initial_texts, first_batch_text = _initial_texts(norm), _first_batch_texts(norm)

    def text(decl: ParamDecl | BufferDecl) -> str:
        shape = f"[{_axes(decl.dims, space)}]" if decl.dims else ""
        initial = init_text(decl.init)
        if decl.from_weight:
            initial = initial_texts.get(decl.name, "a value of the weight")
        return f"{decl.name}{shape}, initially {initial}{first_batch_text(decl.name)}"

    return text


def _first_batch_texts(norm: CheckedNorm) -> Callable[[str], str]:
    """A function from the name of a parameter or buffer to what it takes from the first batch."""
    declared = [s for s in norm.equations.statements if isinstance(s, (ast.Param, ast.Buffer))]
    first_values = {i.name.name: expr_text(i.first) for s in declared for i in s.items if i.first}
    return lambda name: (
        f", with the first batch {first_values[name]}" if name in first_values else ""
    )


def _initial_texts(norm: CheckedNorm) -> dict[str, str]:
    """The expression behind `init` of each parameter and buffer, by name."""
    declared = [s for s in norm.equations.statements if isinstance(s, (ast.Param, ast.Buffer))]
    return {i.name.name: expr_text(i.value) for s in declared for i in s.items if i.from_weight}


def _reads(optimised: Program) -> str:
    """The number of reductions of what is as large as the inputs, and of maps of their size."""
    space = optimised.index.space

    def whole_axes(let: Let) -> tuple[str, ...]:
        """The axes of a value, with a run of an axis as that axis."""
        pieces = (space[axis].piece_of for axis in let.type.axes)
        return tuple(p[0] if p else axis for p, axis in zip(pieces, let.type.axes))

    first = next(let.type.axes for let in optimised.body if isinstance(let.op, Input))
    wide = {
        let.name
        for let in optimised.body
        if isinstance(let.op, Input) or set(whole_axes(let)) >= set(first)
    }
    measured = {
        (let.op.value, let.op.over)
        for let in optimised.body
        if isinstance(let.op, Pool) and let.op.value in wide
    }
    maps = [let for let in optimised.body if isinstance(let.op, Map) and whole_axes(let) == first]
    has_runs = any(space[axis].piece_of for let in maps for axis in let.type.axes)
    passes = f"{len(measured)} reduction{'s' if len(measured) != 1 else ''}"
    steps = f"{len(maps)} map{'s' if len(maps) != 1 else ''}"
    size = "the input's size or of a run of it" if has_runs else "the input's size"
    return f"{passes} over the inputs, then {steps} of {size}"
