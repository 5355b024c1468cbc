"""Numbers rounded to the dtypes that a spec can name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """A binary format: the digits of a number, the exponent of the smallest one, the largest one.

    What is larger becomes infinite, or the largest one where the format has no infinity.
    """

    digits: int
    smallest: int
    largest: float
    beyond: float = math.inf


FORMATS: Mapping[str, Format] = {
    "float32": Format(24, -149, (2 - 2**-23) * 2.0**127),
    "bfloat16": Format(8, -133, (2 - 2**-7) * 2.0**127),
    "float16": Format(11, -24, 65504.0),
    "float8_e4m3fn": Format(4, -9, 448.0, 448.0),
    "float8_e5m2": Format(3, -16, 57344.0),
}


def rounded(x: float, dtype: str) -> float:
    """The number of a dtype that is nearest; of two, the even one."""
    if dtype == "float64" or x == 0 or math.isnan(x):
        return x
    form = FORMATS[dtype]
    if math.isinf(x):
        return math.copysign(form.beyond, x)
    step = 2.0 ** max(math.frexp(x)[1] - form.digits, form.smallest)
    nearest = round(x / step) * step
    return nearest if abs(nearest) <= form.largest else math.copysign(form.beyond, x)
