"""Each row of the table of derivatives against torch, on both sides of kinks, at ties and NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product

import pytest
import torch
from programs import lowered
from torch import Tensor
from torch.nn import functional as F

from metanorm.ir.nodes import Map, Number, Ref
from metanorm.ir.ops import ELEMENTWISE
from metanorm.ir.scalar import Const
from metanorm.oracle.functions import FUNCTIONS
from metanorm.passes.compositions import COMPOSITIONS
from metanorm.passes.derivatives import DERIVATIVES, AdjointBuilder

F64 = torch.float64
NAN = math.nan
POSITIVE = (0.3, 1.0, 2.5)
REAL = (-1.7, -0.4, 0.0, 0.4, 1.0, 1.7, NAN)
COUNTS = (1.0, 2.0, 7.0)
# What stands for each argument, where not any number does; all combinations are taken.
POINTS: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "div": (REAL, (-2.0, 0.7, NAN)),
    "sqrt": ((*POSITIVE, 0.0, -1.0, NAN),),
    "rsqrt": ((*POSITIVE, NAN),),
    "log": ((*POSITIVE, NAN),),
    "root": ((*POSITIVE, 0.0),),
    "unbiased": (POSITIVE, COUNTS),
    "pow": ((*POSITIVE, 0.0), (0.0, 0.5, 1.0, 2.0, 3.0)),
    "where": ((0.0, 1.0), REAL, REAL),
}
# What torch itself has is asked there: at kinks, the oracle's way to compute it may have others.
TORCH: Mapping[str, Callable[..., Tensor]] = {
    "relu": torch.relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "softplus": F.softplus,
    "clamp_min": torch.clamp_min,
    "clamp_max": torch.clamp_max,
    "rsqrt": torch.rsqrt,
    "pow": torch.pow,
}
# Of which argument no gradient is asked: a condition.
CONSTANT = {"where": (0,)}
SMOOTH = sorted(name for name in DERIVATIVES if not ELEMENTWISE[name].boolean)


def arguments(function: str, count: int) -> list[Tensor]:
    """All combinations of the points of a function, one tensor for each argument."""
    points = POINTS.get(function, (REAL if count < 4 else (-0.4, 0.0, 1.7),) * count)
    columns = zip(*product(*points))
    return [torch.tensor(column, dtype=F64).requires_grad_() for column in columns]


def derived(function: str, operands: list[Tensor], arriving: Tensor) -> list[Tensor | None]:
    """What the row gives for each argument: its maps are built, and run by the oracle."""
    names = [f"a{i}" for i in range(len(operands))]
    decls = ", ".join(f"{name}[N]" for name in ("x", *names))
    program = lowered(f"input {decls}\noutput " + " * ".join(("x", *names)))
    builder = AdjointBuilder(program)
    for let in program.body:
        builder.copy(let)
    d, *refs = (builder.value_map[name] for name in ("x", *names))
    y = builder.emit(Map(function, tuple(refs)))
    parts = DERIVATIVES[function](builder, d, tuple(refs), y)
    known = dict(zip((d, *refs), (arriving, *(g.detach() for g in operands))))
    return [None if part is None else run(builder, part, known) for part in parts]


def run(builder: AdjointBuilder, ref: Ref, known: dict[Ref, Tensor]) -> Tensor:
    """A value that consists of maps and numbers."""
    if ref not in known:
        op = builder.ops[ref]
        if isinstance(op, Number):
            assert isinstance(op.value, Const)
            known[ref] = torch.tensor(op.value.value, dtype=F64)
        else:
            assert isinstance(op, Map)
            operands = [run(builder, a, known).to(F64) for a in op.arguments]
            known[ref] = FUNCTIONS[op.function](*operands)
    return known[ref]


def counts(function: str) -> range:
    """How many arguments a row may have; the IR writes out all that a spec may leave out."""
    row = ELEMENTWISE[function]
    return range(row.min_arguments, len(row.parameters) + 1)


def agrees(function: str, operands: list[Tensor]) -> None:
    """Hold a row against autograd at these points."""
    value = TORCH.get(function, FUNCTIONS[function])(*operands)
    arriving = torch.linspace(-2, 3, len(value), dtype=F64)
    actual = derived(function, operands, arriving)
    assert len(actual) == len(operands)
    wanted = torch.autograd.grad(
        value, operands, arriving, allow_unused=True, materialize_grads=True
    )
    for position, (adjoint, right) in enumerate(zip(actual, wanted)):
        if position not in CONSTANT.get(function, ()):
            adjoint = torch.zeros_like(right) if adjoint is None else adjoint.expand(right.shape)
            torch.testing.assert_close(adjoint, right, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize(("function", "count"), [(f, n) for f in SMOOTH for n in counts(f)])
def test_agrees_with_autograd(function: str, count: int) -> None:
    agrees(function, arguments(function, count))


@pytest.mark.parametrize("function", SMOOTH)
def test_random_numbers(function: str) -> None:
    count = counts(function)[-1]
    agrees(function, [(torch.rand(50, dtype=F64) + 0.1).requires_grad_() for _ in range(count)])


def test_every_operation_has_a_row_or_a_formula() -> None:
    assert set(DERIVATIVES) | set(COMPOSITIONS) == set(ELEMENTWISE)


@pytest.mark.parametrize("function", sorted(n for n, row in ELEMENTWISE.items() if row.boolean))
def test_nothing_flows_through_a_comparison(function: str) -> None:
    operands = [torch.ones(3, dtype=F64), torch.zeros(3, dtype=F64)]
    assert derived(function, operands, torch.ones(3, dtype=F64)) == [None, None]


def test_a_square_has_one_part() -> None:
    """Twice d times x, where two parts would be computed and added up."""
    builder = AdjointBuilder(program := lowered("input x[N], d[N]\noutput x * d"))
    for let in program.body:
        builder.copy(let)
    y = builder.map("mul", "x", "x")
    actual, none = DERIVATIVES["mul"](builder, "d", ("x", "x"), y)
    assert actual is not None and none is None
    known = {"x": torch.tensor([3.0], dtype=F64), "d": torch.tensor([5.0], dtype=F64)}
    assert run(builder, actual, known).tolist() == [30.0]


ODD = {
    "root of NaN is NaN": ("root", (NAN,)),
    "0^-1 falls without end as the exponent grows": ("pow", (0.0, -1.0)),
}


@pytest.mark.parametrize("why", ODD)
def test_odd_points(why: str) -> None:
    function, point = ODD[why]
    agrees(function, [torch.tensor([p], dtype=F64).requires_grad_() for p in point])
