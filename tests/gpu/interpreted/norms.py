"""Every norm of the library on Triton kernels, against the oracle; and others with buffers."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from types import ModuleType

import pytest
from silence import quiet
from small import SMALL

sys.path.append(str(Path(__file__).parents[2]))
from tiers import covering, tiered
from tiers import served as has_kernels

from metanorm import frontend
from metanorm.driver import compile_specs
from metanorm.ir.program import Program
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.runtime import use
from metanorm.runtime.dispatch import NotServed
from metanorm.runtime.triton import tiles
from metanorm.targets.live import module_from_files
from metanorm.verify.cases import Setting, settings
from metanorm.verify.compare import compare
from metanorm.verify.finding import REFUSED
from metanorm.workspace import load, load_library

__all__ = ["quiet"]  # a fixture for every test

# Of the standing set; `metanorm verify` holds all of it where TRITON_INTERPRET=1.
QUICK = ("train",)
EXTENDED = ("eval", "bfloat16", "one NaN")

UNSERVED = "cannot run on Triton kernels: the call has"  # and why torch serves it

LIBRARY = load_library()
BUFFERS = load([str(Path(__file__).parents[2] / "good" / "features" / "buffers.norm")])
SOURCES = {**LIBRARY.sources, **BUFFERS.sources}
ROOTS = [*LIBRARY.roots, *BUFFERS.roots]
NORMS = {
    norm.program.name: (root, norm.program)
    for root, norms in frontend.check(SOURCES, ROOTS).norms.items()
    for norm in norms
}


# Every norm takes the interpreter a second; every commit runs those that have all constructs.
COVERING = covering({name: program for name, (_, program) in NORMS.items()})


@functools.cache
def compiled(root: str) -> dict[str, str]:
    """The files of a spec."""
    return compile_specs(SOURCES, [root], Options(target="triton")).files


def runs_on_kernels(program: Program, module: ModuleType, setting: Setting) -> bool:
    """Whether kernels run a setting, which have to agree with the oracle then."""
    with use("triton"):
        try:
            comparison = compare(program, module, setting)
        except NotServed as reason:
            assert UNSERVED in str(reason)
            return False
    assert not comparison.bad, (setting.name, comparison)
    return comparison.outcome != REFUSED and not setting.empty  # nothing runs on anything


@pytest.mark.parametrize(
    "chosen", [QUICK, pytest.param(EXTENDED, marks=pytest.mark.extended)], ids=["usual", "odd"]
)
@pytest.mark.parametrize("name", tiered(NORMS, COVERING))
def test_a_norm_in_the_interpreter(name: str, chosen: tuple[str, ...]) -> None:
    root, program = NORMS[name]
    files = compiled(root)
    module = module_from_files(files, module_name(root))
    times = 0
    for number, setting in enumerate(settings(program)):
        if setting.name in chosen or (not times and number <= 8):
            times += runs_on_kernels(program, module, setting)
    assert bool(times) == has_kernels(program, "cuda")
    if not times:
        pytest.skip("plain torch alone: `metanorm explain` says why")


@pytest.mark.extended  # sweeps in small tiles take long, and `tiles.py` has some for every commit
@pytest.mark.parametrize("name", NORMS)
def test_large_islands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As islands that are larger than a tile go: sweep by sweep, in tiles of a few elements."""
    root, program = NORMS[name]
    files = compiled(root)
    if "_islands(" not in files.get(f"{module_name(root)}_triton.py", ""):
        pytest.skip("there is one schedule alone, or none")
    monkeypatch.setattr(tiles, "choose_schedule", lambda *_: "sweeps")
    for constant, value in SMALL.items():
        monkeypatch.setattr(tiles, constant, value)
    if not runs_on_kernels(program, module_from_files(files, module_name(root)), Setting("train")):
        pytest.skip("torch serves the call")
