"""The guide to extending names every file that there is to touch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

GUIDE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")

# What each section follows, as the code writes it.
FOLLOWED = (
    ("An operation", r'"softplus"'),
    ("An operation", r"^    Causal,$|^from .* import .*\bCausal\b|^class Causal\b"),
    ("A dtype", r"\bbfloat16\b"),
    ("An error", r"\bBadMatrixArgument\b"),
    ("A pass", r"\bdecide import\b|^def decide\("),
    ("A target", r"targets\.torch\.module_from_ir import|^def definitions\("),
)


def section(title: str) -> str:
    return GUIDE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def files_with(pattern: str) -> list[Path]:
    every = sorted((ROOT / "metanorm").rglob("*.py"))
    return [file for file in every if re.search(pattern, file.read_text(), re.MULTILINE)]


@pytest.mark.parametrize(("title", "pattern"), FOLLOWED)
def test_every_file_is_named(title: str, pattern: str) -> None:
    files = files_with(pattern)
    assert files
    for file in files:
        assert f"`{file.relative_to(ROOT).as_posix()}`" in section(title)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:metanorm|tests)/[\w./]*)`", GUIDE))))
def test_every_named_file_is_there(path: str) -> None:
    assert (ROOT / path).exists()


# ---- where a newcomer looks first

TOUR = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
PLACES = re.findall(r"`(\w+)` in \[`[\w/]+\.py`\]\(\.\./([\w/]+\.py)\)", TOUR)
QUESTIONS = {
    "channels_last": "metanorm/nest/layouts.py",
    "momentum=None": "metanorm/runtime/state.py",
    "reduction": "metanorm/targets/native/sweep.py",
}


@pytest.mark.parametrize(("defined", "file"), PLACES)
def test_the_tour_names_what_is_there(defined: str, file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"^(def|class) {defined}\b|^{defined}\b.* = ", text, re.MULTILINE)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_row_of_the_tour_answers_a_question(question: str) -> None:
    rows = [line for line in TOUR.splitlines() if line.startswith("|") and question in line]
    assert any(QUESTIONS[question] in row for row in rows)


# ---- what the guide says is done to a copy of the package


class Copy:
    """A copy of the package, which a test changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("metanorm", "grammar", "specs"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc"))

    def add(self, file: str, before: str, line: str) -> None:
        """Write a line in front of another one."""
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert before in text, f"{file} has no {before}"
        path.write_text(text.replace(before, f"{line}\n{before}", 1), encoding="utf-8")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command of the copy, in its folder."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        command = [sys.executable, "-m", "metanorm", *words]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


# An elementwise function that is not there: in each file, the line in front of that of `softplus`.
BEFORE = '    "softplus": '
BEFORE_IN_OPS = '    _function("softplus"'
ROOT_OF_ONE_MORE = 'plus(infix("*", x, x), as_tile(ONE))'
ACTIVATION = {
    "metanorm/ir/ops.py": '    _function("asinh", "log(x + sqrt(x^2 + 1))."),',
    "metanorm/oracle/functions.py": '    "asinh": torch.asinh,',
    "metanorm/small/functions.py": '    "asinh": math.asinh,',
    "metanorm/targets/torch/elementwise.py": '    "asinh": _function("torch.asinh"),',
    "metanorm/targets/native/functions.py": '    "asinh": _math("asinh"),',
    "metanorm/targets/triton/functions.py": (
        f'    "asinh": lambda x: call("tl.log", plus(x, _tl("sqrt")({ROOT_OF_ONE_MORE}))),'
    ),
    "metanorm/passes/derivatives.py": (
        '    "asinh": _times(lambda b, x, y: '
        'b.map("rsqrt", b.map("add", b.map("mul", x, x), b.number(1)))),'
    ),
}
# How torch writes it where elements that statistics leave out may be NaN.
SLOPES = ("metanorm/targets/torch/elementwise.py", '    "root": "runtime.root",')
ASKED_AT_IMPORT = [
    "metanorm/oracle/functions.py",
    "metanorm/targets/torch/elementwise.py",
    "metanorm/small/functions.py",
    "metanorm/targets/native/functions.py",
    "metanorm/targets/triton/functions.py",
    "metanorm/passes/compositions.py",
]
SPEC = "norm Bent {\n  input  x[N, C]\n  output asinh(x) - mean(x over C)\n}\n"


@pytest.mark.needs_torch
def test_an_elementwise_function_is_added_where_the_guide_says(copy: Copy) -> None:
    (copy.folder / "bent.norm").write_text(SPEC)
    assert copy.run("check", "bent.norm").returncode == 1
    triton = copy.folder / "metanorm/targets/triton/functions.py"
    triton.write_text(triton.read_text().replace("import ZERO,", "import ONE, ZERO,", 1))
    for file, line in ACTIVATION.items():
        copy.add(file, BEFORE_IN_OPS if file.endswith("ops.py") else BEFORE, line)
        assert f"`{file}`" in section("An operation")
    copy.add(*SLOPES, '    "asinh": "torch.asinh",')
    demand_good_kernels(copy, "bent.norm")
    kernels = copy.run("inspect", "bent.norm", "--stage", "triton").stdout
    assert "tl.log(x_here + tl.sqrt(x_here * x_here + tl.full((1, 1), 1, REAL)))" in kernels


def demand_good_kernels(copy: Copy, spec: str) -> None:
    """A spec is verified with what was added, and runs on kernels."""
    result = copy.run("verify", "--quick", spec)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all good" in result.stdout and " 0 of them on kernels" not in result.stdout


# A function that is a formula of others: no target has a row for it, nor has the derivative.
COMPOSITION = {
    "metanorm/ir/ops.py": '    _function("logsigmoid", "log(sigmoid(x))."),',
    "metanorm/passes/compositions.py": (
        '    "logsigmoid": lambda b, x: b.map("neg", b.map("softplus", b.map("neg", x))),'
    ),
    "metanorm/oracle/functions.py": '    "logsigmoid": lambda a: -FUNCTIONS["softplus"](-a),',
    "metanorm/small/functions.py": '    "logsigmoid": lambda a: -FUNCTIONS["softplus"](-a),',
    "metanorm/targets/torch/elementwise.py": (
        '    "logsigmoid": _function("nn.functional.logsigmoid"),'
    ),
}
FIRST_COMPOSITION = '    "sigmoid": '
SPEC_OF_ONE = "norm Bent {\n  input  x[N, C]\n  output logsigmoid(x) - mean(x over C)\n}\n"


@pytest.mark.needs_torch
def test_a_composition_is_a_row_its_oracle_and_its_name_in_torch(copy: Copy) -> None:
    (copy.folder / "bent.norm").write_text(SPEC_OF_ONE)
    for file, line in COMPOSITION.items():
        anchors = {"ops.py": BEFORE_IN_OPS, "compositions.py": FIRST_COMPOSITION}
        copy.add(file, anchors.get(Path(file).name, BEFORE), line)
        assert f"`{file}`" in section("An operation")
    copy.add(*SLOPES, '    "logsigmoid": "nn.functional.logsigmoid",')
    demand_good_kernels(copy, "bent.norm")
    kernels = copy.run("inspect", "bent.norm", "--stage", "native").stdout
    assert "logsigmoid" not in kernels


@pytest.mark.needs_torch  # which the oracle imports
@pytest.mark.parametrize("left_out", ASKED_AT_IMPORT)
def test_a_place_that_was_forgotten_is_named_at_once(left_out: str, copy: Copy) -> None:
    copy.add("metanorm/ir/ops.py", BEFORE_IN_OPS, ACTIVATION["metanorm/ir/ops.py"])
    module = left_out.removesuffix(".py").replace("/", ".")
    mypy = subprocess.run(
        [sys.executable, "-c", f"import {module}"], cwd=copy.folder, capture_output=True, text=True
    )
    assert "AssertionError: {'asinh'}" in mypy.stderr


def test_a_target_is_a_folder_and_a_row(copy: Copy) -> None:
    """One that writes nests down, beside a module."""
    (copy.folder / "metanorm/targets/listing").mkdir()
    (copy.folder / "metanorm/targets/listing/__init__.py").write_text('"""Nests as text."""\n')
    (copy.folder / "metanorm/targets/listing/file.py").write_text(
        "from metanorm.nest.text_from_nest import text_from_nest\n\n\n"
        "def file_text(origin, norms):\n"
        "    return chr(10).join(text_from_nest(n) for norm in norms for n in norm.kernels)\n"
    )
    row = """        KernelTarget(
            "listing", "words", "meta", "_nests.txt", "#", "runtime.native", "nests as text",
            "", False, lambda nest: iter(()), listing.file_text,
        ),"""
    registry = "metanorm/targets/registry.py"
    copy.add(
        registry,
        "from metanorm.targets.native import file",
        "from metanorm.targets.listing import file as listing",
    )
    copy.add(registry, '        KernelTarget(\n            "triton"', row)
    options = copy.folder / "metanorm/options.py"
    text = options.read_text()
    assert '"native", "triton"]' in text
    options.write_text(text.replace('"native", "triton"]', '"native", "listing", "triton"]'))
    result = copy.run("compile", "specs/group_norm.norm", "-o", "out", "--target", "listing")
    assert result.returncode == 0, result.stderr
    nests = (copy.folder / "out/group_norm_nests.txt").read_text()
    assert "nest GroupNorm, train, forward, rows along C" in nests
    assert not (copy.folder / "out/group_norm_triton.py").exists()
    assert "nests as text" in copy.run("list", "targets").stdout
    shown = copy.run("inspect", "specs/group_norm.norm", "--stage", "listing").stdout
    assert shown == nests


# A statistic that is made of accumulated ones: the gradient goes through the sum alone.
LOG_SUM_EXP = {
    "metanorm/ir/ops.py": (
        '    _statistic("l1"',
        '    _statistic("logsumexp", "log(sum(exp(x))); zero of nothing."),',
    ),
    "metanorm/passes/reductions.py": (
        '    "l1": ',
        '    "logsumexp": lambda p: _above(p, p.b.emit(Detach(p.of("max", p.op.value)))),',
    ),
    "metanorm/oracle/pools.py": (
        '            case "l1":',
        '            case "logsumexp":\n'
        "                counted = torch.where(weighs, x, -torch.inf).logsumexp(-1)\n"
        "                return torch.where(empty, 0.0, counted)",
    ),
    "metanorm/small/pools.py": (
        '    "l1": ',
        '    "logsumexp": lambda members: math.log(members.sum_of(math.exp)),',
    ),
    "metanorm/runtime/pools.py": (
        "def _over_dimensions(",
        "def _logsumexp(pools, x):\n"
        '    """The logarithm of the sum of exponentials of each pool."""\n'
        "    dims, keepdim = pools.dims, pools.keepdim\n"
        "    if pools.counts_all:\n"
        "        return x.logsumexp(dims, keepdim=keepdim)\n"
        "    counts = (coefficients(x, pools.where, pools.weight) != 0).expand_as(x)\n"
        "    logarithm = x.masked_fill(~counts, -torch.inf).logsumexp(dims, keepdim=keepdim)\n"
        "    return torch.where(counts.any(dims, keepdim=keepdim), logarithm, 0)\n\n",
    ),
    "metanorm/targets/torch/statistics.py": (
        '    "l1": ',
        '    "logsumexp": TorchStatistic("logsumexp", "logsumexp"),',
    ),
    "metanorm/runtime/__init__.py": (
        "from metanorm.runtime.processes.call",
        "from metanorm.runtime.pools import logsumexp",
    ),
}
ABOVE = """
def _above(p: _Pooling, top: Ref) -> Ref:
    small = p.b.map("exp", p.b.map("sub", p.op.value, top))
    return p.b.map("add", top, p.b.map("log", p.of("sum", small)))


# Statistics that are made of"""
POOLED = """norm Soft {
  input  x[N, C, *S]
  output x - logsumexp(x over *S) + logsumexp(mean(x over *S) over C)
}
"""


@pytest.mark.needs_torch
def test_a_statistic_is_added_where_the_guide_says(copy: Copy) -> None:
    (copy.folder / "soft.norm").write_text(POOLED)
    for file, (before, line) in LOG_SUM_EXP.items():
        copy.add(file, before, line)
        assert f"`{file}`" in section("An operation")
    copy.add(
        "metanorm/runtime/pools.py",
        "mean = _over_dimensions(",
        "logsumexp = _over_dimensions(_logsumexp)",
    )
    passes = copy.folder / "metanorm/passes/reductions.py"
    text = passes.read_text().replace("\n# Statistics that are made of", ABOVE, 1)
    passes.write_text(text.replace("Pool, Ref", "Pool, Ref, Detach", 1))
    result = copy.run("verify", "--quick", "soft.norm")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all good" in result.stdout and " 0 of them on kernels" not in result.stdout
    assert "torch: " not in copy.run("explain", "soft.norm").stdout


# Groupings that are others with certain numbers: a partition, and pools that overlap.
NAMED_GROUPINGS = {
    "metanorm/ir/ops.py": (
        '    _matrix("blocks"',
        '    _matrix("pairs", "C: pairs", "Blocks of two positions."),\n'
        '    _matrix("near", "W: near", "A position and the one on either side."),',
    ),
    "metanorm/semantics/groupings.py": (
        '    "window": ',
        '    "pairs": lambda size, edge: REGULAR["chunks"](Const(2)),\n'
        '    "near": lambda size, edge: Window(Const(3), "truncate"),',
    ),
}
GROUPED = """norm Paired {
  input  x[N, C, W]
  let    m = moments(x over C: pairs, W)
  output (x - m.mean) / sqrt(m.var + 1e-5) + mean(x over C, W: near)
}
"""


@pytest.mark.needs_torch
def test_a_partition_and_an_overlapping_pool_are_two_rows_each(copy: Copy) -> None:
    (copy.folder / "paired.norm").write_text(GROUPED)
    for file, (before, line) in NAMED_GROUPINGS.items():
        copy.add(file, before, line)
        assert f"`{file}`" in section("An operation")
    demand_good_kernels(copy, "paired.norm")


# A regular partition of its own: the class, its matrix in the oracle, and a row of the language.
PARTITION = {
    "metanorm/ir/partitions.py": (
        "class Interleave(",
        "class Strided(RegularPartition):\n"
        '    """As many positions as `number` says, which are equally far apart."""\n\n'
        '    name = "strided"\n    counts_pools = False\n    is_consecutive = False\n\n',
    ),
    "metanorm/oracle/dense.py": (
        "    Interleave: ",
        "    Strided: lambda position, number: (\n"
        "        position % max(len(position) // number, 1), len(position) // number\n    ),",
    ),
    "metanorm/ir/ops.py": (
        '    _matrix("interleave"',
        '    _matrix("strided", "C: strided(k)", "k positions, equally far apart.", "k"),',
    ),
}
STRIDED = """norm Strided(k: int) {
  input  x[N, C, T]
  let    m = moments(x over C: strided(k), T)
  let    s = max(x over C, T: strided(2))
  output (x - m.mean) / sqrt(m.var + 1e-5) + s, mean = cells(m.mean)
}
"""


@pytest.mark.needs_torch
def test_a_partition_is_a_class_its_oracle_and_a_row(copy: Copy) -> None:
    """The check of lengths, kernels, gradients, the docstring and processes follow."""
    classes = {ROOT / "metanorm/ir/partitions.py", ROOT / "metanorm/oracle/dense.py"}
    assert {*files_with(r"\bInterleave\b")} == classes
    (copy.folder / "strided.norm").write_text(STRIDED)
    for file, (before, line) in PARTITION.items():
        copy.add(file, before, line)
        assert f"`{file}`" in section("An operation")
    oracle = copy.folder / "metanorm/oracle/dense.py"
    oracle.write_text(oracle.read_text().replace("Interleave, Reg", "Interleave, Strided, Reg", 1))
    demand_good_kernels(copy, "strided.norm")
    module = copy.run("compile", "strided.norm", "--stdout").stdout
    assert "if k < 1 or shape[1] % k:" in module and "[N, size(C) // k]" in module
    use = "norm Called { input x[N, C] output strided(x) }"
    (copy.folder / "called.norm").write_text(use)
    assert "`mean(x over C: strided(k))`" in copy.run("check", "called.norm").stdout


@pytest.mark.needs_torch  # which the oracle imports
@pytest.mark.parametrize(
    ("left_out", "module"),
    [("metanorm/oracle/dense.py", "metanorm.oracle.dense"),
     ("metanorm/ir/ops.py", "metanorm.semantics.groupings")],
)  # fmt: skip
def test_a_place_that_a_partition_lacks_is_named_at_once(
    left_out: str, module: str, copy: Copy
) -> None:
    for file, (before, line) in PARTITION.items():
        if file != left_out:
            copy.add(file, before, line)
    command = [sys.executable, "-c", f"import {module}"]
    imported = subprocess.run(command, cwd=copy.folder, capture_output=True, text=True)
    assert "AssertionError: " in imported.stderr and "trided" in imported.stderr
