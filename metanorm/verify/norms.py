"""Verifies a norm under every setting, on kernels and on plain torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import ModuleType

from metanorm.ir.program import Program
from metanorm.runtime import use
from metanorm.runtime.dispatch import NotServed
from metanorm.runtime.targets import TARGET_OF_DEVICE, Target
from metanorm.verify.cases import NoExample, Setting, settings
from metanorm.verify.compare import compare
from metanorm.verify.finding import KERNELS, TORCH, Finding, Verification
from metanorm.verify.kernels import has_kernels

Settings = Callable[[Program], Iterable[Setting]]


def verify_norm(
    program: Program, module: ModuleType, device: str = "cpu", chosen: Settings = settings
) -> Verification:
    """Compare the class of a generated module with the oracle under every chosen setting.

    The module runs on the device, the oracle always on the CPU.
    """
    return Verification(program.name, tuple(findings_of_norm(program, module, device, chosen)))


def findings_of_norm(
    program: Program, module: ModuleType, device: str = "cpu", chosen: Settings = settings
) -> Iterator[Finding]:
    """A finding for each setting on plain torch, and one on kernels if they serve the setting."""
    targets: Mapping[str, Target] = {TORCH: "torch"}
    if has_kernels(module, device):
        targets = {KERNELS: TARGET_OF_DEVICE[device].name, **targets}
    for setting in chosen(program):
        for on, target in targets.items():
            with use(target):
                try:
                    finding = compare(program, module, setting, device=device)
                except (NotServed, NoExample):
                    continue
            # No kernel is called for an input without elements, whatever is asked for.
            yield replace(finding, on=TORCH if setting.empty else on)
