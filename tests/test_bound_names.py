"""No path through a generated function reads a variable that the path has not assigned."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import ROOT

from metanorm.driver import compile_specs
from metanorm.options import Options
from metanorm.workspace import load

FOLDERS = ("specs", "tests/good/features", "tests/good/language")
# A module has all running statistics or none.
RUNNING = re.compile(r"\w*(running|source|target|moving)_\w+ is (not )?None")
MOST = 10  # conditions of a function, of which all combinations are tried


class Unbound(Exception):
    """A variable that is read before it is assigned."""


def spec_files() -> list[Path]:
    return sorted(p for folder in FOLDERS for p in (ROOT / folder).glob("*.norm"))


def atoms_in(test: ast.expr) -> Iterator[str]:
    """The conditions that decide a test, each as its positive form."""
    match test:
        case ast.BoolOp(values=values):
            for value in values:
                yield from atoms_in(value)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield from atoms_in(operand)
        case _:
            yield _positive(test)[0]


def _positive(test: ast.expr) -> tuple[str, bool]:
    text = ast.unparse(test)
    if RUNNING.fullmatch(text):
        return "running statistics are None", " is None" in text
    return (text.replace(" is not ", " is "), False) if " is not " in text else (text, True)


def holds(test: ast.expr, truth: dict[str, bool]) -> bool:
    match test:
        case ast.BoolOp(op=op, values=values):
            results = [holds(value, truth) for value in values]
            return all(results) if isinstance(op, ast.And) else any(results)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not holds(operand, truth)
        case _:
            atom, is_positive = _positive(test)
            return truth[atom] == is_positive


class Walk:
    """One path through a function, on which each condition is true or false throughout."""

    def __init__(self, function: ast.FunctionDef, truth: dict[str, bool]) -> None:
        self.truth = truth
        arguments = function.args
        self.bound = {
            a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        }
        self.local = {n.id for n in ast.walk(function) if _is_store(n)} | self.bound
        self.run(function.body)

    def run(self, statements: Sequence[ast.stmt]) -> bool:
        """Whether the path goes on behind the statements."""
        return all(self.step(statement) for statement in statements)

    def step(self, statement: ast.stmt) -> bool:
        match statement:
            case ast.If(test=test, body=body, orelse=orelse):
                self.read(test)
                return self.run(body if holds(test, self.truth) else orelse)
            case ast.For(target=target, iter=over, body=body):
                self.read(over)
                self.bind(target)
                return self.run(body)
            case ast.With(items=items, body=body):
                for item in items:
                    self.read(item.context_expr)
                return self.run(body)
            case ast.FunctionDef(name=name):
                self.bound.add(name)
            case ast.Assign(targets=targets, value=value):
                self.read(value)
                for target in targets:
                    self.bind(target)
            case _:
                self.read(statement)
                self.bind(statement)
        return not isinstance(statement, (ast.Return, ast.Raise))

    def read(self, node: ast.AST) -> None:
        inner = {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
        inner |= {n.id for n in ast.walk(node) if _is_store(n)}
        for n in ast.walk(node):
            is_read = isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
            if is_read and n.id in self.local - self.bound - inner:
                raise Unbound(n.id)

    def bind(self, node: ast.AST) -> None:
        self.bound |= {n.id for n in ast.walk(node) if _is_store(n)}


def _is_store(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def unbound_names(function: ast.FunctionDef) -> set[str]:
    tests = [n.test for n in ast.walk(function) if isinstance(n, ast.If)]
    atoms = list(dict.fromkeys(atom for test in tests for atom in atoms_in(test)))
    assert len(atoms) <= MOST, (function.name, atoms)
    names = set()
    for values in itertools.product((True, False), repeat=len(atoms)):
        try:
            Walk(function, dict(zip(atoms, values)))
        except Unbound as error:
            names.add(str(error))
    return names


@pytest.mark.parametrize("path", spec_files(), ids=lambda path: path.stem)
def test_every_variable_is_assigned_before_it_is_read(path: Path) -> None:
    specs = load([str(path)])
    files = compile_specs(specs.sources, specs.roots, Options()).files
    assert files is not None
    functions = [
        node
        for name, text in files.items() if name.endswith(".py")
        for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)
    ]  # fmt: skip
    assert {f.name: names for f in functions if (names := unbound_names(f))} == {}


def test_an_unbound_variable_is_found() -> None:
    (function,) = ast.parse(
        "def f(x, training):\n"
        "    if training and x is not None:\n"
        "        mean = x\n"
        "    if training:\n"
        "        return mean\n"
    ).body
    assert isinstance(function, ast.FunctionDef)
    assert unbound_names(function) == {"mean"}
