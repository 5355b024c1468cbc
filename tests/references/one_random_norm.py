"""One random norm: its text, and how it fares on torch and on kernels."""

from __future__ import annotations

import sys

from drawn_calls import check
from test_random_norms_by_reference import CALLED, dtype_of, norm_of

from metanorm import loads

if __name__ == "__main__":
    norm = norm_of(int(sys.argv[1]))
    print(norm.text, flush=True)
    module = loads(CALLED + norm.text)
    for target in ("torch", "auto"):
        print(target, check(norm, getattr(module, norm.name), dtype_of(norm.seed), (target,)))
