"""Each stage of the compiler as text or data: what `metanorm inspect` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields

from metanorm import driver, frontend
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.model import Diagnostic
from metanorm.frontend import CheckedNorm
from metanorm.ir.dump import program_text
from metanorm.ir.program import Program
from metanorm.module_names import module_name
from metanorm.nest.eligibility import NoKernels, unsupported
from metanorm.nest.kernels import kernels_of
from metanorm.nest.layouts import possible_layouts, program_in_layout
from metanorm.nest.text_from_nest import text_from_nest
from metanorm.options import DEFAULT_TARGET, Options, Target
from metanorm.passes.backward import NotDerivable
from metanorm.passes.directions import directions, trace
from metanorm.passes.divided import DividedVariant, divided
from metanorm.passes.pipeline import KERNEL_STEPS, PIPELINE, optimize, stages
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
from metanorm.targets.registry import KERNEL_TARGETS, PLAIN_TARGET

Diagnostics = tuple[Diagnostic, ...]
Data = dict[str, object]
Sources = Mapping[str, Source]
StageText = Callable[[Sources, str], tuple[str, Diagnostics]]
PASSES = tuple(step.name for step in PIPELINE)
DRAWN = ("ir", *PASSES)  # what `stage_drawings` takes


def stage_text(sources: Sources, root: str, stage: str) -> tuple[str, Diagnostics]:
    """The output of a stage as text, and the diagnostics up to it."""
    return STAGES[stage](sources, root)


# ---- the stages, each from sources and the name of one of them


def _tokens(sources: Sources, root: str) -> tuple[str, Diagnostics]:
    tokens = parser().lex(sources[root].text, dont_ignore=True)
    lines = [f"{t.line}:{t.column} {t.type} {str(t)!r}" for t in tokens if t.type != "SPACE"]
    return "".join(f"{line}\n" for line in lines), ()


def _tree(sources: Sources, root: str) -> tuple[str, Diagnostics]:
    problems = Collector()
    return tree_from_text(sources[root], problems).tree.pretty(), problems.sorted()


def _ast(sources: Sources, root: str) -> tuple[str, Diagnostics]:
    problems = Collector()
    return _ast_text(parse(sources[root], problems).file) + "\n", problems.sorted()


def _of_norms(text: Callable[[CheckedNorm], str]) -> StageText:
    """A stage that is a text for each norm."""

    def stage(sources: Sources, root: str) -> tuple[str, Diagnostics]:
        checked = frontend.check(sources, [root])
        return "\n".join(text(norm) for norm in checked.norms[root]), checked.diagnostics

    return stage


def _of_programs(text: Callable[[Program], str]) -> StageText:
    """A stage that is a text for each program, of which a norm may have several."""
    return _of_norms(lambda norm: "\n".join(text(program) for program in norm.programs))


def _file(target: Target, ending: str, if_missing: str = "") -> StageText:
    """A generated file, by what follows the module's name in its name."""

    def stage(sources: Sources, root: str) -> tuple[str, Diagnostics]:
        result = driver.compile_specs(sources, [root], Options(target=target))
        return result.files.get(f"{module_name(root)}{ending}", if_missing), result.diagnostics

    return stage


def _equations(norm: CheckedNorm) -> str:
    return "\n".join(norm_lines(norm.equations)) + "\n"


def _pass(name: str) -> StageText:
    return _of_programs(lambda program: program_text(program_at(program, name)))


def _kernels(text: Callable[[Program], str]) -> StageText:
    """A stage of kernel generation: a text for an optimised program, or why it has no kernels."""

    def text_or_reason(program: Program) -> str:
        try:
            return text(optimize(program))
        except (NoKernels, NotDerivable) as reason:
            return f"{program.name} has no kernels: {reason}\n"

    return _of_programs(text_or_reason)


def _kernel_step(name: str) -> StageText:
    return _kernels(lambda optimised: _traced_text(optimised, name))


def _traced_text(optimised: Program, step: str) -> str:
    """The programs after a step, for each variant and direction."""
    return "\n".join(
        _titled(f"{entry.variant}, {entry.direction}", entry.program)
        for entry in trace(optimised)
        if entry.step == step
    )


def _sweeps_text(optimised: Program) -> str:
    plans = [(title, plan_sweeps(p)) for title, p in _directed_programs(optimised, optimised.name)]
    for _, plan in plans:
        for reason in unsupported(plan):
            raise NoKernels(reason)
    return "\n".join(plan_text(plan, title) for title, plan in plans)


def _nest_text(optimised: Program) -> str:
    return "\n".join(text_from_nest(nest) for nest in kernels_of(optimised))


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


def _columns_text(optimised: Program) -> str:
    return "\n".join(_texts_by_layout(optimised))


def _exchange_text(norm: CheckedNorm) -> str:
    """The programs of a norm whose axes are divided among processes."""
    program = norm.program
    division = divided(optimize(program), program)
    variants = division.variants if division else ()
    titled = [_titled(_pieces_text(v), v.program) for v in variants if v.exchanged]
    return "\n".join(titled) or f"{program.name} exchanges nothing\n"


def _pieces_text(variant: DividedVariant) -> str:
    cut = ", which may cut blocks" if variant.labels else ""
    return f"pieces of {', '.join(variant.axes)}{cut}"


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


STAGES: Mapping[str, StageText] = {
    "tokens": _tokens,
    "tree": _tree,
    "ast": _ast,
    "equations": _of_norms(_equations),
    "ir": _pass("ir"),
    **{name: _pass(name) for name in PASSES},
    "code": _file(DEFAULT_TARGET, ".py"),
    **{step.name: _kernel_step(step.name) for step in KERNEL_STEPS},
    "columns": _kernels(_columns_text),  # in its place among the steps
    "sweeps": _kernels(_sweeps_text),
    "nest": _kernels(_nest_text),
    **{row.name: _file(row.name, row.ending) for row in KERNEL_TARGETS.values()},
    "exchange": _of_norms(_exchange_text),
    "processes": _file(PLAIN_TARGET, PROCESSES_END, "# No axis of a norm here can be divided.\n"),
}
