"""The compiler as one function: sources and options in, files and diagnostics out.

Pure, like everything below it. The only module that knows every stage.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.internal import guarded
from metanorm.diagnostics.model import INTERNAL, Diagnostic, Severity
from metanorm.diagnostics.targets import BadModuleName
from metanorm.frontend import CheckedNorm, check
from metanorm.ir.beginnings import beginnings
from metanorm.module_names import module_name, naming_problems
from metanorm.options import Options
from metanorm.passes.pipeline import optimize
from metanorm.source import Source
from metanorm.targets.package import module_files, package_text
from metanorm.targets.torch.module_from_ir import Compiled
from metanorm.torch_layers import likeness


@dataclass
class Result:
    """Generated files by name, empty where any spec has an error, and all diagnostics.

    A spec on which the compiler itself failed has no files; those of the others are there.
    """

    files: dict[str, str] = field(default_factory=dict)
    diagnostics: tuple[Diagnostic, ...] = ()
    exports: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not any(d.severity is Severity.ERROR for d in self.diagnostics)


def compile_specs(
    sources: Mapping[str, Source],
    roots: Sequence[str],
    options: Options,
    others: Mapping[str, Sequence[str]] | None = None,
) -> Result:
    """Compile the sources named in `roots` into the files of one package.

    `others` are the modules that the package already has, with the names they export.
    """
    checked = check(sources, roots)
    problems = Collector()
    problems.extend(checked.diagnostics)
    failed = {d.primary.span.source for d in checked.diagnostics if d.code == INTERNAL}
    files: dict[str, str] = {}
    exports: dict[str, tuple[str, ...]] = {}
    for clash in naming_problems(sources, roots, checked.norms, others or ()):
        problems.add(clash)
    for root in roots:
        module = module_name(root)
        span = sources[root].span(0, 0)
        if failed.intersection(checked.reads[root]):
            continue
        compiled: list[Compiled] = []
        with guarded(problems, span):
            compiled = _back_end(checked.norms.get(root, []), options)
        exports[module] = tuple(norm.program.name for norm in compiled)
        if compiled and not problems.has_mistakes:
            text = "\0".join(sources[name].text for name in checked.reads[root])
            origin = posixpath.basename(root)
            made: dict[str, str] = {}
            with guarded(problems, span):
                made = module_files(module, origin, compiled, text, options)
            for file in sorted(made.keys() & files.keys()):  # `a_triton.norm` beside `a.norm`
                problems.add(BadModuleName(span, origin, f"would write `{file}` of another spec"))
            files.update(made)
    if problems.has_mistakes or not files:
        return Result({}, problems.sorted())
    written = {module: names for module, names in exports.items() if f"{module}.py" in files}
    everything = {**_not_moved(others or {}, written), **written}
    files["__init__.py"] = package_text(everything, options.fingerprint())
    return Result(files, problems.sorted(), written)


def _not_moved(
    others: Mapping[str, Sequence[str]], exports: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """What other modules still give to the package: a norm that moved has left its old module."""
    now = {name for names in exports.values() for name in names}
    left = {module: tuple(n for n in names if n not in now) for module, names in others.items()}
    return {module: names for module, names in left.items() if names}


def _back_end(norms: Sequence[CheckedNorm], options: Options) -> list[Compiled]:
    compiled = []
    for norm in norms:
        optimised = optimize(norm.program, options.verify_passes)
        begin = {
            name: optimize(program, options.verify_passes)
            for name, program in beginnings(norm.program).items()
        }
        known = likeness(norm.program, optimised)
        base = known.base if known else None
        compiled.append(Compiled(norm.equations, norm.program, optimised, begin, base))
    return compiled
