"""Layers for the kernels hub of Hugging Face: what the user says about them, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from metanorm.config import Config
from metanorm.frontend import check
from metanorm.python_words import KEYWORDS
from metanorm.source import Source
from metanorm.targets.hub_kernel import KERNEL_NAME, HubKernel
from metanorm.targets.torch.hub_layer import own_names
from metanorm.workspace import WorkspaceError, unknown_name

RENAME = re.compile(r"((?:\w+\.)?\w+)=(\w+)")


def hub_kernel(folder: Path, config: Config) -> HubKernel:
    """The kernel in this folder, whose name it has. Raises `WorkspaceError` if it cannot be one."""
    name = folder.absolute().name
    kernel_name = name.lower().replace("_", "-")
    if not KERNEL_NAME.fullmatch(kernel_name):
        raise WorkspaceError(
            f"a kernel has the name of its folder, and `{name}` cannot be one: it takes two or "
            "more letters of English, digits and dashes, begins with a letter and ends with no "
            "dash, as in `-o rms-norm`"
        )
    if config.hub_version < 0:
        raise WorkspaceError("pyproject.toml: [tool.metanorm] hub_version: a version is 0 or more")
    return HubKernel(kernel_name, config.hub_version, config.hub_license)


def renames(written: Sequence[str], config: Config) -> tuple[tuple[str, str], ...]:
    """The pairs of names of the configuration and of options `NAME=NEW`, which precede them.

    Raises `WorkspaceError` for what is no such pair, and for two options for one name.
    """
    pairs: dict[str, str] = {}
    for text in written:
        match = RENAME.fullmatch(text)
        if match is None:
            raise WorkspaceError(
                f"`--rename {text}` is no pair of names: write `--rename eps=variance_epsilon`, or "
                "`--rename NORM.eps=variance_epsilon` for one norm"
            )
        if pairs.setdefault(match[1], match[2]) != match[2]:
            raise WorkspaceError(
                f"`--rename {text}`: `{match[1]}` becomes `{pairs[match[1]]}` already"
            )
    pairs = {**config.rename, **pairs}
    for new in pairs.values():
        if not new.isidentifier() or new in KEYWORDS:
            raise WorkspaceError(f"`{new}` cannot be the name of an attribute in Python")
    return tuple(sorted(pairs.items()))


def demand_names(
    pairs: Sequence[tuple[str, str]], sources: Mapping[str, Source], roots: Sequence[str]
) -> None:
    """Raise `WorkspaceError` for a name that no norm of these specs has."""
    programs = [norm.program for norms in check(sources, roots).norms.values() for norm in norms]
    names = [name for program in programs for name in own_names(program)]
    names += [f"{program.name}.{name}" for program in programs for name in own_names(program)]
    for old, _ in pairs:
        if old not in names:
            raise unknown_name(old, names, "input, parameter or argument")
