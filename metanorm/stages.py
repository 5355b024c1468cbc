"""Each stage of the compiler as text or data: what `metanorm inspect` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from metanorm import driver, frontend
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.model import Diagnostic
from metanorm.ir.dump import program_text
from metanorm.ir.program import Program
from metanorm.module_names import module_name
from metanorm.nest.eligibility import NoKernels, unsupported
from metanorm.nest.kernels import kernels_of
from metanorm.nest.layouts import possible_layouts, program_in_layout
from metanorm.nest.text_from_nest import text_from_nest
from metanorm.options import Options
from metanorm.passes.backward import NotDerivable
from metanorm.passes.directions import directions, trace
from metanorm.passes.divided import divided
from metanorm.passes.pipeline import KERNEL_PASSES, PIPELINE, PROCESS_PASSES, optimize, stages
from metanorm.plan.dump import plan_text
from metanorm.plan.sweeps import plan_sweeps
from metanorm.show.passes import pass_drawing
from metanorm.show.shapes import Drawing
from metanorm.source import Source
from metanorm.syntax import ast
from metanorm.syntax.grammar import parser
from metanorm.syntax.parse import parse
from metanorm.syntax.text_from_ast import norm_lines
from metanorm.syntax.tree_from_text import tree_from_text
from metanorm.targets.package import PROCESSES_END
from metanorm.targets.registry import KERNEL_TARGETS

FRONT_END = ("tokens", "tree", "ast", "equations", "ir")
PASSES = tuple(step.name for step in PIPELINE)
KERNELS = (*KERNEL_PASSES, "sweeps", "nest")
DRAWN = ("ir", *PASSES)  # what `stage_drawings` takes
STAGES = (*FRONT_END, *PASSES, "code", *KERNELS, *KERNEL_TARGETS, *PROCESS_PASSES, "processes")

Diagnostics = tuple[Diagnostic, ...]
Data = dict[str, object]


def stage_text(sources: Mapping[str, Source], root: str, stage: str) -> tuple[str, Diagnostics]:
    """The output of a stage as text, and the diagnostics up to it."""
    source = sources[root]
    if stage == "tokens":
        tokens = parser().lex(source.text, dont_ignore=True)
        lines = [f"{t.line}:{t.column} {t.type} {str(t)!r}" for t in tokens if t.type != "SPACE"]
        return "".join(f"{line}\n" for line in lines), ()
    problems = Collector()
    if stage == "tree":
        return tree_from_text(source, problems).tree.pretty(), problems.sorted()
    if stage == "ast":
        return _ast_text(parse(source, problems).file) + "\n", problems.sorted()
    if stage == "code":
        result = driver.compile_specs(sources, [root], Options())
        return result.files.get(f"{module_name(root)}.py", ""), result.diagnostics
    if stage == "processes":
        result = driver.compile_specs(sources, [root], Options(target="torch"))
        name = f"{module_name(root)}{PROCESSES_END}"
        return result.files.get(
            name, "# No axis of a norm here can be divided.\n"
        ), result.diagnostics
    if stage in KERNEL_TARGETS:
        target = KERNEL_TARGETS[stage]
        result = driver.compile_specs(sources, [root], Options(target=target.name))
        name = f"{module_name(root)}{target.ending}"
        return result.files.get(name, ""), result.diagnostics
    checked = frontend.check(sources, [root])
    norms = checked.norms[root]
    if stage == "equations":
        texts = ["\n".join(norm_lines(norm.equations)) + "\n" for norm in norms]
    elif stage == "exchange":
        texts = [exchange_text(norm.program) for norm in norms]
    elif stage in KERNELS:
        texts = [kernel_text(program, stage) for norm in norms for program in norm.programs]
    else:
        programs = (program for norm in norms for program in norm.programs)
        texts = [program_text(program_at(program, stage)) for program in programs]
    return "\n".join(texts), checked.diagnostics


def kernel_text(program: Program, stage: str) -> str:
    """The programs of a norm at a stage of kernel generation, for each variant and direction."""
    optimised = optimize(program)
    try:
        if stage == "nest":
            return "\n".join(text_from_nest(nest) for nest in kernels_of(optimised))
        if stage == "columns":
            return "\n".join(_texts_by_layout(optimised))
        if stage == "sweeps":
            plans = [
                (title, plan_sweeps(p)) for title, p in _directed_programs(optimised, program.name)
            ]
            reasons = [reason for _, planned in plans for reason in unsupported(planned)]
            if reasons:
                return _no_kernels_text(program, reasons[0])
            return "\n".join(plan_text(planned, title) for title, planned in plans)
        traced = [entry for entry in trace(optimised) if entry.step == stage]
    except (NoKernels, NotDerivable) as reason:
        return _no_kernels_text(program, str(reason))
    return "\n".join(
        _titled(f"{entry.variant}, {entry.direction}", entry.program) for entry in traced
    )


def _no_kernels_text(program: Program, reason: str) -> str:
    return f"{program.name} has no kernels: {reason}\n"


def _directed_programs(optimised: Program, name: str) -> Iterator[tuple[str, Program]]:
    """Each forward and backward program, with a title."""
    for variant in directions(optimised):
        yield f"{name}, {variant.variant}, forward", variant.forward
        yield f"{name}, {variant.variant}, backward", variant.backward


def _texts_by_layout(optimised: Program) -> Iterator[str]:
    """The programs for each layout of the input, if the layout changes the program."""
    for title, program in _directed_programs(optimised, optimised.name):
        for layout in possible_layouts(program) if program.inputs[0].dims else ():
            laid_out = program_in_layout(program, layout)
            if laid_out is not None:
                yield _titled(f"{title}, rows along {layout.vector_axis}", laid_out[0])


def exchange_text(program: Program) -> str:
    """The programs of a norm whose axes are divided among processes."""
    division = divided(optimize(program))
    variants = division.variants if division else ()
    titled = [_titled(f"pieces of {', '.join(v.axes)}", v.program) for v in variants]
    return "\n".join(titled) or f"{program.name} exchanges nothing\n"


def _titled(title: str, program: Program) -> str:
    return f"# {title}\n\n{program_text(program)}"


def stage_data(sources: Mapping[str, Source], root: str, stage: str) -> tuple[Data, Diagnostics]:
    """The output of a stage as data: `ast`, `programs`, or `text`."""
    if stage == "ast":
        problems = Collector()
        return {"ast": parse(sources[root], problems).file}, problems.sorted()
    if stage in ("ir", *PASSES):
        checked = frontend.check(sources, [root])
        norms = checked.norms[root]
        programs = tuple(program_at(p, stage) for norm in norms for p in norm.programs)
        return {"programs": programs}, checked.diagnostics
    text, diagnostics = stage_text(sources, root, stage)
    return {"text": text}, diagnostics


def stage_drawings(
    sources: Mapping[str, Source], root: str, stage: str
) -> tuple[tuple[Drawing, ...], Diagnostics]:
    """Each norm of a file before and after a pass; for `ir`, as the passes get it."""
    checked = frontend.check(sources, [root])
    before = ("ir", *PASSES)[PASSES.index(stage)] if stage in PASSES else None
    drawings = tuple(
        pass_drawing(
            norm.program.name,
            stage,
            None if before is None else program_at(norm.program, before),
            program_at(norm.program, stage),
        )
        for norm in checked.norms[root]
    )
    return drawings, checked.diagnostics


def program_at(program: Program, stage: str) -> Program:
    """The program after the front end (`ir`), or after a pass."""
    if stage == "ir":
        return program
    return next(after for name, after in stages(program) if name == stage)


def _ast_text(node: object, indent: int = 0) -> str:
    """A syntax node as indented lines, without spans."""
    pad = "  " * indent
    if isinstance(node, ast.Node):
        lines = [f"{pad}{type(node).__name__}"]
        for name in (field.name for field in fields(node)):
            value = getattr(node, name)
            if name in ("span", "kind", "trivia", "end", "text") or value in (None, (), False, ""):
                continue
            if isinstance(value, (str, int, float, bool)):
                lines[0] += f" {name}={value!r}"
            else:
                lines.append(f"{pad}  {name}:\n{_ast_text(value, indent + 2)}")
        return "\n".join(lines)
    if isinstance(node, tuple):
        return "\n".join(_ast_text(item, indent) for item in node)
    return f"{pad}{node!r}"
