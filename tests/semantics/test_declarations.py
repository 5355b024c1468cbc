"""What a norm declares: arguments in their order, switches, buffers, checks."""

from __future__ import annotations

import pytest

from metanorm.frontend import check
from metanorm.ir.aggregation import Ones
from metanorm.ir.program import Divisible, Equal, MinimumPoolSize, Program
from metanorm.ir.scalar import Const, Hyper
from metanorm.source import Source


def declared(lines: str, arguments: str = "eps = 1e-5") -> Program:
    text = f"norm T({arguments}) {{\n{lines}\n}}\n"
    checked = check({"t.norm": Source.of("t.norm", text)}, ["t.norm"])
    assert checked.ok, checked.diagnostics
    return checked.norms["t.norm"][0].program


def names(program: Program) -> list[str]:
    return [argument.name for argument in program.arguments]


def test_arguments_without_default_come_first_then_sizes_then_the_rest() -> None:
    program = declared(
        "input x[N, C = width, D]\nparam u[D] = 1, v[C] = 1\n"
        "output x * u * v * scale * count + mean(x over D: m) + eps",
        "eps = 1e-5, scale: float, m: matrix[D, D] = eye, count: int = 3",
    )
    assert names(program) == ["scale", "width", "d", "eps", "m", "count"]
    required = [a.name for a in program.arguments if a.required]
    assert required == ["scale", "width", "d"]
    kinds = {a.name: a.type for a in program.arguments}
    assert kinds == {
        "scale": "float",
        "width": "size",
        "d": "size",
        "eps": "float",
        "m": "matrix",
        "count": "int",
    }


@pytest.mark.parametrize(
    ("statement", "sized"),
    [
        ("param w[C] = 1\noutput x * w", ["c"]),
        ("buffer b[C] = 1\nupdate b = mean(x over N)\noutput x * b", ["c"]),
        ("reduce N\ntrack 0.1", ["c"]),
        ("reduce C", []),
        ("output x * size(C)", []),
        ("param w = 1\noutput x * w", []),
    ],
)
def test_an_axis_is_sized_where_state_lives_on_it(statement: str, sized: list[str]) -> None:
    program = declared(f"input x[N, C]\n{statement}")
    assert [a.name for a in program.arguments if a.type == "size"] == sized


SWITCHES = {
    "reduce N\naffine C": [("affine", True, False), ("bias", True, True)],
    "reduce N\naffine weight[C]": [("affine", True, False)],
    "reduce N\naffine C off": [("affine", False, False), ("bias", True, True)],
    "reduce C\naffine C": [("elementwise_affine", True, False), ("bias", True, False)],
    "reduce N\ntrack 0.1": [("track_running_stats", True, False)],
    "reduce N\ntrack 0.1 off": [("track_running_stats", False, False)],
    "reduce N": [],
}


@pytest.mark.parametrize("clauses", SWITCHES)
def test_switches(clauses: str) -> None:
    program = declared(f"input x[N, C]\n{clauses}")
    switches = [(s.name, s.default, s.keyword_only) for s in program.switches]
    assert switches == SWITCHES[clauses]


def test_running_statistics_begin_at_zero_and_one() -> None:
    program = declared("input x[N, C]\nreduce N\ntrack 0.1")
    assert [(b.name, b.dims, b.init, b.tracked) for b in program.buffers] == [
        ("running_mean", ("C",), Const(0), True),
        ("running_var", ("C",), Const(1), True),
    ]
    assert all(u.averages and u.momentum == Const(0.1) for u in program.updates)


def test_parameters_keep_their_interval_and_what_their_absence_means() -> None:
    program = declared("input x[N, C]\nparam g[C] = 0.5 in [0, 1]\nreduce N\naffine C")
    params = {p.name: p for p in program.params}
    assert (params["g"].low, params["g"].high) == (Const(0), Const(1))
    assert (params["weight"].absent, params["bias"].absent) == (1, 0)


CHECKS = {
    "reduce C: blocks(g)": [Divisible("C", Hyper("g"))],
    "reduce N: chunks(2)": [Divisible("N", Const(2))],
    "reduce N\ntrack 0.1": [MinimumPoolSize((("N", Ones()),), True)],
    "output x - mean(x over C)": [],
}


@pytest.mark.parametrize("clauses", CHECKS)
def test_checks(clauses: str) -> None:
    program = declared(f"input x[N, C]\n{clauses}", "g: int, eps = 1e-5" if "g" in clauses else "")
    assert [c for c in program.checks if type(c) is not Equal] == CHECKS[clauses]


def test_a_square_matrix_asks_for_equal_lengths() -> None:
    program = declared("input k[N, M]\nlet d[N] = 1\noutput k * d * d[N -> M]", "")
    assert Equal("N", "M") in program.checks


def test_an_index_that_is_compared_has_to_be_given_and_names_no_groups() -> None:
    program = declared(
        "input x[V, T], lengths: index[V], batch: index[V], kind: index[V] of K = 3\n"
        "let own = (position(T) < lengths) + (batch == kind)\n"
        "output x - own * mean(x over V: batch)"
    )
    sorts = {i.name: (i.sort, i.required) for i in program.inputs[1:]}
    assert sorts == {"lengths": ("whole", True), "batch": ("index", True), "kind": ("index", True)}
    free = declared("input x[V, T], batch: index[V]\noutput x - mean(x over V: batch)")
    assert not free.inputs[1].required
