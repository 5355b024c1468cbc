"""The program of the gradient: what it computes, what it reads, and what has none."""

from __future__ import annotations

import pytest
from programs import after, lowered, same

from metanorm.passes.backward import NotDerivable, backward
from metanorm.passes.reductions import reductions
from metanorm.passes.simplify import simplify

# A norm, and the gradients of what it reads: outputs are in the order in which they are found.
DERIVED = {
    "input x[N, C]\noutput x - mean(x over N)": """
        %1 : [N, C] = neg(d.output)
        %2 : [C] = sum(%1 over N)
        %3 : [] = count(over N)
        %4 : [C] = div(%2, %3)
        %5 : [N, C] = add(d.output, %4)
        output %5
    """,
    # Batch norm: the variance is kept, and so is the mean, which its gradient needs.
    "input x[N, C]\noutput x * var(x over N)": """
        %1 : [N, C] = mul(d.output, kept.3)
        %2 : [N, C] = mul(d.output, x)
        %3 : [C] = sum(%2 over N)
        %4 : [] = count(over N)
        %5 : [C] = div(%3, %4)
        %6 : [C] = mul(2, %5)
        %7 : [N, C] = sub(x, kept.4)
        %8 : [N, C] = mul(%6, %7)
        %9 : [N, C] = add(%1, %8)
        output %9
    """,
    # Layer norm: a parameter is broadcast, so that its gradient is summed.
    "input x[N, C]\nparam w[C] = 1\noutput (x - mean(x over C)) * w": """
        %1 : [N, C] = sub(x, kept.3)
        %2 : [N, C] = mul(d.output, w)
        %3 : [N, C] = mul(d.output, %1)
        %4 : [C] = sum(%3 over N)
        %5 : [N, C] = neg(%2)
        %6 : [N] = sum(%5 over C)
        %7 : [] = count(over C)
        %8 : [N] = div(%6, %7)
        %9 : [N, C] = add(%2, %8)
        output %4
        output %9
    """,
    # Graph norm: groups have as many rows as they have, and give back to each.
    "input x[V, C], batch: index[V]\noutput x - mean(x over V: batch)": """
        %1 : [V, C] = neg(d.output)
        %2 : [V/batch, C] = sum(%1 over V: batch)
        %3 : [V/batch] = count(over V: batch)
        %4 : [V/batch, C] = div(%2, %3)
        %5 : [V, C] = add(d.output, %4)
        output %5
    """,
    # What a mask hides gets nothing.
    "input x[N, C], k: mask[N]\noutput x * sum(x over N where k)": """
        %1 : [N, C] = mul(d.output, kept.3)
        %2 : bool[N, C] = ne(d.output, 0)
        %3 : [N, C] = where(%2, x, 0)
        %4 : [N, C] = mul(d.output, %3)
        %5 : [C] = sum(%4 over N)
        %6 : [N, C] = where(k, %5, 0)
        %7 : [N, C] = add(%1, %6)
        output %7
    """,
    # Equal ones share; zero times what is not finite is NaN, as in `torch.amax`.
    "input x[N, C]\noutput x * max(x over N)": """
        %1 : [N, C] = mul(d.output, kept.3)
        %2 : [N, C] = mul(d.output, x)
        %3 : [C] = sum(%2 over N)
        %4 : bool[N, C] = eq(x, kept.3)
        %5 : [N, C] = where(%4, 1, 0)
        %6 : [C] = sum(%5 over N)
        %7 : [C] = div(%3, %6)
        %8 : [N, C] = mul(%5, %7)
        %9 : [N, C] = add(%1, %8)
        output %9
    """,
    "input x[N, C]\nparam w[R = 2] = 1\noutput x * w[1]": """
        %1 : [] = w[R: 1]
        %2 : [N, C] = mul(d.output, %1)
        %3 : [N, C] = mul(d.output, x)
        %4 : [] = sum(%3 over N, C)
        %5 : [R] = position(R)
        %6 : bool[R] = eq(%5, 1)
        %7 : [R] = where(%6, %4, 0)
        output %7
        output %2
    """,
    "input x[N, C]\noutput x * stop(mean(x over N))": """
        %1 : [C] = stop(kept.4)
        %2 : [N, C] = mul(d.output, %1)
        output %2
    """,
    # How much an element counts is worth what it has above the mean; NaN that weighs nothing, as
    # much as zero.
    "input x[N, C], w[N]\noutput x - mean(x over N weight w)": """
        %1 : [N, C] = neg(d.output)
        %2 : [C] = sum(%1 over N)
        %3 : [] = count(over N weight w)
        %4 : [C] = div(%2, %3)
        %5 : bool[] = eq(%3, 0)
        %6 : [C] = where(%5, 0, %4)
        %7 : [N, C] = mul(x, 0)
        %8 : bool[N, C] = eq(%7, 0)
        %9 : bool[N] = ne(w, 0)
        %10 : [N, C] = where(%8, x, 0)
        %11 : [N, C] = where(%9, x, %10)
        %12 : [N, C] = sub(%11, kept.3)
        %13 : [N, C] = mul(%6, %12)
        %14 : [N] = sum(%13 over C)
        %15 : [N, C] = mul(%6, w)
        %16 : [N, C] = add(d.output, %15)
        output %14
        output %16
    """,
    "input x[N, C]\noutput x, m = mean(x over N)": """
        %1 : [] = count(over N)
        %2 : [C] = div(d.m, %1)
        %3 : [N, C] = add(d.x, %2)
        output %3
    """,
}


@pytest.mark.parametrize("text", DERIVED)
def test_derived(text: str) -> None:
    same(after(text, simplify, reductions, lambda p: backward(p).program), DERIVED[text])


REFUSED = {
    "mean of windows, which overlap": "x - mean(x over T: window(3))",
    "lookup": "x * table[i]",
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused(why: str) -> None:
    inputs = "input x[N, T], w[T], k: mask[T], i: index[N] of R = 3\nparam table[R] = 1\n"
    with pytest.raises(NotDerivable, match=why):
        backward(simplify(lowered(f"{inputs}output {REFUSED[why]}")))
