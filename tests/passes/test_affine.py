"""Affine forms: which values have one, and what it is."""

from __future__ import annotations

import pytest
from programs import lowered

from metanorm.ir.aggregation import Ones
from metanorm.ir.dump import op_text
from metanorm.ir.nodes import Map
from metanorm.ir.partitions import Blocks
from metanorm.ir.scalar import Const
from metanorm.passes.affine import Affine, Form
from metanorm.passes.builder import Builder

INPUTS = "input x[N, C, T], y[N, C, T], a[N], b[C], wide[N, C, T], early: mask[N]\n"


def formed(output: str) -> tuple[Affine, Form]:
    """The forms of a program, and that of its output."""
    program = lowered(f"{INPUTS}output {output}")
    builder = Builder(program)
    affine = Affine(builder)
    for let in program.body:
        ref = builder.copy(let)
        form = affine.derive(builder.ops[ref])
        if form is not None:
            affine.forms[ref] = form
    return affine, affine.of(builder.value_map[program.outputs[0][1]])


def written(affine: Affine, form: Form) -> dict[str, str]:
    """The coefficients that there are, as the operations behind them."""
    ops = affine.b.ops

    def text(ref: str) -> str:
        op = ops[ref]
        if isinstance(op, Map):
            return f"{op.function}({', '.join(text(a) for a in op.arguments)})"
        return op_text(op).removeprefix("input ")

    parts = {"source": text(form.source)}
    parts |= {"scale": " * ".join(text(s) for s in form.scale)} if form.scale else {}
    for name in ("centre", "shift", "guard", "other"):
        ref = getattr(form, name)
        parts |= {name: text(ref)} if ref is not None else {}
    return parts


FORMS = {
    "x + a": {"shift": "a"},
    "a + x": {"shift": "a"},
    "x - a": {"centre": "a"},
    "a - x": {"scale": "-1", "shift": "a"},
    "x * a": {"scale": "a"},
    "a * x": {"scale": "a"},
    "x / a": {"scale": "div(1, a)"},
    "-x": {"scale": "-1"},
    "(x - a) * b": {"centre": "a", "scale": "b"},
    "(x - a) * b + x * a": {
        "centre": "stop(a)",
        "scale": "add(b, a)",
        "shift": "add(mul(sub(stop(a), a), b), mul(stop(a), a))",
    },
    "-where(early, x - a, b)": {
        "guard": "early",
        "centre": "a",
        "scale": "-1",
        "other": "neg(b)",
    },
    "(x + a) * b": {"centre": "neg(a)", "scale": "b"},
    "x * a + b": {"scale": "a", "shift": "b"},
    "(x * a + b) * a": {"scale": "mul(a, a)", "shift": "mul(b, a)"},
    "x - a - b": {"centre": "add(a, b)"},
    "x - a + b": {"centre": "sub(a, b)"},
    "x + a - b": {"shift": "sub(a, b)"},
    "x * a + x * b": {"scale": "add(a, b)"},
    "x * a - x": {"scale": "add(a, -1)"},
    "where(early, x - a, 0)": {"centre": "a", "guard": "early"},
    "where(early, x, b)": {"guard": "early", "other": "b"},
    "where(early, x, b) * a": {"scale": "a", "guard": "early", "other": "mul(b, a)"},
    "where(early, x - a, b) + a": {
        "centre": "a",
        "shift": "a",
        "guard": "early",
        "other": "add(b, a)",
    },
}


@pytest.mark.parametrize("output", FORMS)
def test_form(output: str) -> None:
    affine, form = formed(output)
    assert written(affine, form) == {"source": "x", **FORMS[output]}


NO_FORM = (
    "tanh(x)",
    "x * y",
    "x + y",
    "a / x",
    "x * wide",
    "x^2",
    "x * mean(x over N) * mean(x over C) * mean(x over T)",
    "where(x > 0, x, 0)",
    "where(early, a, x)",
    "where(early, where(early, x, 0), 0)",
    "mode(train: x, eval: 2 * x)",
    "mode(train: 2 * x, eval: 2 * y)",
    "stop(x)",
)


@pytest.mark.parametrize("output", NO_FORM)
def test_what_is_not_affine_in_one_value_is_its_own_source(output: str) -> None:
    _, form = formed(output)
    assert form.trivial


def test_constant_within_pools() -> None:
    affine, form = formed("(x - a) * b")
    assert affine.is_constant(form, "T", Ones())
    assert not affine.is_constant(form, "N", Ones())
    assert not affine.is_constant(form, "C", Blocks(Const(2)))
    affine, form = formed("x - mean(x over C: blocks(2))")
    assert affine.is_constant(form, "C", Blocks(Const(2)))
    assert affine.is_constant(form, "C", Blocks(Const(4))), "a part of a block is in one block"
    assert not affine.is_constant(form, "C", Ones())


def test_the_form_at_its_centre_is_its_shift() -> None:
    affine, form = formed("(x - a) * b + b")
    assert form.centre is not None
    assert affine.at(form, form.centre) == form.shift
