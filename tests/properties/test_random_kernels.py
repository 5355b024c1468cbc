"""Random norms that are eligible for kernels are printed by every target."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from random_specs import norms

from metanorm.frontend import check
from metanorm.nest.eligibility import NoKernels
from metanorm.passes.pipeline import optimize
from metanorm.source import Source
from metanorm.targets.kernel_table import PrintedNorm
from metanorm.targets.registry import KERNEL_TARGETS, KernelTarget


@pytest.mark.parametrize("target", KERNEL_TARGETS.values(), ids=lambda row: row.name)
def test_what_is_eligible_is_printed(target: KernelTarget) -> None:
    eligible = []

    @settings(max_examples=60)
    @given(norms())
    def check_one(text: str) -> None:
        checked = check({"t.norm": Source.of("t.norm", text)}, ["t.norm"])
        program = optimize(checked.norms["t.norm"][0].program)
        try:
            kernels = target.kernels(program)
        except NoKernels:
            return
        eligible.append(program)
        written = target.text("t.norm", [PrintedNorm("t", kernels, None)])
        assert all(variant.name in written for variant in kernels.variants)

    check_one()
    assert len(eligible) > 10
