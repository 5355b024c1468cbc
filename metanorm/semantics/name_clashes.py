"""Names that a module has twice: those of a spec, and those that come with something else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.names import DuplicateName
from metanorm.ir.momenta import momenta
from metanorm.ir.program import Argument, Program
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.values import Entity, EntityRole
from metanorm.source import Span
from metanorm.syntax import ast

# Entities of a scope that are arguments or attributes of the generated module.
MODULE_ENTITIES: tuple[EntityRole, ...] = ("hyperparameter", "input", "parameter", "buffer")


def report_name_clashes(norm: ast.Norm, scope: CallScope, low: Lowering) -> None:
    """What becomes an argument or an attribute without being written has a name of its own."""
    entities = {name: e for name, e in scope.names if e.role in MODULE_ENTITIES}
    seen = {name: entity.span for name, entity in entities.items()}
    kept = {buffer.name for buffer in low.buffers}
    seen |= {name: e.span for name, e in scope.names if name in kept}
    for name, span, what in _implied_names(entities, norm, low):
        if name in seen and name not in scope.names.duplicates:
            low.problems.add(DuplicateName(span, name, seen[name], what=what))
        seen.setdefault(name, span)


def report_momentum_clashes(
    program: Program, norm: ast.Norm, scope: CallScope, problems: Collector
) -> None:
    """No tensor has the name that the function behind the norm has for a momentum."""
    entities = dict(scope.names)
    for name in momenta(program).values():
        if name in entities and entities[name].role in MODULE_ENTITIES[1:]:
            what = "the momentum of running statistics"
            problems.add(DuplicateName(norm.name.span, name, entities[name].span, what=what))


def _implied_names(
    entities: Mapping[str, Entity], norm: ast.Norm, low: Lowering
) -> Iterator[tuple[str, Span, str]]:
    """Names that come with something else: what they are, and where that is."""
    for argument in low.table.arguments.values():
        span = _argument_span(argument, low)
        yield argument.name, span, f"the length of axis `{argument.axes[0]}`"
    for flag in low.flags:
        assert flag.test is not None
        what = f"what `{flag.test.of}` is compared for"
        yield flag.name, entities[flag.test.of].span, what
    yield from _switch_names(norm)
    for decl in low.inputs:
        if decl.names_groups and decl.name in entities:
            what = "segments" if decl.offsets else "groups"
            groups = f"the number of {what} of `{decl.name}`"
            yield f"{decl.name}_size", entities[decl.name].span, groups
    written = {name for name, e in entities.items() if e.role in ("parameter", "buffer")}
    named = [(p.name, "a parameter") for p in low.params]
    named += [(b.name, "a buffer") for b in low.buffers]
    for name, what in named:
        if name in written:
            written.remove(name)
        else:
            yield name, norm.name.span, what


def _switch_names(norm: ast.Norm) -> Iterator[tuple[str, Span, str]]:
    """What `param p = 1 if name` declares. `bias` may turn a parameter of that name on."""
    statements = (s for s in norm.statements if isinstance(s, ast.Param))
    items = [item for statement in statements for item in statement.items]
    spans = {i.switch.name: i.switch.span for i in reversed(items) if i.switch is not None}
    for name, span in spans.items():
        if name != "bias":
            yield name, span, "what turns a parameter on"


def _argument_span(argument: Argument, low: Lowering) -> Span:
    declared = low.table.declared[argument.axes[0]]
    return declared.size_span or declared.span
