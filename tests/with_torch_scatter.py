"""A plugin of `make test-scatter`: sums over sorted labels are those of torch-scatter."""

from __future__ import annotations

import pytest

from metanorm import runtime


def pytest_configure(config: pytest.Config) -> None:
    runtime.use("auto", "torch-scatter")
