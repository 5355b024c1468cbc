"""A plugin of pytest, `-p without_torch`, for an interpreter that has no torch.

Tests that can be collected and run without it are run, all others are skipped: a module or a test
that imports torch by not finding it, a test whose child process would by the marker `needs_torch`.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

MISSING = frozenset({"torch", "triton", "torch_geometric", "numpy"})  # what is not installed


def _skip(error: BaseException | None, whole_module: bool = False) -> None:
    """Skip for a missing package, which may be what another error was raised from."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in MISSING:
            pytest.skip(f"needs {error.name}", allow_module_level=whole_module)
        error = error.__cause__


class _Module(pytest.Module):
    def _getobj(self) -> object:
        try:
            return super()._getobj()
        except self.CollectError as error:
            _skip(error.__cause__, whole_module=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Modules that may need what is not there."""
    module: pytest.Module = _Module.from_parent(parent, path=module_path)
    return module


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked."""
    if item.get_closest_marker("needs_torch"):
        pytest.skip("needs torch in a child process")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """A test that asks for torch as it runs."""
    try:
        return (yield)
    except ImportError as error:
        _skip(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    """A fixture that does."""
    try:
        return (yield)
    except ImportError as error:
        _skip(error)
        raise
