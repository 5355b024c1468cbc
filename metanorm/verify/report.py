"""Verifications of whole packages, norm by norm as they come."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

from metanorm import driver, frontend
from metanorm.diagnostics.model import Severity
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.runtime.kernels.refusals import MissingKernels
from metanorm.source import Source
from metanorm.targets.live import module_from_files
from metanorm.verify.cases import quick_settings, settings
from metanorm.verify.finding import Finding, Verification
from metanorm.verify.norms import findings_of_norm


@dataclass(frozen=True)
class Task:
    """One norm to verify: the source that it is in, and all that this uses."""

    sources: Mapping[str, Source]
    root: str
    norm: str
    options: Options
    device: str = "cpu"
    quick: bool = False


def tasks(
    checked: frontend.Checked,
    sources: Mapping[str, Source],
    roots: Sequence[str],
    options: Options,
    device: str = "cpu",
    quick: bool = False,
) -> list[Task]:
    """A task for each norm of the files without errors."""
    wrong = {d.primary.span.source for d in checked.diagnostics if d.severity is Severity.ERROR}
    return [
        Task(own, root, norm.program.name, options, device, quick)
        for root in roots
        if not wrong.intersection(checked.reads[root])
        for own in [{name: sources[name] for name in checked.reads[root]}]
        for norm in checked.norms[root]
    ]


def steps(task: Task) -> Iterator[Finding | Verification]:
    """Each finding as it comes, and all of them last.

    Whatever goes wrong ends the norm that it is about, and no other.
    """
    found: list[Finding] = []
    done = Verification(task.norm)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            (program,) = (
                norm.program
                for norm in frontend.check(task.sources, [task.root]).norms[task.root]
                if norm.program.name == task.norm
            )
            chosen = quick_settings if task.quick else settings
            for finding in findings_of_norm(program, _module(task), task.device, chosen):
                found.append(finding)
                yield finding
        except Exception as error:
            done = replace(done, problem=f"{type(error).__name__}: {error}")
    notes = tuple(
        dict.fromkeys(
            f"kernels were not verified: {w.message.problem}"
            if isinstance(w.message, MissingKernels)
            else f"{w.category.__name__}: {w.message}"
            for w in caught
        )
    )
    yield replace(done, findings=tuple(found), notes=notes)


def verify_task(task: Task) -> Verification:
    """The end of the steps."""
    *_, last = steps(task)
    assert isinstance(last, Verification)
    return last


_module_cache: dict[tuple[str, Options], ModuleType] = {}


def _module(task: Task) -> ModuleType:
    """The module of a file, compiled once for its norms, which follow each other."""
    key = (task.root, task.options)
    if key not in _module_cache:
        _module_cache.clear()
        result = driver.compile_specs(task.sources, [task.root], task.options)
        if not result.files:
            raise ValueError("; ".join(d.message for d in result.diagnostics))
        _module_cache[key] = module_from_files(result.files, module_name(task.root))
    return _module_cache[key]
