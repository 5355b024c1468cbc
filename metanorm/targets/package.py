"""Norms to files: one module for each spec file, and the `__init__` of their package."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from metanorm.ir.nodes import Program
from metanorm.options import Options
from metanorm.targets.header import ABI, with_header
from metanorm.targets.native.file import file_text
from metanorm.targets.native.source import NoKernels, Source, source
from metanorm.targets.python.pyir import (
    Assign,
    Blank,
    Call,
    Do,
    Expr,
    Function,
    Import,
    List,
    Literal,
    Module,
    Name,
    Stmt,
)
from metanorm.targets.python.text_from_pyir import text_from_pyir
from metanorm.targets.torch.layout import call, integer
from metanorm.targets.torch.module_from_ir import Compiled, definitions
from metanorm.targets.torch.names import Names, names_of
from metanorm.targets.triton import source as triton
from metanorm.targets.triton.file import triton_text
from metanorm.visible import printable

PROSE = re.compile(r'""".*?"""|#[^\n]*', re.DOTALL)


def module_files(
    module: str, origin: str, norms: Sequence[Compiled], sources: str, options: Options
) -> dict[str, str]:
    """The module of one spec file, which is called `origin`, and the kernels beside it."""
    names = names_of([norm.optimised for norm in norms])
    kernels: dict[str, tuple[Program, Source, str | None]] = {}
    on_gpu: dict[str, tuple[Program, triton.Source, str | None]] = {}
    for norm, own in zip(norms, names):
        if options.target in ("native", "triton"):
            with suppress(NoKernels):
                kernels[own.function] = kernels_of(norm.optimised, own)
        if options.target == "triton":
            with suppress(NoKernels):
                found = triton.source(norm.optimised, own.function)
                on_gpu[own.function] = (norm.optimised, found, _result(norm.optimised, own))
    choices = options.fingerprint()
    served = dict.fromkeys((own.function for own in names), "runtime.torch_only")
    served |= dict.fromkeys(on_gpu, "runtime.gpu") | dict.fromkeys(kernels, "runtime.native")
    files = {f"{module}.py": module_text(origin, norms, names, served, sources, choices)}
    if kernels:
        text = file_text(kernels)
        files[f"{module}.c"] = with_header(text, printable(origin), sources, choices, "//")
    if on_gpu:
        text = triton_text(printable(origin), on_gpu)
        files[f"{module}_triton.py"] = with_header(text, printable(origin), sources, choices)
    return files


def kernels_of(program: Program, names: Names) -> tuple[Program, Source, str | None]:
    """The kernels of a norm. Raises `NoKernels`."""
    found = source(program, names.function)
    return program, found, _result(program, names)


def _result(program: Program, names: Names) -> str | None:
    """The type of the result of a function, where there are several."""
    return names.result if len(program.outputs) > 1 else None


def module_text(
    origin: str,
    norms: Sequence[Compiled],
    names: Sequence[Names],
    served: Mapping[str, str],
    sources: str,
    options: str,
) -> str:
    """The module; `served` gives the decorator of the function of each norm."""
    served_as = {
        own.function: _decorator(served[own.function], n.optimised) for n, own in zip(norms, names)
    }
    classes = [_served(s, served_as) for n, own in zip(norms, names) for s in definitions(n, own)]
    public = sorted(s.name for s in classes if hasattr(s, "name") and not s.name.startswith("_"))
    exported = Assign((Name("__all__"),), List(tuple(Literal(name) for name in public)))
    text = text_from_pyir(Module(tuple(classes)))
    statements: list[Stmt] = [*_imports(text), exported]
    statements += [Do(call("runtime.require", abi=integer(ABI))), *classes]
    doc = (f"Normalizers compiled from `{printable(origin)}`.",)
    body = text_from_pyir(Module(tuple(statements), doc))
    return with_header(body, printable(origin), sources, options)


def _decorator(name: str, program: Program) -> str | Expr:
    """What stands above a function: what it runs on, and which inputs are no numbers of a
    floating-point type."""
    sorts = tuple((i.name, Literal(i.sort)) for i in program.inputs if i.sort != "tensor")
    return Call(Name(name), (), sorts) if sorts else name


def _served(definition: Stmt, served: Mapping[str, str | Expr]) -> Stmt:
    """A definition, with the decorator that says what a function runs on."""
    if not isinstance(definition, Function) or definition.name not in served:
        return definition
    decorators = (*definition.decorators, served[definition.name])
    return replace(definition, decorators=decorators)


def _imports(text: str) -> list[Stmt]:
    """What the text of the definitions mentions, outside docstrings and comments."""
    text = PROSE.sub("", text)

    def mentions(name: str) -> bool:
        return re.search(rf"(?<![\w.]){name}\b", text) is not None

    standard: list[Stmt] = []
    if mentions("math"):
        standard.append(Import("math"))
    if mentions("Sequence"):
        standard.append(Import("collections.abc", ("Sequence",)))
    if mentions("NamedTuple"):
        standard.append(Import("typing", ("NamedTuple",)))
    names = tuple(name for name in ("Tensor", "nn") if mentions(name))
    groups: list[list[Stmt]] = [
        [Import("__future__", ("annotations",))],
        standard,
        [*([Import("torch")] if mentions("torch") else []), Import("torch", names)],
        [Import("metanorm", ("runtime",))],
    ]
    return [s for group in groups if group for s in (*group, Blank())][:-1]


def package_text(modules: Mapping[str, Sequence[str]], options: str) -> str:
    """The `__init__` of a package: module names and the classes that each exports."""
    statements: list[Stmt] = []
    for module, names in sorted(modules.items()):
        statements.append(Import(f".{module}", tuple(sorted(names))))
    every = sorted(name for names in modules.values() for name in names)
    exported = Assign((Name("__all__"),), List(tuple(Literal(name) for name in every)))
    doc = ("Normalizers compiled by metanorm.",)
    text = text_from_pyir(Module((*statements, exported), doc))
    return with_header(text, "all specs", text, options)
