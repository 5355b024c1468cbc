"""Specs by path, or by the name that `metanorm list specs` prints."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace

from metanorm import frontend
from metanorm.cli.context import Run
from metanorm.frontend import Checked, CheckedNorm
from metanorm.resources import LIBRARY, library_specs
from metanorm.workspace import STDIN, Workspace, WorkspaceError, load_library


@dataclass(frozen=True)
class NamedSpecs:
    """Checked specs, and the name of the norm that is meant."""

    workspace: Workspace
    checked: Checked
    norm: str = ""  # empty: all norms

    @property
    def norms(self) -> list[CheckedNorm]:
        """The norms that are meant."""
        all_norms = [n for root in self.workspace.roots for n in self.checked.norms[root]]
        return [n for n in all_norms if self.norm in ("", n.program.name)]


def find_specs(subject: str, run: Run) -> NamedSpecs | None:
    """The specs of a path, a file of the library, or a norm of the project or the library.

    `None` if there are none. A missing file is a diagnostic of the workspace.
    """
    if subject == STDIN or os.path.exists(subject):
        return _checked(run.workspace([subject]))
    file = subject if subject.endswith(".norm") else f"{subject}.norm"
    if file in library_specs():
        return _checked(_with_root(load_library(), LIBRARY + file))
    if subject.endswith(".norm") or os.sep in subject or "/" in subject:
        return _checked(run.workspace([subject]))
    return _find_norm(subject, run) if subject.isidentifier() else None


def norm_names(run: Run) -> list[str]:
    """The names of all norms that `find_specs` finds without a path."""
    return [
        norm.program.name
        for workspace in _workspaces(run)
        for norms in frontend.check(workspace.sources, workspace.roots).norms.values()
        for norm in norms
    ]


def _find_norm(name: str, run: Run) -> NamedSpecs | None:
    """The first spec with a norm of this name: of the project, else of the library."""
    for workspace in _workspaces(run):
        checked = frontend.check(workspace.sources, workspace.roots)
        for root in workspace.roots:
            if name in (norm.program.name for norm in checked.norms[root]):
                return replace(_checked(_with_root(workspace, root)), norm=name)
    return None


def _workspaces(run: Run) -> list[Workspace]:
    workspaces = []
    with contextlib.suppress(WorkspaceError):  # a project may have no specs
        workspaces.append(run.workspace([]))
    return [*workspaces, load_library()]


def _with_root(workspace: Workspace, root: str) -> Workspace:
    return Workspace(workspace.sources, [root])


def _checked(workspace: Workspace) -> NamedSpecs:
    return NamedSpecs(workspace, frontend.check(workspace.sources, workspace.roots))
