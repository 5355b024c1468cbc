"""Kernels compiled to PTX without a GPU: registers, spills, and what every kernel must keep to."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metanorm.driver import compile_specs
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.workspace import load_library

ROOT = Path(__file__).parents[2]

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

# One of each kind; `metanorm compile --ptx` compiles all.
SOME = {
    "layer_norm": ["layer_norm_train_forward_islands", "layer_norm_train_backward_islands"],
    "batch_norm": ["batch_norm_train_forward_sweep_1", "batch_norm_train_forward_finalize_1"],
    "graph_norm": ["graph_norm_train_forward_sweep_1"],
    "sparse_switch_norm": ["sparse_switch_norm_train_forward_finalize_1"],
}
MOST = {"layer_norm": 512}  # bytes of registers in memory, where there are any

REPORT = """
import re
import sys
from metanorm.runtime.triton.ahead import compile_kernels
from metanorm.runtime.triton.kernels import kernels_beside
for c in compile_kernels(kernels_beside(sys.argv[1]), sys.argv[2:]):
    atomic = bool(re.search(r"\\b(atom|red)\\.", c.ptx))
    print(c.kernel, c.architecture, c.registers, c.spilled, atomic)
"""


@pytest.mark.parametrize("name", SOME)
def test_kernels_fit_registers(name: str, tmp_path: Path) -> None:
    library = load_library()
    roots = [root for root in library.roots if module_name(root) == name]
    for file, text in compile_specs(library.sources, roots, Options(target="triton")).files.items():
        (tmp_path / file).write_text(text)
    # A process of its own: triton is imported with or without its interpreter, once and for all.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-c", REPORT, str(tmp_path / f"{name}.py"), *SOME[name]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {(row[0], row[1]) for row in rows} == {(k, a) for k in SOME[name] for a in ("80", "90")}
    for kernel, _, registers, spilled, atomic in rows:
        assert 0 < int(registers) <= 255 and int(spilled) <= MOST.get(name, 0), kernel
        assert atomic == "False", f"{kernel} adds up in an order that is another each time"
