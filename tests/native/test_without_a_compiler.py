"""No compiler, no cache, no C file: norms say so once, and work all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from limited import HANGS

pytestmark = pytest.mark.needs_torch

BEGIN = """
import sys, warnings, torch, metanorm
from metanorm import runtime
from metanorm.runtime.backends import use
torch.manual_seed(0)
x = torch.randn(3, 4, 5, requires_grad=True)
"""
SEVERAL = """
batch = metanorm.load("specs/batch_norm.norm").BatchNorm(4)
group = metanorm.load("specs/group_norm.norm").GroupNorm(2, 4)
"""
RIGHT = """
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for _ in range(3):
        for ours, theirs in ((batch, torch.nn.BatchNorm1d(4)), (group, torch.nn.GroupNorm(2, 4))):
            y, right = ours(x), theirs(x)
            assert torch.allclose(y, right, atol=1e-5)
            a, b = (torch.autograd.grad(z.pow(3).sum(), x)[0] for z in (y, right))
            assert torch.allclose(a, b, atol=1e-4)
for one in said:
    print(one.category.__name__, one.message, sep=": ")
"""
BACKEND = """
for _ in range(2):
    try:
        with use("native"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch(x)
    except RuntimeError as problem:
        print(problem)
"""


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=HANGS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def without(tmp_path: Path) -> dict[str, str]:
    return {"METANORM_CC": "no-such-compiler", "METANORM_CACHE": str(tmp_path / "cache")}


def test_one_warning_that_says_what_to_do(without: dict[str, str]) -> None:
    (said,) = run(SEVERAL + RIGHT, **without).splitlines()
    assert said.startswith("MissingKernels: metanorm runs without its kernels")
    assert "METANORM_CC names 'no-such-compiler'" in said
    assert "set METANORM_CC to a C compiler, or unset it" in said


def test_the_warning_points_at_the_call(without: dict[str, str], tmp_path: Path) -> None:
    """Not at lines of ours, so that it can be found, and switched off by module."""
    script = tmp_path / "users_script.py"
    script.write_text(BEGIN + SEVERAL + "batch(x)\n")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=ROOT, env={**os.environ, **without, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=HANGS,
    )  # fmt: skip
    assert done.stderr.count("MissingKernels") == 1, done.stderr
    assert "metanorm/runtime/" not in done.stderr


def test_kernels_that_are_demanded(without: dict[str, str]) -> None:
    first, second = run(SEVERAL + BACKEND, **without).splitlines()
    assert first.startswith("batch_norm cannot run natively: ")
    assert "METANORM_CC names 'no-such-compiler'" in first
    assert "METANORM_CC names 'no-such-compiler'" in second


def test_a_compiler_that_comes_later_or_is_not_needed(without: dict[str, str]) -> None:
    """Where torch is asked for, nobody misses a compiler."""
    assert run("use('torch')" + SEVERAL + RIGHT, **without) == ""
    with_one = {k: v for k, v in without.items() if k != "METANORM_CC"}
    assert run(SEVERAL + RIGHT.replace("range(3)", "range(1)"), **with_one) == ""


def test_kernels_in_the_cache_need_a_compiler_of_the_same_name(without: dict[str, str]) -> None:
    """What a library is built with is in its key, so that a cache alone serves nobody."""
    cache = {"METANORM_CACHE": without["METANORM_CACHE"]}
    assert run(SEVERAL + "batch(x)", **cache) == ""
    assert run(SEVERAL + RIGHT, **without).count("MissingKernels") == 1


PACKAGE = """
sys.path.insert(0, FOLDER)
import norms
batch, group = norms.BatchNorm(4), norms.GroupNorm(2, 4)
"""


def test_a_package_without_its_c_files(tmp_path: Path) -> None:
    package = tmp_path / "norms"
    specs = ["specs/batch_norm.norm", "specs/group_norm.norm"]
    compile_ = [sys.executable, "-m", "metanorm", "compile", *specs, "-o", str(package)]
    subprocess.run(compile_, cwd=ROOT, check=True, capture_output=True, timeout=HANGS)
    begin = PACKAGE.replace("FOLDER", repr(str(tmp_path)))
    assert run(begin + RIGHT) == ""
    files = list(package.glob("*.c"))
    assert len(files) == 4  # two of them for norms among processes
    for file in files:
        file.unlink()
    (said,) = run(begin + RIGHT).splitlines()
    assert said.startswith("MissingKernels: metanorm runs without its kernels")
    assert "is not beside it" in said and "package data" in said
    assert "is not beside it" in run(begin + BACKEND)


def test_a_c_file_of_another_compilation(tmp_path: Path) -> None:
    """Its kernels would compute something else than the module says."""
    package, older = tmp_path / "norms", tmp_path / "older"
    spec = tmp_path / "batch_norm.norm"
    for eps, out in (("1e-3", older), ("1e-5", package)):
        spec.write_text((ROOT / "specs/batch_norm.norm").read_text().replace("1e-5", eps))
        command = [sys.executable, "-m", "metanorm", "compile", str(spec), "-o", str(out)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=HANGS)
    begin = PACKAGE.replace("FOLDER", repr(str(tmp_path)))
    begin = begin.replace("norms.GroupNorm(2, 4)", "torch.nn.GroupNorm(2, 4)")
    assert run(begin + RIGHT) == ""
    shutil.copy(older / "batch_norm.c", package)
    (said,) = run(begin + RIGHT).splitlines()
    assert said.startswith("MissingKernels: ") and "were not compiled together" in said
    assert "compile the spec again" in said


NOWHERE = """
import tempfile
tempfile.tempdir = "/proc/nowhere"
"""


def test_no_folder_to_build_in() -> None:
    """Neither a cache nor a folder for temporary files can be written."""
    (said,) = run(NOWHERE + SEVERAL + RIGHT, METANORM_CACHE="/proc/nowhere").splitlines()
    assert said.startswith("MissingKernels: metanorm runs without its kernels")


def test_verify_says_that_kernels_were_not_verified() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "metanorm", "verify", "specs/layer_norm.norm"],
        cwd=ROOT, env={**os.environ, "METANORM_CC": "/nonexistent"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "good" in done.stdout, done.stdout + done.stderr
    assert done.stderr.count("kernels were not verified: METANORM_CC names '/nonexistent'") == 1
    assert "Warning" not in done.stderr


# ---- compilers that make something else, users without a home

EMPTY = """#!/bin/sh
out=; prev=
for a in "$@"; do [ "$prev" = -o ] && out=$a; prev=$a; done
echo "int nothing_of_use = 0;" > nothing.c
exec {cc} -shared -fPIC -o "$out" nothing.c
"""


def test_a_library_that_is_not_ours_counts_as_none(tmp_path: Path) -> None:
    cc = tmp_path / "cc"
    cc.write_text(EMPTY.format(cc=shutil.which("cc") or shutil.which("gcc")))
    cc.chmod(0o755)
    environment = {"METANORM_CC": str(cc), "METANORM_CACHE": str(tmp_path / "cache")}
    for _ in range(2):
        said = run(SEVERAL + RIGHT, **environment)
        assert said.count("MissingKernels") == 1
        assert "lacks the kernels" in said
    assert not list((tmp_path / "cache").rglob("*.so"))


NOBODY = """
import os, pwd
def unknown(*_): raise KeyError("uid not found")
pwd.getpwuid = pwd.getpwnam = unknown
for name in ("METANORM_CACHE", "XDG_CACHE_HOME", "HOME"):
    os.environ.pop(name, None)
os.environ.update(HOME)
"""


@pytest.mark.parametrize("home", [None, "", "/nonexistent"])
def test_a_user_without_a_home(home: str | None) -> None:
    environment = {} if home is None else {"HOME": home}
    run(NOBODY.replace("(HOME)", f"({environment!r})") + SEVERAL + RIGHT)
