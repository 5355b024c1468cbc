"""A norm under every setting, on kernels and on plain torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType

from metanorm.ir.nodes import Program
from metanorm.runtime import use
from metanorm.runtime.dispatch import KERNELS as TARGETS
from metanorm.runtime.dispatch import Choice, NotServed
from metanorm.verify.cases import NoExample, quick_settings, settings
from metanorm.verify.compare import compare
from metanorm.verify.finding import KERNELS, TORCH, Finding, Verification
from metanorm.verify.kernels import has_kernels


def verify_norm(
    program: Program, module: ModuleType, device: str = "cpu", quick: bool = False
) -> Verification:
    """Hold the class of a generated module against the oracle under every setting.

    The module runs on the device, the oracle always on the CPU.
    """
    return Verification(program.name, tuple(findings(program, module, device, quick)))


def findings(
    program: Program, module: ModuleType, device: str = "cpu", quick: bool = False
) -> Iterator[Finding]:
    """A finding for each setting on plain torch, and for each one that kernels serve on them."""
    ways: Mapping[str, Choice] = {TORCH: "torch"}
    if has_kernels(module, device):
        ways = {KERNELS: TARGETS[device], **ways}
    for setting in quick_settings(program) if quick else settings(program):
        for on, target in ways.items():
            with use(target):
                try:
                    found = compare(program, module, setting, device=device)
                except (NotServed, NoExample):
                    continue
            yield Finding(found.setting, found.outcome, found.error, found.moved, on)
