"""The compiler and the runtime have a table of targets each: both say the same of a target."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from conftest import ROOT

from metanorm import options, runtime
from metanorm.driver import compile_specs
from metanorm.ir import scalar
from metanorm.ir.ops import ORDERED, POOLED_STATISTICS
from metanorm.runtime import targets
from metanorm.runtime.dispatch import _Dispatcher
from metanorm.runtime.groups import Groups
from metanorm.runtime.kernels import scalars
from metanorm.source import Source
from metanorm.targets import registry
from metanorm.targets.live import module_from_files
from metanorm.targets.torch.statistics import TORCH_STATISTICS
from metanorm.verify.kernels import has_kernels

NAMES = tuple(registry.KERNEL_TARGETS)
# The files that name a target: the two tables, and the options that people write.
TABLES = ("metanorm/options.py", "metanorm/runtime/targets.py", "metanorm/targets/registry.py")
# Where such a word means something else.
OTHER_MEANINGS = {
    "metanorm/runtime/__init__.py: native": "the decorator",
    "metanorm/runtime/native/call_path/symbols.py: native": "a field of a structure in C",
    "metanorm/runtime/triton/kernels.py: triton": "the package",
    "metanorm/targets/triton/file.py: triton": "the package",
    "metanorm/user_cache.py: native": "a folder of the cache",
}


@pytest.mark.parametrize("name", NAMES)
def test_both_tables_say_the_same_of_a_target(name: str) -> None:
    printed, run = registry.KERNEL_TARGETS[name], targets.KERNEL_TARGETS[name]
    assert (printed.name, printed.language, printed.device) == (run.name, run.language, run.device)
    assert registry.target_for_device(run.device) is printed
    assert targets.TARGET_OF_DEVICE[printed.device] is run


def test_both_sides_compute_the_same_scalars() -> None:
    """The compiler folds scalars, and the runtime computes those of a call."""
    assert scalars.FUNCTIONS.keys() == scalar.FUNCTIONS.keys()
    for name, function in scalar.FUNCTIONS.items():
        count = 2 if name in {*scalar.SYMBOLS, "min", "max"} else 1
        for arguments in ((7.5, 2.0), (3.0, 4.0)):
            assert scalars.FUNCTIONS[name](*arguments[:count]) == function(*arguments[:count])


@pytest.mark.parametrize("statistic", sorted(POOLED_STATISTICS - ORDERED))
def test_the_runtime_has_a_statistic_for_each_kind_of_pools(statistic: str) -> None:
    """Modules call it over dimensions, over groups by an index, and over pools that overlap."""
    name = TORCH_STATISTICS[statistic].function
    assert {name, f"{name}_along"} <= {*dir(runtime)}
    assert hasattr(Groups, name)


def test_both_tables_have_the_same_order() -> None:
    assert list(targets.KERNEL_TARGETS) == [*NAMES]
    assert {*get_args(options.Target)} == {registry.PLAIN_TARGET, *NAMES}
    assert {*targets.TARGETS} == {"auto", registry.PLAIN_TARGET, *NAMES}
    assert {*registry.TARGET_DESCRIPTIONS} == {*get_args(options.Target)}


@pytest.mark.parametrize("name", NAMES)
def test_the_decorator_of_a_target_dispatches_to_it(name: str) -> None:
    """`native` dispatches to all of them; a decorator of another name to its target alone."""
    decorator = registry.KERNEL_TARGETS[name].decorator.removeprefix("runtime.")
    assert decorator in runtime.__all__

    @getattr(runtime, decorator)  # type: ignore[untyped-decorator]
    def function(x: object) -> object:
        return x

    assert isinstance(function, _Dispatcher)
    assert function.only in (None, targets.KERNEL_TARGETS[name])


SPEC = "norm Centred {\n  input  x[N, C]\n  output x - mean(x over C)\n}\n"


@pytest.mark.parametrize("name", NAMES)
def test_the_runtime_looks_for_the_file_that_the_compiler_writes(name: str, tmp_path: Path) -> None:
    target = registry.KERNEL_TARGETS[name]
    files = compiled(target)
    module = module_from_files(files, "centred")
    assert has_kernels(module, target.device)
    without = {file: text for file, text in files.items() if not file.endswith(target.ending)}
    assert not has_kernels(module_from_files(without, "centred"), target.device)


def compiled(target: registry.KernelTarget) -> dict[str, str]:
    source = Source.of("centred.norm", SPEC)
    options_ = options.Options(target=target.name)
    return dict(compile_specs({"centred.norm": source}, ["centred.norm"], options_).files)


# ---- a target is named in the tables alone


def literals(path: Path) -> Iterator[str]:
    """The strings of a module that are the name of a target."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and node.value in NAMES:
            yield f"{path.relative_to(ROOT).as_posix()}: {node.value}"


def test_only_the_tables_name_a_target() -> None:
    paths = sorted((ROOT / "metanorm").rglob("*.py"))
    named = {entry for path in paths for entry in literals(path)}
    places = {entry for entry in named if not entry.startswith(TABLES)}
    assert places == {*OTHER_MEANINGS}
    assert {entry.partition(":")[0] for entry in named - places} == {*TABLES}
