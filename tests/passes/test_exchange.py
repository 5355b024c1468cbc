"""Programs for axes that are divided among processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from conftest import PROGRAMS
from programs import after, lowered

from metanorm.ir.division import exchanges
from metanorm.ir.nodes import Exchange, Let, Map, Pool
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.ir.verify import IllegalProgram, verify
from metanorm.passes.divided import divided
from metanorm.passes.exchange import CannotDivide, exchange
from metanorm.passes.pipeline import optimize

BATCH = "input x[N, C, *S]\noutput x - mean(x over N, *S)"


def test_a_mean_is_the_sum_and_the_count_of_all_pieces() -> None:
    assert after(BATCH, partial(exchange, divided=["N"])) == (
        "%1 : [] = count(over N, S)\n"
        "%2 : [] = exchange(%1 over N)\n"
        "%3 : [C] = gaps(x over N, S)\n"
        "%4 : [C] = exchange(%3 over N)\n"
        "%5 : [C] = mean from %2, %4\n"
        "%6 : [N, C, S] = sub(x, %5)\n"
        "output %6"
    )


def test_what_is_pooled_within_a_piece_stays_as_it_is() -> None:
    text = "input x[N, C, *S]\noutput x - mean(x over C, *S)"
    assert after(text, partial(exchange, divided=["N"])) == after(text)


def test_one_message_goes_over_all_divided_axes_of_a_pool() -> None:
    program = exchange(lowered(BATCH), ["N", "S"])
    assert {op.axes for op in exchanges(program).values()} == {("N", "S")}


def test_a_largest_value_is_that_of_all_pieces_and_shared_by_its_ties() -> None:
    text = "input x[N, C], w[N] = 1\noutput x - max(x over N) * min(x over N weight w)"
    actual = after(text, optimize, partial(exchange, divided=["N"]))
    assert (
        "%2 : [C] = ties(x about %1 over N)\n%3 : [C] = exchange max(%1 over N ties %2)" in actual
    )
    assert "%6 : bool[N] = ne(w, 0)\n%7 : [C] = ties(x about %5 over N where %6)" in actual
    assert "%8 : [C] = exchange min(%5 over N ties %7)" in actual


def test_a_softmax_is_a_largest_value_and_a_sum() -> None:
    text = "input x[N, C]\noutput softmax(x over C)"
    assert after(text, optimize, partial(exchange, divided=["C"])) == (
        "%1 : [N] = max(x over C)\n"
        "%2 : [N] = stop(%1)\n"
        "%3 : [] = count(over C)\n"
        "%4 : [N] = exchange max(%2 over C ties %3)\n"
        "%5 : [N] = max from %4\n"
        "%6 : [N, C] = sub(x, %5)\n"
        "%7 : [N, C] = exp(%6)\n"
        "%8 : [N] = gaps(%7 over C)\n"
        "%9 : [N] = exchange(%8 over C)\n"
        "%10 : [N] = sum from %9\n"
        "%11 : [N, C] = div(%7, %10)\n"
        "output %11"
    )


def test_the_length_of_a_divided_axis_is_that_of_all_pieces() -> None:
    text = "input x[N, C]\noutput x * sqrt(size(N))"
    actual = after(text, optimize, partial(exchange, divided=["N"]))
    assert "exchange(%1 over N)" in actual and "count from" in actual
    assert "size(N)" not in actual


def test_cells_of_a_table_are_shared_and_those_of_graphs_are_not() -> None:
    domains = (
        "input x[N, C], domain: index[N] of K = num_domains\noutput x - mean(x over N: domain)"
    )
    graphs = "input x[V, C], batch: index[V]\noutput x - mean(x over V: batch)"
    assert "exchange" in after(domains, partial(exchange, divided=["N"]))
    assert "exchange" not in after(graphs, partial(exchange, divided=["V"]))


def test_statistics_of_statistics_weigh_what_they_were_measured_on() -> None:
    text = "input x[N, C, *S]\noutput x - mean(mean(x over *S)^2 over N)"
    actual = after(text, optimize, partial(exchange, divided=["N"]))
    assert actual.count("exchange(") == 2 and actual.count("size(S))") == 2


@pytest.mark.parametrize(
    ("lines", "axis", "reason"),
    [
        ("matrix M[N, N]\noutput x - mean(x over N: M)", "N", "by a matrix"),
        ("output x - mean(x over C: window(3))", "C", "a window needs neighbours"),
        ("output x - mean(x over C: causal)", "C", "those of other processes before it"),
        ("output x - median(x over N)", "N", "does not follow from those of its pieces"),
        ("output x * sparsestmax(x over C, radius = 1)", "C", "sparsestmax along an axis"),
        ("output x * position(C)", "C", "positions are counted along it"),
        ("output x * mean(x * x[C -> D] over D)", "C", "all pairs of C and D"),
    ],
)
def test_what_needs_the_whole_of_an_axis_is_refused(lines: str, axis: str, reason: str) -> None:
    text = f"input x[N, C]\n{lines}"
    if lines.startswith("matrix"):
        text = "input x[N, C], M: matrix[N, N]\noutput x - mean(x over N: M)"
    with pytest.raises(CannotDivide, match=reason):
        exchange(optimize(lowered(text)), [axis])


SOFT = "output x + softmax(v over C)"  # which keeps the axis from being split at its blocks


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (f"let v = mean(x over C: blocks(g))\n{SOFT}", {"C": "g"}),
        ("output x - mean(x over C: blocks(g))", {"C": "g"}),
        (f"let v = mean(x over C: blocks(2))\n{SOFT}", "is no argument"),
        ("output x - mean(x over C: blocks(2))", "is no argument"),
        (f"let v = g * mean(x over C: blocks(g))\n{SOFT}", "counts more than its blocks"),
        (
            "output x - mean(x over C: blocks(g)) - mean(x over T: blocks(g))",
            "counts more than its blocks",
        ),
        (
            f"let v = mean(x over C: blocks(g)) + mean(x over T: blocks(g))\n{SOFT}",
            "counts more than its blocks",
        ),
        (f"let v = mean(x over C: interleave(2))\n{SOFT}", "every so many positions"),
        (f"let v = mean(x over C: chunks(2))\n{SOFT}", {}),
    ],
)
def test_each_process_has_a_share_of_the_blocks(lines: str, expected: str | dict[str, str]) -> None:
    """By an argument that counts them and nothing else, whether or not the axis is split."""
    arguments = "g: int" if "(g)" in lines else "eps = 1e-5"
    known = divided(optimize(lowered(f"input x[N, C, T]\n{lines}", arguments)))
    assert known is not None
    if isinstance(expected, str):
        assert expected in known.refusals["C"]
    else:
        assert known.block_counts == expected and "C" not in known.refusals


def test_a_pool_of_cells_over_their_axis_takes_positions_of_all_processes() -> None:
    """Each position counts once, with the value of its cell, and each process has some of them."""
    text = (
        "input x[N, C, *S], label: index[N] of K = 3\n"
        "output x * mean(mean(x over N: label) over N) * rms(l1(x over N: label) over N: label, *S)"
    )
    program = exchange(optimize(lowered(text)), ["N", "S"])
    sent = [op.axes for op in exchanges(program).values()]
    assert ("N",) in sent and ("N", "S") in sent
    assert len([axes for axes in sent if axes == ("N",)]) >= 4  # two statistics, each in two steps


def test_samples_have_a_variant_of_their_own_where_it_sends_less() -> None:
    """A message over N and *S goes to the processes of N where N alone is divided."""
    text = "input x[N, C, *S]\noutput x - mean(x over N, *S)"
    division = divided(optimize(lowered(text)))
    assert division is not None
    assert [variant.axes for variant in division.variants] == [("N", "C", "S")]
    division = divided(optimize(lowered(f"{text} - mean(x over *S)")))
    assert division is not None
    assert [variant.axes for variant in division.variants] == [("N",), ("N", "C", "S")]


# ---- what the rules of the IR refuse


def without(program: Program, gone: str) -> Program:
    """The program with one exchange left out: whoever reads it reads the part."""
    part = exchanges(program)[gone].value
    body = [let for let in program.body if let.name != gone]
    return replace(
        program,
        body=tuple(replace(let, op=map_operands(let.op, {gone: part})) for let in body),
        outputs=tuple((n, part if ref == gone else ref) for n, ref in program.outputs),
    )


def doubled(program: Program, twice: str) -> Program:
    """The program with one exchange made twice."""
    body: list[Let] = []
    for let in program.body:
        body.append(replace(let, op=map_operands(let.op, {twice: "%twice"})))
        if let.name == twice:
            body[-1] = let
            assert isinstance(let.op, Exchange)
            body.append(replace(let, name="%twice", op=replace(let.op, value=twice)))
    return replace(program, body=tuple(body))


def variants() -> Iterator[tuple[str, Program]]:
    for name, program in PROGRAMS.items():
        known = divided(optimize(program), program)
        for variant in known.variants if known else ():
            if variant.exchanged:
                cut = " cut" if variant.labels else ""
                yield f"{name} {' '.join(variant.axes)}{cut}", variant.program


VARIANTS = dict(variants())


@pytest.mark.parametrize("name", VARIANTS)
def test_no_exchange_can_be_left_out_or_made_twice(name: str) -> None:
    program = VARIANTS[name]
    verify(program)
    assert exchanges(program)
    for ref in exchanges(program):
        with pytest.raises(IllegalProgram, match=r"a part of a |of a part and of a whole"):
            verify(without(program, ref))
        with pytest.raises(IllegalProgram, match="over what it is no part of"):
            verify(doubled(program, ref))


def with_exchange(program: Program, ref: str, **changed: Any) -> Program:
    """The program with one exchange that is another one."""
    body = tuple(
        replace(let, op=replace(let.op, **changed)) if let.name == ref else let
        for let in program.body
    )
    return replace(program, body=body)


@pytest.mark.parametrize("name", VARIANTS)
def test_no_exchange_can_be_of_another_kind(name: str) -> None:
    program = VARIANTS[name]
    for ref, op in exchanges(program).items():
        for kind in {"sum", "max", "min"} - {op.operation}:
            with pytest.raises(IllegalProgram, match=r"of what is a part of a"):
                verify(with_exchange(program, ref, operation=kind))


RANGE = "input x[N, C]\noutput (x - min(x over N)) * max(x over N)"


def test_the_elements_that_share_a_gradient_are_counted() -> None:
    program = exchange(optimize(lowered(RANGE)), ["N"])
    kinds = exchanges(program)
    (first, one), (last, _) = sorted(kinds.items(), key=lambda item: int(item[0][1:]))
    for ref, ties, reason in (
        (first, None, "without a count of its elements"),
        (last, one.value, "without a count of its elements"),
        (last, one.ties, "with the ties of another value"),
    ):
        with pytest.raises(IllegalProgram, match=reason):
            verify(with_exchange(program, ref, ties=ties))
    shares = exchange(optimize(lowered("input x[N, C]\noutput softmax(x over N)")), ["N"])
    ref = next(ref for ref, op in exchanges(shares).items() if not op.is_sum)
    local = next(let.name for let in shares.body if isinstance(let.op, Pool))
    with pytest.raises(IllegalProgram, match="with the ties of another value"):
        verify(with_exchange(shares, ref, value=local))  # which has a gradient


def test_a_largest_value_of_a_piece_is_read_by_nothing_else() -> None:
    program = exchange(optimize(lowered(RANGE)), ["N"])
    local = next(let for let in program.body if isinstance(let.op, Pool))
    halved = replace(local, name="%half", op=Map("add", (local.name, local.name)))
    with pytest.raises(IllegalProgram, match="is used as a whole"):
        verify(replace(program, body=(*program.body, halved)))


def test_an_exchange_over_another_axis_is_refused() -> None:
    program = exchange(lowered(BATCH), ["N"])
    ref, op = next(iter(exchanges(program).items()))
    body = tuple(
        replace(let, op=replace(op, axes=("C",))) if let.name == ref else let
        for let in program.body
    )
    with pytest.raises(IllegalProgram, match="over what it is no part of"):
        verify(replace(program, body=body))


def test_a_program_of_whole_axes_exchanges_nothing() -> None:
    program = exchange(lowered(BATCH), ["N"])
    with pytest.raises(IllegalProgram, match="no axis that is divided"):
        verify(replace(program, divided=()))
