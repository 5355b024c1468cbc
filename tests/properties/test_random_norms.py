"""Random norms through the whole compiler, against the oracle and the tools that users run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import pytest
from conftest import ROOT
from hub_layers import norm_with_layer, run_here
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from random_specs import norms, norms_for

from metanorm.driver import compile_specs
from metanorm.frontend import check
from metanorm.options import Options
from metanorm.runtime import use
from metanorm.show.picture import picture
from metanorm.show.svg_from_drawing import svg_from_drawing
from metanorm.source import Source
from metanorm.syntax.latex_from_ast import latex_from_ast
from metanorm.targets.live import module_from_files
from metanorm.targets.torch.hub_layer import why_no_layer
from metanorm.verify.cases import Setting
from metanorm.verify.cases import settings as all_settings
from metanorm.verify.compare import Finding, compare

SMOOTH = {"train", "eval", "bias=False", "channels last", "strided", "0 axes in a group"}


def compiled(text: str, hub: bool = False) -> tuple[Any, dict[str, str]]:
    """The program of the one norm in a text, and its module; or that of its layer for the hub."""
    sources = {"random.norm": Source.of("random.norm", text)}
    checked = check(sources, ["random.norm"])
    assert checked.ok, checked.diagnostics
    result = compile_specs(sources, ["random.norm"], Options(verify_passes=True, hub=hub))
    assert result.ok, result.diagnostics
    return checked.norms["random.norm"][0].program, run_here(result.files)


def wanted(setting: Setting) -> bool:
    """Not those where a kink sits exactly on a rounding error, such as constant inputs."""
    plain = setting.values == "ordinary" and not setting.single and "float" not in setting.name
    return plain and (setting.name in SMOOTH or "axes" in setting.name or "=" in setting.name)


def is_rounding(finding: Finding) -> bool:
    """Each `normalize` of nearly equal values makes rounding errors 1 / sqrt(eps) larger."""
    return finding.outcome.endswith(" is off") and finding.error < 1e-6


@pytest.mark.parametrize("target", ["torch", "auto"])
def test_module_and_oracle_agree(target: Literal["torch", "auto"]) -> None:
    """Kernels of a norm take seconds to build, so that there are fewer examples of them."""

    @settings(max_examples=50 if target == "torch" else 6)
    @given(norms())
    def check_one(text: str) -> None:
        program, code = compiled(text)
        module = module_from_files(code, "random")
        with use(target):
            for setting in filter(wanted, all_settings(program)):
                finding = compare(program, module, setting)
                assert not finding.bad or is_rounding(finding), finding

    check_one()


@pytest.mark.parametrize("kind", ["weight", "gradient", "loss"])
def test_norms_for_other_things_agree_too(kind: str) -> None:
    @settings(max_examples=20)
    @given(norms_for(kind))
    def check_one(text: str) -> None:
        program, code = compiled(text)
        module = module_from_files(code, "random")
        with use("torch"):
            for setting in filter(wanted, all_settings(program)):
                finding = compare(program, module, setting)
                assert not finding.bad or is_rounding(finding), (text, finding)

    check_one()


def test_layers_for_the_hub_agree_too() -> None:
    @settings(max_examples=30)
    @given(st.one_of(norms(), norms_for("loss")))
    def check_one(text: str) -> None:
        program, code = compiled(text)
        if list(why_no_layer(program)):
            return
        layer = getattr(module_from_files(compiled(text, hub=True)[1], "random"), program.name)
        norm = getattr(module_from_files(code, "random"), program.name)
        module = norm_with_layer(program.name, norm, layer)
        with use("torch"):
            for setting in filter(wanted, all_settings(program)):
                finding = compare(program, module, setting)
                assert not finding.bad or is_rounding(finding), (text, finding)

    check_one()


def test_they_can_be_drawn_and_written_as_formulas() -> None:
    @settings(max_examples=30)
    @given(norms())
    def check_one(text: str) -> None:
        norm = check({"a.norm": Source.of("a.norm", text)}, ["a.norm"]).norms["a.norm"][0]
        drawing = picture(norm.program)
        assert ElementTree.fromstring(svg_from_drawing(drawing))[0].text == drawing.title
        formula = latex_from_ast(norm.equations)
        assert formula.count("{") == formula.count("}")
        assert formula.count(r"\left") == formula.count(r"\right") + formula.count(r"\leftarrow")

    check_one()


def test_modules_pass_the_tools_that_users_run(tmp_path: Path) -> None:
    texts: list[str] = []
    others = st.sampled_from(("weight", "gradient", "loss")).flatmap(norms_for)
    for strategy, count in ((norms(), 20), (others, 15)):

        @settings(max_examples=count, phases=[Phase.generate])
        @given(strategy)
        def collect(text: str) -> None:
            texts.append(text)

        collect()
    for number, text in enumerate(texts):
        program, code = compiled(text)
        (tmp_path / f"random_{number}.py").write_text(code["random.py"])
        if not list(why_no_layer(program)):
            layers = compiled(text, hub=True)[1]["random.py"]
            (tmp_path / f"random_{number}_for_hub.py").write_text(layers)
    check_code(tmp_path)


def check_code(folder: Path) -> None:
    """`ruff format` finds nothing to do, and `mypy --strict` nothing to say."""
    for command in (
        ("ruff", "format", "--isolated", "--check", str(folder)),
        ("ruff", "check", "--isolated", str(folder)),
        ("mypy", "--strict", "--python-version", "3.10", str(folder)),
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
