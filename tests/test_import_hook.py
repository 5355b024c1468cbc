"""`import group_norm` from `group_norm.norm`, and pickles of what was loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

pytestmark = pytest.mark.needs_torch

CENTRED = """norm Centred {
  input  x[N, C]
  output x - mean(x over C)
}
"""
HOOKED = """
import sys
from metanorm import import_hook
import_hook.install()
import torch
"""
CALLED = "centred.Centred()(torch.tensor([[1.0, 3.0]])).tolist()"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "centred.norm").write_text(CENTRED)
    return tmp_path


def python(code: str, folder: Path, **environment: str) -> CompletedProcess[str]:
    cache = {"METANORM_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **cache, **environment},
    )


def printed(code: str, folder: Path, **environment: str) -> list[str]:
    done = python(code, folder, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_spec_is_imported_and_is_a_file(folder: Path) -> None:
    code = HOOKED + f"import centred, inspect\nprint({CALLED})\nprint(centred.__file__)\n"
    code += "print(inspect.getsource(centred.Centred).splitlines()[0])"
    first, again = printed(code, folder), printed(code, folder)
    assert first == again
    assert first[0] == "[[-1.0, 1.0]]" and first[2] == "class Centred(nn.Module):"
    assert Path(first[1]).parent == folder / "cache" / "modules"
    assert Path(first[1]).with_suffix(".c").exists()


def test_an_edited_spec_is_reloaded_and_no_hook_finds_nothing(folder: Path) -> None:
    code = (
        HOOKED
        + f"""
import importlib, pathlib
import centred
pathlib.Path("centred.norm").write_text({CENTRED.replace("x -", "x +")!r})
importlib.reload(centred)
print({CALLED})
import_hook.install()
import_hook.uninstall()
try:
    import other
except ModuleNotFoundError as error:
    print(error)
"""
    )
    (folder / "other.norm").write_text(CENTRED)
    assert printed(code, folder) == ["[[3.0, 5.0]]", "No module named 'other'"]


def test_a_module_of_python_comes_first(folder: Path) -> None:
    (folder / "centred.py").write_text("Centred = None\n")
    assert printed(HOOKED + "import centred\nprint(centred.Centred)", folder) == ["None"]


def test_a_spec_in_a_package(folder: Path) -> None:
    package = folder / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("from . import inner\nfrom .inner import Inner\n")
    (package / "inner.norm").write_text(
        CENTRED.replace("Centred", "Inner").replace("norm", 'use "used.norm"\n\nnorm', 1)
        .replace("mean(x over C)", "Used(x)")
    )  # fmt: skip
    (package / "used.norm").write_text(CENTRED.replace("Centred", "Used"))
    code = HOOKED + "import mine\nprint(mine.Inner.__module__, mine.Inner())"
    assert printed(code, folder) == ["mine.inner Inner()"]


def test_a_broken_spec_is_an_import_error_with_the_report(folder: Path) -> None:
    (folder / "centred.norm").write_text(CENTRED.replace("over C", "over D"))
    code = (
        HOOKED
        + """
try:
    import centred
except ImportError as error:
    print(type(error).__name__, error.name, error.path, error)
"""
    )
    output = "\n".join(printed(code, folder))
    assert output.startswith("SpecImportError centred centred.norm ")
    assert "error[MN0302]: unknown axis `D`" in output


def test_without_a_cache_there_is_a_folder_for_the_process(folder: Path) -> None:
    (folder / "cache").write_text("")
    code = HOOKED + f"import centred\nprint({CALLED})\nprint(centred.__file__)"
    result, file = printed(code, folder)
    assert result == "[[-1.0, 1.0]]" and not Path(file).exists()


def test_a_process_that_is_spawned_unpickles(folder: Path) -> None:
    (folder / "main.py").write_text("""
import multiprocessing
from metanorm import import_hook
import_hook.install()
import centred, torch, metanorm
loaded = metanorm.load("centred.norm")

def called(norm):
    return norm(torch.tensor([[1.0, 3.0]])).tolist()

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(called, [centred.Centred(), loaded.Centred()]))
""")
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "METANORM_CACHE": str(folder / "cache")},
    )
    assert done.stdout == "[[[-1.0, 1.0]], [[-1.0, 1.0]]]\n", done.stderr


DUMP = """
import pickle, metanorm, torch
torch.save(metanorm.load("centred.norm").Centred(), "norm.pt")
"""
LOAD = """
import torch
print(torch.load("norm.pt", weights_only=False)(torch.tensor([[1.0, 3.0]])).tolist())
"""


def test_what_was_loaded_unpickles_in_a_process_that_knows_nothing(folder: Path) -> None:
    assert printed(DUMP, folder) == []
    assert printed(LOAD, folder) == ["[[-1.0, 1.0]]"]


def test_where_it_is_not_there_the_error_says_what_to_do(folder: Path) -> None:
    assert printed(DUMP, folder) == []
    elsewhere = {"METANORM_CACHE": str(folder / "elsewhere")}
    done = python(LOAD, folder, **elsewhere)
    assert done.returncode == 1
    assert "of the spec `centred.norm`" in done.stderr and "load the same spec first" in done.stderr
    first = 'import metanorm\nmetanorm.load("centred.norm")\n'
    assert printed(first + LOAD, folder, **elsewhere) == ["[[-1.0, 1.0]]"]


def test_a_file_that_somebody_cut_is_written_again(folder: Path) -> None:
    assert printed(DUMP, folder) == []
    for path in (folder / "cache" / "modules").glob("centred_*"):
        if path.is_file():
            path.write_text(path.read_text()[:-20])
    assert printed(DUMP + LOAD, folder) == ["[[-1.0, 1.0]]"]
