"""Every spec of the corpus, compiled and held against the oracle in every setting."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT
from tiers import one_precision

from metanorm.driver import compile_specs
from metanorm.frontend import check
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.targets.live import module_from_files
from metanorm.verify.cases import settings
from metanorm.verify.norms import Settings, verify_norm
from metanorm.workspace import load

FOLDERS = ("tests/good/features", "tests/good/language")
SPECS = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.norm"))]

# As the papers have them, without an eps: the squares of these numbers are too small for float32,
# and what is divided by them too large.
TINY = {("tiny, float32", on) for on in ("kernels", "plain torch")}
# The mean of what was normalized is its shift, whatever the data: so the compiler has it, while
# the oracle adds up numbers and finds the NaN among them. The normalized value itself has it.
SHIFTS = {(f"one {v}{d}", "plain torch") for v in ("NaN", "inf") for d in ("", ", float32")}
# Its matrix is not negative, which that of these settings is: there are roots of negative numbers.
DTYPES = ("float32", "bfloat16", "float16")
LAYOUTS = ("channels last", "transposed", "strided", "expanded")
NEGATIVE = {
    (name, "plain torch")
    for name in ("train", "eval", *DTYPES, *(f"eval, {dtype}" for dtype in DTYPES), *LAYOUTS)
}
BEYOND = {
    ("doubly_stochastic", "DoublyStochastic"): NEGATIVE,
    ("odd_company", "NormOfAffineNorm"): SHIFTS,
    ("standardization_loss", "StandardizationLoss"): TINY,
    ("weight_norm", "WeightNorm"): TINY,
}


@pytest.mark.parametrize(
    "chosen", [one_precision, pytest.param(settings, marks=pytest.mark.extended)]
)
@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_modules_agree_with_the_oracle(path: Path, chosen: Settings) -> None:
    specs = load([str(path)])
    result = compile_specs(specs.sources, specs.roots, Options())
    name = module_name(specs.roots[0])
    module = module_from_files(result.files, name)
    for norm in check(specs.sources, specs.roots).norms[specs.roots[0]]:
        verification = verify_norm(norm.program, module, chosen=chosen)
        bad = {(f.setting, f.on) for f in verification.findings if f.bad}
        beyond = BEYOND.get((path.stem, norm.program.name), set())
        met = {(f.setting, f.on) for f in verification.findings}
        assert bad == beyond & met and (chosen is not settings or beyond <= met), (
            verification.findings
        )
