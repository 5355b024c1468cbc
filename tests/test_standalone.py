"""Packages with the runtime inside: they run where there is no metanorm, and give the same bits."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import in_this as run
from conftest import PROGRAMS, ROOT

pytestmark = pytest.mark.needs_torch
torch = pytest.importorskip("torch")

from metanorm.standalone import _relative_imports, runtime_files  # noqa: E402
from metanorm.verify.cases import quick_settings  # noqa: E402
from metanorm.verify.norms import verify_norm  # noqa: E402

SPECS = ("group_norm", "batch_norm", "layer_norm", "graph_norm", "switch_norm", "dynamic_tanh")
# Only torch and what it needs: a finder before all others refuses the rest.
ALONE = """
import sys

class Refusing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("metanorm", "lark", "pydantic", "typer"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing)
import warnings
warnings.simplefilter("error")
import torch
import alone

for name, arguments, state, x, wanted, gradient in torch.load("cases.pt", weights_only=False):
    norm = getattr(alone, name)(*arguments)
    norm.load_state_dict(state)
    x = x.clone().requires_grad_()
    y = norm(x)
    y.square().sum().backward()
    assert torch.equal(y, wanted) and torch.equal(x.grad, gradient), name
    compiled = torch.compile(getattr(alone, name)(*arguments), backend="eager", fullgraph=True)
    compiled(x)
print(alone._runtime.call_path().name, not any(m.startswith("metanorm") for m in sys.modules))
"""
CASES = (("GroupNorm", (2, 8)), ("BatchNorm", (8,)), ("SwitchNorm", (8,)), ("DynamicTanh", (8,)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package `alone`."""
    folder = tmp_path_factory.mktemp("standalone")
    specs = [str(ROOT / "specs" / f"{name}.norm") for name in SPECS]
    done = run("compile", *specs, "-o", "alone", "--standalone", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_it_runs_without_metanorm_bit_by_bit_as_with_it(folder: Path, library: Any) -> None:
    cases = []
    for name, arguments in CASES:
        x = torch.randn(4, 8) if name == "DynamicTanh" else torch.randn(4, 8, 6, 6)
        norm = getattr(library, name)(*arguments)
        state = {key: value.clone() for key, value in norm.state_dict().items()}
        x.requires_grad_()
        y = norm(x)
        y.square().sum().backward()
        cases.append((name, arguments, state, x.detach(), y.detach(), x.grad))
    torch.save(cases, folder / "cases.pt")
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    from metanorm.runtime import call_path

    assert done.stdout.split() == [call_path().name, "True"]


@pytest.mark.parametrize("name", ["GroupNorm", "BatchNorm", "GraphNorm"])
def test_it_agrees_with_the_oracle_beside_the_other_runtime(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    package = importlib.import_module("alone")
    module = sys.modules[getattr(package, name).__module__]
    verification = verify_norm(PROGRAMS[name], module, chosen=quick_settings)
    assert verification.findings and verification.good, [
        f.text() for f in verification.findings if not f.good
    ]


def test_both_runtimes_have_operations_and_libraries_of_their_own(
    folder: Path, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    alone = importlib.import_module("alone")
    theirs = importlib.import_module("alone._runtime.identity")
    ours = importlib.import_module("metanorm.runtime.identity")
    assert (ours.NAMESPACE, theirs.NAMESPACE) == ("metanorm", "alone__runtime")
    x = torch.randn(4, 8, 6, 6)
    for _ in range(3):  # the first calls make plans; then both are in use in turn
        assert torch.equal(alone.GroupNorm(2, 8)(x), library.GroupNorm(2, 8)(x))
        with pytest.raises(alone._runtime.ShapeError):
            alone.GroupNorm(2, 8)(x[:, :6])


def test_no_file_of_it_imports_metanorm(folder: Path) -> None:
    files = list((folder / "alone").rglob("*.py"))
    assert len(files) > 50
    for path in files:
        assert not re.search(r"^\s*(from|import) metanorm\b", path.read_text(), re.MULTILINE), path
    runtime = {p.relative_to(ROOT / "metanorm/runtime").as_posix()
               for p in (ROOT / "metanorm/runtime").rglob("*")
               if p.is_file() and "__pycache__" not in p.parts}  # fmt: skip
    assert {f"_runtime/{name}" for name in runtime} <= set(runtime_files(""))


def test_imports_lead_inside() -> None:
    text = "from metanorm import user_cache\nfrom metanorm.runtime import a\n" \
        "if x:\n    from metanorm.runtime.b.c import d\n"  # fmt: skip
    assert _relative_imports(text, 2) == (
        "from .. import user_cache\nfrom .. import a\nif x:\n    from ..b.c import d\n"
    )


def test_changes_of_it_are_noticed(folder: Path) -> None:
    specs = [str(ROOT / "specs" / f"{name}.norm") for name in SPECS]
    command = ("compile", *specs, "-o", "alone", "--standalone")
    assert run(*command, "--check", folder=folder).returncode == 0
    file = folder / "alone" / "_runtime" / "pools.py"
    before = file.read_text()
    try:
        file.write_text(before + "\n")
        done = run(*command, "--check", folder=folder)
        assert done.returncode == 1 and "_runtime/pools.py: edited by hand" in done.stdout
    finally:
        file.write_text(before)


def test_the_configuration_can_say_so(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.metanorm]\nstandalone = true\n")
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.norm").write_text("norm A {\n  input x[N, C]\n  reduce C\n}\n")
    assert run("compile", folder=tmp_path).returncode == 0
    assert "from . import _runtime as runtime" in (tmp_path / "norms" / "a.py").read_text()
    assert run("verify", "--quick", folder=tmp_path).returncode == 0  # which runs no package


def test_kernels_for_gpus_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text("norm A {\n  input x[N, C]\n  reduce C\n}\n")
    done = run("compile", "a.norm", "--standalone", "--target", "triton", folder=tmp_path)
    assert done.returncode == 1 and "add --target native" in done.stderr
    assert not (tmp_path / "norms").exists()


def test_a_runtime_that_nothing_uses_is_left_over(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    for name in ("a", "b"):
        text = f"norm {name.upper()} {{\n  input x[N, C]\n  reduce C\n}}\n"
        (tmp_path / "specs" / f"{name}.norm").write_text(text)
    runtime = tmp_path / "norms" / "_runtime"
    assert run("compile", "specs", "--standalone", folder=tmp_path).returncode == 0
    (runtime / "older.py").write_text((runtime / "pools.py").read_text())
    done = run("compile", "specs", "--standalone", "--check", folder=tmp_path)
    assert done.returncode == 1 and "_runtime/older.py: left over from" in done.stdout
    done = run("compile", "specs/a.norm", "--target", "torch", folder=tmp_path)  # `b` uses it still
    assert done.returncode == 0 and "_runtime" not in done.stderr
    done = run("compile", "specs", folder=tmp_path)
    assert " more: left over from the runtime of metanorm" in done.stderr
    (runtime / "pools.py").write_text((runtime / "pools.py").read_text() + "\n# mine\n")
    assert run("compile", "specs", "--prune", folder=tmp_path).returncode == 0
    assert [path.name for path in runtime.rglob("*") if path.is_file()] == ["pools.py"]
