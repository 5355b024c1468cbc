"""Hyperparameters that are one of several strings: `mode: "node" | "graph" = "node"`.

A spec only compares such a hyperparameter. Each string that it is compared with is a flag of the
program, such as `mode_is_graph`, and the compiler treats it as any other flag. `mode != "graph"` is
one less that flag: as a flag of its own, it would double the kernels.
"""

from __future__ import annotations

import re

from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.program import Argument, Test
from metanorm.ir.scalar import Apply, Const, Hyper
from metanorm.semantics.lowering import Lowering
from metanorm.semantics.values import POISON, Choice, Tensor, Text, Value
from metanorm.source import Span
from metanorm.syntax import ast

VALID_TEXT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_. -]*[A-Za-z0-9])?")
EQUALITY_OPERATORS = ("==", "!=")


def choices_from_ast(hyper: ast.Hyper, low: Lowering) -> tuple[str, ...]:
    """The strings of a choice. Reports doubles, and characters that a name cannot have."""
    texts: list[str] = []
    for choice in hyper.choices:
        wrong = ""
        if choice.value in texts:
            wrong = "twice the same string"
        elif not VALID_TEXT.fullmatch(choice.value):
            wrong = "a string with other characters"
        if wrong:
            hint = (
                'write each string once, of letters, digits, `_`, `-` and `.`: `"node" | "graph"`'
            )
            low.problems.add(
                WrongKind(choice.span, wrong, "strings that differ, in plain words", hint)
            )
        texts.append(choice.value)
    return tuple(dict.fromkeys(texts))


def lower_comparison(left: Value, right: Value, expr: ast.Compare, low: Lowering) -> Value:
    """Lower a comparison with a string or a choice, such as `mode == "graph"`."""
    text, other = (left, right) if isinstance(left, Text) else (right, left)
    hint = 'a hyperparameter is compared with one of its strings: `mode == "graph"`'
    if not isinstance(text, Text) or not isinstance(other, (Text, Choice)):
        what = "a choice" if isinstance(text, Choice) or isinstance(other, Choice) else "a string"
        low.problems.add(WrongKind(expr.span, what, "a choice beside a string", hint))
        return POISON
    if expr.operator not in EQUALITY_OPERATORS:
        hint = "strings are equal or not: `==` or `!=`"
        low.problems.add(
            WrongKind(expr.span, f"`{expr.operator}`", listing(EQUALITY_OPERATORS, "or"), hint)
        )
        return POISON
    equal = expr.operator == "=="
    if isinstance(other, Text):  # the caller has chosen this string
        return low.number(float((text.text == other.text) == equal), expr.span)
    if text.text not in other.texts:
        allowed = listing([f'"{t}"' for t in other.texts], "or")
        span = expr.left.span if isinstance(expr.left, ast.Text) else expr.right.span
        hint = f"`{other.argument}` is never anything else"
        low.problems.add(WrongKind(span, f'`"{text.text}"`', allowed, hint))
        return POISON
    name = _flag_name(Test(other.argument, text.text), low)
    flag = low.number(Hyper(name), expr.span)
    if equal:
        return flag
    opposite = low.number(Apply("sub", (Const(1), Hyper(name))), expr.span)
    low.opposites[opposite.ref] = flag
    return opposite


def lower_choice(condition: Tensor, a: Tensor, b: Tensor, span: Span, low: Lowering) -> Tensor:
    """Lower `where(condition, a, b)`; by the flag itself if the condition is its opposite."""
    flag = low.opposites.get(condition.ref)
    if flag is not None:
        condition, a, b = flag, b, a
    return low.map("where", condition, a, b, span=span)


def _flag_name(test: Test, low: Lowering) -> str:
    """The name of the flag of a comparison; declares the flag if it is new."""
    existing = next((flag for flag in low.flags if flag.test == test), None)
    if existing is not None:
        return existing.name
    word = re.sub(r"\W", "_", test.text)
    name = f"{test.of}_is_{word}"
    while any(flag.name == name for flag in low.flags):  # "a-b" and "a_b"
        name += "_"
    low.flags.append(Argument(name, "bool", False, required=False, test=test))
    return name
