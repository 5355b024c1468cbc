"""Generates the page of the command line from the signatures of the commands."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from importlib import import_module
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from typer.models import OptionInfo

from docs.pages import GENERATED_NOTICE
from metanorm.cli import COMMANDS
from metanorm.cli.exit_codes import FINDINGS, INTERNAL, INTERRUPTED, OK, USAGE
from metanorm.config import Config

CODES = {
    OK: "all is well; warnings alone are no failure",
    FINDINGS: "there is something to mend: errors in specs, missing files, stale modules",
    USAGE: "a wrong option, a name that is not known, a configuration that cannot be used",
    INTERNAL: "a bug in metanorm",
    INTERRUPTED: "interrupted from the keyboard",
}

KEYS = {
    "specs": "files and folders that commands read when none are named",
    "out": "the package that `compile` writes where there is no `-o`",
    "target": "`native`: modules of plain torch, and beside each a C file with kernels for the "
    "CPU; `triton`: a Python file with Triton kernels for GPUs, too; `torch`: the modules alone",
    "standalone": "whether the package has the runtime inside, so that it needs torch alone",
    "hub_version": "the version of a kernel that `compile --hub` writes; below 1 it is no release",
    "hub_license": "its license, as Hugging Face calls it, such as `mit`",
    "rename": "the attributes of layers that names of specs stand for with `compile --hub`, such "
    'as `{eps = "variance_epsilon"}`; a key `"RMSNorm.eps"` is about one norm',
}

VARIABLES = {
    "METANORM_CACHE": "the folder of caches: built kernels, and what specs have compiled to",
    "METANORM_CALL_PATH": "where `python`, calls go to C kernels through Python; else (`auto`) "
    "through C where that can be used",
    "METANORM_CC": "the C compiler for kernels, with its flags; else `CC`, else `cc`",
    "METANORM_CFLAGS": "further flags for it",
    "METANORM_TRITON_TILE": "how many elements a program of a Triton kernel reads at a time; 4096",
    "METANORM_DEBUG": "where set, a bug in metanorm ends in its traceback",
    "NO_COLOR": "where set, nothing is printed in colour",
}


def command_line() -> str:
    """The page: every command with its options, exit codes, configuration, variables."""
    text = f"# The command line\n\n{GENERATED_NOTICE}"
    text += "What a command is for goes to standard output; what it did, to standard error. "
    text += "JSON is one document with a `schema_version`, after an error too, which it names; "
    text += "[its schemas](schemas) are beside this page. "
    text += "Control characters of a spec or the name of a file are never printed.\n"
    for name in COMMANDS:
        text += _section(name, import_module(f"metanorm.cli.{name}").command)
    text += _table("Exit codes", "code", CODES)
    text += "\n## Configuration\n\nIn `pyproject.toml`, and all optional:\n\n"
    defaults = Config()
    rows = "".join(
        f"{field.name} = {_toml(getattr(defaults, field.name))}  # {KEYS[field.name]}\n"
        for field in fields(Config)
    )
    text += f"```toml\n[tool.metanorm]\n{rows}```\n"
    text += "\nPaths are relative to the file. "
    text += "The nearest `pyproject.toml` that has the table counts; options come before it.\n"
    return text + _table("Environment variables", "variable", VARIABLES)


def _section(name: str, command: Callable[..., None]) -> str:
    hints = get_type_hints(command, include_extras=True)
    rows, usage = "", [f"metanorm {name}"]
    for parameter in inspect.signature(command).parameters.values():
        kind, info = get_args(hints[parameter.name])
        placeholder, default = parameter.name.upper(), ""
        if isinstance(info, OptionInfo):
            placeholder = ", ".join(_flags(info)) or f"--{parameter.name}"
            default = _default(parameter.default)
        else:
            required = parameter.default is parameter.empty
            dots = "..." if _value_type(kind) is not kind else ""
            usage.append(f"{placeholder}{dots}" if required else f"[{placeholder}{dots}]")
        choices = _choices(_value_type(kind))
        rows += f"| `{placeholder}` | {' '.join(filter(None, (info.help, choices, default)))} |\n"
    about = (command.__doc__ or "").strip()
    return (
        f"\n## metanorm {name}\n\n`{' '.join(usage)}`\n\n{about}\n"
        f"\n| argument | meaning |\n| --- | --- |\n{rows}"
    )


def _flags(info: OptionInfo) -> list[str]:
    """The flags of an option. Typer stores the first one as its default."""
    return [flag for flag in (info.default, *(info.param_decls or ())) if isinstance(flag, str)]


def _value_type(kind: Any) -> Any:
    """The type of a single value: `str` of `list[str] | None`."""
    if isinstance(kind, UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    return get_args(kind)[0] if get_origin(kind) is list else kind


def _choices(kind: Any) -> str:
    if not (isinstance(kind, type) and issubclass(kind, Enum)):
        return ""
    return f"One of {', '.join(f'`{choice.value}`' for choice in kind)}."


def _default(value: object) -> str:
    if value in (None, False, inspect.Parameter.empty):
        return ""
    return f"Default: `{value.value if isinstance(value, Enum) else value}`."


def _table(title: str, what: str, rows: Any) -> str:
    lines = "".join(
        f"| {key if isinstance(key, int) else f'`{key}`'} | {meaning} |\n"
        for key, meaning in rows.items()
    )
    return f"\n## {title}\n\n| {what} | meaning |\n| --- | --- |\n{lines}"


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, (bool, int, dict)):
        assert not isinstance(value, dict) or not value
        return json.dumps(value)
    return f'"{value}"'
