"""What a spec means does not depend on the Python that runs the compiler.

`make test-pythons` runs all tests that need no torch under each interpreter of the machine; here
are those of the lists that make it so.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import sys
from pathlib import Path

import metanorm
from metanorm.driver import compile_specs
from metanorm.frontend import check
from metanorm.options import Options
from metanorm.python_words import BUILTINS, KEYWORDS, SOFT_KEYWORDS
from metanorm.source import Source

PACKAGE = Path(metanorm.__file__).parent
ASKS = re.compile(r"\b(iskeyword|issoftkeyword|kwlist|softkwlist|import builtins|dir\(builtins\))")


def test_the_words_of_this_interpreter_are_listed() -> None:
    assert set(keyword.kwlist) <= KEYWORDS
    assert set(keyword.softkwlist) <= SOFT_KEYWORDS | {"type"}
    public = {name for name in vars(builtins) if not name.startswith("_")}
    of_the_console = {"copyright", "credits", "exit", "quit", "license", "help"}
    assert public - of_the_console - KEYWORDS <= BUILTINS


def test_the_compiler_asks_no_interpreter() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "runtime" not in path.parts and path.name != "python_words.py":
            assert not ASKS.search(text), path
            versions = re.findall(r"sys\.version_info.*", text)
            assert all("import" in after or ">=" in after for after in versions), path


def compiled(text: str) -> dict[str, str]:
    result = compile_specs({"a.norm": Source.of("a.norm", text)}, ["a.norm"], Options())
    assert result.ok, result.diagnostics
    return result.files


def test_type_is_a_name_in_every_python() -> None:
    files = compiled("norm A {\n  input  x[N, C], type[N]\n  output x * type\n}\n")
    assert "type: Tensor" in files["a.py"]


def test_words_of_some_pythons_are_refused_by_all() -> None:
    for word in ("match", "case", "await", "nonlocal"):
        text = f"norm A({word} = 1) {{\n  input  x[N, C]\n  output x * {word}\n}}\n"
        diagnostics = check({"a.norm": Source.of("a.norm", text)}, ["a.norm"]).diagnostics
        assert "MN0204" in {d.code for d in diagnostics}, word


def test_what_is_generated_is_python_3_10() -> None:
    text = "norm A(eps = 1e-5) {\n  input  x[N, C, *S], type: index[N] of K = kinds\n"
    text += "  param  t[K, C] = 1\n  output t[type] * normalize(x over C, *S)\n}\n"
    for name, file in compiled(text).items():
        if name.endswith(".py"):
            ast.parse(file, feature_version=(3, 10))
    assert sys.version_info >= (3, 10)
