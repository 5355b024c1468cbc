"""Coarse moments from fine ones, and what may not be shared."""

from __future__ import annotations

import pytest
from programs import after, same

from metanorm.passes.moments import moments
from metanorm.passes.share import share
from metanorm.passes.simplify import simplify
from metanorm.passes.unbiased import unbiased

INPUTS = """input x[N, C, *S], y[N, C, *S], k: mask[N, *S], l: mask[N, *S], w[N, *S], a[N],
    U: matrix[N, N], V: matrix[C, C]
"""
# Statistics of one norm, and how they are computed.
SHARED = {
    "mean(x over *S); mean(x over C, *S)": """
        %1 : [N, C] = mean(x over S)
        %2 : [N] = mean(%1 over C)
    """,
    "var(x over *S); var(x over C, *S)": """
        %1 : [N, C] = mean(x over S)
        %2 : [N, C] = var(x over S)
        %between : [N] = var(%1 over C)
        %within : [N] = mean(%2 over C)
        %3 : [N] = add(%within, %between)
    """,
    # The finest cells may be those of no pool.
    "mean(x over C, *S); mean(x over N, *S)": """
        %1 : [N, C] = mean(x over S)
        %2 : [N] = mean(%1 over C)
        %3 : [C] = mean(%1 over N)
    """,
    "mean(x over C: blocks(4)); mean(x over C)": """
        %1 : [N, C/blocks(4), S] = mean(x over C: blocks(4))
        %2 : [N, S] = mean(%1 over C/blocks(4))
    """,
    "mean(x over C: blocks(4)); mean(x over C: blocks(2))": """
        %1 : [N, C/blocks(4), S] = mean(x over C: blocks(4))
        %2 : [N, C/blocks(2), S] = mean(%1 over C/blocks(4): blocks(2))
    """,
    "mean(x over *S); var(x over C, *S, about = a)": """
        %1 : [N, C] = mean(x over S)
        %2 : [N, C] = var(x over S)
        %between : [N] = var(%1 over C)
        %3 : [N] = mean(%1 over C)
        %within : [N] = mean(%2 over C)
        %4 : [N] = add(%within, %between)
        %5 : [N] = sub(%3, a)
        %6 : [N] = mul(%5, %5)
        %7 : [N] = add(%4, %6)
    """,
    # A given matrix is applied to the table of cells, one axis after the other.
    "mean(x over C: V, *S)": """
        %1 : [N, C] = mean(x over S)
        %V_mean : [N, C] = mean(%1 over C: V)
    """,
    "var(x over N: U, C: V, *S)": """
        %1 : [N, C] = mean(x over S)
        %2 : [N, C] = var(x over S)
        %between : [N, C] = var(%1 over N: U)
        %U_mean : [N, C] = mean(%1 over N: U)
        %within : [N, C] = mean(%2 over N: U)
        %3 : [N, C] = add(%within, %between)
        %between2 : [N, C] = var(%U_mean over C: V)
        %within2 : [N, C] = mean(%3 over C: V)
        %4 : [N, C] = add(%within2, %between2)
    """,
}


def statistics(several: str) -> str:
    """How a norm computes these statistics."""
    lines = several.split("; ")
    outputs = [f"s{number} = {statistic}" for number, statistic in enumerate(lines)]
    text = after(f"{INPUTS}output x, {', '.join(outputs)}", simplify, share)
    return "\n".join(text.split("\n")[: -len(lines) - 1])


@pytest.mark.parametrize("several", SHARED)
def test_shared(several: str) -> None:
    same(statistics(several), SHARED[several])


