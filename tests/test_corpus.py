"""Specs with what came out beside them. `make accept` takes what comes out now."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from conftest import ROOT

from metanorm import frontend
from metanorm.diagnostics.model import Diagnostic
from metanorm.diagnostics.registry import all_codes
from metanorm.diagnostics.render.text import render_text
from metanorm.driver import Result, compile_specs
from metanorm.ir.dump import program_text
from metanorm.ir.program import Program
from metanorm.module_names import module_name
from metanorm.nest.eligibility import NoKernels
from metanorm.nest.kernels import kernels_of
from metanorm.nest.text_from_nest import text_from_nest
from metanorm.nest.verify import verify
from metanorm.options import Options
from metanorm.passes.pipeline import optimize
from metanorm.syntax.text_from_ast import norm_lines
from metanorm.workspace import Workspace, load

TESTS = ROOT / "tests"
SPECS = sorted((ROOT / "specs").glob("*.norm"))
LANGUAGE = sorted((TESTS / "good" / "language").glob("*.norm"))
FEATURES = sorted((TESTS / "good" / "features").glob("*.norm"))
HUB = sorted((TESTS / "good" / "hub").glob("*.norm"))
BAD = sorted((TESTS / "bad").glob("*.norm"))
OPTIONS = Options(verify_passes=True)
RENAME = (("WithTable.gain", "table"), ("eps", "variance_epsilon"), ("x", "hidden_states"))
HUB_OPTIONS = Options(verify_passes=True, hub=True, rename=RENAME)


def loaded(path: Path) -> Workspace:
    workspace = load([path.relative_to(ROOT).as_posix()])
    assert not workspace.diagnostics
    return workspace


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def compare(path: Path, text: str, accept: bool) -> None:
    if accept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path.name} is missing: make accept"
    assert text == path.read_text(), f"{path.name} differs: make accept, and look at the diff"


def beside(path: Path, ending: str) -> Path:
    """Where the output of a spec is: beside it, or for the library in tests/good/specs."""
    folder = TESTS / "good" / "specs" if path in SPECS else path.parent
    return folder / f"{path.stem}{ending}"


def nests_of(program: Program) -> str:
    """The nests of the first variant, for data that lies as it is declared, all of them verified;
    or why there are none."""
    try:
        kernels = kernels_of(program)
    except NoKernels as reason:
        return f"{program.name} has no kernels: {reason}\n"
    for nest in kernels:
        verify(nest)
    variant, last = kernels.variants[0], program.inputs[0].dims[-1]
    return "\n".join(text_from_nest(d[last]) for d in (variant.forward, variant.backward))


@pytest.mark.parametrize("path", [*SPECS, *LANGUAGE, *FEATURES], ids=lambda p: p.stem)
def test_good_specs(path: Path, accept: bool) -> None:
    """Equations, both IRs, the kernels of the first variant, and the module."""
    specs = loaded(path)
    (root,) = specs.roots
    checked = frontend.check(specs.sources, [root])
    assert checked.ok, render_text(checked.diagnostics, specs.sources)
    norms = checked.norms[root]
    texts = ["\n".join(norm_lines(norm.equations)) + "\n" for norm in norms]
    compare(beside(path, ".equations"), "\n".join(texts), accept)
    programs = [program for norm in norms for program in norm.programs]
    before = [program_text(program) for program in programs]
    optimised = [optimize(program, check=True) for program in programs]
    pairs = [f"{a}\n# optimised\n\n{program_text(b)}" for a, b in zip(before, optimised)]
    compare(beside(path, ".ir"), "\n".join(pairs), accept)
    nests = [nests_of(program) for program in optimised]
    compare(beside(path, ".nest"), "\n".join(nests), accept)
    result = compile_specs(specs.sources, [root], OPTIONS)
    assert result.ok, render_text(result.diagnostics, specs.sources)
    compare(beside(path, ".py"), result.files[f"{module_name(root)}.py"], accept)


@pytest.mark.parametrize("path", HUB, ids=lambda p: p.stem)
def test_layers_of_the_hub(path: Path, accept: bool) -> None:
    """The module of layers without state."""
    specs = loaded(path)
    result = compile_specs(specs.sources, specs.roots, HUB_OPTIONS)
    assert not result.diagnostics, render_text(result.diagnostics, specs.sources)
    compare(beside(path, ".py"), result.files[f"{path.stem}.py"], accept)


@pytest.mark.parametrize("path", BAD, ids=lambda p: p.stem)
def test_bad_specs(path: Path, accept: bool) -> None:
    """All that is said about a wrong spec, and nothing is compiled."""
    specs, result = loaded(path), compiled(path)
    assert not result.ok or path.stem.startswith("warning")
    assert bool(result.files) == result.ok
    compare(path.with_suffix(".txt"), render_text(result.diagnostics, specs.sources), accept)


@functools.cache
def compiled(path: Path) -> Result:
    specs = loaded(path)
    options = HUB_OPTIONS if path.stem == "hub" else OPTIONS
    return compile_specs(specs.sources, specs.roots, options)


def reports(path: Path) -> tuple[Diagnostic, ...]:
    return compiled(path).diagnostics


def test_every_code_is_in_the_corpus() -> None:
    raised = {diagnostic.code for path in BAD for diagnostic in reports(path)}
    assert sorted(raised) == all_codes()


@pytest.mark.parametrize("path", BAD, ids=lambda p: p.stem)
def test_a_mistake_is_reported_once_and_with_help(path: Path) -> None:
    diagnostics = reports(path)
    spans = [(d.primary.span.start, d.primary.span.end) for d in diagnostics]
    assert len(set(spans)) == len(spans)
    assert [d.message for d in diagnostics if not d.helps] == []


@pytest.mark.parametrize("path", [*SPECS, *FEATURES, *HUB], ids=lambda p: p.stem)
def test_specs_are_formatted(path: Path) -> None:
    source = loaded(path).sources[path.relative_to(ROOT).as_posix()]
    if path.stem != "functions":  # holds a space that the formatter takes out
        assert frontend.format_spec(source) == (source.text, ())
