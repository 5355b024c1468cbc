"""`metanorm verify` finds what is wrong: modules with a planted fault must not pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from metanorm import frontend
from metanorm.driver import compile_specs
from metanorm.ir.program import Program
from metanorm.options import Options
from metanorm.source import Source
from metanorm.targets.live import module_from_text
from metanorm.verify.finding import Verification
from metanorm.verify.norms import verify_norm
from metanorm.workspace import load

SPECS = load([str(ROOT / "specs" / "batch_norm.norm")])
(ROOTED,) = SPECS.roots
NORM = frontend.check(SPECS.sources, SPECS.roots).norms[ROOTED][0].program
TEXT = compile_specs(SPECS.sources, SPECS.roots, Options(target="torch")).files["batch_norm.py"]

# What is planted, and what the report then says.
FAULTS = {
    "a value": ("scale = 1 /", "scale = 1.0001 /", "is off"),
    "a centre": ("centre=mean[along_s]", "centre=1.001 * mean[along_s]", "is off"),
    "an update": ("runtime.unbiased(var, count)", "var", "running_var is off"),
    "an update that is left out": (
        "(running_mean, runtime.moved(running_mean, mean, momentum)),",
        "",
        "running_mean is off",
    ),
    "a gradient": ("scale = scale * weight", "scale = scale * weight.detach()", "gradient of"),
    "a gradient of x": ("centre=mean[along_s]", "centre=mean.detach()[along_s]", "gradient of x"),
    "a dtype": ("result = y.to(dtype)", "result = y.double()", "has dtype"),
    "a shape": ("result = y.to(dtype)", "result = y.to(dtype)[None]", "has shape"),
    "a NaN that spreads": (
        "result = y.to(dtype)",
        "result = (y + 0 * x.sum()).to(dtype)",
        "is off",
    ),
    "an error": ("result = y.to(dtype)", "raise KeyError('lost')", "raised KeyError: 'lost'"),
}


def verified(text: str, norm: Program = NORM) -> Verification:
    return verify_norm(norm, module_from_text(text, "planted"))


def test_a_module_without_faults_passes() -> None:
    assert verified(TEXT).good


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    right, wrong, said = FAULTS[fault]
    assert TEXT.count(right) == 1
    report = verified(TEXT.replace(right, wrong))
    assert not report.good
    assert any(said in finding.outcome for finding in report.findings if not finding.good)


STATED = Source.of(
    "damped.norm",
    """
norm Damped(momentum = 0.1, eps = 1e-5) {
  input  x[N, C = num_features]
  buffer drift[C] = 0
  let    ms = mean(x^2 over N)
  output x / sqrt(ms + eps)
  backward {
    gradient x = (grad - drift * x) / sqrt(ms + eps)
    update   drift = drift + momentum * mean(grad * x over N)
  }
}
""",
)
STATED_FAULTS = {
    "a stated gradient": (
        "(grad - x * old_drift)",
        "(grad + x * old_drift)",
        "gradient of x is off",
    ),
    "its update": (
        "old_drift + momentum * mean",
        "old_drift + mean",
        "drift after the backward pass is off",
    ),
    "a derived one in its place": ('of=("x",)', "of=()", "gradient of x is off"),
}


@pytest.mark.parametrize("fault", STATED_FAULTS)
def test_a_fault_in_a_stated_backward_pass_is_found(fault: str) -> None:
    sources = {STATED.name: STATED}
    norm = frontend.check(sources, [STATED.name]).norms[STATED.name][0].program
    text = compile_specs(sources, [STATED.name], Options(target="torch")).files["damped.py"]
    assert verified(text, norm).good
    right, wrong, said = STATED_FAULTS[fault]
    assert text.count(right) == 1
    report = verified(text.replace(right, wrong), norm)
    assert not report.good
    assert any(said in finding.outcome for finding in report.findings if not finding.good)


def test_a_value_in_single_precision_is_held_to_it_far_from_zero() -> None:
    """A tenth of the spread of values around 1e4 is no rounding error."""
    report = verified(TEXT.replace("result = y.to(dtype)", "result = (y * 1.2).to(dtype)"))
    (far,) = [f for f in report.findings if f.setting == "mean 1e4, float32"]
    assert not far.good


def test_a_weight_that_is_left_out_has_no_gradient_beside_a_nan(tmp_path: Path) -> None:
    """Whether `where` leaves it out, or it is in none of the pools that hold the NaN."""
    path = tmp_path / "left_out.norm"
    path.write_text(
        """
        norm LeftOut(k: int, eps = 1e-5) {
          input  x[N, T, C], keep: mask[N, T], trust[N, T]
          let    m = moments(x over C, T: causal(k) where keep weight trust)
          output (x - m.mean) / sqrt(m.var + eps)
        }
        """
    )
    specs = load([str(path)])
    text = compile_specs(specs.sources, specs.roots, Options()).files["left_out.py"]
    norm = frontend.check(specs.sources, specs.roots).norms[specs.roots[0]][0].program
    report = verify_norm(norm, module_from_text(text, "left_out"))
    assert [f for f in report.findings if not f.good] == []
