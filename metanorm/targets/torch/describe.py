"""Print the docstrings of generated code: equations, shapes, arguments, errors, paper."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from metanorm.diagnostics.suggest import prose
from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import Dtype
from metanorm.ir.outputs import output_dims
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.program import Argument, Divisible, MinimumPoolSize, Program
from metanorm.ir.scalar import Hyper, Scalar, SizeOf, scalar_text
from metanorm.ir.space import Space
from metanorm.syntax import ast
from metanorm.syntax.text_from_ast import WIDTH as SPEC_WIDTH
from metanorm.syntax.text_from_ast import statement_lines
from metanorm.visible import printable

COLUMNS = 84
DRAWN_NUMBERS = {
    "tensor": " of random numbers",
    "mask": " of booleans",
    "index": " of positions in random order",
    "whole": " of positions in random order",
}


def title(doc: Sequence[str], name: str) -> list[str]:
    """The comment above the norm, as the first lines of a docstring."""
    text = " ".join(printable(line) for line in doc if line)
    if not text:
        return [f"The normalizer `{name}`."]
    first, _, body = text.partition(". ")
    lines = [f"{first.rstrip('.')}." if len(first) < COLUMNS - 4 else name + "."]
    body = body if len(first) < COLUMNS - 4 else text
    return lines + (["", *textwrap.wrap(body, COLUMNS)] if body.strip() else [])


def class_doc(equations: ast.Norm, program: Program, usage: str = "") -> tuple[str, ...]:
    """The docstring of the module class. `usage` says how the class is used, if it needs saying."""
    space = program.index.space
    lines = [*title(program.doc, program.name), ""]
    lines += [*textwrap.wrap(usage, COLUMNS), ""] if usage else []
    lines += [*_formula(equations), ""]
    lines += ["Shapes:", *_shapes(program, space, equations), ""]
    arguments = _arguments(program, space, equations.notes)
    lines += ["Args:", *arguments, ""] if arguments else []
    lines += ["Raises:", *_errors(program)]
    return tuple(lines)


LAYER = (
    "A layer for the `kernels` package, without state: its `forward` takes the place of another "
    "layer's, whose attributes it reads."
)


def layer_doc(equations: ast.Norm, program: Program, names: Mapping[str, str]) -> tuple[str, ...]:
    """The docstring of a layer for the `kernels` package. `names` has what the layer that it takes
    the place of calls otherwise than the equations."""
    usage = LAYER
    if names:
        usage += (
            f" {prose([f'`{new}` is `{old}`' for old, new in names.items()])} of the equations."
        )
    lines = [*title(program.doc, program.name), "", *textwrap.wrap(usage, COLUMNS), ""]
    lines += [*_formula(equations), ""]
    lines += ["Shapes:", *_shapes(program, program.index.space, equations), ""]
    return (*lines, "Raises:", *_errors(program))


def entry_doc(equations: ast.Norm, program: Program) -> tuple[str, ...]:
    """The docstring of a further method."""
    lines = title(equations.doc, program.name)
    if not equations.doc:
        lines = [f"`{program.method}` of `{program.norm_name}`, with the same parameters."]
    lines += ["", *_formula(equations), ""]
    lines += ["Shapes:", *_shapes(program, program.index.space, equations), ""]
    return (*lines, "Raises:", *_errors(program))


def function_doc(program: Program) -> tuple[str, ...]:
    """The docstring of the function."""
    lines = [f"The function behind `{program.name}`, on tensors and numbers alone."]
    offsets = [f"`{decl.name}`" for decl in program.inputs if decl.offsets]
    if offsets:
        verb = "is" if len(offsets) == 1 else "are"
        text = (
            f"{prose(offsets)} {verb} the segment of each position: `runtime.segment_of_position`."
        )
        lines += ["", *textwrap.wrap(text, COLUMNS)]
    return tuple(lines)


SHOWN_STATEMENTS = (ast.Let, ast.Output, ast.Repeat, ast.Update)


def _has_initializer(statement: ast.AnyStatement) -> bool:
    """Whether a statement declares a parameter or buffer with a computed initial value."""
    if not isinstance(statement, (ast.Param, ast.Buffer)):
        return False
    items: Sequence[ast.ParamItem | ast.BufferItem] = statement.items
    return any(item.from_weight or item.first for item in items)


def _formula(equations: ast.Norm) -> list[str]:
    """The equations of the norm, in the syntax of the spec language."""
    shown = [
        s for s in equations.statements if isinstance(s, SHOWN_STATEMENTS) or _has_initializer(s)
    ]
    text_lines = ["Equations::", ""]
    for statement in shown:
        text_lines += ["    " + line for line in _equation(statement)]
    block = next((s for s in equations.statements if isinstance(s, ast.Backward)), None)
    if block is not None:
        text_lines += ["", "In the backward pass of training::", ""]
        for inner in block.statements:
            text_lines += ["    " + line for line in _equation(inner)]
    return text_lines


def _equation(statement: ast.AnyStatement) -> list[str]:
    lines = statement_lines(ast.bare(statement), 0)
    lines[0] = lines[0].removeprefix("let ")
    return _wrapped(" ".join(line.strip() for line in lines))


def _wrapped(text: str) -> list[str]:
    width = min(SPEC_WIDTH, COLUMNS - 6)
    return textwrap.wrap(text, width, subsequent_indent="    ", break_long_words=False)


def _shown(dims: Sequence[str], space: Space) -> str:
    return f"[{', '.join(f'*{d}' if space[d].variadic else d for d in dims)}]"


def _shown_output(dims: Sequence[str], program: Program) -> str:
    """The shape of an output: how many cells there are, where it has a row for each."""
    space = program.index.space
    lengths = [_cell_text(dim, program) or _shown((dim,), space)[1:-1] for dim in dims]
    return f"[{', '.join(lengths)}]" if dims else "a single number"


def _without_brackets(scalar: Scalar) -> str:
    text = scalar_text(scalar)
    return text[1:-1] if text.startswith("(") else text


def _cell_text(dim: str, program: Program) -> str:
    """How many cells a dimension enumerates, in words; empty for one that a spec names."""
    axis = program.index.space[dim]
    if axis.cells_of is None:
        is_named = "." not in dim  # the parts that blocks cut an axis into are not
        return "" if is_named or axis.size is None else _without_brackets(axis.size)
    base, grouping = axis.cells_of
    match grouping:
        case ByIndex(index):
            what = "segments" if program.index.inputs[index].offsets else "groups"
            return f"{what} of {index}"
        case RegularPartition():
            return _without_brackets(grouping.pool_count(SizeOf(base)))
        case _:
            raise TypeError(f"{grouping} has no cells")


def _shapes(program: Program, space: Space, equations: ast.Norm) -> list[str]:
    """The shape of each tensor, and the spec's comment about it."""
    lines: list[str] = []
    notes = equations.notes

    def add(name: str, shape: str, note: str = "") -> None:
        text = f"    {name}: {shape}{': ' if note else ''}{printable(note)}"
        lines.extend(textwrap.wrap(text, COLUMNS, subsequent_indent=" " * 8))

    for decl in program.inputs:
        if decl.sort == "edges":
            ends = f"sources and targets among the positions of {decl.dims[0]}"
            add(decl.name, f"[2, E] of integers, {ends}", notes.get(decl.name, ""))
            continue
        if decl.offsets:
            meaning = (
                f"where each segment of {decl.dims[0]} begins, and the length of {decl.dims[0]}"
            )
            shape = f"[segments + 1] of integers, {meaning}"
            add(decl.name, shape, notes.get(decl.name, ""))
            continue
        if decl.drawn is not None:
            numbers = f"{_shown(decl.dims, space)}{DRAWN_NUMBERS[decl.sort]}"
            if not decl.dims:
                numbers = "a boolean" if decl.sort == "mask" else "a random number"
            add(decl.name, f"{numbers}, drawn in training", notes.get(decl.name, ""))
            continue
        sorts = {"mask": " of booleans, true where an element counts"}
        sorts |= dict.fromkeys(("index", "whole"), " of integers")
        shape = f"{_shown(decl.dims, space)}{sorts.get(decl.sort, '')}"
        add(decl.name, shape, notes.get(decl.name, ""))
    grouped: dict[tuple[str, str], list[str]] = {}
    declared = [(p.name, p.dims) for p in program.params]
    for name, dims in declared + [(b.name, b.dims) for b in program.buffers]:
        shape = _shown(dims, space) if dims else "a single number"
        # A tensor that has a comment gets its own line.
        grouped.setdefault((shape, name if name in notes else ""), []).append(name)
    for (shape, _), names in grouped.items():
        add(", ".join(names), shape, notes.get(names[0], ""))
    dtypes = {name: _dtype(dtype) for name, dtype in program.output_dtypes}
    if len(program.outputs) == 1:
        ((name, ref),) = program.outputs
        dtype = dtypes.get(name, "")
        shape = _shown_output(output_dims(program, name, ref), program) or "a single number"
        add("result", f"{shape}{dtype}", "".join(equations.notes_on_outputs))
        return lines
    for (name, ref), note in zip(program.outputs, equations.notes_on_outputs):
        shape = _shown_output(output_dims(program, name, ref), program)
        add(name, f"{shape}{dtypes.get(name, '')}", note)
    return lines


