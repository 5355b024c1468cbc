"""`metanorm init`, `clean`, `repro` and `--version`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from commands import in_this as run

from metanorm import driver
from metanorm.cli.clean import remove_folder
from metanorm.cli.init import ATTRIBUTES, HOOK
from metanorm.version import __version__

GOOD = "norm Good {\n  input  x[N, C]\n  reduce C\n}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METANORM_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_version_is_an_option_too() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"metanorm {__version__}\n")


# ---- init


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_init_sets_up_a_project_that_compiles(folder: Path) -> None:
    done = run("init")
    assert done.returncode == 0
    files = contents(folder)
    assert set(files) == {
        "pyproject.toml",
        "specs/my_norm.norm",
        ".gitattributes",
        ".pre-commit-config.yaml",
        ".github/workflows/norms.yml",
    }
    assert run("compile").returncode == 0
    for check in (("fmt", "--check"), ("check", "--format", "github"), ("compile", "--check")):
        assert f"metanorm {' '.join(check)}" in files[".github/workflows/norms.yml"]
        assert run(*check).returncode == 0
    assert (folder / "norms" / "my_norm.py").exists()


@pytest.mark.needs_torch
def test_the_first_spec_has_an_example_that_holds(folder: Path) -> None:
    run("init")
    done = run("test")
    assert done.returncode == 0 and "1 example of 1 norm: all as expected" in done.stdout


def test_what_it_writes_is_yaml(folder: Path) -> None:
    yaml = pytest.importorskip("yaml")
    run("init")
    hooks = yaml.safe_load((folder / ".pre-commit-config.yaml").read_text())
    assert [hook["id"] for hook in hooks["repos"][0]["hooks"]] == [
        "metanorm-fmt",
        "metanorm-check",
        "metanorm-compile",
    ]
    workflow = yaml.safe_load((folder / ".github/workflows/norms.yml").read_text())
    assert [step["run"] for step in workflow["jobs"]["norms"]["steps"] if "run" in step]


def test_init_again_changes_nothing(folder: Path) -> None:
    run("init", "--specs", "mine", "-o", "src/norms")
    before = contents(folder)
    assert 'specs = ["mine"]' in before["pyproject.toml"]
    assert before[".gitattributes"] == ATTRIBUTES.format(out="src/norms")
    done = run("init", "--specs", "mine", "-o", "src/norms")
    assert done.returncode == 0 and contents(folder) == before
    assert done.stderr.count("has it already") == 4


def test_init_adds_to_files_and_prints_what_it_cannot_add(folder: Path) -> None:
    (folder / "specs").mkdir()
    (folder / "specs" / "good.norm").write_text(GOOD)
    mine = {
        "pyproject.toml": "[project]\nname = 'mine'",
        ".gitattributes": "*.png binary\n",
        ".pre-commit-config.yaml": "repos:\n  - repo: local\n    hooks: []\n",
    }
    for name, text in mine.items():
        (folder / name).write_text(text)
    done = run("init")
    files = contents(folder)
    assert files["pyproject.toml"].startswith(mine["pyproject.toml"] + "\n\n[tool.metanorm]\n")
    assert files[".gitattributes"] == mine[".gitattributes"] + ATTRIBUTES.format(out="norms")
    assert files[".pre-commit-config.yaml"] == mine[".pre-commit-config.yaml"]
    assert HOOK in done.stdout
    assert "specs/my_norm.norm" not in files
    assert run("check").returncode == 0


def test_init_refuses_folders_elsewhere_and_files_it_cannot_read(folder: Path) -> None:
    for name in ("../specs", "/specs", 'a"b', ""):
        assert run("init", "--specs", name).returncode == 2
    assert "it takes a path inside of it, of letters" in run("init", "--specs", "mes spécs").stderr
    assert "choose two folders" in run("init", "--specs", "norms", "-o", "norms").stderr
    (folder / "pyproject.toml").write_bytes(b"\xff")
    done = run("init")
    assert done.returncode == 2 and "cannot read `pyproject.toml`" in done.stderr
    assert list(contents_bytes(folder)) == ["pyproject.toml"]


def contents_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- clean


def test_clean_empties_the_caches_and_nothing_else(folder: Path) -> None:
    for name in ("native", "compiled", "modules", "mine"):
        (folder / "cache" / name).mkdir(parents=True, mode=0o700)
        (folder / "cache" / name / "entry").write_bytes(b"0" * 100_000)
    shown = run("clean", "--dry-run")
    assert shown.stdout.count("1 file, 0.1 MB\n") == 3
    assert (folder / "cache" / "native" / "entry").exists()
    done = run("clean")
    assert done.returncode == 0 and done.stdout.count("1 file, 0.1 MB removed") == 3
    assert os.listdir(folder / "cache") == ["mine"]
    assert run("clean").stdout == ""


def test_clean_follows_no_link_and_touches_no_shared_folder(folder: Path) -> None:
    (folder / "precious").mkdir()
    (folder / "precious" / "data").write_text("")
    (folder / "cache").mkdir()
    (folder / "cache" / "native").symlink_to(folder / "precious")
    (folder / "cache" / "compiled").mkdir()
    (folder / "cache" / "compiled").chmod(0o777)
    done = run("clean")
    assert done.returncode == 1 and done.stderr.count("was left as it is") == 2
    assert (folder / "precious" / "data").exists()
    assert stat.S_IMODE((folder / "cache" / "compiled").stat().st_mode) == 0o777


def test_clean_says_why_something_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(os, "unlink", refused)
    (tmp_path / "entry").write_text("")
    assert remove_folder(tmp_path).startswith("Operation not permitted: ")
    monkeypatch.undo()
    assert remove_folder(tmp_path) == "" and not tmp_path.exists()
    assert remove_folder(tmp_path) == ""


def test_clean_without_a_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("METANORM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "")
    done = run("clean")
    assert (done.returncode, done.stdout) == (0, "there is no folder of caches\n")


# ---- repro


def test_repro_has_specs_with_what_they_use_and_versions(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "used.norm").write_text(GOOD)
    user = 'use "../used.norm"\nnorm User { input x[N, C]\n output Good(x) }\n'
    (folder / "a" / "user.norm").write_text(user)
    text = run("repro", str(folder / "a" / "user.norm")).stdout
    assert "## a/user.norm" in text and user.strip() in text
    assert "## used.norm" in text and GOOD.strip() in text
    assert f"- metanorm: {__version__}" in text and "- system: " in text
    for target in ("torch", "native", "triton"):
        assert f"## metanorm compile --target {target}" in text
    assert "user.py: " in text and str(folder) not in text


def test_repro_shows_where_the_compiler_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "good.norm").write_text(GOOD)
    (folder / "bad.norm").write_text(GOOD.replace("reduce C", "reduce D"))

    def failing(*_: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    assert "error[MN0302]" in run("repro", "bad.norm").stdout
    monkeypatch.setattr(driver, "module_files", failing)
    monkeypatch.delenv("METANORM_DEBUG", raising=False)
    done = run("repro", "good.norm", "-o", "report.md")
    assert done.returncode == 0 and "METANORM_DEBUG" not in os.environ
    text = (folder / "report.md").read_text()
    assert "metanorm/driver.py, line " in text
    assert "RecursionError: maximum recursion depth exceeded" in text
    assert str(Path(driver.__file__).parents[1]) not in text


def test_internal_errors_say_how_to_report_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "good.norm").write_text(GOOD)

    def failing(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(driver, "module_files", failing)
    monkeypatch.delenv("METANORM_DEBUG", raising=False)
    with pytest.raises(AssertionError, match=r"`metanorm repro good\.norm` prints"):
        run("compile", "good.norm", "-o", ".")  # which demands that there are no internal errors
