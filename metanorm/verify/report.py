"""Verifications of whole packages, and their table."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from metanorm.driver import module_name
from metanorm.frontend import Checked
from metanorm.runtime.kernels.refusals import MissingKernels
from metanorm.targets.live import module_from_files
from metanorm.verify.compare import Verification, verify_norm


def verify_files(
    checked: Checked, files: Mapping[str, str], roots: Sequence[str], device: str = "cpu"
) -> list[Verification]:
    """Verify every norm of these specs on a device; their modules are in `files`.

    Where kernels cannot be built, a line on stderr says that plain torch was verified alone.
    """
    reports = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MissingKernels)
        for root in roots:
            name = module_name(root)
            module = module_from_files(files, name)
            reports += [verify_norm(norm.program, module, device) for norm in checked.norms[root]]
    for warning in caught:
        if isinstance(warning.message, MissingKernels):
            sys.stderr.write(f"metanorm: kernels were not verified: {warning.message.problem}\n")
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return reports


def print_table(reports: Sequence[Verification], show_all: bool) -> None:
    """One row for each norm, and below the table the settings that failed (or all)."""
    table = Table("norm", "settings", "agree", "refuse, as they should", "largest error", "result")
    for report in reports:
        agree = [f for f in report.findings if f.outcome == "ok"]
        refused = [f for f in report.findings if f.outcome == "refused"]
        exact = [f.error for f in agree if "float" not in f.setting]
        result = "good" if report.good else "BAD"
        worst = f"{max(exact, default=0.0):.1e}"
        counts = (str(len(report.findings)), str(len(agree)), str(len(refused)))
        table.add_row(report.norm, *counts, worst, result)
    console = Console(highlight=False)
    console.print(table, markup=False)
    for report in reports:
        for finding in report.findings:
            if show_all or not finding.good:
                error = f" ({finding.error:.1e})" if finding.error else ""
                sys.stdout.write(f"{report.norm}, {finding.setting}: {finding.outcome}{error}\n")
