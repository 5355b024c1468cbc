"""The compiler as one function: sources and options in, files and diagnostics out.

Pure, like everything below it. The only module that knows every stage.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.internal import guarded
from metanorm.diagnostics.model import INTERNAL, Diagnostic, Severity
from metanorm.diagnostics.targets import BadModuleName
from metanorm.frontend import Checked, CheckedNorm, check
from metanorm.ir.initializers import initializers
from metanorm.module_names import module_name, naming_problems
from metanorm.options import Options
from metanorm.passes.pipeline import optimize
from metanorm.source import Source, Span
from metanorm.targets.package import module_files, package_text
from metanorm.targets.torch.module_from_ir import CompiledNorm
from metanorm.torch_layers import matching_layer


@dataclass(frozen=True)
class Unit:
    """What one spec file compiles to: files by name, and its norms with their places in the text.

    It depends on the texts of the spec and of what that uses, on the options, the name of the spec
    and the compiler, and on nothing else.
    """

    files: Mapping[str, str]
    norms: tuple[tuple[str, int, int], ...]

    def names(self, source: str) -> list[tuple[str, Span]]:
        """The norms and where they are named, if the spec is called so."""
        return [(name, Span(source, start, end)) for name, start, end in self.norms]


# A unit, or `None` where the compiler failed, and what it says about that.
BackEndOutput = tuple[Unit | None, tuple[Diagnostic, ...]]
BackEnds = Callable[
    [Checked, Mapping[str, Source], Sequence[str], Options], Iterator[tuple[str, BackEndOutput]]
]


@dataclass
class Result:
    """Generated files by name, empty where any spec has an error, and all diagnostics.

    A spec on which the compiler itself failed has no files; those of the others are there.
    `units` has what each spec came to.
    """

    files: dict[str, str] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()
    exports: dict[str, tuple[str, ...]] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not any(d.severity is Severity.ERROR for d in self.diagnostics)


def compile_in_turn(
    checked: Checked, sources: Mapping[str, Source], roots: Sequence[str], options: Options
) -> Iterator[tuple[str, BackEndOutput]]:
    """Run the back end on each of the specs in turn."""
    for root in roots:
        problems = Collector()
        unit = None
        with guarded(problems, sources[root].span(0, 0)):
            compiled = _back_end(checked.norms.get(root, []), options)
            text = "\0".join(sources[name].text for name in checked.reads[root])
            origin = posixpath.basename(root)
            files = module_files(module_name(root), origin, compiled, text, options)
            named = [(name, span.start, span.end) for name, span in checked.names[root]]
            unit = Unit(files, tuple(named))
        yield root, (unit, problems.sorted())


def compile_specs(
    sources: Mapping[str, Source],
    roots: Sequence[str],
    options: Options,
    others: Mapping[str, Sequence[str]] | None = None,
    known: Mapping[str, Unit] = MappingProxyType({}),
    back_ends: BackEnds = compile_in_turn,
) -> Result:
    """Compile the sources named in `roots` into the files of one package.

    `others` are the modules that the package already has, with the names they export. `known` are
    units of roots in which nothing is to be reported; those are not compiled, and where all are
    known, none is checked. `back_ends` runs the back end on the rest.
    """
    is_known = all(root in known for root in roots)
    checked = Checked() if is_known else check(sources, roots)
    names = {root: known[root].names(root) for root in roots} if is_known else checked.names
    problems = Collector()
    problems.extend(checked.diagnostics)
    failed = {d.primary.span.source for d in checked.diagnostics if d.code == INTERNAL}
    for clash in naming_problems(sources, roots, names, others or ()):
        problems.add(clash)
    if problems.has_mistakes:
        return Result({}, problems.sorted())
    units = {root: known[root] for root in roots if root in known}
    fresh = [r for r in roots if r not in known and not failed.intersection(checked.reads[r])]
    for root, (unit, found) in back_ends(checked, sources, fresh, options):
        problems.extend(found)
        if unit is not None:
            units[root] = unit
    return _package(sources, roots, options, others or {}, units, problems)


def _package(
    sources: Mapping[str, Source],
    roots: Sequence[str],
    options: Options,
    others: Mapping[str, Sequence[str]],
    units: dict[str, Unit],
    problems: Collector,
) -> Result:
    """The files of all units, and of the package that they are."""
    files: dict[str, str] = {}
    exports: dict[str, tuple[str, ...]] = {}
    for root in (root for root in roots if root in units and units[root].norms):
        made, origin = units[root].files, posixpath.basename(root)
        for file in sorted(made.keys() & files.keys()):  # `a_triton.norm` beside `a.norm`
            reason = f"would write `{file}` of another spec"
            problems.add(BadModuleName(sources[root].span(0, 0), origin, reason))
        files.update(made)
        exports[module_name(root)] = tuple(name for name, _, _ in units[root].norms)
    if problems.has_mistakes or not files:
        return Result({}, problems.sorted(), units=units)
    everything = {**_remaining_exports(others, exports), **exports}
    files["__init__.py"] = package_text(everything, options.fingerprint())
    return Result(files, problems.sorted(), exports, units)


def _remaining_exports(
    others: Mapping[str, Sequence[str]], exports: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """What other modules still give to the package: a norm that moved has left its old module."""
    now = {name for names in exports.values() for name in names}
    left = {module: tuple(n for n in names if n not in now) for module, names in others.items()}
    return {module: names for module, names in left.items() if names}


def _back_end(norms: Sequence[CheckedNorm], options: Options) -> list[CompiledNorm]:
    compiled = []
    for norm in norms:
        optimised = optimize(norm.program, options.verify_passes)
        begin = {
            name: optimize(program, options.verify_passes)
            for name, program in initializers(norm.program).items()
        }
        known = matching_layer(norm.program, optimised)
        base = known.base if known else None
        compiled.append(CompiledNorm(norm.equations, norm.program, optimised, begin, base))
    return compiled
