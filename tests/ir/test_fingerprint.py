"""Fingerprints: names count only by what they stand for, and all that is computed counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import PurePath
from typing import Any

import pytest
from conftest import LIBRARY, PROGRAMS

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.model import Severity
from metanorm.frontend import check
from metanorm.ir.fingerprint import fingerprint
from metanorm.ir.nodes import Buffer, Draw, Dtype, Input, Let, Mode, Number, Param, Repeat, Type
from metanorm.ir.ops import CALLABLE, MATRICES
from metanorm.ir.program import BufferDecl, InputDecl, ParamDecl, Program, Update
from metanorm.ir.scalar import Const, Hyper
from metanorm.passes.pipeline import optimize
from metanorm.semantics.names_in_ast import defined_in
from metanorm.source import Source, Span
from metanorm.syntax import ast
from metanorm.syntax.parse import parse
from metanorm.syntax.text_from_ast import text_from_ast
from metanorm.syntax.words import TARGETS

OPTIMISED = {name: optimize(program) for name, program in PROGRAMS.items()}
DIGESTS = {name: fingerprint(program) for name, program in OPTIMISED.items()}
ELSEWHERE = Let("%elsewhere", Number(Const(12345.0)), Type("real"), Span("a.norm", 0, 0))


def digest(text: str) -> str:
    """The digest of the last norm of a text, which may use the library."""
    root = str(PurePath(LIBRARY.roots[0]).with_name("a.norm"))
    checked = check({**LIBRARY.sources, root: Source.of(root, text)}, [root])
    wrong = [d.message for d in checked.diagnostics if d.severity is Severity.ERROR]
    assert wrong == []
    return fingerprint(optimize(checked.norms[root][-1].program))


# ---- other names


# Names that mean something where they stand: of functions and sorts, and what `reduce` and `track`
# find by their names.
MEANT = {
    *CALLABLE,
    *MATRICES,
    *TARGETS,
    "eps",
    "momentum",
    "mask",
    "index",
    "edges",
    "matrix",
    "eye",
}


def called(node: Any, names: Mapping[str, str]) -> Any:
    """The tree with names replaced wherever they stand for what a norm defines."""
    if isinstance(node, tuple):
        return tuple(called(item, names) for item in node)
    if not isinstance(node, ast.Node):
        return node
    changes = {f.name: called(getattr(node, f.name), names) for f in fields(node)}
    if isinstance(node, ast.FieldOf):
        changes["field"] = node.field
    if isinstance(node, ast.ParamItem):  # an argument of the constructor
        changes["switch"] = node.switch
    named = (ast.Identifier, ast.AxisRef, ast.Name, ast.Spread, ast.Matrix)
    if isinstance(node, named):
        changes["name"] = names.get(node.name, node.name)
    return replace(node, **changes)


def norms_under_other_names(source: Source) -> Iterator[tuple[str, str]]:
    """Each norm of a file by its name, as a text in whose last norm all is called otherwise.

    Those of the file, which it may call, stand before it.
    """
    file = parse(source, Collector()).file
    for norm in file.norms:
        free = sorted(defined_in(norm) - MEANT)
        names = {name: f"q{i}_{name[::-1]}" for i, name in enumerate(free)}
        other = replace(called(norm, names), name=replace(norm.name, name="Other"))
        yield norm.name.name, text_from_ast(replace(file, norms=(*file.norms, other)))


OTHERWISE = {
    name: text
    for root in LIBRARY.roots
    for name, text in norms_under_other_names(LIBRARY.sources[root])
}


def test_each_norm_of_the_library_has_other_names() -> None:
    assert set(OTHERWISE) == set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_names_do_not_count(name: str) -> None:
    assert digest(OTHERWISE[name]) == DIGESTS[name]


def test_norms_of_the_library_differ() -> None:
    equal = [{n for n, d in DIGESTS.items() if d == one} for one in set(DIGESTS.values())]
    assert [names for names in equal if len(names) > 1] == []


# ---- other numbers, statistics, operands

# What does not count. Names, types and spans follow from the rest, `of_samples` says what the value
# shows already, and a norm is the same one whatever its arguments turn off.
IGNORED: dict[type, tuple[str, ...]] = {
    **dict.fromkeys((Hyper, Input, Param, Buffer, Dtype), ("name",)),
    Draw: ("number",),
    Mode: ("buffer",),
    Let: ("name", "type", "span"),
    Repeat: ("inside",),
    InputDecl: ("name",),
    ParamDecl: ("name", "switches", "absent"),
    BufferDecl: ("name", "tracked"),
    Update: ("buffer", "of_samples", "argument"),
}


def lets_in(value: object) -> Iterator[Let]:
    """All bindings in a part of a program, those in loops and initial values too."""
    if isinstance(value, tuple):
        for item in value:
            yield from lets_in(item)
    elif is_dataclass(value):
        if isinstance(value, Let):
            yield value
        for field in fields(value):
            yield from lets_in(getattr(value, field.name))


def changed(value: Any, program: Program) -> Iterator[tuple[str, Any]]:
    """What a part of a program could be instead, where one thing in it is another, and which."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            before = getattr(value, field.name)
            replaced = field.name == "init" and getattr(value, "from_weight", ())
            if replaced or not field.init or field.name in IGNORED.get(type(value), ()):
                continue
            more = (ELSEWHERE,) if field.name in ("from_weight", "first") else ()
            for what, after in changed(before, program):
                where = f"{type(value).__name__}.{field.name}"
                other = (*more, *after) if more else after
                yield f"{where}: {what}", replace(value, **{field.name: other})
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            for what, after in changed(item, program):
                yield what, (*value[:i], after, *value[i + 1 :])
    else:
        for after in others(value, program):
            yield f"{value} became {after}", after


