"""The demo from specs to chart, with one epoch on a part of the data."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs_torch

ROOT = Path(__file__).parents[1]
SPECS = [str(ROOT / "specs"), str(ROOT / "docs" / "demo" / "specs")]
COMPILE = [sys.executable, "-m", "metanorm", "compile", *SPECS, "-o"]
TRAIN = [sys.executable, str(ROOT / "docs" / "demo" / "train.py")]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A command in `folder`, which is also where it finds the compiled package."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONIOENCODING": "utf-8"}
    for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        environment.pop(name, None)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    assert run([*COMPILE, "norms"], folder).returncode == 0
    return folder


def rows(output: str) -> dict[tuple[str, str], list[str]]:
    """The cells of the tables, by the table's title and the row's name."""
    cells_by_row: dict[tuple[str, str], list[str]] = {}
    title = ""
    for line in output.splitlines():
        if ": a " in line:
            title = line.split(":")[0]
        cells = re.split(r"\s{2,}", line.strip())
        if title and len(cells) >= 4 and cells[0] != "norm":
            cells_by_row[title, cells[0]] = cells[1:]
    return cells_by_row


@pytest.mark.extended
def test_four_processes_beside_one(folder: Path) -> None:
    done = run([sys.executable, str(ROOT / "docs" / "demo" / "processes.py"), "--quick"], folder)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [re.split(r"\s{2,}", line.strip()) for line in done.stdout.splitlines() if "%" in line]
    apart = {name: float(gap) for name, _, _, gap in lines}
    assert apart.pop("BatchNorm of each") > 1e-3
    assert list(apart) == [
        f"{name}, synchronized" for name in ("BatchNorm", "SwitchNorm", "GroupNorm")
    ]
    assert all(gap < 1e-10 for gap in apart.values())


def test_from_specs_to_chart(folder: Path) -> None:
    done = run([*TRAIN, "--quick", "--seeds", "2", "--chart", "charts/quick.png"], folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\033" not in done.stdout  # no bars and no colours where there is no terminal

    table = rows(done.stdout)
    assert list(table) == [
        *(("Digits", name) for name in ("BatchNorm", "GroupNorm", "SwitchNorm", "BlendNorm")),
        ("Digits", "nn.BatchNorm2d"),
        *(("Graph atlas", name) for name in ("GraphNorm", "BatchNorm", "nn.BatchNorm1d")),
        *(("Graph atlas", name) for name in ("no norm", "degrees only")),
    ]
    for cells in table.values():
        *accuracies, loss, parameters = cells
        assert all(0 <= float(cell.split(" ± ")[0]) <= 100 for cell in accuracies)
        assert 0 < float(loss) < 5
        assert int(parameters.replace(",", "")) > 7_000

    # Everything is the same for the generated norm and for torch's.
    for title, theirs in (("Digits", "nn.BatchNorm2d"), ("Graph atlas", "nn.BatchNorm1d")):
        assert table[title, "BatchNorm"] == table[title, theirs]
    assert done.stdout.count("accuracies equal, losses ") == 2

    picture = (folder / "charts" / "quick.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n") and picture[12:16] == b"IHDR"
    assert struct.unpack(">II", picture[16:24]) == (1440, 900)


def test_says_what_to_do_without_the_compiled_package(tmp_path: Path) -> None:
    done = run(TRAIN, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: the compiled norms are not there" in done.stderr
    assert "metanorm compile specs docs/demo/specs -o build/demo/norms" in done.stderr
    assert "Traceback" not in done.stderr


def test_says_what_to_do_when_its_own_spec_was_not_compiled(tmp_path: Path) -> None:
    (tmp_path / "norms").mkdir()
    (tmp_path / "norms" / "__init__.py").write_text("BatchNorm = GraphNorm = GroupNorm = None\n")
    done = run(TRAIN, tmp_path)
    assert done.returncode == 2
    assert "not in the package `norms`: BlendNorm, SwitchNorm" in done.stderr


def test_says_which_packages_are_missing(tmp_path: Path) -> None:
    # -I -S: no installed packages at all.
    done = run([sys.executable, "-I", "-S", "-c", WITHOUT_PACKAGES, TRAIN[1]], tmp_path)
    assert done.returncode == 2
    assert "error: not installed: torch, metanorm, rich, numpy, scikit-learn" in done.stderr
    assert "pip install -e '.[demo]'" in done.stderr


def test_the_benchmark_has_the_networks_of_the_demo(folder: Path) -> None:
    """`metanorm bench --networks` says that it times them: from the same weights they compute the
    same."""
    environment = f"import sys; sys.path.insert(0, {str(Path(TRAIN[1]).parent)!r})\n"
    done = run([sys.executable, "-c", environment + SAME_NETWORKS], folder)
    assert (done.returncode, done.stderr) == (0, "")


SAME_NETWORKS = """
import digits, graphs, torch
from metanorm.bench.networks.rows import ROWS
from norms import BatchNorm, GraphNorm

norms = {"BatchNorm": BatchNorm, "GraphNorm": GraphNorm}
rows = [row for row in ROWS if "of the demo" in row.name]
for row in rows:
    norm = norms[row.kind.norm]
    timed, batch = row.network(lambda length: row.kind.wrap(norm(length))), row.batch()
    if len(batch.inputs) == 1:
        trained, inputs, size = digits.Network(norm), batch.inputs, digits.BATCH
    else:
        trained = graphs.VARIANTS[row.kind.norm]()
        inputs, size = (graphs.Graphs(*batch.inputs),), graphs.BATCH
    timed.load_state_dict(dict(zip(timed.state_dict(), trained.state_dict().values(), strict=True)))
    assert torch.equal(timed(*batch.inputs), trained(*inputs)), row.name
    assert len(batch.target) == size, row.name
assert len(rows) == 3
"""

WITHOUT_PACKAGES = """
import os, runpy, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "0 is not a positive number"),
        (["--seeds", "two"], "two is not a positive number"),
        (["--chart", "."], ". is a directory"),
    ],
)
def test_refuses_before_it_trains(folder: Path, arguments: list[str], message: str) -> None:
    done = run([*TRAIN, *arguments], folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
