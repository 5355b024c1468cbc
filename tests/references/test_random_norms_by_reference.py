"""Random norms against references that were drawn with them, and that share nothing with metanorm.

One of them alone, with its text: `python tests/references/one_random_norm.py SEED`.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

import pytest
import torch
from drawn_calls import F64, Checked, check
from drawn_norms import CALLEES, DrawnNorm, drawn

from metanorm import loads

QUICK = 60
CHUNK = 20
MANY = 2000
CALLED = "".join(callee.text for callee in CALLEES)


def norm_of(seed: int) -> DrawnNorm:
    """Three of four are made for kernels, so that at least half run on them."""
    return drawn(seed, narrow=seed % 4 != 0)


def dtype_of(seed: int) -> torch.dtype:
    return {1: torch.float32, 3: torch.bfloat16}.get(seed % 10, F64)


def checked(norm: DrawnNorm, module: ModuleType, targets: tuple[str, ...]) -> Checked | str:
    """What became of a norm; else what is wrong with it, and how to see it again."""
    try:
        return check(norm, getattr(module, norm.name), dtype_of(norm.seed), targets)
    except Exception as problem:
        again = f"python tests/references/one_random_norm.py {norm.seed}"
        return f"{again}: {type(problem).__name__}: {problem}\n{norm.text}"


def run(seeds: Iterable[int], on_kernels: Iterable[int]) -> list[Checked]:
    """Norms that are compiled together, each checked by itself."""
    norms = [norm_of(seed) for seed in seeds]
    module = loads(CALLED + "".join(norm.text for norm in norms))
    wanted = set(on_kernels)
    actual = [
        checked(n, module, ("torch", "auto") if n.narrow and n.seed in wanted else ("torch",))
        for n in norms
    ]
    wrong = [f for f in actual if isinstance(f, str)]
    assert not wrong, "\n".join(wrong)
    return [f for f in actual if isinstance(f, Checked)]


def demand_substance(done: list[Checked]) -> None:
    """Nearly all are compared, to nearly all digits."""
    assert sum(c.refused for c in done) <= 0.1 * len(done)
    assert sum(c.vague for c in done) <= 0.05 * sum(c.tensors for c in done)


def test_some_random_norms_agree() -> None:
    done = run(range(QUICK), range(1, QUICK, 5))
    demand_substance(done)
    assert sum(c.kernels.forward > 0 and c.kernels.backward > 0 for c in done) >= 6


shares: dict[int, list[bool]] = {}  # by the first seed of a chunk: which ran on kernels


@pytest.mark.extended
@pytest.mark.parametrize("first", range(QUICK, QUICK + MANY, CHUNK))
def test_random_norms_agree(first: int, request: pytest.FixtureRequest) -> None:
    if first // CHUNK % 8 == 0:
        request.getfixturevalue("optimised")
    seeds = range(first, first + CHUNK)
    done = run(seeds, seeds)
    demand_substance(done)
    shares[first] = [c.kernels.forward > 0 and c.kernels.backward > 0 for c in done]
    assert sum(shares[first]) >= 0.35 * CHUNK
    # Of all that this process has seen, half; single chunks may have fewer.
    seen = [ran for chunk in shares.values() for ran in chunk]
    assert len(shares) < 10 or sum(seen) >= 0.5 * len(seen)
