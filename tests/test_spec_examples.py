"""Examples in specs: what they are read as, and what `metanorm test` makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import in_this as run
from conftest import LIBRARY, ROOT

from metanorm import frontend
from metanorm.diagnostics.render.text import render_text
from metanorm.frontend import CheckedNorm
from metanorm.ir.dump import program_text
from metanorm.semantics.occurrences import occurrences
from metanorm.source import Source
from metanorm.syntax.text_from_ast import text_from_ast

pytestmark = pytest.mark.needs_torch

TARGETS = "oracle, torch, native"
GOOD = """
norm Centred(eps = 0) {
  input  x[N, C = c]
  reduce C
  affine C

  example x = [[1, 3]] gives [[-1, 1]]
  example x = [[1, 3]], weight = [2, 3], bias = 1 gives [[-1, 4]]
  example x = [[1, 3]], bias = false, elementwise_affine = true gives [[-1, 1]]
  example x = [[1, 4]], eps = 0.75 gives 0.8660 within 2
  example x = [[nan, 3], [1, 3]] gives [[nan, nan], [-1, 1]]
}

norm Counting(momentum = 0.5, by: "one" | "two" = "one") {
  input  x[N, C = c], shift[C] = 0
  buffer seen = 0
  update seen = seen + where(by == "two", 2, 1)
  let    m = mean(x over N track momentum)
  output y = x - m + shift, m

  example x = [[1], [3]] gives [[-1], [1]], m = [2], seen = 1, running_mean = [1]
  example x = [[1], [3]], running_mean = [5], by = "two" in eval gives [[-4], [-2]], seen = 0
  example x = [[1], [3]], shift = [10], by = "two" gives [[9], [11]], seen = 2
}

norm Rows {
  input  x[*B, *D = normalized_shape]
  reduce *D

  example x = [[1, 3], [5, 9]], normalized_shape = [2] gives [[-1, 1], [-1, 1]] within 1e-3
}

norm Unit(eps = 0) for weight {
  input  v[O, *I]
  param  g[O] = init l2(v over *I)
  output g * v / (l2(v over *I) + eps)

  example v = [[3, 4], [0, 2]] gives [[3, 4], [0, 2]]
  example v = [[3, 4], [0, 2]], g = 10 gives [[6, 8], [0, 10]]
}

norm Squared for loss {
  input  x[N]
  output mean(x^2 over N)
  example x = [1, 3] gives 5
}

norm Grouped {
  input  x[V, C], batch: index[V]
  output x - mean(x over V: batch)
  example x = [[1], [3], [7]], batch = [0, 0, 1] gives [[-1], [1], [0]]
  example x = [[-inf], [3], [7]], batch = [0, 1, 1] gives [[nan], [-2], [2]]
}

norm Packed {
  input  x[T, D], cu_seqlens: offsets[T]
  output x - mean(x over T: cu_seqlens)

  example x = [[1], [3], [7]], cu_seqlens = [0, 2, 3] gives [[-1], [1], [0]]
}

