"""Rules that keep the code livable, beside those that the linters and the import contract check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from conftest import LIBRARY, PROGRAMS, ROOT

from metanorm.driver import compile_specs
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.targets.native.cir import Name
from metanorm.workspace import load

SOURCES = sorted((ROOT / "metanorm").rglob("*.py"))
TESTS = [path for path in sorted((ROOT / "tests").rglob("*.py")) if "good" not in path.parts]
MOST_LINES, MOST_LINES_OF_TESTS, MOST_LINES_OF_A_FUNCTION = 400, 600, 60
WIDEST_LINE_OF_A_SPEC = 128


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_file_is_long() -> None:
    for paths, most in ((SOURCES, MOST_LINES), (TESTS, MOST_LINES_OF_TESTS)):
        lines = {name(path): len(path.read_text().splitlines()) for path in paths}
        longest = sorted(lines.items(), key=lambda item: -item[1])[:5]
        print("longest:", *(f"{count} {path}" for path, count in longest), sep="\n")
        assert {path: count for path, count in lines.items() if count > most} == {}


def test_no_function_is_long() -> None:
    """A `command` of the command line is long for its options, each of which has its help."""
    lines = {
        f"{name(path)}: {node.name}": node.end_lineno - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.name != "command"
    }
    assert {
        place: count for place, count in lines.items() if count > MOST_LINES_OF_A_FUNCTION
    } == {}


def test_lines_of_specs_fit_a_page() -> None:
    wide = [
        f"{name(path)}:{number}"
        for path in sorted((ROOT / "specs").glob("*.norm"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > WIDEST_LINE_OF_A_SPEC
    ]
    assert wide == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_there_are_no_drawers_for_odds_and_ends() -> None:
    odd = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert not [name(path) for path in (*SOURCES, *TESTS) if path.stem in odd]


# ---- how C is made

PRINTERS_OF_C = sorted((ROOT / "metanorm" / "targets" / "native").glob("*.py"))


def glued_names(source: str) -> list[str]:
    """The names of the C IR that a module makes of text with more in it than a name."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    names = (c for c in calls if ast.unparse(c.func).rsplit(".")[-1] == "Name" and c.args)
    return [ast.unparse(c) for c in names if not re.fullmatch(r"\w*", _literal_text(c.args[0]))]


def _literal_text(node: ast.expr) -> str:
    """What is written out of a text, which may be an f-string."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    constants = [part.value for part in parts if isinstance(part, ast.Constant)]
    return "".join(text for text in constants if isinstance(text, str))


@pytest.mark.parametrize("path", PRINTERS_OF_C, ids=name)
def test_members_pointers_and_elements_are_nodes_of_the_c_ir(path: Path) -> None:
    assert glued_names(path.read_text()) == []


def test_glued_names_are_found() -> None:
    glued = ('Name("v->mean")', 'cir.Name(f"&{x}")', 'Name(f"{x}[TILE]")', 'Name("(void)v")')
    assert [glued_names(text) != [] for text in glued] == [True] * len(glued)
    assert glued_names('Name("v"), Name(f"{x}_row"), Name(x), cir.Name(f"a_{1}")') == []


@pytest.mark.parametrize("text", ["v->mean", "v.mean", "&v", "*v", "a[0]", "(void)v", "{0}", ""])
def test_a_name_of_the_c_ir_is_no_expression(text: str) -> None:
    with pytest.raises(AssertionError, match="not a name"):
        Name(text)


# ---- what is imported

COMMANDS = (
    ("check", "specs/switch_norm.norm"),
    ("check", "tests/bad"),
    ("fmt", "--check", "specs"),
    ("compile", "--stdout", "specs/switch_norm.norm"),
    ("explain", "specs/switch_norm.norm"),
    ("explain", "MN0302"),
    ("inspect", "--stage", "fold", "specs/switch_norm.norm"),
    ("list", "specs"),
)
REPORT = """
import sys
from metanorm.cli import main
try:
    main()
except SystemExit as stop:
    assert stop.code in (None, 0, 1), stop.code
