"""Notebooks: the magic, what is displayed, and the tutorial from top to bottom."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import ROOT
from limited import HANGS

import metanorm

pytest.importorskip("torch")
pytest.importorskip("IPython")

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

CENTRED = """norm Centred {
  input  x[N, C]
  output x - mean(x over C)
}
"""
TYPES = {"text/plain", "text/latex", "text/html"}


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    shell = InteractiveShell.instance()
    yield shell
    InteractiveShell.clear_instance()


def run(shell: InteractiveShell, cell: str) -> tuple[Any, str]:
    """The result of a cell, and all that was printed."""
    with capture_output() as printed:
        result = shell.run_cell(cell)
    return result, printed.stdout + printed.stderr


def test_a_cell_becomes_classes(shell: InteractiveShell) -> None:
    run(shell, "%load_ext metanorm")
    result, _ = run(shell, f"%%norm\n{CENTRED}")
    assert result.success and set(result.result._repr_mimebundle_()) == TYPES
    result, _ = run(shell, "import torch; Centred()(torch.tensor([[1.0, 3.0]])).tolist()")
    assert result.result == [[-1.0, 1.0]]


def test_a_quiet_cell_displays_nothing(shell: InteractiveShell) -> None:
    run(shell, "%reload_ext metanorm")
    result, printed = run(shell, f"%%norm -q\n{CENTRED.replace('Centred', 'Quiet')}")
    assert result.success and result.result is None and printed == ""
    assert "Quiet" in shell.user_ns


MISTAKES = {
    "a cell": "%%norm\n" + CENTRED.replace("over C", "over D"),
    "loads": f"import metanorm; metanorm.loads({CENTRED.replace('over C', 'over D')!r})",
    "a file": "import metanorm; metanorm.load('missing.norm')",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_reports_without_a_traceback(shell: InteractiveShell, mistake: str) -> None:
    run(shell, "%reload_ext metanorm")
    result, printed = run(shell, MISTAKES[mistake])
    assert not result.success
    assert "error[MN" in printed and "= help:" in printed
    assert "Traceback" not in printed and "api.py" not in printed


def test_unknown_options_are_an_error(shell: InteractiveShell) -> None:
    run(shell, "%reload_ext metanorm")
    result, printed = run(shell, f"%%norm --loud\n{CENTRED}")
    assert not result.success and "usage: %%norm [-q]" in printed


def test_the_extension_can_be_unloaded(shell: InteractiveShell) -> None:
    run(shell, "%reload_ext metanorm")
    run(shell, "%unload_ext metanorm")
    assert shell.find_cell_magic("norm") is None


def test_what_is_displayed_has_equations_pools_cost_and_source() -> None:
    module = metanorm.load(ROOT / "specs" / "switch_norm.norm")
    bundle = module._repr_mimebundle_()
    assert set(bundle) == TYPES
    assert bundle["text/latex"].count("$$") % 2 == 0 and r"\mathop" in bundle["text/latex"]
    html = bundle["text/html"]
    images = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert len(images) == len([name for name in module.__all__ if "Norm" in name])
    for image in images:
        assert ElementTree.fromstring(base64.b64decode(image)).tag.endswith("svg")
    assert "<table>" in html and "class SwitchNorm(" in html and "norm SwitchNorm(" in html


def test_texts_of_specs_are_no_markup() -> None:
    spec = CENTRED.replace("norm", "# <script>alert(1)</script>\nnorm", 1)
    html = metanorm.loads(spec)._repr_mimebundle_()["text/html"]
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_the_tutorial_runs(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # as it is committed
    client.NotebookClient(
        notebook, timeout=HANGS, resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [output.data for output in outputs if output.output_type == "execute_result"]
    assert any(set(data) == TYPES for data in shown)
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "error[MN0302]" in printed and "Traceback" not in printed
    assert not any(output.output_type == "error" for output in outputs)
