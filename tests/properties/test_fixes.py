"""Fixes: each ends its diagnostic, changes nothing else, and is safe only where it is no guess."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import in_this
from conftest import LIBRARY, ROOT
from hypothesis import given
from hypothesis import strategies as st
from random_specs import norms

from metanorm import frontend
from metanorm.diagnostics.functions import NAMES_ELSEWHERE, SPELLED_OUT
from metanorm.diagnostics.model import Applicability, Diagnostic, Fix
from metanorm.diagnostics.registry import all_codes, manual_page
from metanorm.findings import Findings, apply_fixes, findings, non_overlapping
from metanorm.ir.ops import CALLABLE
from metanorm.source import Source, Span, apply_edits
from metanorm.workspace import STDIN, Workspace, WorkspaceError, load, rewrite_spec

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
BAD = sorted((ROOT / "tests" / "bad").glob("*.norm"))
NAME = "<stdin>"


def of(text: str) -> Findings:
    return findings(load([STDIN], stdin=text.encode()))


def with_fix(text: str, fix: Fix) -> str:
    return apply_edits(text, [(fix.span, fix.replacement)])


def repaired(text: str, unsafe: bool = False) -> str:
    """The text after `--fix`."""

    def reload(texts: dict[str, str]) -> Workspace:
        return load([STDIN], stdin=text.encode(), texts=texts)

    return apply_fixes(of(text), reload, unsafe).texts.get(NAME, text)  # type: ignore[arg-type]


def syntax_errors(text: str) -> int:
    return len(frontend.parsed_source(Source.of(NAME, text))[1])


def examples() -> list[str]:
    """Every wrong spec of the corpus and of the manual."""
    manual = [manual_page(code).bad for code in all_codes()]
    return [*(path.read_bytes().decode() for path in BAD), *manual]


def place_after(place: int, fix: Fix) -> int:
    """Where a place of the text is once the fix is made."""
    grown = len(fix.replacement) - (fix.span.end - fix.span.start)
    return place + grown if place >= fix.span.end and place > fix.span.start else place


def same(d: Diagnostic, place: int) -> tuple[object, ...]:
    return (d.code, d.message, place)


@pytest.mark.parametrize("text", examples(), ids=lambda text: repr(text[:20]))
def test_each_fix_alone_ends_its_diagnostic(text: str) -> None:
    checked = of(text)
    for diagnostic in checked.diagnostics:
        for fix in diagnostic.fixes:
            assert fix.title and fix.span.source == NAME
            after = with_fix(text, fix)
            assert after != text
            place = place_after(diagnostic.primary.span.start, fix)
            left = {same(d, d.primary.span.start) for d in of(after).diagnostics}
            assert same(diagnostic, place) not in left
            assert syntax_errors(after) <= syntax_errors(text)


@pytest.mark.parametrize("unsafe", [False, True])
@pytest.mark.parametrize("text", examples(), ids=lambda text: repr(text[:20]))
def test_fixing_is_final(text: str, unsafe: bool) -> None:
    after = repaired(text, unsafe)
    assert syntax_errors(after) <= syntax_errors(text)
    assert not of(after).fixes(unsafe)
    assert repaired(after, unsafe) == after


def test_specs_without_mistakes_stay_as_they_are() -> None:
    done = apply_fixes(findings(LIBRARY), lambda texts: LIBRARY, unsafe=True)
    assert done.texts == {}


# How a slip is made of a right text, which the safe fix takes back.
SLIPS = {
    r"\*(?= [a-z0-9(])": "×",
    r"(?<=[a-z)]) - (?=[a-z0-9(])": " − ",
    r"\^2": "²",
    r"\^(?=\d)": "**",
    r"(?<=[a-z,]) (?=[a-z])": "\u00a0",
    r"\bsqrt\(": "Sqrt(",
    r"\bmean\(": "avg(",
    r"\b(output|reduce|affine|let)\b(?=  ?)": "{upper}",
}


@given(norms(), st.data())
def test_safe_fixes_take_back_slips(text: str, data: st.DataObject) -> None:
    assert of(text).checked.ok
    pattern = data.draw(st.sampled_from(sorted(SLIPS)))
    places = list(re.finditer(pattern, text))
    if not places:
        return
    place = data.draw(st.sampled_from(places))
    slip = SLIPS[pattern].replace("{upper}", place.group().capitalize())
    wrong = text[: place.start()] + slip + text[place.end() :]
    if of(wrong).checked.ok:  # in a comment
        return
    assert repaired(wrong) == text


@given(norms(), st.data())
def test_guesses_change_names_alone(text: str, data: st.DataObject) -> None:
    """A letter too many in any word: what is written then parses, and differs in words alone."""
    words = list(re.finditer(r"\b[a-z]{4,}\b", text))
    place = data.draw(st.sampled_from(words))
    wrong = text[: place.end()] + "q" + text[place.end() :]
    after = repaired(wrong, unsafe=True)
    assert syntax_errors(after) <= syntax_errors(wrong)
    assert re.sub(r"\w+", "", after) == re.sub(r"\w+", "", wrong)
    safe = repaired(wrong)
    assert safe == wrong or of(safe).checked.ok


def test_a_name_that_may_be_another_thing_is_no_safe_fix() -> None:
    for name in (*CALLABLE, *NAMES_ELSEWHERE, *SPELLED_OUT):
        for wrong in (f"{name}s", name[:-1], f"{name[1:]}"):
            call = "{}(x over C)" if wrong in ("count",) else "{}(x)"
            text = f"norm A {{\n  input  x[N, C]\n  output {call.format(wrong)}\n}}\n"
            for d in of(text).diagnostics:
                for fix in d.fixes:
                    known = wrong in NAMES_ELSEWHERE and not NAMES_ELSEWHERE[wrong][1]
                    same_letters = fix.replacement.lower() == wrong.lower()
                    assert fix.applicability is Applicability.UNSAFE or known or same_letters


@pytest.mark.parametrize("name", ["stddev", "variance", "swish"])
def test_what_computes_something_else_says_so(name: str) -> None:
    (diagnostic,) = of(f"norm A {{\n  input  x[N, C]\n  output x * {name}(x)\n}}\n").diagnostics
    (fix,) = diagnostic.fixes
    assert fix.applicability is Applicability.UNSAFE
    assert NAMES_ELSEWHERE[name][1] and NAMES_ELSEWHERE[name][1] in fix.title


def test_names_in_two_cases_are_a_guess() -> None:
    text = "norm A {\n  input  x[N, C]\n  param  Mu = 1, MU = 2\n  output x * mu * Mu * MU\n}\n"
    (diagnostic,) = of(text).diagnostics
    assert diagnostic.fixes[0].applicability is Applicability.UNSAFE
    assert repaired(text) == text


CURLY = (
    "norm A {\n  input  x[N, C]  # \N{GRINNING FACE} astral\n"
    "  output x × 2 − avg(x over C) × 3\n}\n"
)
MENDED = CURLY.replace("×", "*").replace("−", "-").replace("avg", "mean")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_mark_stay(newline: str, mark: str, tmp_path: Path) -> None:
    path = tmp_path / "a.norm"
    path.write_bytes((mark + CURLY.replace("\n", newline)).encode())
    done = in_this("check", "a.norm", "--fix", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "a.norm: 4 fixes written\n")
    assert path.read_bytes().decode() == mark + MENDED.replace("\n", newline)


@given(st.text("ab\r\n\ufeff\N{GRINNING FACE}", max_size=12), st.data())
def test_an_edit_of_a_source_is_one_of_its_text(text: str, data: st.DataObject) -> None:
    source = Source.of("x", text)
    ends = sorted(data.draw(st.tuples(*[st.integers(0, len(source.text))] * 2)))
    span = source.span(*ends)
    after = apply_edits(text, [(span, "z")])
    expected = source.text[: span.start] + "z" + source.text[span.end :]
    assert Source.of("x", after).text == expected
    assert after.startswith("\ufeff") == text.startswith("\ufeff")
    assert apply_edits(text, []) == text


def test_of_overlapping_fixes_one_is_made() -> None:
    fixes = [
        Fix(Span("a", start, end), text, Applicability.SAFE, "")
        for start, end, text in [(0, 4, "p"), (2, 6, "q"), (6, 6, "r"), (8, 9, "s"), (8, 9, "s")]
    ]
    assert non_overlapping(fixes) == [fixes[0], fixes[2], fixes[3]]
    line = "  reduce C  # norm: allow MN0701, MN0206 -- not\n"
    text = f"norm A {{\n  input  x[N, C]\n{line}}}\n"
    assert repaired(text) == text.replace(line, "  reduce C\n")


def test_a_comment_in_a_path_allows_nothing() -> None:
    text = 'use "a # norm: allow MN0701.norm"\n\nnorm A {\n  input  x[N, C]\n  reduce C\n}\n'
    assert [d.code for d in of(text).diagnostics] == ["MN0802"]


def test_an_allowance_on_a_line_of_its_own_goes_with_it() -> None:
    text = "norm A {\n  input  x[N, C]\n  # norm: allow MN0702 -- why\n  reduce C\n}\n"
    assert repaired(text) == "norm A {\n  input  x[N, C]\n  reduce C\n}\n"


# ---- the command


def test_standard_input_is_fixed_to_standard_output() -> None:
    done = in_this("check", "-", "--fix", stdin=CURLY)
    assert (done.returncode, done.stdout) == (0, MENDED)
    assert done.stderr.startswith("no problems in 1 spec")


def test_a_diff_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.norm"
    path.write_text(CURLY)
    done = in_this("check", "--diff", "a.norm", folder=tmp_path)
    assert done.returncode == 1
    assert (
        "-  output x × 2 − avg(x over C) × 3\n+  output x * 2 - mean(x over C) * 3\n" in done.stdout
    )
    assert path.read_text() == CURLY
    path.write_text(MENDED)
    assert in_this("check", "--diff", "a.norm", folder=tmp_path).stdout == ""


@pytest.mark.skipif(not shutil.which("patch"), reason="needs patch")
@pytest.mark.parametrize("end", ["\n", ""])
def test_a_diff_is_a_patch(end: str, tmp_path: Path) -> None:
    path = tmp_path / "mes spécs" / "a b.norm"
    path.parent.mkdir()
    path.write_text(CURLY.rstrip("\n") + end, encoding="utf-8")
    diff = in_this("check", "--diff", "mes spécs/a b.norm", folder=tmp_path).stdout
    subprocess.run(["patch", "-p0", "--fuzz=0"], input=diff.encode(), cwd=tmp_path, check=True)
    assert path.read_text(encoding="utf-8") == MENDED.rstrip("\n") + end


def test_a_diff_says_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text(MENDED.replace("mean", "maen"))
    done = in_this("check", "--diff", "a.norm", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "MN0202" in done.stderr and "1 can be fixed by a guess" in done.stderr


def test_what_is_left_decides_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text(CURLY.replace("avg", "maen"))
    done = in_this("check", "--fix", "a.norm", folder=tmp_path)
    assert done.returncode == 1 and "MN0202" in done.stdout
    assert "1 can be fixed by a guess" in done.stdout
    done = in_this("check", "--fix", "--unsafe-fixes", "a.norm", folder=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "a.norm").read_text() == MENDED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.norm", "--unsafe-fixes"], "it needs --fix or --diff"),
        (["-", "a.norm", "--fix"], "name no other specs"),
    ],
)
def test_options_that_say_nothing(arguments: list[str], message: str) -> None:
    done = in_this("check", *arguments)
    assert done.returncode == 2 and message in done.stderr


def test_what_cannot_be_written_keeps_none_from_it(tmp_path: Path) -> None:
    for name in ("a.norm", "b.norm"):
        (tmp_path / name).write_text(CURLY)
    (tmp_path / "a.norm").chmod(0o444)
    done = in_this("check", "--fix", "a.norm", "b.norm", folder=tmp_path)
    assert done.returncode == 1
    assert "cannot write `a.norm`: it is read-only" in done.stderr
    assert (tmp_path / "a.norm").read_text() == CURLY
    assert (tmp_path / "b.norm").read_text() == MENDED
    assert sorted(os.listdir(tmp_path)) == ["a.norm", "b.norm"]
    (tmp_path / "c.norm").write_text("norm C { input x[N, C] reduce C }")
    (tmp_path / "c.norm").chmod(0o444)
    done = in_this("fmt", "c.norm", folder=tmp_path)
    assert done.returncode == 1 and "it is read-only" in done.stderr


@pytest.mark.parametrize("command", [["check", "--fix"], ["fmt"]])
def test_permissions_and_links_stay(command: list[str], tmp_path: Path) -> None:
    path, link = tmp_path / "a.norm", tmp_path / "link.norm"
    path.write_text(CURLY.replace("input  ", "input ") if command[0] == "check" else MENDED + "\n")
    path.chmod(0o640)
    link.symlink_to(path)
    assert in_this(*command, "link.norm", folder=tmp_path).returncode == 0
    assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o640
    assert path.read_text().replace("input ", "input  ").replace("   ", "  ") == MENDED.replace(
        "   ", "  "
    )


def test_a_file_that_changed_meanwhile_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.norm"
    path.write_text("what someone else wrote")
    with pytest.raises(WorkspaceError, match="changed in the meantime"):
        rewrite_spec(path, CURLY, MENDED)
    assert os.listdir(tmp_path) == ["a.norm"]
    assert path.read_text() == "what someone else wrote"


def test_two_processes_fix_the_same_file(tmp_path: Path) -> None:
    """Either both see the fixed text at the end, or one says that it changed meanwhile."""
    (tmp_path / "a.norm").write_text(CURLY)
    command = [sys.executable, "-m", "metanorm", "check", "--fix", "a.norm"]
    runs = [subprocess.Popen(command, cwd=tmp_path, **QUIET) for _ in range(2)]  # type: ignore[call-overload]
    codes = [run.wait() for run in runs]
    assert 0 in codes and set(codes) <= {0, 1}
    assert (tmp_path / "a.norm").read_text() == MENDED
    assert os.listdir(tmp_path) == ["a.norm"]


def test_programs_get_the_edits(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text(CURLY.replace("avg", "maen"))
    document = json.loads(in_this("check", "--format=json", "a.norm", folder=tmp_path).stdout)
    edits = [fix for d in document["diagnostics"] for fix in d["fixes"]]
    assert {fix["applicability"] for fix in edits} == {"safe"}
    lines = CURLY.split("\n")
    (edit,) = edits[0]["edits"]
    start = edit["start"]
    assert lines[start["line"] - 1][start["column"] - 1] == "×" and edit["text"] == "*"
    assert CURLY[start["offset"]] == "×"
    log = json.loads(in_this("check", "--format=sarif", "a.norm", folder=tmp_path).stdout)
    (change,) = log["runs"][0]["results"][0]["fixes"][0]["artifactChanges"]
    (replacement,) = change["replacements"]
    assert replacement["insertedContent"] == {"text": "*"}
    assert replacement["deletedRegion"]["startLine"] == 3
