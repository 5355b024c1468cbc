"""Print the files of a package: one module per spec file, its kernels, and the `__init__`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from metanorm.nest.eligibility import NoKernels
from metanorm.options import Options
from metanorm.passes.divided import DividedVariant
from metanorm.passes.local_sweeps import LocalSweeps
from metanorm.targets.header import ABI, with_header
from metanorm.targets.kernel_table import PrintedNorm
from metanorm.targets.process_kernels import SWEEP_TARGET, sweeps_with_kernels
from metanorm.targets.python.pyir import (
    Assign,
    Blank,
    Expr,
    ExprStmt,
    Function,
    Import,
    List,
    Literal,
    Module,
    Name,
    Stmt,
)
from metanorm.targets.python.text_from_pyir import text_from_pyir
from metanorm.targets.registry import KERNEL_TARGETS, KernelTarget, targets_written_for
from metanorm.targets.torch.layout import call, integer
from metanorm.targets.torch.module_from_ir import CompiledNorm, definitions
from metanorm.targets.torch.names import NormNames, names_of
from metanorm.targets.torch.processes import definitions_among_processes, with_sorts
from metanorm.targets.torch.sweep_calls import PrintedSweep
from metanorm.visible import printable

VENDORED = "_runtime"  # the folder of the runtime's copy in a standalone package
RUNTIME = Import("metanorm", ("runtime",))
OWN_RUNTIME = Import(".", (f"{VENDORED} as runtime",))
PROCESSES_END = "_processes.py"  # suffix of the module for axes divided among processes
# Suffixes of its kernels, by target.
SWEEPS_ENDS = {
    name: f"{PROCESSES_END.removesuffix('.py')}{target.ending}"
    for name, target in KERNEL_TARGETS.items()
}
ALL_SPECS = "all specs"  # the origin of files that export the norms of a package
LAYERS = "layers"  # the module of a package for the kernels hub that exports them
STANDARD_MODULES = ("functools", "math")  # what generated code imports whole
STANDARD_NAMES = {"collections.abc": ("Callable", "Sequence"), "typing": ("NamedTuple",)}
DOCSTRING_OR_COMMENT = re.compile(r'""".*?"""|#[^\n]*', re.DOTALL)


def module_files(
    module: str, origin: str, norms: Sequence[CompiledNorm], sources: str, options: Options
) -> dict[str, str]:
    """The texts of the module of one spec file and of its kernels, by file name.

    `origin` is the name of the spec file, `sources` the text that it is compiled from.
    """
    names = names_of([norm.optimised for norm in norms])
    choices = options.fingerprint()
    functions = [f.function for norm_names in names for f in norm_names.functions]
    decorators = dict.fromkeys(functions, "runtime.torch_only")
    files: dict[str, str] = {}
    for target in targets_written_for(options.target):
        printed = list(_printed(target, norms, names))
        if printed or files:  # the file of a later target may say that it has no kernels
            text = target.text(printable(origin), printed)
            files[f"{module}{target.ending}"] = with_header(
                text, printable(origin), sources, choices, target.comment
            )
        for norm in printed:
            if decorators[norm.function] == "runtime.torch_only":
                decorators[norm.function] = target.decorator
    # The runtime divides axes of norms that it finds by their class, which no layer of the hub has.
    processes = {} if options.hub else processes_files(origin, norms, names, options)
    for ending, (body, comment) in processes.items():
        files[f"{module}{ending}"] = with_header(body, printable(origin), sources, choices, comment)
    text = module_text(origin, norms, names, decorators, sources, options)
    return {f"{module}.py": text, **files}


def _runtime(options: Options) -> Import:
    """The import of the runtime."""
    return OWN_RUNTIME if options.has_runtime else RUNTIME


def _printed(
    target: KernelTarget, norms: Sequence[CompiledNorm], names: Sequence[NormNames]
) -> Iterator[PrintedNorm]:
    """The norms that a target has kernels for."""
    for norm, norm_names in zip(norms, names):
        for program, own_names in zip(norm.functions, norm_names.functions):
            with suppress(NoKernels):
                result = own_names.result if len(program.outputs) > 1 else None
                yield PrintedNorm(own_names.function, target.kernels(program), result)


def module_text(
    origin: str,
    norms: Sequence[CompiledNorm],
    names: Sequence[NormNames],
    decorators: Mapping[str, str],
    sources: str,
    options: Options,
) -> str:
    """The text of a module. `decorators` has the decorator of each norm's function."""
    rename = options.rename if options.hub else None
    calls = {
        own_names.function: with_sorts(decorators[own_names.function], program)
        for norm, norm_names in zip(norms, names)
        for program, own_names in zip(norm.functions, norm_names.functions)
    }
    classes = [
        _with_decorator(s, calls)
        for n, norm_names in zip(norms, names)
        for s in definitions(n, norm_names, rename)
    ]
    public = sorted(s.name for s in classes if hasattr(s, "name") and not s.name.startswith("_"))
    exported = Assign((Name("__all__"),), List(tuple(Literal(name) for name in public)))
    text = text_from_pyir(Module(tuple(classes)))
    statements: list[Stmt] = [*_imports(text, _runtime(options)), exported]
    statements += [ExprStmt(call("runtime.require", abi=integer(ABI))), *classes]
    doc = (f"Normalizers compiled from `{printable(origin)}`.",)
    body = text_from_pyir(Module(tuple(statements), doc))
    return with_header(body, printable(origin), sources, options.fingerprint())


