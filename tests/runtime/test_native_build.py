"""Building C sources into the cache, and loading them from it, whatever state it is in."""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import ROOT

from metanorm.runtime.kernels.errors import CannotBuild
from metanorm.runtime.native import build, cache, compiler

CC = next((actual for name in compiler.NAMES if (actual := shutil.which(name))), "")
pytestmark = pytest.mark.skipif(
    not CC or sys.platform == "win32", reason="needs a C compiler and a POSIX system"
)

SOURCE = """
#ifndef ANSWER
#define ANSWER 42
#endif
__attribute__((visibility("default"))) int answer(void) { return ANSWER; }
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty cache of this test, in the environment that the usual compiler is found in."""
    for variable in ("METANORM_CC", "METANORM_CFLAGS", "CC"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("METANORM_CACHE", str(tmp_path / "cache"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    forget(monkeypatch)
    return tmp_path / "cache" / "native"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process, nothing is loaded."""
    monkeypatch.setattr(build, "_loaded", {})


def answer(**defines: str) -> int:
    return int(build.load(SOURCE, defines).answer())


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which a compiler, that METANORM_CC names, adds a line per call."""
    log = tmp_path / "calls"
    log.touch()
    script = f'echo "$*" >> {log}\nexec {CC} "$@"'
    monkeypatch.setenv("METANORM_CC", program(tmp_path / "logging-cc", script))
    return log


def count(log: Path) -> int:
    return len(log.read_text().splitlines())


def private_left(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "temporary")


# ---- building and finding


def test_a_function_is_called(folder: Path, tmp_path: Path) -> None:
    assert answer() == 42
    assert answer(ANSWER="7") == 7
    assert len(os.listdir(folder)) == 2  # and nothing that a build leaves
    assert private_left(tmp_path) == []


def test_what_is_built_is_private(folder: Path) -> None:
    old = os.umask(0)
    try:
        path = build.build(SOURCE)
    finally:
        os.umask(old)
    assert path.parent == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o077 == 0


def test_it_compiles_once(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        assert answer() == 42
    forget(monkeypatch)
    assert answer() == 42
    assert build.build(SOURCE) == build.build(SOURCE)
    assert count(calls) == 1


def test_loops_are_parallel_with_the_threads_of_torch() -> None:
    import torch

    library = build.load(
        """
        __attribute__((visibility("default"))) int threads(void) {
            int count = 0;
            #pragma omp parallel reduction(+ : count)
            count++;
            #ifdef _OPENMP
            return count;
            #else
            return -1;
            #endif
        }
        """
    )
    if library.threads() == -1 or "openmp" not in torch.__config__.parallel_info().lower():
        pytest.skip("OpenMP is not on both sides")
    if "clang" in subprocess.run([CC, "--version"], capture_output=True, text=True).stdout:
        pytest.skip("clang brings its own OpenMP")
    before = torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            assert library.threads() == number
    finally:
        torch.set_num_threads(before)


# ---- keys


def name(source: str = SOURCE, **defines: str) -> str:
    return cache.key(compiler.recipe(source, defines).parts())


def test_whatever_a_library_depends_on_is_in_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = program(tmp_path / "cc", f'exec {CC} "$@"')
    monkeypatch.setenv("METANORM_CC", mine)
    names = [name(), name(SOURCE + " "), name(A="1"), name(A="2"), name(A="1", B="")]
    with monkeypatch.context() as patch:
        patch.setenv("METANORM_CFLAGS", "-O1")
        names.append(name())
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "cpu", lambda: "another")
        names.append(name())
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "header", lambda: "another")
        names.append(name())
    with monkeypatch.context() as patch:
        patch.setattr(cache, "FORMAT", -1)
        names.append(name())
    with monkeypatch.context() as patch:
        patch.setenv("METANORM_CC", f"{mine} -m64")
        names.append(name())
        patch.setenv("METANORM_CC", program(tmp_path / "other-cc", f'exec {CC} "$@"'))
        names.append(name())
    assert name(B="", A="1") == names[4]
    assert name() == names[0]
    os.utime(mine, ns=(0, 1))
    names.append(name())  # as after an upgrade
    assert len(set(names)) == len(names)


def test_a_program_behind_the_compiler_is_in_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = program(tmp_path / "cc", f'exec {CC} "$@"')
    monkeypatch.setenv("METANORM_CC", f"env {behind}")
    before = name()
    os.utime(behind, ns=(0, 1))
    assert name() != before
    assert answer() == 42


def test_parts_of_a_key_do_not_run_together() -> None:
    assert cache.key(["ab", "c"]) != cache.key(["a", "bc"])


def test_the_processor_is_known_by_what_does_not_change() -> None:
    first = compiler.cpu()
    compiler.cpu.cache_clear()
    assert compiler.cpu() == first
    assert "MHz" not in first


# ---- broken entries


@pytest.mark.parametrize("how", ["truncated", "garbage", "empty", "one bit", "a link", "writable"])
def test_a_broken_entry_is_built_anew(
    how: str, folder: Path, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build.build(SOURCE)
    good = path.read_bytes()
    if how == "a link":
        (tmp_path / "elsewhere.so").write_bytes(good)
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere.so")
    elif how == "writable":
        path.chmod(0o722)
    else:
        flipped = good[:2000] + bytes([good[2000] ^ 1]) + good[2001:]
        bad = {"truncated": good[: len(good) // 2], "garbage": b"\x7fELF" * 999, "empty": b""}
        path.write_bytes(bad.get(how, flipped))
    assert answer() == 42
    assert count(calls) == 2
    forget(monkeypatch)
    assert answer() == 42  # and now it is whole
    assert count(calls) == 2
    assert len(os.listdir(folder)) == 1


def test_an_entry_that_cannot_be_replaced_is_in_nobodys_way(folder: Path, tmp_path: Path) -> None:
    path = build.build(SOURCE)
    path.unlink()
    (path / "inside").mkdir(parents=True)
    assert answer() == 42
    assert private_left(tmp_path) == []


def test_an_entry_that_is_whole_but_does_not_load_is_not_used(folder: Path) -> None:
    foreign = b"built for another system"
    path = build.build(SOURCE)
    path.unlink()
    other = folder / cache._entry_name(name(), foreign)
    other.write_bytes(foreign)
    other.chmod(0o700)
    assert cache.find(folder, name()) == other
    assert answer() == 42


# ---- caches that cannot be used


def demand_private(tmp_path: Path, calls: Path) -> None:
    """It works all the same, compiles once in a process, and leaves nothing."""
    assert [answer(), answer()] == [42, 42]
    assert count(calls) == 1
    assert private_left(tmp_path) == []


def test_a_cache_that_cannot_be_made(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("METANORM_CACHE", str(tmp_path / "file" / "cache"))
    demand_private(tmp_path, calls)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_cache(folder: Path, tmp_path: Path, calls: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    demand_private(tmp_path, calls)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_cache_that_others_can_write_to(
    mode: int, folder: Path, tmp_path: Path, calls: Path
) -> None:
    entry = build.build(SOURCE)
    calls.write_text("")
    folder.chmod(mode)
    assert cache.folder() is None
    demand_private(tmp_path, calls)
    assert entry.exists()


def test_a_cache_of_someone_else(
    folder: Path, tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.build(SOURCE)
    calls.write_text("")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    demand_private(tmp_path, calls)


def test_a_link_in_place_of_the_cache(folder: Path, tmp_path: Path, calls: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    demand_private(tmp_path, calls)
    assert os.listdir(tmp_path / "elsewhere") == []


def full_disk(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    write = Path.write_bytes

    def refuse(path: Path, data: bytes) -> int:
        if any(folder in path.parents for folder in folders):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", refuse)


def test_a_full_disk(
    folder: Path, tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_disk(monkeypatch, folder)
    demand_private(tmp_path, calls)
    assert os.listdir(folder) == []


def test_a_disk_that_fills_up_at_the_last_moment(
    folder: Path, tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Path) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(Path, "replace", refuse)
    demand_private(tmp_path, calls)
    assert os.listdir(folder) == []
    path = build.build(SOURCE)
    assert ctypes.CDLL(str(path)).answer() == 42  # still there


def test_no_place_at_all(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk(monkeypatch, folder, tmp_path / "temporary")
    with pytest.raises(CannotBuild) as caught:
        answer()
    assert "No space left" in caught.value.reason
    assert "METANORM_CACHE" in caught.value.remedy


def test_a_library_built_outside_the_cache_goes_with_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = without_torch(
        "from metanorm.runtime.native.build import build; p = build(SOURCE); assert p.exists()\n"
        "print(p)",
        METANORM_CACHE=str(tmp_path / "file"),
    )
    out, err = done.communicate()
    assert done.returncode == 0, err
    assert not Path(out.strip()).parent.exists()


# ---- compilers


def refusal() -> CannotBuild:
    with pytest.raises(CannotBuild) as caught:
        answer()
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == f"{again.reason}; {again.remedy}"
    return caught.value


def test_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refusal()
    assert "no C compiler" in error.reason
    assert "install gcc" in error.remedy


def test_the_named_compiler_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METANORM_CC", "no-such-cc -m64")
    error = refusal()
    assert "METANORM_CC names 'no-such-cc'" in error.reason
    assert "set METANORM_CC" in error.remedy
    monkeypatch.setenv("METANORM_CC", "'no-such-cc")
    assert "METANORM_CC cannot be split" in refusal().reason


def test_the_compiler_of_make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = program(tmp_path / "cc", "")
    monkeypatch.setenv("CC", f"{mine} -m64")
    assert compiler.compiler().command == (mine, "-m64")
    monkeypatch.setenv("CC", "no-such-cc")  # it is not meant for us: not a reason to stop
    assert answer() == 42


def test_an_error_in_the_source(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotBuild) as caught:
        build.load("int f(void) { return missing; }")
    assert "missing" in caught.value.reason
    assert caught.value.reason.count("\n") < 5
    assert str(folder) not in caught.value.reason
    assert os.listdir(folder) == private_left(tmp_path) == []


def test_a_compiler_that_fails_is_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "calls"
    script = f"echo >> {log}\necho 'Killed signal terminated program cc1' >&2\nexit 1"
    monkeypatch.setenv("METANORM_CC", program(tmp_path / "failing-cc", script))
    error = refusal()
    assert "Killed signal" in error.reason
    assert "another compiler" in error.remedy
    assert count(log) == 1


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("exit 3", "status 3"),
        ("exit 0", "no library"),
        ("echo nonsense > kernel.so", "nonsense|ELF|too short|loaded"),
    ],
)
def test_programs_that_are_no_compilers(
    script: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METANORM_CC", program(tmp_path / "odd-cc", script))
    with pytest.raises(CannotBuild, match=says):
        answer()


def test_a_compiler_that_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "no-program"
    path.write_bytes(b"\0\1\2")
    path.chmod(0o755)
    monkeypatch.setenv("METANORM_CC", str(path))
    assert "cannot be run" in refusal().reason


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("-march=native", "error: unrecognized command-line option '-march=native'"),
        ("-march=native", "/tmp/x.s:12: Error: no such instruction: `vaddph'"),
        ("-fopenmp", "clang: error: unsupported option '-fopenmp'"),
        ("-fopenmp", "fatal error: 'omp.h' file not found"),
        ("-fopenmp-simd", "error: unrecognized command-line option '-fopenmp-simd'"),
        ("-fopenmp", "/usr/bin/ld: cannot find -lomp: No such file or directory"),
    ],
)
def test_a_flag_that_is_refused_is_left_out(
    flag: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "calls"
    (tmp_path / "message").write_text(message)
    script = (
        f'echo "$*" >> {log}\n'
        f'case " $* " in *" {flag} "*) cat {tmp_path}/message >&2; exit 1;; esac\nexec {CC} "$@"'
    )
    monkeypatch.setenv("METANORM_CC", program(tmp_path / "picky-cc", script))
    assert answer() == 42
    first, second = log.read_text().splitlines()
    assert second == first.replace(f"{flag} ", "")
    forget(monkeypatch)
    assert answer() == 42
    assert count(log) == 2


def test_a_compiler_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"sleep 3000 &\necho $! > {tmp_path}/child\nwait"
    monkeypatch.setenv("METANORM_CC", program(tmp_path / "slow-cc", script))
    monkeypatch.setattr(compiler, "TIMEOUT", 0.5)
    assert "did not end within 0.5 s" in refusal().reason
    assert ended(int((tmp_path / "child").read_text()))
    assert private_left(tmp_path) == []


def ended(process: int) -> bool:
    """Whether a process is gone, or only waits for whoever should reap it."""
    for _ in range(100):
        try:
            os.kill(process, 0)
            state = Path(f"/proc/{process}/stat")
            if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


# ---- many processes, and killed ones

ALONE = """
import sys, types
for name in ("metanorm", "metanorm.runtime"):  # `metanorm.runtime` itself imports torch
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = [name.replace(".", "/")]
"""


def without_torch(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"{ALONE}\nSOURCE = {SOURCE!r}\n{code}"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


LOAD = "from metanorm.runtime.native.build import load; print(load(SOURCE).answer())"


def test_the_modules_stand_alone() -> None:
    code = f"{LOAD}\nprint([m for m in ('lark', 'pydantic') if m in sys.modules])"
    out, err = without_torch(code).communicate()
    assert (out, err) == ("42\n[]\n", "")


def test_many_processes_at_once(folder: Path) -> None:
    processes = [without_torch(LOAD) for _ in range(8)]
    assert [process.communicate() for process in processes] == [("42\n", "")] * 8
    assert len(os.listdir(folder)) == 1


def test_many_processes_at_a_broken_entry(folder: Path) -> None:
    build.build(SOURCE).write_bytes(b"")
    processes = [without_torch(LOAD) for _ in range(8)]
    assert [process.communicate() for process in processes] == [("42\n", "")] * 8
    assert len(os.listdir(folder)) == 1


def test_a_killed_build(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child"
    slow = program(tmp_path / "slow-cc", f"echo half > kernel.so\necho $$ > {child}\nexec sleep 20")
    process = without_torch(LOAD, METANORM_CC=slow)
    while not child.exists() or not child.read_text().strip():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    os.kill(int(child.read_text()), 9)
    (left,) = os.listdir(folder)
    assert left.startswith(cache.BUILD_PREFIX)

    assert answer() == 42
    assert left in os.listdir(folder)  # it may be of a build that goes on
    long_ago = time.time() - cache.STALE_SECONDS - 60
    os.utime(folder / left, (long_ago, long_ago))
    assert answer(ANSWER="7") == 7
    assert left not in os.listdir(folder)
    assert len(os.listdir(folder)) == 2
