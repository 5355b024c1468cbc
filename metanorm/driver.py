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
from metanorm.diagnostics.targets import BadModuleName, NotForHub
from metanorm.frontend import Checked, CheckedNorm, check
from metanorm.ir.initializers import initializers
from metanorm.module_names import module_name, naming_problems
from metanorm.options import Options
from metanorm.passes.pipeline import optimize
from metanorm.source import Source, Span
from metanorm.targets.package import LAYERS, module_files, package_files
from metanorm.targets.torch.hub_layer import why_no_layer
from metanorm.targets.torch.module_from_ir import CompiledEntry, CompiledNorm
from metanorm.torch_layers import matching_layer


@dataclass(frozen=True)
class Unit:
    """The output of one spec file: generated files by name, and its norms with their spans.

    A unit depends on the text and name of the spec, the texts that it uses, the options and the
    compiler alone, so it can be cached.
    """

    files: Mapping[str, str]
    norms: tuple[tuple[str, int, int], ...]

    def names(self, source: str) -> list[tuple[str, Span]]:
        """Each norm with the span of its name in `source`."""
        return [(name, Span(source, start, end)) for name, start, end in self.norms]


# The unit of a spec, or `None` if the compiler failed, and the diagnostics of the back end.
BackEndOutput = tuple[Unit | None, tuple[Diagnostic, ...]]
BackEnds = Callable[
    [Checked, Mapping[str, Source], Sequence[str], Options], Iterator[tuple[str, BackEndOutput]]
]


@dataclass
class Result:
    """Generated files by name, and all diagnostics. Errors in any spec leave `files` empty.

    If the compiler itself fails on a spec, that spec has no files, but the others do. `exports`
    has the norms of each module, and `units` the output of each spec.
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
    """Run the back end on one spec after the other."""
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
    other_exports: Mapping[str, Sequence[str]] | None = None,
    cached: Mapping[str, Unit] = MappingProxyType({}),
    back_ends: BackEnds = compile_in_turn,
) -> Result:
    """Compile the sources named in `roots` into the files of one package.

    `other_exports` are the modules that the package already has, with the names they export.
    `cached` has units of roots without diagnostics: those are not compiled, and if all roots are
    cached, none is checked. `back_ends` compiles the rest.
    """
    all_cached = all(root in cached for root in roots)
    checked = Checked() if all_cached else check(sources, roots)
    names = {root: cached[root].names(root) for root in roots} if all_cached else checked.names
    problems = Collector()
    problems.extend(checked.diagnostics)
    failed = {d.primary.span.source for d in checked.diagnostics if d.code == INTERNAL}
    taken = (LAYERS,) if options.hub else ()
    for clash in naming_problems(sources, roots, names, other_exports or (), taken):
        problems.add(clash)
    if options.hub:
        for refusal in _refusals(checked, roots, options):
            problems.add(refusal)
    if problems.has_mistakes:
        return Result({}, problems.sorted())
    units = {root: cached[root] for root in roots if root in cached}
    uncached = [r for r in roots if r not in cached and not failed.intersection(checked.reads[r])]
    for root, (unit, diagnostics) in back_ends(checked, sources, uncached, options):
        problems.extend(diagnostics)
        if unit is not None:
            units[root] = unit
    return _package(sources, roots, options, other_exports or {}, units, problems)


def _refusals(checked: Checked, roots: Sequence[str], options: Options) -> Iterator[NotForHub]:
    """The norms that cannot be layers of the kernels hub. Units in a cache have none."""
    for norm in (norm for root in roots for norm in checked.norms.get(root, [])):
        reasons = tuple(why_no_layer(norm.program, options.rename))
        if reasons:
            yield NotForHub(norm.equations.name.span, norm.program.name, reasons)


def _package(
    sources: Mapping[str, Source],
    roots: Sequence[str],
    options: Options,
    other_exports: Mapping[str, Sequence[str]],
    units: dict[str, Unit],
    problems: Collector,
) -> Result:
    """Join the files of all units into one package."""
    files: dict[str, str] = {}
    exports: dict[str, tuple[str, ...]] = {}
    for root in (root for root in roots if root in units and units[root].norms):
        unit_files, origin = units[root].files, posixpath.basename(root)
        for file in sorted(unit_files.keys() & files.keys()):  # `a_triton.norm` beside `a.norm`
            reason = f"would write `{file}` of another spec"
            problems.add(BadModuleName(sources[root].span(0, 0), origin, reason))
        files.update(unit_files)
        exports[module_name(root)] = tuple(name for name, _, _ in units[root].norms)
    if problems.has_mistakes or not files:
        return Result({}, problems.sorted(), units=units)
    all_exports = {**_remaining_exports(other_exports, exports), **exports}
    files.update(package_files(all_exports, options))
    return Result(files, problems.sorted(), exports, units)


def _remaining_exports(
    other_exports: Mapping[str, Sequence[str]], exports: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """The exports of other modules, without norms that have moved into the modules of `exports`."""
    exported_names = {name for names in exports.values() for name in names}
    remaining = {
        module: tuple(n for n in names if n not in exported_names)
        for module, names in other_exports.items()
    }
    return {module: names for module, names in remaining.items() if names}


def _back_end(norms: Sequence[CheckedNorm], options: Options) -> list[CompiledNorm]:
    compiled = []
    for norm in norms:
        optimised = optimize(norm.program, options.verify_passes)
        initializer_programs = {
            name: optimize(program, options.verify_passes)
            for name, program in initializers(norm.program).items()
        }
        layer = matching_layer(norm.program, optimised)
        base = layer.base if layer else None
        entries = [
            CompiledEntry(equations, program, optimize(program, options.verify_passes))
            for equations, program in norm.entries
        ]
        compiled.append(
            CompiledNorm(
                norm.equations, norm.program, optimised, initializer_programs, base, entries
            )
        )
    return compiled
