"""The diagnostics of specs, and the specs with fixes applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from metanorm import frontend
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.model import Applicability, Diagnostic, Fix, Severity
from metanorm.diagnostics.targets import BadModuleName
from metanorm.frontend import Checked
from metanorm.module_names import naming_problems_by_folder, naming_problems_of_each
from metanorm.source import Source, Span, apply_edits
from metanorm.workspace import Workspace

MAX_ROUNDS = 100  # of fixes: each round may reveal further diagnostics

NamingProblems = Callable[
    [Mapping[str, Source], Sequence[str], Mapping[str, Sequence[tuple[str, Span]]]],
    Iterable[BadModuleName],
]

# Load the same specs, with these texts instead of the contents of their files.
Reload = Callable[[Mapping[str, str]], Workspace]


@dataclass(frozen=True)
class Findings:
    """A workspace, its checked norms, and all diagnostics, those about module names included."""

    workspace: Workspace
    checked: Checked
    diagnostics: tuple[Diagnostic, ...]

    @property
    def roots_without_errors(self) -> list[str]:
        """The roots that have no errors, nor has anything that they use."""
        flawed = {d.primary.span.source for d in self.diagnostics if d.severity is Severity.ERROR}
        reads = self.checked.reads
        return [root for root in self.workspace.roots if not flawed.intersection(reads[root])]

    def fixes(self, unsafe: bool) -> dict[str, list[tuple[Diagnostic, Fix]]]:
        """For each root, the first fix of every diagnostic that has one and may be applied."""
        fixes_by_source: dict[str, list[tuple[Diagnostic, Fix]]] = {}
        for diagnostic in self.diagnostics:
            for fix in diagnostic.fixes[:1]:
                allowed = unsafe or fix.applicability is Applicability.SAFE
                if allowed and fix.span.source in self.workspace.roots:
                    fixes_by_source.setdefault(fix.span.source, []).append((diagnostic, fix))
        return fixes_by_source


@dataclass(frozen=True)
class FixResult:
    """The findings after all fixes, the texts that changed, and the number of fixes in each."""

    findings: Findings
    texts: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def findings(workspace: Workspace) -> Findings:
    """Check the roots of a workspace; the specs of each folder have to fit into a package."""
    return _findings(workspace, naming_problems_by_folder)


def findings_to_run(workspace: Workspace) -> Findings:
    """Check the roots of a workspace; each has to fit into a module by itself, which is run."""
    return _findings(workspace, naming_problems_of_each)


def _findings(workspace: Workspace, naming_problems: NamingProblems) -> Findings:
    checked = frontend.check(workspace.sources, workspace.roots)
    names = Collector()
    for clash in naming_problems(workspace.sources, workspace.roots, checked.names):
        names.add(clash)
    diagnostics = (*workspace.diagnostics, *checked.diagnostics, *names.sorted())
    return Findings(workspace, checked, diagnostics)


def apply_fixes(initial: Findings, reload: Reload, unsafe: bool = False) -> FixResult:
    """Apply every safe fix, and with `unsafe` every fix, until none is left.

    Fixes with overlapping spans are applied in separate rounds. Fixes that would add syntax errors
    to a text are not applied.
    """
    result = FixResult(initial)
    unfixable: set[str] = set()
    for _ in range(MAX_ROUNDS):
        workspace = result.findings.workspace
        fixes = result.findings.fixes(unsafe)
        chosen = {
            name: non_overlapping(f for _, f in fixes[name]) for name in fixes.keys() - unfixable
        }
        texts, counts = dict(result.texts), dict(result.counts)
        for name, edits in chosen.items():
            text = apply_edits(workspace.texts[name], ((f.span, f.replacement) for f in edits))
            if _error_count(Source.of(name, text)) > _error_count(workspace.sources[name]):
                unfixable.add(name)
                continue
            texts[name] = text
            counts[name] = counts.get(name, 0) + len(edits)
        if texts == result.texts:
            break
        result = FixResult(findings(reload(texts)), texts, counts)
    return result


def non_overlapping(fixes: Iterable[Fix]) -> list[Fix]:
    """The fixes of one text that can be applied together: of overlapping ones, the first."""
    chosen: list[Fix] = []
    for fix in sorted(set(fixes), key=lambda f: (f.span, f.replacement)):
        if not chosen or fix.span.start > chosen[-1].span.end:
            chosen.append(fix)
    return chosen


def _error_count(source: Source) -> int:
    """The number of syntax errors of a text."""
    return sum(d.severity is Severity.ERROR for d in frontend.parsed_source(source)[1])