def _dtype(dtype: Dtype) -> str:
    return f", in the dtype of {dtype.name}" if dtype.like else f" of {dtype.name}"


def _arguments(program: Program, space: Space, notes: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    for argument in program.constructor_arguments:
        note = printable(notes.get(argument.name, ""))
        choices = " or ".join(map(repr, argument.choices))
        if choices:
            lines += _entry(argument.name, f"{note}{': ' if note else ''}{choices}")
            continue
        lines += _entry(argument.name, note or _meaning(argument, program, space))
    for switch in program.switches:
        names = [p.name for p in program.params if switch.name in p.switches]
        if switch.name == "track_running_stats":
            text = "keep running statistics and use them in eval mode"
        else:
            text = f"learn {prose(names)}"
        lines += _entry(switch.name, text)
    if (program.params or program.buffers) and not program.for_weights:
        lines += _entry("device, dtype", "of parameters and buffers")
    return lines


def _entry(name: str, text: str) -> list[str]:
    indent = " " * 8
    return textwrap.wrap(f"    {name}: {text}.", COLUMNS, subsequent_indent=indent)


def _meaning(argument: Argument, program: Program, space: Space) -> str:
    if argument.type == "size":
        if any(space[axis].variadic for axis in argument.axes):
            return f"shape of the axes {', '.join('*' + a for a in argument.axes)}"
        plural = "axes" if len(argument.axes) > 1 else "axis"
        return f"length of {plural} {', '.join(argument.axes)}"
    if argument.type == "matrix":
        axis = argument.axes[0]
        return (
            f"how positions of axis {axis} pool: a square matrix, or 'eye', 'ones', 'blocks(g)', "
            "'chunks(k)' or 'interleave(g)'"
        )
    if any(u.averages and u.momentum == Hyper(argument.name) for u in program.updates):
        return "weight of the newest batch in running statistics; None weighs all batches alike"
    if argument.default is None and not argument.required:
        return "a number; None stands for the machine epsilon of the statistics"
    if argument.name == "eps":
        return "a small number, which keeps divisions finite"
    return "hyperparameter of the equations"


def _errors(program: Program) -> list[str]:
    reasons = ["an input does not have these axes"]
    if any(isinstance(check, Divisible) for check in program.checks):
        reasons.append("an axis cannot be cut into equal parts")
    if any(isinstance(check, MinimumPoolSize) for check in program.checks):
        reasons.append("a variance would be that of a single value")
    lines = _entry("runtime.ShapeError", f"if {', or '.join(reasons)}")
    first = program.inputs[0].name
    lines += _entry("TypeError", f"if {first} is not of a floating-point type")
    for decl in program.inputs:
        if decl.offsets:
            cut = f"if {decl.name} does not cut {decl.dims[0]} into segments"
            lines += _entry("ValueError", cut)
    return lines
