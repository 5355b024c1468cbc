"""A C compiler accepts every build of every spec of the library.

A section of a C file serves many builds: kernels of several norms, modes and layouts, each with
macros of its own. Some of its lines are for some of the builds, so a compiler has to read it with
the macros of each.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import LIBRARY

from metanorm.driver import compile_specs
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.runtime.kernels.errors import CannotBuild
from metanorm.runtime.native.ahead import builds
from metanorm.runtime.native.compiler import HEADERS, compiler

try:
    CC: tuple[str, ...] = compiler().command
except CannotBuild:
    CC = ()

pytestmark = pytest.mark.skipif(not CC, reason="needs a C compiler")

# Their builds differ in what they take from the headers: scans, links of graphs, groups of rows,
# points of a simplex, rounding to other dtypes. All other specs wait for `make test-extended`.
QUICK = ("llm_norm", "online_norm", "sparse_switch_norm", "united_norm")
SPECS = sorted({module_name(root) for root in LIBRARY.roots})

SYNTAX_FLAGS = ("-std=c11", "-fopenmp", "-fsyntax-only", "-Wall", "-Werror")
# Not all that the headers have is used by each build.
ALLOWED = ("-Wno-unused",)


def errors(source: str, macros: Mapping[str, str]) -> str:
    """What the compiler says about one build of a C file."""
    defines = (f"-D{name}={value}" for name, value in macros.items())
    command = (*CC, *SYNTAX_FLAGS, *ALLOWED, *defines, "-I", str(HEADERS), "-xc", "-")
    return subprocess.run(command, input=source, text=True, capture_output=True).stderr


def c_files(spec: str) -> list[str]:
    """The C files of a spec: of its module, and of the one for several processes."""
    roots = [root for root in LIBRARY.roots if module_name(root) == spec]
    files = compile_specs(LIBRARY.sources, roots, Options()).files
    assert files is not None
    return [text for name, text in files.items() if name.endswith(".c")]


@pytest.mark.parametrize(
    "spec",
    [pytest.param(s, marks=[] if s in QUICK else [pytest.mark.extended]) for s in SPECS],
)
def test_a_compiler_accepts_every_build(spec: str) -> None:
    jobs = [(text, macros) for text in c_files(spec) for macros in builds(text)]
    with ThreadPoolExecutor(2) as pool:
        for (_, macros), said in zip(jobs, pool.map(lambda job: errors(*job), jobs), strict=True):
            assert not said, macros


def test_a_type_that_a_build_lacks_is_an_error() -> None:
    (text,) = c_files("sparse_switch_norm")[:1]
    macros = next(iter(builds(text)))
    assert not errors(text, macros)
    broken = re.sub(r"^    size_t kept;", "    scratch scratch;", text, flags=re.MULTILINE)
    assert "scratch" in errors(broken, macros)


@pytest.mark.extended
def test_the_quick_specs_define_all_that_the_headers_ask_for(
    library_files: Mapping[str, str],
) -> None:
    headers = "\n".join(path.read_text() for path in sorted(HEADERS.rglob("*.h")))
    asked = set(re.findall(r"^#if(?:n?def)? (?:defined )?\(?(\w+)", headers, re.MULTILINE))

    def defined(files: list[str]) -> set[str]:
        return asked & set(re.findall(r"^#define (\w+)", "\n".join(files), re.MULTILINE))

    quick = [text for spec in QUICK for text in c_files(spec)]
    library = [text for name, text in library_files.items() if name.endswith(".c")]
    assert defined(library) == defined(quick) != set()
