"""Hints for forms of Python and of torch that the language lacks, such as `x.mean()`.

The tokens before an unexpected one tell the form.
"""

from __future__ import annotations

from collections.abc import Sequence

from lark import Token

MODULES = frozenset("torch F nn np numpy jnp math tf".split())
STATISTICS = frozenset("sum mean var std rms max min norm amax amin median".split())
POOL_WORDS = ("REDUCE", "STAT", "OVER")  # token types of words before axes


def foreign_form_hint(token: Token, before: Sequence[Token], statement: str) -> str:
    """What to write instead; empty for an unknown form. `before` has the preceding tokens."""
    types = [t.type for t in before]
    if token.type == "LPAR" and types[-3:] == ["NAME", "DOT", "NAME"]:
        return _method_hint(str(before[-3]), str(before[-1]))
    if token.type == "LPAR" and types[-2:] == ["DOT", "NAME"]:
        return _method_hint("", str(before[-1]))
    if token.type == "LSQB" and types[-1:] == ["OVER"]:
        return "axes stand behind `over` without brackets: `mean(x over C, *S)`"
    if token.type == "LPAR" and types[-1:] == ["OVER"]:
        return "axes stand behind `over` without parentheses: `mean(x over C, *S)`"
    if token.type == "LPAR" and types[-1:] == ["REDUCE"]:
        return (
            "axes stand behind `reduce` without parentheses, each with its own pool: "
            "`reduce C: blocks(groups), *S`"
        )
    if token.type == "LPAR" and types[-2:] == ["EQUAL", "NAME"] and before[-1] == "size":
        return (
            "a length is a number or a name; an axis as long as `C = channels` is "
            "`D = channels` as well"
        )
    pool = next((t.type for t in reversed(before) if t.type in (*POOL_WORDS, "LPAR", "COLON")), "")
    if token.type == "STAR" and types[-1:] == ["NAME"] and pool in POOL_WORDS:
        return f"axes are separated by commas: `{before[-1]}, *S`"
    if token.type == "DOT" and types[-1:] in (["LSQB"], ["COMMA"], ["DOT"]):
        return "axes go by their names, wherever they stand: there is no `...`"
    if token.type in ("COLON", "COMMA") and types[-1:] == ["LSQB"]:
        return "one position is written `x[T = 0]`; all of an axis need not be written"
    if token.type == "LPAR" and statement in ("INPUT", "PARAM", "BUFFER") and "LSQB" in types:
        return "an axis is split by a statement: `axis C = (G = groups, D)`"
    return ""


def _method_hint(owner: str, name: str) -> str:
    if owner in MODULES:
        return f"functions stand by themselves, as in `sqrt(x)`, without `{owner}.`"
    value = owner or "x"
    if name in STATISTICS:
        statistic = {"norm": "l2", "amax": "max", "amin": "min"}.get(name, name)
        return f"a statistic names the axes that it pools: `{statistic}({value} over C)`"
    return f"values have no methods: a function is called, as in `sqrt({value})`"
