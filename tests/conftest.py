"""Options and fixtures that all tests share."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from shared_units import back_ends_sharing

from metanorm import compile_cache, loaded
from metanorm.driver import compile_specs
from metanorm.frontend import check
from metanorm.ir.program import Program
from metanorm.options import Options
from metanorm.workspace import load_library

if TYPE_CHECKING:
    from team import Team

with contextlib.suppress(ModuleNotFoundError):  # as in `make test-pythons`
    import torch

ROOT = Path(__file__).parents[1]

os.environ.setdefault("METANORM_DEBUG", "1")  # an error inside the compiler fails a test
# Whether kernels are right shows in a fifth of the compiler's time, but for rounding, and both
# tiers find what the other has built. What is to be as users have it asks for `optimised`.
os.environ.setdefault("METANORM_CFLAGS", "-O0")


# The same examples in every run; `--hypothesis-profile=explore` looks for new ones.
SLOW_IS_FINE = {"deadline": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("steady", derandomize=True, **SLOW_IS_FINE)
settings.register_profile("explore", max_examples=400, print_blob=True, **SLOW_IS_FINE)
settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="take what comes out as expected")
    parser.addoption("--part", metavar="K/N", help="every N-th test only, from number K on")


@pytest.hookimpl(trylast=True)  # once `-m` and `-k` have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of one part, so that several processes can share a file."""
    if part := config.getoption("--part"):
        number, count = map(int, part.split("/"))
        items[:] = items[number::count]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in every run, whichever tests came before."""
    if "torch" in globals():
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def compiles_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take nothing that was compiled before: tests replace stages of the compiler by others, and
    look at modules that no other test has called."""
    monkeypatch.setattr(compile_cache, "cache_folder", lambda: None)
    monkeypatch.setattr(loaded, "cache_folder", lambda: None)


@pytest.fixture
def optimised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build kernels as users do. Those that a module has loaded before stay as they are."""
    monkeypatch.delenv("METANORM_CFLAGS", raising=False)


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--accept"))


LIBRARY = load_library()
PROGRAMS = {
    norm.program.name: norm.program
    for norms in check(LIBRARY.sources, LIBRARY.roots).norms.values()
    for norm in norms
}


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> Program:
    """Each norm of the library in turn."""
    return PROGRAMS[request.param]


@pytest.fixture(scope="session")
def library_files(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Mapping[str, str]:
    """What `metanorm compile specs` writes: half a minute, which all workers share."""
    folder = tmp_path_factory.getbasetemp()
    # A worker's folder lies in that of the run. A test run that a test starts has the variables of
    # a worker and is none: what lies above its folder is left from other runs.
    is_worker = hasattr(pytestconfig, "workerinput")
    shared = (folder.parent if is_worker else folder) / "library_units"
    shared.mkdir(exist_ok=True)
    back_ends = back_ends_sharing(shared)
    result = compile_specs(LIBRARY.sources, LIBRARY.roots, Options(), back_ends=back_ends)
    assert result.ok, result.diagnostics
    return result.files


@pytest.fixture(scope="session")
def library(
    library_files: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModuleType]:
    """The package that `metanorm compile specs` writes, imported."""
    with imported(library_files, tmp_path_factory.mktemp("library"), "library_norms") as package:
        yield package


@pytest.fixture(scope="session")
def untouched_library(
    library_files: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModuleType]:
    """The same once more, for tests that are `optimised`: no other has loaded its kernels."""
    with imported(
        library_files, tmp_path_factory.mktemp("untouched"), "untouched_norms"
    ) as package:
        yield package


@contextlib.contextmanager
def imported(files: Mapping[str, str], folder: Path, name: str) -> Iterator[ModuleType]:
    """Generated files as a package of this name, which is written into a folder."""
    (folder / name).mkdir()
    for file, text in files.items():
        (folder / name / file).write_text(text)
    sys.path.insert(0, str(folder))
    yield importlib.import_module(name)
    sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def team() -> Iterator[Team]:
    """Four processes on the CPU, in one group of `torch.distributed`."""
    from team import Team

    new_team = Team()
    yield new_team
    new_team.close()


@pytest.fixture(scope="session")
def paths(library: ModuleType) -> dict[str, str]:
    """The file of the module of each norm of the library."""
    modules = {name: getattr(library, name).__module__ for name in library.__all__}
    return {name: str(sys.modules[module].__file__) for name, module in modules.items()}
