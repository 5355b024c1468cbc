"""The script that compares what is printed notices what is new, gone or other."""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import printed
from conftest import ROOT


def test_every_spec_of_the_library_has_its_digests() -> None:
    files = printed.spec_files()
    assert {*(ROOT / "specs").glob("*.norm")} <= {*files}
    rms = ROOT / "specs" / "rms_norm.norm"
    digests = dict(printed.digests([rms]))
    assert {entry.partition(":")[0] for entry in digests} == {"torch", "native", "triton"}
    kernels = printed.printed(rms, "native")["rms_norm.c"]
    digest = hashlib.sha256(kernels.encode()).hexdigest()
    assert digests["native: specs/rms_norm.norm: rms_norm.c"] == digest
    # For each target a module and one for processes; C for each of these in two of them, and Triton
    # for each in one.
    assert len(digests) == 12


def test_modules_import_and_keep_nothing_that_they_do_not_read(tmp_path: Path) -> None:
    """The modules for processes too, some of which have no function, or functions of sweeps."""
    for spec in ("batch_norm", "bit_linear", "ibn_norm", "packed_norm", "power_norm"):
        for name, text in printed.printed(ROOT / "specs" / f"{spec}.norm", "native").items():
            if name.endswith(".py"):
                (tmp_path / name).write_text(text)
    command = ("ruff", "check", "--isolated", "--preview", "--select", "F,RUF059", str(tmp_path))
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_norms_among_processes_print_nothing_twice() -> None:
    """No two functions of a norm differ in names and docstrings alone."""
    for spec in ("batch_norm", "conditional_norm", "mode_norm", "switch_norm", "task_norm"):
        text = printed.printed(ROOT / "specs" / f"{spec}.norm", "native")[f"{spec}_processes.py"]
        functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
        names = sorted((function.name for function in functions), key=len, reverse=True)
        seen: dict[tuple[str, str], str] = {}
        for function in functions:
            norm = re.sub(r"^_(check|forward)_|^(sums|results)(_\d)?_of_", "", function.name)
            code = ast.unparse([function.args, *function.body[1:]])  # type: ignore[list-item]
            key = norm.removesuffix("_everywhere"), re.sub("|".join(names), "function", code)
            assert seen.setdefault(key, function.name) == function.name


def test_what_is_read_repeatedly_is_split_once() -> None:
    for spec in ("batch_channel_norm", "four_things_norm", "power_norm"):
        text = printed.printed(ROOT / "specs" / f"{spec}.norm", "torch")[f"{spec}.py"]
        functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
        for function in functions:
            calls = [ast.unparse(n) for n in ast.walk(function) if isinstance(n, ast.Call)]
            split = [call for call in calls if call.startswith("torch.unflatten(")]
            assert len(split) == len(set(split)), function.name
        assert any("split_" in ast.unparse(function) for function in functions)


def test_differences_are_named(tmp_path: Path) -> None:
    before = {"a.c": "1", "b.c": "2", "c.c": "3"}
    assert printed.differences(before, dict(before)) == []
    after = {"a.c": "1", "b.c": "9", "d.c": "4"}
    assert printed.differences(before, after) == ["gone   c.c", "new    d.c", "other  b.c"]