norm Narrow {
  input  x[N]
  output q = x as float8_e4m3fn, h = x as bfloat16

  example x = [336, -8] gives q = [320, -8], h = [336, -8]
  example x = [257, 1] gives [256, 1], h = [256, 1] within 1e-6
}
"""
EXAMPLES = GOOD.count("\n  example ")


def checked(text: str) -> list[CheckedNorm]:
    sources = {"a.norm": Source.of("a.norm", text)}
    checked = frontend.check(sources, ["a.norm"])
    assert checked.ok, render_text(checked.diagnostics, sources)
    return checked.norms["a.norm"]


def test_all_are_as_expected(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text(GOOD)
    done = run("test", "a.norm", folder=tmp_path)
    *lines, last = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(lines) == EXAMPLES
    assert lines[0] == f"a.norm:7:3: Centred: as expected on {TARGETS}"
    assert all("as expected on oracle, torch" in line for line in lines)
    assert last == f"{EXAMPLES} examples of 8 norms: all as expected"


WRONG = {
    "gives [[-1, 1]]": ("gives [[-1, 2]]", "output is [[-1, 1]], expected [[-1, 2]]"),
    "gives 5": ("gives [5]", "output has the shape [], expected [1]"),
    "seen = 2\n": ("seen = 3\n", "seen is 2, expected 3"),
    "[[nan, nan], [-1, 1]]": ("[[0, nan], [-1, 1]]", "output is [[nan, nan], [-1, 1]], expected"),
    "gives 0.8660 within 2": ("gives 0.8660", "expected [[0.866, 0.866]]"),
}


@pytest.mark.parametrize("right", WRONG)
def test_what_is_otherwise_is_said(right: str, tmp_path: Path) -> None:
    wrong, message = WRONG[right]
    assert right in GOOD
    (tmp_path / "a.norm").write_text(GOOD.replace(right, wrong, 1))
    done = run("test", "a.norm", folder=tmp_path)
    assert done.returncode == 1
    bad = [line for line in done.stdout.splitlines() if message in line]
    assert {line.split(": on ")[1].split(":")[0] for line in bad} >= {"oracle", "torch"}
    assert f"{EXAMPLES} examples of 8 norms: 1 NOT as expected" in done.stdout


def test_a_call_that_raises_is_said(tmp_path: Path) -> None:
    spec = "norm A(g: int) {\n  input x[N, C]\n  reduce C: blocks(g)\n"
    (tmp_path / "a.norm").write_text(spec + "  example x = [[1, 3]], g = 3 gives 0\n}\n")
    done = run("test", "a.norm", folder=tmp_path)
    assert done.returncode == 1 and "a.norm:4:3: A: on torch: raised ShapeError" in done.stdout


def test_json_has_each_example(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text(GOOD.replace("gives 5", "gives 6"))
    document = json.loads(run("test", "a.norm", "--json", folder=tmp_path).stdout)
    assert not document["good"] and len(document["examples"]) == EXAMPLES
    (bad,) = (e for e in document["examples"] if e["failures"])
    assert bad["norm"] == "Squared" and bad["failures"]["torch"] == "output is 5, expected 6"
    assert bad["path"] == "a.norm" and bad["line"] == GOOD[: GOOD.index("gives 5")].count("\n") + 1


def test_specs_without_examples_are_no_success(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text("norm A {\n  input x[N, C]\n  reduce C\n}\n")
    done = run("test", "a.norm", folder=tmp_path)
    assert done.returncode == 1 and "no example" in done.stderr


def test_errors_come_first(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text("norm A {\n  input x[N, C]\n  reduce D\n}\n")
    (tmp_path / "b.norm").write_text(GOOD)
    done = run("test", ".", folder=tmp_path)
    assert done.returncode == 1 and "MN0302" in done.stderr
    assert f"{EXAMPLES} examples of 8 norms: all as expected" in done.stdout


def test_the_library_has_examples_and_they_hold() -> None:
    norms = frontend.check(LIBRARY.sources, LIBRARY.roots).norms
    names = {n.program.name for file in norms.values() for n in file if n.examples}
    assert {"LayerNorm", "BatchNorm", "GraphNorm", "RMSNorm", "WeightNorm"} <= names
    done = run("test", str(ROOT / "specs"))
    assert done.returncode == 0 and "all as expected" in done.stdout


def test_they_change_nothing_else() -> None:
    """Program and equations are those of the norm without them."""
    norms = checked(GOOD)
    bare = "\n".join(line for line in GOOD.splitlines() if not line.startswith("  example"))
    for norm, other in zip(norms, checked(bare)):
        assert norm.examples and not other.examples
        assert norm.equations == other.equations
        assert program_text(norm.program) == program_text(other.program)


def test_a_name_is_renamed_in_examples_too() -> None:
    source = Source.of("a.norm", GOOD)
    parsed, _ = frontend.parsed_source(source)
    uses = [o for o in occurrences(source, parsed) if o.symbol.name == "shift"]
    assert [source.text[o.span.start : o.span.end] for o in uses] == ["shift"] * 3
    assert len({o.symbol for o in uses}) == 1


def test_the_formatter_keeps_them() -> None:
    source = Source.of("a.norm", GOOD)
    text, problems = frontend.format_spec(source)
    assert not problems and text == GOOD.lstrip("\n")
    long = GOOD.replace("[[1, 3]] gives", f"[[{', '.join(['1.25'] * 40)}]] gives", 1)
    formatted, _ = frontend.format_spec(Source.of("a.norm", long))
    assert max(map(len, formatted.splitlines())) <= 100
    again = frontend.parsed_source(Source.of("a.norm", formatted))[0].file
    assert text_from_ast(again) == formatted
    assert again == frontend.parsed_source(Source.of("a.norm", long))[0].file
