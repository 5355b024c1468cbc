"""What the files here share. They run in Triton's interpreter, which has to be asked for before
triton is imported: by `tests/gpu/test_interpreter.py`, or by hand with `TRITON_INTERPRET=1`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What is divided by zero is left out afterwards, as on a GPU, where nobody hears of it; nor
    does anyone of the largest of numbers that are none, in a softmax of NaN."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)
        yield