NOT_SHARED = {
    "one pool alone": "mean(x over C); var(x over C)",
    "no common cells": "mean(x over C, *S); mean(x over N)",
    "another value": "mean(x over *S); mean(y over C, *S)",
    "another mask": "mean(x over *S where k); mean(x over N, *S where l)",
    "a mask, and none": "mean(x over *S where k); mean(x over N, *S)",
    "the same mask on coarser cells": "mean(x over *S where k); mean(x over N, *S where k)",
    "weights": "mean(x over *S weight w); mean(x over N, *S weight w)",
    "another ddof": "var(x over *S, ddof = 1); var(x over N, *S)",
    "extremes": "max(x over *S); max(x over N, *S)",
    "sums": "sum(x over *S); sum(x over N, *S)",
    "blocks and chunks": "mean(x over C: blocks(4)); mean(x over C: chunks(2))",
    "blocks that may not fit": "mean(x over C: blocks(4)); mean(x over C: blocks(3))",
}


@pytest.mark.parametrize("why", NOT_SHARED)
def test_not_shared(why: str) -> None:
    outputs = ", ".join(f"s{n} = {s}" for n, s in enumerate(NOT_SHARED[why].split("; ")))
    text = f"{INPUTS}output x, {outputs}"
    assert after(text, simplify, share) == after(text, simplify)


def test_a_flag_chooses_what_is_measured() -> None:
    """No call needs both pools, so that neither is made of the other; one that all need is not."""
    text = "input x[N, C, *S]\noutput x - where(fine, mean(x over *S), mean(x over N, *S))"
    arguments = "fine = true"
    assert after(text, simplify, share, arguments=arguments) == after(
        text, simplify, arguments=arguments
    )
    always = text + " + mean(x over *S)"
    assert after(always, simplify, share, arguments=arguments) != after(
        always, simplify, arguments=arguments
    )


def test_blocks_of_a_hyperparameter_are_not_known_to_fit() -> None:
    text = "input x[N, C]\noutput x, a = mean(x over C: blocks(g)), b = mean(x over C: blocks(2))"
    assert after(text, simplify, share, arguments="g: int") == after(
        text, simplify, arguments="g: int"
    )


def test_an_unbiased_variance_is_shared_once_it_is_written_by_the_biased_one() -> None:
    text = "input x[N, C, *S]\noutput x, a = var(x over *S, ddof = 1), b = var(x over N, *S)"
    same(
        after(text, simplify, unbiased, moments, share),
        """
        %1 : [N, C] = mean(x over S)
        %2 : [N, C] = var(x over S)
        %3 : [] = count(over S)
        %4 : [N, C] = unbiased(%2, %3)
        %between : [C] = var(%1 over N)
        %within : [C] = mean(%2 over N)
        %5 : [C] = add(%within, %between)
        output x
        output %4
        output %5
        """,
    )


def test_a_raw_second_moment_alone_is_measured_as_it_is() -> None:
    text = "input x[N, C], a[N]\noutput x * mean((a * x)^2 over C)"
    assert after(text, simplify, moments, share) == after(text, simplify, moments)


def test_groups_count_by_their_size() -> None:
    text = "input x[V, C], batch: index[V]\noutput x, a = mean(x over V: batch), b = mean(x over V)"
    same(
        after(text, simplify, share),
        """
        %1 : [V/batch, C] = mean(x over V: batch)
        %2 : [V/batch] = count(over V: batch)
        %3 : [C] = mean(%1 over V/batch weight %2)
        output x
        output %1
        output %3
        """,
    )


def test_groups_of_two_indices_have_no_common_cells() -> None:
    text = """
        input x[V, C], a: index[V], b: index[V]
        output x * mean(x over V: a) * mean(x over V: b)
    """
    assert after(text, simplify, share) == after(text, simplify)


def test_names_of_the_spec_are_kept() -> None:
    text = """
        input x[N, C, *S]
        let inner = moments(x over *S)
        let outer = moments(x over C, *S)
        output (x - outer.mean - inner.mean) * outer.var * inner.var
    """
    actual = after(text, simplify, share)
    assert "inner_mean : [N, C] = mean(x over S)" in actual
    assert "outer_mean : [N] = mean(inner_mean over C)" in actual
    assert "outer_var : [N] = add(%within, %between)" in actual
