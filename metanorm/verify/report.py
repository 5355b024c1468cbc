"""Verifies the norms of whole packages."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

from metanorm import driver, frontend
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.runtime.kernels.errors import MissingKernels, failures_recorded
from metanorm.source import Source
from metanorm.targets.live import module_from_files
from metanorm.verify.cases import quick_settings, settings
from metanorm.verify.finding import Finding, Verification
from metanorm.verify.norms import findings_of_norm
from metanorm.verify.stated import stated_gradients


@dataclass(frozen=True)
class Task:
    """One norm to verify: its source, and all sources that this uses."""

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
    """A task for each norm of the files, which have no errors, and for each of its entries."""
    return [
        Task(used_sources, root, program.name, options, device, quick)
        for root in roots
        for used_sources in [{name: sources[name] for name in checked.reads[root]}]
        for norm in checked.norms[root]
        for program in norm.programs
    ]


def steps(task: Task) -> Iterator[Finding | Verification]:
    """Each finding of a norm, and last the verification with all of them.

    An exception ends the verification of this norm, and of no other.
    """
    collected: list[Finding] = []
    verification = Verification(task.norm)
    stated: tuple[str, ...] = ()
    with warnings.catch_warnings(record=True) as caught, failures_recorded() as failures:
        warnings.simplefilter("always")
        try:
            (program,) = (
                program
                for norm in frontend.check(task.sources, [task.root]).norms[task.root]
                for program in norm.programs
                if program.name == task.norm
            )
            chosen = quick_settings if task.quick else settings
            for finding in findings_of_norm(program, _module(task), task.device, chosen):
                collected.append(finding)
                yield finding
            stated = stated_gradients(program, _module(task))
        except Exception as error:
            verification = replace(verification, problem=f"{type(error).__name__}: {error}")
    notes = [*stated]
    notes += [f"kernels were not verified: {f}" for f in failures if not f.rejected]
    notes += [
        f"{warning.category.__name__}: {warning.message}"
        for warning in caught
        if not isinstance(warning.message, MissingKernels)
    ]
    rejected = next((f for f in failures if f.rejected), None)
    if rejected is not None and not verification.problem:
        verification = replace(verification, problem=f"kernels do not compile: {rejected}")
    yield replace(verification, findings=tuple(collected), notes=tuple(dict.fromkeys(notes)))


def verify_task(task: Task) -> Verification:
    """Verify a norm, without its single findings."""
    *_, last = steps(task)
    assert isinstance(last, Verification)
    return last


_module_cache: dict[tuple[str, Options], ModuleType] = {}


def _module(task: Task) -> ModuleType:
    """The module of a file, cached for the norms of the file, which follow each other."""
    key = (task.root, task.options)
    if key not in _module_cache:
        _module_cache.clear()
        result = driver.compile_specs(task.sources, [task.root], task.options)
        if not result.files:
            raise ValueError("; ".join(d.message for d in result.diagnostics))
        _module_cache[key] = module_from_files(result.files, module_name(task.root))
    return _module_cache[key]
