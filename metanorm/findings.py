"""All that is wrong with specs, and their texts with the fixes applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from metanorm import frontend
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.model import Applicability, Diagnostic, Fix, Severity
from metanorm.frontend import Checked
from metanorm.module_names import naming_problems_by_folder
from metanorm.source import Source, apply_edits
from metanorm.workspace import Workspace

MAX_ROUNDS = 100  # a fix may bring to light what another one ends

# The specs anew, with these texts in the place of what their files hold.
Reload = Callable[[Mapping[str, str]], Workspace]


@dataclass(frozen=True)
class Findings:
    """Specs, what they mean, and what is wrong with them and with the names of their modules."""

    workspace: Workspace
    checked: Checked
    diagnostics: tuple[Diagnostic, ...]

    def fixes(self, unsafe: bool) -> dict[str, list[tuple[Diagnostic, Fix]]]:
        """For each spec that was asked for, the first fix of each diagnostic, if it has one."""
        found: dict[str, list[tuple[Diagnostic, Fix]]] = {}
        for diagnostic in self.diagnostics:
            for fix in diagnostic.fixes[:1]:
                allowed = unsafe or fix.applicability is Applicability.SAFE
                if allowed and fix.span.source in self.workspace.roots:
                    found.setdefault(fix.span.source, []).append((diagnostic, fix))
        return found


@dataclass(frozen=True)
class FixResult:
    """What is left after the fixes; which texts they change, and how many there were in each."""

    findings: Findings
    texts: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def findings(workspace: Workspace) -> Findings:
    """Check the specs that were asked for."""
    checked = frontend.check(workspace.sources, workspace.roots)
    names = Collector()
    for clash in naming_problems_by_folder(workspace.sources, workspace.roots, checked.names):
        names.add(clash)
    found = (*workspace.diagnostics, *checked.diagnostics, *names.sorted())
    return Findings(workspace, checked, found)


def apply_fixes(before: Findings, reload: Reload, unsafe: bool = False) -> FixResult:
    """Apply every safe fix, and with `unsafe` every one, until there is none left.

    Fixes of overlapping spans are applied one after the other. What would leave a text with more
    syntax errors than it has is not applied.
    """
    done = FixResult(before)
    settled: set[str] = set()
    for _ in range(MAX_ROUNDS):
        workspace = done.findings.workspace
        fixes = done.findings.fixes(unsafe)
        chosen = {
            name: non_overlapping(f for _, f in fixes[name]) for name in fixes.keys() - settled
        }
        texts, counts = dict(done.texts), dict(done.counts)
        for name, edits in chosen.items():
            text = apply_edits(workspace.texts[name], ((f.span, f.replacement) for f in edits))
            if _error_count(Source.of(name, text)) > _error_count(workspace.sources[name]):
                settled.add(name)
                continue
            texts[name] = text
            counts[name] = counts.get(name, 0) + len(edits)
        if texts == done.texts:
            break
        done = FixResult(findings(reload(texts)), texts, counts)
    return done


def non_overlapping(fixes: Iterable[Fix]) -> list[Fix]:
    """The fixes of one text that can be applied together: of those that meet, the first."""
    chosen: list[Fix] = []
    for fix in sorted(set(fixes), key=lambda f: (f.span, f.replacement)):
        if not chosen or fix.span.start > chosen[-1].span.end:
            chosen.append(fix)
    return chosen


def _error_count(source: Source) -> int:
    """How many syntax errors a text has."""
    return sum(d.severity is Severity.ERROR for d in frontend.parsed_source(source)[1])
