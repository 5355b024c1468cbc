"""The server of one editor: its specs, and conversions between spans and the protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import from_fs_path, to_fs_path

from metanorm.diagnostics.model import Diagnostic, Label, Severity
from metanorm.lsp import actions, names
from metanorm.lsp.positions import Positions
from metanorm.lsp.project import Project, View
from metanorm.source import Source, Span
from metanorm.version import __version__

SEVERITIES: Mapping[Severity, types.DiagnosticSeverity] = {
    Severity.ERROR: types.DiagnosticSeverity.Error,
    Severity.WARNING: types.DiagnosticSeverity.Warning,
}


class SpecServer(LanguageServer):
    """The server of one editor, with the specs that are open there."""

    def __init__(self) -> None:
        super().__init__(
            "metanorm", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Full
        )
        self.project = Project()
        self.pulls_diagnostics = False  # whether the editor requests diagnostics

    # ---- conversions

    def view(self, uri: str) -> View:
        """The view of the spec with a URI."""
        return self.project.view(name_of(uri))

    def positions(self, source: Source) -> Positions:
        """The converter of positions for a text."""
        encoding = self.workspace.position_encoding
        text = self.project.texts.get(source.name, "")
        return Positions(source, encoding or types.PositionEncodingKind.Utf16, text[:1] == "\ufeff")

    def view_and_offset(self, params: Any) -> tuple[View, int]:
        """The view and the offset of a request."""
        view = self.view(params.text_document.uri)
        return view, self.positions(view.source).offset(params.position)

    def range(self, span: Span, sources: Mapping[str, Source]) -> types.Range:
        """The range of a span in any of these texts."""
        source = sources.get(span.source) or Source.of(span.source, "")
        return self.positions(source).range(span)

    def location(self, span: Span, sources: Mapping[str, Source]) -> types.Location:
        """The location of a span: the URI of its file and its range."""
        return types.Location(uri=uri_of(span.source), range=self.range(span, sources))

    def edits(self, view: View, edits: Iterable[actions.Edit]) -> list[types.TextEdit]:
        """Edits of one text in types of the protocol."""
        ranges = ((self.range(edit.span, view.sources), edit.text) for edit in edits)
        return [types.TextEdit(range=range, new_text=text) for range, text in ranges]

    # ---- diagnostics

    def diagnostics(self, view: View) -> list[types.Diagnostic]:
        """The diagnostics of a spec, without those inside files that it uses."""
        diagnostics = view.findings.diagnostics
        return [self.diagnostic(d, view) for d in diagnostics if d.primary.span.source == view.name]

    def diagnostic(self, diagnostic: Diagnostic, view: View) -> types.Diagnostic:
        """One diagnostic with the messages of `metanorm check`."""
        related = [self._related(label, view) for label in diagnostic.secondary]
        lines = (diagnostic.message, diagnostic.primary.text, *diagnostic.notes, *diagnostic.helps)
        return types.Diagnostic(
            range=self.range(diagnostic.primary.span, view.sources),
            severity=SEVERITIES[diagnostic.severity],
            code=diagnostic.code,
            source="metanorm",
            message="\n".join(line for line in lines if line),
            related_information=related or None,
        )

    def _related(self, label: Label, view: View) -> types.DiagnosticRelatedInformation:
        location = self.location(label.span, view.sources)
        return types.DiagnosticRelatedInformation(location=location, message=label.text)

    def send_diagnostics(self, uri: str) -> None:
        """Push diagnostics to an editor that does not pull them; else let it pull again."""
        name = name_of(uri)
        view = self.project.view(name)
        users = self.project.users(name)
        if not self.pulls_diagnostics:
            for changed_view in (view, *map(self.project.view, users)):
                diagnostics = self.diagnostics(changed_view)
                self.text_document_publish_diagnostics(
                    types.PublishDiagnosticsParams(
                        uri=uri_of(changed_view.name), diagnostics=diagnostics
                    )
                )
        elif users and self._refreshes():
            self.workspace_diagnostic_refresh(None)

    def _refreshes(self) -> bool:
        workspace = self.client_capabilities.workspace
        diagnostics = workspace.diagnostics if workspace is not None else None
        return bool(diagnostics is not None and diagnostics.refresh_support)


def name_of(uri: str) -> str:
    """The name of the source with a URI: its path, or the URI if that is no file."""
    path = to_fs_path(uri)
    return Path(path).as_posix() if path else uri


def uri_of(name: str) -> str:
    """The URI of a source."""
    if "://" in name or name.startswith("untitled:"):
        return name
    return from_fs_path(names.path_of_source(name)) or name
