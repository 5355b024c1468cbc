"""These run in Triton's interpreter, which has to be asked for before triton is imported: by
`tests/gpu/test_interpreter.py`, or by hand with `TRITON_INTERPRET=1`."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]
else:
    sys.path.insert(0, str(Path(__file__).parents[2] / "native"))  # for its layers


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is divided by zero is left out afterwards, as on a GPU, where nobody hears of it."""
    with np.errstate(all="ignore"):
        yield
