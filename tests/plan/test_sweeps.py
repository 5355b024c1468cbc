"""The looks at the data of each norm: how many, what they read, what need not wait for what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from textwrap import dedent

import pytest
from conftest import PROGRAMS

from metanorm.frontend import check
from metanorm.ir.nodes import Map
from metanorm.ir.program import Program
from metanorm.nest.eligibility import unsupported
from metanorm.passes.directions import directions
from metanorm.passes.pipeline import optimize
from metanorm.plan.sweeps import Plan, plan_sweeps
from metanorm.source import Source


@cache
def plans(name: str, variant: str = "train") -> tuple[Plan, Plan]:
    """The plans of a norm of the library, forward and backward."""
    directions_by_variant = {d.variant: d for d in directions(optimize(PROGRAMS[name]))}
    return plan_sweeps(directions_by_variant[variant].forward), plan_sweeps(
        directions_by_variant[variant].backward
    )


def planned(text: str) -> Plan:
    """The plan of a norm with these lines."""
    return plan_sweeps(optimized(text))


def optimized(text: str) -> Program:
    """The program of a norm with these lines, after all passes."""
    whole = f"norm T(eps = 1e-5) {{\n{dedent(text)}\n}}\n"
    checked = check({"t.norm": Source.of("t.norm", whole)}, ["t.norm"])
    assert checked.ok, checked.diagnostics
    return optimize(checked.norms["t.norm"][0].program)


@dataclass(frozen=True)
class Expected:
    """Of both directions: what each sweep reads, and what is measured on which cells.

    A `*` marks what is terminal. The islands are those of either direction.
    """

    reads: tuple[str, str]
    islands: str
    forward: str
    backward: str


TWICE = ("x; x", "x d.output; x d.output")
NORMS = {
    # In training: measure, then write. Backward the same, with the gradient beside x.
    ("BatchNorm", "train"): Expected(TWICE, "C", "var[C]", "sum[C] sum[C]"),
    # The sums of a parameter's gradient lie across the islands, so nothing may wait for them.
    ("LayerNorm", "train"): Expected(TWICE, "B", "var[B]", "sum[B] *sum[D] sum[B] *sum[D]"),
    ("GroupNorm", "train"): Expected(
        TWICE,
        "N C.outer",
        "var[N C.outer]",
        "sum[N C.outer C.inner] sum[N C.outer C.inner]",
    ),
    ("InstanceNorm", "train"): Expected(TWICE, "N C", "var[N C]", "sum[N C] sum[N C]"),
    # Three statistics from one table of cells; over all samples and channels they meet.
    ("SwitchNorm", "train"): Expected(TWICE, "", "var[N C]", "sum[N C] sum[N C]"),
    # So may they by given matrices, which mix the cells of both axes.
    ("MetaNorm", "train"): Expected(TWICE, "", "var[N C]", "sum[N C] sum[N C]"),
    ("SwitchNorm", "eval"): Expected(TWICE, "N", "var[N C]", "sum[N C] sum[N C]"),
    ("GraphNorm", "train"): Expected(
        TWICE, "V/batch C", "var[V/batch C]", "sum[V/batch C] sum[V/batch C]"
    ),
    # With running statistics there is nothing to wait for.
    ("BatchNorm", "eval"): Expected(("x", "x d.output"), "N C S", "", "*sum[C] *sum[C]"),
    # As each sample has statistics of its own in training, so has it here: the mode has their axes.
    ("InstanceNorm", "eval"): Expected(("x", "x d.output"), "N C S", "", "*sum[C] *sum[N C]"),
    # No weights here: dx is all that is wanted, and one sum of squares is enough.
    ("PairNorm", "train"): Expected(
        TWICE, "V/batch", "var[V/batch D]", "sum[V/batch D] sum[V/batch]"
    ),
}


def measured(sweep_plan: Plan) -> str:
    """The reductions of all sweeps."""
    return " ".join(
        f"{'*' * r.terminal}{r.kind}[{' '.join(r.cells)}]"
        for s in sweep_plan.sweeps
        for r in s.reductions
    )


@pytest.mark.parametrize(("name", "variant"), NORMS)
def test_looks_at_the_data(name: str, variant: str) -> None:
    expected = NORMS[name, variant]
    both_plans = plans(name, variant)
    assert (
        tuple("; ".join(" ".join(s.reads) for s in p.sweeps) for p in both_plans) == expected.reads
    )
    assert [" ".join(p.islands) for p in both_plans] == [expected.islands] * 2
    assert [measured(p) for p in both_plans] == [expected.forward, expected.backward]


@pytest.mark.parametrize(("name", "variant"), NORMS)
def test_only_the_last_sweep_writes(name: str, variant: str) -> None:
    for sweep_plan, output in zip(plans(name, variant), ("output", "d.x")):
        *others, last = sweep_plan.sweeps
        assert [n for n, _ in last.outputs] == [output]
        assert not any(s.outputs for s in others)


@pytest.mark.parametrize(("name", "variant"), NORMS)
def test_everything_has_one_place(name: str, variant: str) -> None:
    """Narrow values are computed once, after what they need; wide ones in each sweep anew."""
    for sweep_plan in plans(name, variant):
        computed = {let.name for let in sweep_plan.prologue}
        placed = [let.name for let in sweep_plan.prologue]
        for sweep in sweep_plan.sweeps:
            results = [ref for r in sweep.reductions for _, ref in r.results]
            placed += [*results, *(let.name for let in sweep.narrow)]
            computed |= set(placed)
        placed += [let.name for let in sweep_plan.epilogue]
        wide = {let.name for sweep in sweep_plan.sweeps for let in sweep.maps}
        assert len(placed) == len(set(placed))
        assert set(placed) | wide == {let.name for let in sweep_plan.program.body}
        assert not set(placed) & wide


def test_mean_and_variance_are_measured_together() -> None:
    (reduction,) = plans("BatchNorm")[0].sweeps[0].reductions
    assert [name for name, _ in reduction.results] == ["mean", "var"]


def test_what_updates_need_comes_last() -> None:
    """The unbiased variance goes into a buffer; the output does not wait for it."""
    forward, _ = plans("BatchNorm")
    (running_var,) = (u.value for u in forward.program.updates if u.buffer == "running_var")
    choice = forward.program.index.ops[running_var]  # v n / (n - 1) where n > 1, else v
    assert isinstance(choice, Map) and choice.function == "where"
    kept_alone = {running_var, choice.arguments[1]}
    assert kept_alone <= {let.name for let in forward.epilogue}
    assert kept_alone.isdisjoint(let.name for s in forward.sweeps for let in s.narrow)


MIXED = {"N: u": "C", "C: v": "N", "N: u, C: v": "", "C: v, N": "", "N": "C"}


@pytest.mark.parametrize("mixed", MIXED)
def test_axes_that_a_matrix_mixes_are_no_islands(mixed: str) -> None:
    over = f"{mixed}, *S"
    program = optimized(f"""
        input x[N, C, *S], u: matrix[N, N], v: matrix[C, C]
        output (x - mean(x over {over})) / (1 + var(x over {over}))
    """)
    (pair,) = directions(program, check=True)
    for direction in (pair.forward, pair.backward):
        assert " ".join(plan_sweeps(direction).islands) == MIXED[mixed]


def test_groups_of_an_index() -> None:
    forward, _ = plans("GraphNorm")
    assert (forward.group_index, forward.grouped_axis, forward.data_axes) == (
        "batch",
        "V",
        ("V", "C"),
    )
    assert plans("BatchNorm")[0].group_index is None


def test_a_statistic_of_a_statistic_takes_a_sweep_more() -> None:
    text = """
        input x[N, C], y[N, C]
        let   m = mean(x over C)
        output x * mean((x - m)^4 over C), z = sum(y over C)
    """
    sweep_plan = planned(text)
    assert [s.reads for s in sweep_plan.sweeps] == [("x", "y"), ("x",), ("x",)]
    assert sweep_plan.islands == ("N",)
    assert [r.terminal for s in sweep_plan.sweeps for r in s.reductions] == [False, True, False]


def test_a_pool_of_all_rows_joins_the_groups() -> None:
    sweep_plan = planned("""
        input x[V, C], a: index[V]
        output x - mean(x over V: a) - mean(tanh(x) over V)
    """)
    assert sweep_plan.islands == ("C",)


def test_a_mask_is_narrow() -> None:
    sweep_plan = planned("input x[N, C], k: mask[N]\noutput x - mean(x over N where k)")
    assert [s.reads for s in sweep_plan.sweeps] == [("x",), ("x",)]
    assert sweep_plan.sweeps[0].reductions[0].where == "k"


def test_a_mask_may_be_wide_where_its_value_is_not() -> None:
    """Either it is refused, or a sweep measures it."""
    text = "input x[N, C], a[N]\noutput x * mean(a over N where x > 0)"
    sweep_plan = planned(text)
    assert any(unsupported(sweep_plan)) or any(s.reductions for s in sweep_plan.sweeps)