def processes_files(
    origin: str, norms: Sequence[CompiledNorm], names: Sequence[NormNames], options: Options
) -> dict[str, tuple[str, str]]:
    """The module for axes that are divided among processes, and the kernels of its sweeps.

    By ending, each has its text and what begins a comment in it. There is none if no axis of a
    norm can be divided.
    """
    targets = targets_written_for(options.target)
    find_sweeps = _sweeps if SWEEP_TARGET in targets else (lambda _: None)
    printed = definitions_among_processes(norms, names, find_sweeps)
    if not printed.statements:
        return {}
    definitions = [_with_decorator(s, printed.decorators) for s in printed.statements]
    imports = _imports(text_from_pyir(Module(tuple(definitions))), _runtime(options))
    require = ExprStmt(call("runtime.require", abi=integer(ABI)))
    doc = (f"Normalizers of `{printable(origin)}` for axes that are divided among processes.",)
    files = {PROCESSES_END: (text_from_pyir(Module((*imports, require, *definitions), doc)), "#")}
    if printed.sweeps:
        for target in targets:
            kernels = list(_sweep_kernels(target, printed.sweeps))
            text = target.text(printable(origin), kernels)
            files[SWEEPS_ENDS[target.name]] = (text, target.comment)
    return files


def _sweep_kernels(target: KernelTarget, sweeps: Sequence[PrintedSweep]) -> Iterator[PrintedNorm]:
    """The sweeps that a target has kernels for: all of them in the target that they are cut for."""
    for printed in sweeps:
        with suppress(NoKernels):
            kernels = target.kernels(printed.sweep.program)
            yield PrintedNorm(printed.function.name, kernels, printed.result)


def _sweeps(variant: DividedVariant) -> LocalSweeps | None:
    with suppress(NoKernels):
        return sweeps_with_kernels(variant)
    return None


def _with_decorator(definition: Stmt, decorators: Mapping[str, str | Expr]) -> Stmt:
    """A definition; a function of a norm gets the decorator that selects its kernels."""
    if not isinstance(definition, Function) or definition.name not in decorators:
        return definition
    all_decorators = (*definition.decorators, decorators[definition.name])
    return replace(definition, decorators=all_decorators)


def _imports(text: str, runtime: Import) -> list[Stmt]:
    """The imports of names that the definitions mention outside docstrings and comments."""
    text = DOCSTRING_OR_COMMENT.sub("", text)

    def mentions(name: str) -> bool:
        return re.search(rf"(?<![\w.]){name}\b", text) is not None

    standard: list[Stmt] = [Import(module) for module in STANDARD_MODULES if mentions(module)]
    for module, candidates in STANDARD_NAMES.items():
        mentioned = tuple(name for name in candidates if mentions(name))
        if mentioned:
            standard.append(Import(module, mentioned))
    names = tuple(name for name in ("Tensor", "nn") if mentions(name))
    torch: list[Stmt] = [Import("torch")] if mentions("torch") else []
    if names:
        torch.append(Import("torch", names))
    groups: list[list[Stmt]] = [
        [Import("__future__", ("annotations",))],
        standard,
        torch,
        [runtime],
    ]
    return [s for group in groups if group for s in (*group, Blank())][:-1]


def package_files(modules: Mapping[str, Sequence[str]], options: Options) -> dict[str, str]:
    """The files that export the norms of a package, by file name.

    `modules` has the exported classes of each module. The `kernels` package looks for layers in a
    module of the package, `layers`.
    """
    if not options.hub:
        return {"__init__.py": _exports_text(modules, options)}
    exported = Assign((Name("__all__"),), List((Literal(LAYERS),)))
    doc = ("Layers compiled by metanorm, for the `kernels` package of Hugging Face.",)
    text = text_from_pyir(Module((Import(".", (LAYERS,)), exported), doc))
    init = with_header(text, ALL_SPECS, text, options.fingerprint())
    return {"__init__.py": init, f"{LAYERS}.py": _exports_text(modules, options)}


def _exports_text(modules: Mapping[str, Sequence[str]], options: Options) -> str:
    statements: list[Stmt] = []
    for module, names in sorted(modules.items()):
        statements.append(Import(f".{module}", tuple(sorted(names))))
    every = sorted(name for names in modules.values() for name in names)
    exported = Assign((Name("__all__"),), List(tuple(Literal(name) for name in every)))
    doc = ("Normalizers compiled by metanorm.",)
    text = text_from_pyir(Module((*statements, exported), doc))
    return with_header(text, ALL_SPECS, text, options.fingerprint())
