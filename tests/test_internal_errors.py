"""An error of the compiler itself: it names the spec, says whose fault it is, and costs that spec
alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metanorm import cli, driver, frontend
from metanorm.diagnostics.model import INTERNAL, Severity
from metanorm.diagnostics.render.formats import RENDERERS
from metanorm.diagnostics.render.text import render_text
from metanorm.driver import compile_specs
from metanorm.frontend import check, format_spec
from metanorm.options import Options
from metanorm.source import Source

GOOD = "norm Good {\n  input  x[N, C]\n  reduce C\n}\n"
UNLUCKY = "norm Unlucky {\n  input  x[N, C]\n  reduce C\n}\n"
USER = 'use "unlucky.norm"\n\nnorm User {\n  input  x[N, C]\n  output Unlucky(x)\n}\n'
STAGES = {
    "parsing": (frontend, "parse"),
    "clauses": (frontend, "equations_from_clauses"),
    "checking": (frontend, "ir_from_ast"),
    "passes": (driver, "_back_end"),
    "printing": (driver, "module_files"),
}


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stage that fails on whatever speaks of `Unlucky`, with an error that no stage expects."""
    module, name = STAGES[request.param]
    original = getattr(module, name)

    def failing(*arguments: object) -> object:
        first = next(a for a in arguments if a != {})
        if "name='Unlucky'" in repr(first) or "norm Unlucky" in repr(first) or first == "unlucky":
            raise RecursionError("maximum recursion depth exceeded")
        return original(*arguments)

    monkeypatch.setattr(module, name, failing)
    monkeypatch.delenv("METANORM_DEBUG", raising=False)
    frontend.parsed_source.cache_clear()
    yield request.param
    frontend.parsed_source.cache_clear()


SOURCES = {
    name: Source.of(name, text)
    for name, text in (("good.norm", GOOD), ("unlucky.norm", UNLUCKY), ("user.norm", USER))
}


def test_it_is_reported_at_the_spec_and_the_others_are_written(stage: str) -> None:
    result = compile_specs(SOURCES, ["good.norm", "unlucky.norm"], Options())
    errors = [d for d in result.diagnostics if d.severity is Severity.ERROR]
    assert [(d.code, d.primary.span.source) for d in errors] == [(INTERNAL, "unlucky.norm")]
    text = render_text(result.diagnostics, SOURCES)
    assert "RecursionError" in text and "bug in metanorm, not in your spec" in text
    assert "please report it" in text and "explain" not in text
    assert not result.ok
    processes = ["good_processes.c", "good_processes.py"]
    assert sorted(result.files) == ["__init__.py", "good.c", "good.py", *processes]
    assert "Unlucky" not in result.files["__init__.py"]


def test_what_uses_the_spec_has_no_module_and_no_echo(stage: str) -> None:
    result = compile_specs(SOURCES, ["good.norm", "user.norm"], Options())
    errors = {d.code for d in result.diagnostics if d.severity is Severity.ERROR}
    if stage in ("parsing", "clauses"):  # later stages are not run on the used file
        assert errors == {INTERNAL}
        assert "user.py" not in result.files
    assert "good.py" in result.files


def test_every_renderer_can_tell(stage: str) -> None:
    diagnostics = compile_specs(SOURCES, ["unlucky.norm"], Options()).diagnostics
    for render in RENDERERS.values():
        assert INTERNAL in render(diagnostics, SOURCES)
    assert json.loads(RENDERERS["json"](diagnostics, SOURCES))["errors"] == 1


def test_commands_end_with_a_code_of_its_own(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, source in SOURCES.items():
        (tmp_path / name).write_text(source.text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "signal", object())  # SIGPIPE stays as it is in this process
    commands = [["compile", "good.norm", "unlucky.norm", "-o", "out"]]
    if stage not in ("passes", "printing"):
        commands.append(["check", "good.norm", "unlucky.norm"])
    if stage == "parsing":
        commands.append(["fmt", "good.norm", "unlucky.norm"])
    for command in commands:
        monkeypatch.setattr("sys.argv", ["metanorm", *command])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 3
        printed = capsys.readouterr()
        assert "unlucky.norm" in printed.out + printed.err
        assert "Traceback" not in printed.out + printed.err
    assert (tmp_path / "out" / "good.py").exists()
    assert not (tmp_path / "out" / "unlucky.py").exists()
    assert (tmp_path / "unlucky.norm").read_text() == UNLUCKY


def test_the_formatter_leaves_such_a_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(file: object) -> str:
        raise KeyError("comment")

    monkeypatch.delenv("METANORM_DEBUG", raising=False)
    monkeypatch.setattr(frontend, "text_from_ast", failing)
    text, problems = format_spec(Source.of("a.norm", GOOD))
    assert text == GOOD
    assert [d.code for d in problems] == [INTERNAL]


def test_with_debugging_on_the_error_comes_through(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METANORM_DEBUG", "1")
    with pytest.raises(RecursionError):
        compile_specs(SOURCES, ["unlucky.norm"], Options())
    if stage not in ("passes", "printing"):
        with pytest.raises(RecursionError):
            check(SOURCES, ["unlucky.norm"])