print([m for m in ("torch", "numpy", "sympy", "pygls") if m in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_that_compute_nothing_do_not_import_torch(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REPORT, *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_report_would_notice_torch() -> None:
    code = REPORT.replace("main()", "import torch")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "torch" in done.stderr.splitlines()[-1]


def imported(tree: ast.AST) -> Iterator[str]:
    """What a module imports, as dotted names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


# Beside the runtime.
ALLOWED = ("torch.", "functools.", "math.", "__future__.", "collections.abc.", "typing.")


TRITON = {
    "__future__.annotations", "json", "math", "triton", "triton.language",
    "metanorm.runtime.triton.arithmetic",
}  # fmt: skip


def generated(library_files: Mapping[str, str]) -> dict[str, str]:
    """Every module that the compiler makes of the library and the corpus."""
    all_files = dict(library_files)
    for path in sorted((ROOT / "tests/good").glob("*/*.norm")):
        specs = load([str(path)])
        files = compile_specs(specs.sources, specs.roots, Options()).files
        all_files |= {f"{path.parent.name}/{n}": text for n, text in files.items() if "__" not in n}
    return all_files


def test_generated_modules_import_only_torch_and_the_runtime(
    library_files: Mapping[str, str],
) -> None:
    modules = generated(library_files)
    assert len(modules) > 40
    for path, text in modules.items():
        if path.endswith(".c"):
            assert set(re.findall(r"#include (\S+)", text)) == {'"metanorm.h"'}
            continue
        imports = set(imported(ast.parse(text)))
        if path == "__init__.py":
            assert not {m for m in imports if not m.startswith((".", "__future__"))}, path
            continue
        if path.endswith("_triton.py"):
            assert imports <= TRITON, path
            continue
        assert "metanorm.runtime" in imports, path
        others = {m for m in imports if not f"{m}.".startswith(ALLOWED)}
        assert others == {"metanorm.runtime"}, path


# ---- nothing is special-cased by name


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Identifiers and strings of a module, without its docstrings."""
    docs = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            docs.add(id(body[0].value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, (ast.Attribute, ast.arg, ast.keyword)):
            yield node.lineno, str(getattr(node, "attr", getattr(node, "arg", "")))


EXAMPLE = ("such as ", "as in ", "for example ")  # begins an example in what people read


def snake(camel: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in camel).lstrip("_")


# Where layers of torch and PyG are called what they are called there, and where the networks of a
# benchmark name the norms in them.
LAYERS_OF_OTHERS = (
    "bench/by_hand/rows.py",
    "bench/networks/rows.py",
    "bench/peers/hand_written.py",
    "bench/peers/layers.py",
    "bench/processes/rows.py",
    "metanorm/torch_layers.py",
    "runtime/nested.py",
    "runtime/statistics.py",
    "runtime/swapping/construction.py",
    "runtime/swapping/fast_paths.py",
)


HAND_WRITTEN = ROOT / "metanorm/bench/peers/by_hand"  # classes that are called as norms are


def test_no_norm_of_the_library_is_known_to_the_compiler_by_name() -> None:
    """Neither `GroupNorm` nor `group_norm`: whatever the library can do, any spec can."""
    names = {word for norm in PROGRAMS for word in (norm, snake(norm))}
    names |= {module_name(root) for root in LIBRARY.roots}
    # As words: `dice` is a norm, `indices` is none.
    a_norm = re.compile(rf"(?<![A-Za-z])({'|'.join(map(re.escape, sorted(names)))})(?![A-Za-z])")
    mentions = [
        f"{name(path)}:{line}: {text!r}"
        for path in SOURCES
        if not any(name(path).endswith(file) for file in LAYERS_OF_OTHERS)
        and not path.is_relative_to(HAND_WRITTEN)
        for line, text in texts(ast.parse(path.read_text()))
        if a_norm.search(text) and not any(e in text for e in EXAMPLE)
    ]
    assert mentions == []


def test_that_search_sees_what_it_looks_for() -> None:
    tree = ast.parse('"""GroupNorm"""\ndef group_norm(): return x.GroupNorm == "group_norm.norm"\n')
    assert [text for _, text in texts(tree) if "group" in text.lower()] == [
        "group_norm",
        "GroupNorm",
        "group_norm.norm",
    ]


# ---- nothing is left over

# Methods that are called by the name of what they take, and hooks of IPython.
CALLED_BY_NAME = re.compile(r"(statement|expr)_\w+|__\w+__|_repr_\w+_|_render_traceback_")


def definitions(tree: ast.Module) -> Iterator[str]:
    """The functions, classes, methods and constants of a module, but for what a decorator takes."""
    for node in ast.walk(tree):
        is_decorated = isinstance(node, ast.FunctionDef) and bool(node.decorator_list)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not is_decorated:
            yield node.name
    for statement in tree.body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_everything_that_is_defined_is_named_elsewhere() -> None:
    """What nothing names is dead; a name that only tests and pages have is for users."""
    folders = ("metanorm", "tests", "docs", ".ci")
    files = [p for f in folders for s in ("py", "md", "c", "h") for p in (ROOT / f).rglob(f"*.{s}")]
    files += [ROOT / "README.md", ROOT / "pyproject.toml"]
    words: Counter[str] = Counter()
    for file in files:
        words.update(re.findall(r"\w+", file.read_text(encoding="utf-8")))
    dead = [
        f"{name(path)}: {defined}"
        for path in SOURCES
        for defined in definitions(ast.parse(path.read_text()))
        if words[defined] == 1 and not CALLED_BY_NAME.fullmatch(defined)
    ]
    assert dead == []


# ---- words that say neither type nor role

SAYS_NOTHING = {"found", "given", "own", "thing", "things"}
# What an example of a spec gives, as the grammar calls it.
WORDS_OF_THE_LANGUAGE = {
    "metanorm/syntax/ast_examples.py: given",
    "metanorm/syntax/ast_from_tree.py: given",
    "metanorm/syntax/text_from_ast.py: given",
}


def bound_names(tree: ast.AST) -> Iterator[str]:
    """The names of variables, parameters, attributes and functions that code binds."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=bound, ctx=ast.Store()) | ast.Attribute(attr=bound, ctx=ast.Store()):
                yield bound
            case ast.arg(arg=bound) | ast.FunctionDef(name=bound) | ast.ClassDef(name=bound):
                yield bound


def test_names_say_a_type_or_a_role() -> None:
    paths = [*SOURCES, *TESTS]
    paths += [p for folder in ("docs", ".ci") for p in sorted((ROOT / folder).rglob("*.py"))]
    vague = {
        f"{name(path)}: {bound}"
        for path in paths
        for bound in bound_names(ast.parse(path.read_text(encoding="utf-8")))
        if bound in SAYS_NOTHING
    }
    assert vague == WORDS_OF_THE_LANGUAGE