def others(value: object, program: Program) -> Iterator[object]:
    """Other numbers, references, axes and words."""
    refs = {ref for let in lets_in(program) for ref in (let.name, *getattr(let.op, "inside", ()))}
    axes = [axis.name for axis in program.axes]
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)):
        yield value + 1
    elif value in refs:
        yield ELSEWHERE.name
    elif value in axes:
        yield from (axis for axis in axes if axis != value)
    elif isinstance(value, str) and value not in {d.name for d in program.declarations}:
        yield f"another {value}"


def changes(program: Program) -> Iterator[tuple[str, Program]]:
    """The program with one thing in it that is another."""
    longer = replace(program, body=(ELSEWHERE, *program.body))
    for part in ("body", "updates", "inputs", "params", "buffers"):
        for what, after in changed(getattr(program, part), program):
            body = (ELSEWHERE, *after) if part == "body" else longer.body
            yield what, replace(longer, **{part: after, "body": body})
    for i, (name, _) in enumerate(program.outputs):
        after = (*program.outputs[:i], (name, ELSEWHERE.name), *program.outputs[i + 1 :])
        yield f"output {name}", replace(longer, outputs=after)


@pytest.mark.parametrize("name", PROGRAMS)
def test_all_that_is_computed_counts(name: str) -> None:
    program = OPTIMISED[name]
    changed = list(changes(program))
    assert len(changed) > len(program.body)
    assert [what for what, other in changed if fingerprint(other) == DIGESTS[name]] == []


# ---- what only some specs have

LOOP = "norm A(steps: int) {{\n  input  x[N, C]\n  {}\n  output x - p\n}}\n"
LOOPS = {
    name: LOOP.format(body.replace("; ", "\n  "))
    for name, body in {
        **{
            f"{statistic} before": f"let a = {statistic}(x over C); let p = a; "
            "repeat steps { p = p + a }"
            for statistic in ("max", "min", "sum", "var", "mean", "l1")
        },
        "max within": "let p[N] = 0; repeat steps { p = p + max(x over C) }",
        "a number within": "let p[N] = 0; repeat steps { p = p + 2 * max(x over C) }",
        "another beginning": "let p[N] = 1; repeat steps { p = p + max(x over C) }",
        "a fixed count": "let p[N] = 0; repeat 4 { p = p + max(x over C) }",
        "another one": "let p[N] = 0; repeat 3 { p = p + max(x over C) }",
        "two carried": "let p[N] = 0; let q[N] = 1; repeat steps { p = p + q; q = q / 2 }",
        "two, crossed": "let p[N] = 0; let q[N] = 1; repeat steps { q = q / 2; p = p + q }",
        "two, exchanged": "let p[N] = 0; let q[N] = 1; repeat steps { p = q; q = p / 2 }",
    }.items()
}
HEAD = "norm A(k: int, j: int) {{\n  input  x[N, C], a: index[N], b: index[N]{}\n  {}\n}}\n"
SIDE = {
    "at the rows": (", side[N]", "output x * side"),
    "at the columns": (", side[C]", "output x * side"),
    "of squares": ("", "output x / (1 + var(x over C, about = 0))"),
    "unbiased": ("", "output x / (1 + var(x over C, ddof = 1))"),
    "by the first labels": ("", "output x - mean(x over N: a)"),
    "by the second labels": ("", "output x - mean(x over N: b)"),
    "a window": ("", "output k * x - mean(x over C: window(k))"),
    "another window": ("", "output j * x - mean(x over C: window(k))"),
    "a fixed window": ("", "output k * x - mean(x over C: window(3))"),
}


def test_loops_are_told_apart() -> None:
    digests = {name: digest(text) for name, text in LOOPS.items()}
    assert len(set(digests.values())) == len(LOOPS), digests


def test_what_is_read_from_where_is_told_apart() -> None:
    digests = {name: digest(HEAD.format(*parts)) for name, parts in SIDE.items()}
    assert len(set(digests.values())) == len(SIDE), digests


def test_two_draws_are_not_one_twice() -> None:
    text = """norm A for weight {
  input  w[O, I]
  let    a = normal(0, 1 per O)
  let    b = normal(0, 1 per O)
  param  g[O] = init a * %s
  output g * w
}
"""
    assert digest(text % "b + 0 * a") != digest(text % "a + 0 * b")


def test_an_operation_without_a_digest_raises() -> None:
    class Unknown:
        pass

    program = OPTIMISED["LayerNorm"]
    last = replace(program.body[-1], op=Unknown())
    with pytest.raises(TypeError, match=r"no (digest|operands) of the operation Unknown"):
        fingerprint(replace(program, body=(*program.body[:-1], last)))
