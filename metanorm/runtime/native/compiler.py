"""The system's C compiler: finding it, its flags, and one run of it."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from metanorm.runtime.kernels.errors import CannotBuild

HEADERS = Path(__file__).parent / "headers"
NAMES = ("cc", "gcc", "clang")
TIMEOUT = 300.0  # seconds; a kernel takes a few tenths of one, on a machine that does nothing else

# On Linux, torch's own libgomp is in the global scope, and dlopen binds our GOMP_parallel to it
# (seen with LD_DEBUG=bindings; with a libgomp of a mangled name too, where the system's is mapped
# beside it but not bound), so there is one pool of threads, and torch.set_num_threads holds here.
# Not so for clang: its -fopenmp calls __kmpc_fork_call, which only LLVM's libomp has.
OPENMP = "-fopenmp"
NATIVE = "-march=native"
# Loops to vectorise are marked; a compiler without threads of OpenMP may know the marks.
MARKED_LOOPS = "-fopenmp-simd"
# With -O2 GCC 12 builds in half the time, and kernels take 7% more of it on average, some 20%: they
# are built once and called often (docs/performance.md). Rows of 196 elements (images of 14 x 14)
# take 7% less time with unrolled loops. GCC 12 keeps a sum in one register in spite of these flags;
# four of them, written by hand, took no less time. Flags of GCC; clang needs none.
UNROLL_FLAGS = (
    "-funroll-loops",
    "-fvariable-expansion-in-unroller",
    "--param=max-variable-expansions-in-unroller=4",
)
FLAGS = (
    "-std=c11",
    "-O3",
    NATIVE,
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    *UNROLL_FLAGS,
    MARKED_LOOPS,
    OPENMP,
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-w",  # so that the first lines of a failure are its errors
)

# Flags that some compilers reject, with the pattern of their message. After any other failure the
# flag stays: a compiler that ran out of memory must not lead to a slow library.
OPTIONAL_FLAGS = {
    NATIVE: re.compile(r"-march|instruction"),  # an old assembler: "no such instruction"
    **dict.fromkeys(UNROLL_FLAGS, re.compile(r"unroll|--param|variable-expansion")),
    MARKED_LOOPS: re.compile(r"openmp-simd"),
    OPENMP: re.compile(r"openmp(?!-simd)|lib(g|i)?omp|-l(g|i)?omp|\bomp\.h|GOMP_|__kmpc_"),
}

# The fields of /proc/cpuinfo that -march=native depends on; others change all the time.
CPU_FIELDS = frozenset(
    (
        *("vendor_id", "cpu family", "model", "model name", "flags"),  # x86
        *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),  # Arm
        *("cpu", "isa", "uarch", "features"),  # POWER, RISC-V, s390
    )
)

# A compiler that the machine has stopped, which may build the same source another time.
OF_MACHINE = re.compile(r"[Kk]illed|[Mm]emory|[Ss]pace left")
# A source that every compiler takes which kernels can be built with.
NOTHING = "#include <math.h>\nint metanorm_nothing(void) { return (int)sqrt(1.0); }\n"
REPORT = "the kernels are at fault: report them, with the spec"


@dataclass(frozen=True)
class Compiler:
    """A command, and an identity that changes when the compiler is upgraded."""

    command: tuple[str, ...]
    identity: str


@dataclass(frozen=True)
class Recipe:
    """Everything that a library is built from."""

    source: str
    defines: tuple[str, ...]
    flags: tuple[str, ...]
    compiler: Compiler

    def parts(self) -> Iterator[str]:
        """The parts of the key of a library: what decides its bytes, and where it runs."""
        yield self.source
        yield header()
        for words in (self.defines, self.flags, self.compiler.command):
            yield "\0".join(words)
        yield self.compiler.identity
        yield cpu()

    def make(self, folder: Path, stamp: str = "") -> Path:
        """Build the library in an empty folder; `stamp` is C code that is added to the source.

        Raises `CannotBuild`.
        """
        (folder / "kernel.c").write_text(self.source + stamp, encoding="utf-8")
        flags = self.flags
        while True:
            message = self._run(folder, flags)
            library = folder / "kernel.so"
            if message is None and library.is_file():
                return library
            message = message or "it made no library"
            rejected_flags = [
                f for f in flags if f in OPTIONAL_FLAGS and OPTIONAL_FLAGS[f].search(message)
            ]
            if not rejected_flags:
                failed = f"{self.name} failed: {_first_lines(message)}"
                rejected = self._at_fault(message) and replace(self, source="")._works(folder)
                raise CannotBuild(failed, REPORT if rejected else self.remedy, rejected)
            flags = tuple(flag for flag in flags if flag not in rejected_flags)

    def _at_fault(self, message: str) -> bool:
        """Whether a failure may be due to the source, and not to the machine."""
        return bool(self.source) and not OF_MACHINE.search(message)

    def _works(self, folder: Path) -> bool:
        """Whether the compiler builds a library of this source, in the folder of another one."""
        try:
            with tempfile.TemporaryDirectory(dir=folder) as subfolder:
                return self.make(Path(subfolder), NOTHING).is_file()
        except (CannotBuild, OSError):
            return False

    def _run(self, folder: Path, flags: tuple[str, ...]) -> str | None:
        """Run the compiler; returns its error message, or `None`."""
        # Names are relative: no path of the folder gets into the library or a message.
        words = (*self.compiler.command, *flags, *self.defines, "-I", str(HEADERS))
        try:
            process = subprocess.Popen(
                (*words, "-o", "kernel.so", "kernel.c", "-lm"),
                cwd=folder,
                env={**os.environ, "LC_ALL": "C", "TMPDIR": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that its children can be killed with it
            )
        except OSError as error:
            raise CannotBuild(f"{self.name} cannot be run: {error}", self.remedy) from None
        try:
            _, stderr = process.communicate(timeout=TIMEOUT)
        except BaseException as error_:
            _kill(process)
            if isinstance(error_, subprocess.TimeoutExpired):
                raise CannotBuild(
                    f"{self.name} did not end within {TIMEOUT:g} s", self.remedy
                ) from None
            raise
        message = stderr.decode(errors="replace").strip()
        return None if process.returncode == 0 else message or f"status {process.returncode}"

    @property
    def name(self) -> str:
        """The name of the compiler in messages."""
        return self.compiler.command[0]

    @property
    def remedy(self) -> str:
        """What a person can do if it fails."""
        also = ", look at METANORM_CFLAGS" if os.environ.get("METANORM_CFLAGS") else ""
        return f"see that it compiles C programs{also}, or name another compiler in METANORM_CC"


def recipe(source: str, defines: Mapping[str, str]) -> Recipe:
    """How a source is compiled in this environment. Raises `CannotBuild` without a compiler."""
    return Recipe(
        source,
        tuple(f"-D{name}={value}" for name, value in sorted(defines.items())),
        (*FLAGS, *_environment_words("METANORM_CFLAGS")),
        compiler(),
    )


def compiler() -> Compiler:
    """The compiler that METANORM_CC names, else CC, else the first of the usual ones."""
    if words := _environment_words("METANORM_CC"):
        if compiler_ := _find_compiler(words):
            return compiler_
        raise CannotBuild(
            f"METANORM_CC names {words[0]!r}, which is not a program here",
            "set METANORM_CC to a C compiler, or unset it",
        )
    for words in (_environment_words("CC"), *([name] for name in NAMES)):
        if words and (compiler_ := _find_compiler(words)):
            return compiler_
    raise CannotBuild(
        f"there is no C compiler (looked for {', '.join(NAMES)})",
        "install gcc with the headers of the C library, or name a compiler in METANORM_CC",
    )


def _find_compiler(words: list[str]) -> Compiler | None:
    """The compiler of a command, if its first word is a program."""
    identity = []
    command = list(words)
    for index, word in enumerate(words):
        # `ccache gcc` is two programs, and the second may change without the first
        path = None if word.startswith("-") else shutil.which(word)
        if path is None:
            if index == 0:
                return None
            continue
        if index == 0:
            command[0] = os.path.abspath(path)
        real_path = os.path.realpath(path)
        status = os.stat(real_path)
        identity.append(f"{real_path} {status.st_size} {status.st_mtime_ns}")
    return Compiler(tuple(command), "\n".join(identity))


def _environment_words(variable: str) -> list[str]:
    """The words of an environment variable, as a shell would split them."""
    try:
        return shlex.split(os.environ.get(variable, ""))
    except ValueError as error:
        raise CannotBuild(f"{variable} cannot be split: {error}", f"fix {variable}") from None


def header() -> str:
    """The text of the headers that sources include; not cached, as developers edit them."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(HEADERS.rglob("*.h")))


@lru_cache(maxsize=1)
def cpu() -> str:
    """The processor as -march=native sees it: different machines may share a cache."""
    lines = [platform.system(), platform.machine()]
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            text = file.read(16384).decode(errors="replace")  # not all: it may list 256 cores
    except OSError:
        text = ""
    for line in text.split("\n\n", 1)[0].splitlines():
        if line.partition(":")[0].strip() in CPU_FIELDS:
            lines.append(line)
    return "\n".join(lines)


def _first_lines(message: str) -> str:
    """The first lines of a message, for a warning."""
    return "\n".join(line[:200] for line in message.splitlines()[:5])


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children.

    A child that escaped may keep the pipe open, so that it is not read.
    """
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    if process.stderr is not None:
        process.stderr.close()
