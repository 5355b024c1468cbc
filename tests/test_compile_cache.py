"""Compiling again: what has not changed is not compiled, and what has is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from commands import in_this as run
from conftest import LIBRARY

from metanorm import compile_cache, driver
from metanorm.compile_cache import compile_changed
from metanorm.compile_jobs import compile_in_processes
from metanorm.diagnostics.model import INTERNAL
from metanorm.driver import Result
from metanorm.options import Options
from metanorm.source import Source
from metanorm.workspace import load

USED = "norm Used {\n  input x[N, C]\n  output x - mean(x over C)\n}\n"
USER = 'use "used.norm"\n\nnorm User {\n  input x[N, C]\n  output Used(x) * 2\n}\n'
OTHER = "norm Other {\n  input x[N, C]\n  reduce C\n}\n"
TEXTS = {"used.norm": USED, "user.norm": USER, "other.norm": OTHER}
NATIVE = Options()
ROOTS = ["user.norm", "other.norm"]


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The specs on which the back end was run, with a cache of the test's own."""
    monkeypatch.undo()
    monkeypatch.setenv("METANORM_CACHE", str(tmp_path / "cache"))
    seen: list[str] = []
    original = driver.module_files

    def counting(module: str, *arguments: object) -> object:
        seen.append(module)
        return original(module, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(driver, "module_files", counting)
    return seen


def compile_texts(
    texts: dict[str, str], roots: Sequence[str] = ROOTS, options: Options = NATIVE, **more: bool
) -> Result:
    sources = {name: Source.of(name, text) for name, text in texts.items()}
    return compile_changed(sources, list(roots), options, **more)


def test_what_has_not_changed_is_taken_as_it_was(compiled: list[str]) -> None:
    first = compile_texts(TEXTS)
    assert compiled == ["user", "other"]
    again = compile_texts(TEXTS)
    assert compiled == ["user", "other"]
    assert again.files == first.files and again.exports == first.exports
    assert compile_texts({f"elsewhere/{n}": t for n, t in TEXTS.items()},
                         [f"elsewhere/{n}" for n in ROOTS]).files == first.files  # fmt: skip
    assert compiled == ["user", "other"]


CHANGES = {
    "the text": ({"other.norm": OTHER.replace("C\n}", "N\n}")}, ROOTS, Options(), ["other"]),
    "a comment": ({"other.norm": f"# A comment.\n{OTHER}"}, ROOTS, Options(), ["other"]),
    "what is used": ({"used.norm": USED.replace("x -", "x +")}, ROOTS, Options(), ["user"]),
    "the target": ({}, ROOTS, Options(target="torch"), ["user", "other"]),
    "the name": ({"another.norm": OTHER}, ["another.norm"], Options(), ["another"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_depends_on_a_change_is_compiled(change: str, compiled: list[str]) -> None:
    texts, roots, options, expected = CHANGES[change]
    compile_texts(TEXTS)
    compiled.clear()
    result = compile_texts({**TEXTS, **texts}, roots, options)
    assert compiled == expected
    sources = {name: Source.of(name, text) for name, text in {**TEXTS, **texts}.items()}
    assert result.files == driver.compile_specs(sources, roots, options).files


def test_another_compiler_compiles_everything(
    compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_texts(TEXTS)
    compiled.clear()
    monkeypatch.setattr(compile_cache, "compiler_digest", lambda: "another")
    compile_texts(TEXTS)
    assert compiled == ["user", "other"]


def test_the_compiler_is_known_by_its_files() -> None:
    files = {path.name for path in compile_cache._compiler_files()}
    assert {"driver.py", "metanorm.lark", "pyir.py", "ir_from_ast.py", "pipeline.py"} <= files


def test_force_compiles_everything(compiled: list[str]) -> None:
    compile_texts(TEXTS)
    compile_texts(TEXTS, recompile=True)
    assert compiled == ["user", "other"] * 2


def test_what_is_reported_is_reported_again(compiled: list[str]) -> None:
    warned = {"w.norm": "norm W {\n  input x[N, C]\n  let y = 1\n  output x\n}\n"}
    first = compile_texts(warned, ["w.norm"])
    assert first.diagnostics
    assert compile_texts(warned, ["w.norm"]).diagnostics == first.diagnostics
    with_errors = {"b.norm": OTHER.replace("reduce C", "reduce D")}
    assert not compile_texts(with_errors, ["b.norm"]).ok
    assert not compile_texts(with_errors, ["b.norm"]).ok


def test_names_that_clash_are_reported_however_often(compiled: list[str]) -> None:
    texts = {"a/x.norm": OTHER, "b/x.norm": OTHER}
    for root in texts:
        assert compile_texts(texts, [root]).ok
    both = compile_texts(texts, list(texts))
    assert not both.ok and both.files == {}


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "writable by others"])
def test_an_entry_that_is_not_what_was_kept_is_not_used(
    damage: str, compiled: list[str], tmp_path: Path
) -> None:
    first = compile_texts(TEXTS, ["other.norm"])
    (entry,) = (tmp_path / "cache" / "compiled").iterdir()
    data = entry.read_bytes()
    changed = {"cut": data[:-3], "changed": data[:-3] + b"abc", "empty": b""}
    entry.write_bytes(changed.get(damage, data))
    if damage == "writable by others":
        entry.chmod(0o666)
    assert compile_texts(TEXTS, ["other.norm"]).files == first.files
    assert compiled == ["other", "other"]
    assert compile_texts(TEXTS, ["other.norm"]).files == first.files
    assert compiled == ["other", "other"]  # it was mended


@pytest.mark.parametrize("cache", ["a file", "no home"])
def test_without_a_cache_everything_is_compiled(
    cache: str, compiled: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cache == "a file":
        (tmp_path / "cache").write_text("")
    else:
        monkeypatch.delenv("METANORM_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", "")
    assert compile_texts(TEXTS).ok
    assert compile_texts(TEXTS).ok
    assert compiled == ["user", "other"] * 2


def test_a_full_disk_loses_nothing(
    compiled: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert compile_texts(TEXTS).ok
    assert list((tmp_path / "cache" / "compiled").iterdir()) == []


def test_old_entries_go(
    compiled: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_cache, "MAX_ENTRIES", 2)
    for number in range(4):
        compile_texts({"other.norm": f"# {number}\n{OTHER}"}, ["other.norm"])
        for entry in (tmp_path / "cache" / "compiled").iterdir():  # of earlier seconds
            os.utime(entry, (entry.stat().st_atime, entry.stat().st_mtime - 10))
    compiled.clear()
    assert len(list((tmp_path / "cache" / "compiled").iterdir())) == 2
    compile_texts({"other.norm": f"# 3\n{OTHER}"}, ["other.norm"])
    assert compiled == []


def test_files_that_are_gone_or_edited_are_noticed(
    compiled: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    assert run("compile", "other.norm", "-o", "norms").returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "norms").iterdir()}
    for path in before:
        path.unlink()
        assert run("compile", "other.norm", "-o", "norms").returncode == 0
        assert path.read_bytes() == before[path]
        path.write_bytes(before[path] + b"\n")
        assert run("compile", "other.norm", "-o", "norms", "--check").returncode == 1
        assert run("compile", "other.norm", "-o", "norms").returncode == 1
        assert run("compile", "other.norm", "-o", "norms", "--force").returncode == 0
        assert path.read_bytes() == before[path]


@pytest.mark.parametrize("every", [20, pytest.param(1, marks=pytest.mark.extended)])
def test_the_library_again_is_taken_as_a_whole(every: int, compiled: list[str]) -> None:
    """Nothing is parsed, checked or compiled, which is what takes seconds."""
    sources, roots = LIBRARY.sources, LIBRARY.roots[::every]
    first = compile_changed(sources, roots, Options())
    assert len(compiled) == len(roots)
    compiled.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "check", None)
        again = compile_changed(sources, roots, Options())
    assert again.files == first.files and compiled == []


# ---- in several processes


def test_several_processes_give_the_same_files(tmp_path: Path) -> None:
    for name in ("layer_norm.norm", "switch_norm.norm", "batch_norm.norm"):
        source = LIBRARY.sources[f"metanorm:{name}"]
        (tmp_path / name).write_text(source.text)
    specs = load([str(tmp_path)])
    one = driver.compile_specs(specs.sources, specs.roots, Options())
    parallel = driver.compile_specs(
        specs.sources, specs.roots, Options(), back_ends=compile_in_processes(2)
    )
    assert parallel.files == one.files and parallel.diagnostics == one.diagnostics
    assert list(parallel.units) != [] and parallel.units == one.units


def test_a_process_that_is_killed_is_reported_at_its_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METANORM_DEBUG", raising=False)
    source = Source.of("other.norm", OTHER)
    result = driver.compile_specs(
        {source.name: source}, [source.name], Killing(), back_ends=compile_in_processes(2)
    )
    assert [d.code for d in result.diagnostics] == [INTERNAL]
    assert result.files == {}


class Killing(Options):
    """Options that end the process that wants to know them."""

    def fingerprint(self) -> str:
        os._exit(9)


def test_jobs_are_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    assert run("compile", ".", "-o", "one").returncode == 0
    assert run("compile", ".", "-o", "two", "-j", "2").returncode == 0
    same = sorted(path.name for path in Path("one").iterdir())
    assert same == sorted(path.name for path in Path("two").iterdir())
    assert all((Path("one") / n).read_bytes() == (Path("two") / n).read_bytes() for n in same)
