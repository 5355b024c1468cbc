"""The protocol around the answers: documents in, answers out. It holds no knowledge of specs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer
from pygls.uris import from_fs_path, to_fs_path

from metanorm.diagnostics.model import Diagnostic, Label, Severity
from metanorm.lsp import actions, completion, display, hover, lenses, names
from metanorm.lsp.positions import Positions
from metanorm.lsp.project import Project, View
from metanorm.semantics.symbols import Role
from metanorm.source import Source, Span
from metanorm.version import __version__

SHOW_POOLS = "metanorm.showPools"
FIX_ALL = "source.fixAll.metanorm"
TOKEN_TYPES = tuple(dict.fromkeys(display.TOKEN_TYPES.values()))
MODIFIERS = ("declaration", "defaultLibrary")
LEGEND = types.SemanticTokensLegend(token_types=TOKEN_TYPES, token_modifiers=MODIFIERS)

ITEM_KINDS: Mapping[completion.ItemKind, types.CompletionItemKind] = {
    completion.ItemKind.STATEMENT: types.CompletionItemKind.Keyword,
    completion.ItemKind.WORD: types.CompletionItemKind.Keyword,
    completion.ItemKind.FUNCTION: types.CompletionItemKind.Function,
    completion.ItemKind.NORM: types.CompletionItemKind.Class,
    completion.ItemKind.AXIS: types.CompletionItemKind.TypeParameter,
    completion.ItemKind.VALUE: types.CompletionItemKind.Variable,
    completion.ItemKind.OPTION: types.CompletionItemKind.Field,
    completion.ItemKind.FIELD: types.CompletionItemKind.Field,
    completion.ItemKind.SORT: types.CompletionItemKind.TypeParameter,
    completion.ItemKind.CODE: types.CompletionItemKind.Constant,
    completion.ItemKind.FILE: types.CompletionItemKind.File,
}
SYMBOL_KINDS: Mapping[Role, types.SymbolKind] = {
    Role.NORM: types.SymbolKind.Class,
    Role.AXIS: types.SymbolKind.TypeParameter,
    Role.HYPER: types.SymbolKind.Constant,
    Role.LENGTH: types.SymbolKind.Constant,
    Role.PARAM: types.SymbolKind.Property,
    Role.BUFFER: types.SymbolKind.Property,
}
SEVERITIES: Mapping[Severity, types.DiagnosticSeverity] = {
    Severity.ERROR: types.DiagnosticSeverity.Error,
    Severity.WARNING: types.DiagnosticSeverity.Warning,
}


class SpecServer(LanguageServer):
    """The server with the specs that its editor has open."""

    def __init__(self) -> None:
        super().__init__(
            "metanorm", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Full
        )
        self.project = Project()
        self.pulls = False  # whether the editor asks for diagnostics itself

    # ---- between the protocol and the compiler

    def view(self, uri: str) -> View:
        """The spec behind an address."""
        return self.project.view(name_of(uri))

    def positions(self, source: Source) -> Positions:
        """Positions in a text as this editor counts them."""
        encoding = self.workspace.position_encoding
        text = self.project.texts.get(source.name, "")
        return Positions(source, encoding or types.PositionEncodingKind.Utf16, text[:1] == "\ufeff")

    def asked(self, params: Any) -> tuple[View, int]:
        """The spec and the character that a request is about."""
        view = self.view(params.text_document.uri)
        return view, self.positions(view.source).offset(params.position)

    def range(self, span: Span, sources: Mapping[str, Source]) -> types.Range:
        """A span in any of these texts."""
        source = sources.get(span.source) or Source.of(span.source, "")
        return self.positions(source).range(span)

    def location(self, span: Span, sources: Mapping[str, Source]) -> types.Location:
        """A span with the address of its file."""
        return types.Location(uri=uri_of(span.source), range=self.range(span, sources))

    def edits(self, view: View, edits: Iterable[actions.Edit]) -> list[types.TextEdit]:
        """Edits of one text."""
        ranges = ((self.range(edit.span, view.sources), edit.text) for edit in edits)
        return [types.TextEdit(range=range, new_text=text) for range, text in ranges]

    # ---- diagnostics

    def diagnostics(self, view: View) -> list[types.Diagnostic]:
        """What is wrong with a spec; of what it uses, only where it uses it."""
        found = view.findings.diagnostics
        return [self.diagnostic(d, view) for d in found if d.primary.span.source == view.name]

    def diagnostic(self, found: Diagnostic, view: View) -> types.Diagnostic:
        """One diagnostic in the words of `metanorm check`."""
        related = [self._related(label, view) for label in found.secondary]
        lines = (found.message, found.primary.text, *found.notes, *found.helps)
        return types.Diagnostic(
            range=self.range(found.primary.span, view.sources),
            severity=SEVERITIES[found.severity],
            code=found.code,
            source="metanorm",
            message="\n".join(line for line in lines if line),
            related_information=related or None,
        )

    def _related(self, label: Label, view: View) -> types.DiagnosticRelatedInformation:
        location = self.location(label.span, view.sources)
        return types.DiagnosticRelatedInformation(location=location, message=label.text)

    def changed(self, uri: str) -> None:
        """Push what is wrong to an editor that does not ask, and have others look again."""
        name = name_of(uri)
        view = self.project.view(name)
        others = self.project.users(name)
        if not self.pulls:
            for shown in (view, *map(self.project.view, others)):
                found = self.diagnostics(shown)
                self.text_document_publish_diagnostics(
                    types.PublishDiagnosticsParams(uri=uri_of(shown.name), diagnostics=found)
                )
        elif others and self._refreshes():
            self.workspace_diagnostic_refresh(None)

    def _refreshes(self) -> bool:
        workspace = self.client_capabilities.workspace
        diagnostics = workspace.diagnostics if workspace is not None else None
        return bool(diagnostics is not None and diagnostics.refresh_support)


def name_of(uri: str) -> str:
    """The name of the source behind an address: its path, or the address where it is no file."""
    path = to_fs_path(uri)
    return Path(path).as_posix() if path else uri


def uri_of(name: str) -> str:
    """The address of a source."""
    if "://" in name or name.startswith("untitled:"):
        return name
    return from_fs_path(names.path_of_source(name)) or name


def request_failed(reason: object) -> JsonRpcException:
    """The error of a request that cannot be answered, which the editor shows."""
    return JsonRpcException(message=str(reason), code=types.LSPErrorCodes.RequestFailed)


server = SpecServer()


# ---- documents


@server.feature(types.INITIALIZED)
def on_initialized(ls: SpecServer, params: types.InitializedParams) -> None:
    """Note what the editor can do, and its folders."""
    document = ls.client_capabilities.text_document
    ls.pulls = document is not None and document.diagnostic is not None
    ls.project.folders = [name_of(uri) for uri in ls.workspace.folders]


@server.feature(types.TEXT_DOCUMENT_DID_OPEN)
def on_open(ls: SpecServer, params: types.DidOpenTextDocumentParams) -> None:
    """A document stands for its file from now on."""
    ls.project.put(name_of(params.text_document.uri), params.text_document.text)
    ls.changed(params.text_document.uri)


@server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
def on_change(ls: SpecServer, params: types.DidChangeTextDocumentParams) -> None:
    """A document has another text."""
    uri = params.text_document.uri
    ls.project.put(name_of(uri), ls.workspace.get_text_document(uri).source)
    ls.changed(uri)


@server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
def on_close(ls: SpecServer, params: types.DidCloseTextDocumentParams) -> None:
    """The file counts again; an editor that is pushed to forgets what was wrong."""
    ls.project.drop(name_of(params.text_document.uri))
    if not ls.pulls:
        ls.text_document_publish_diagnostics(
            types.PublishDiagnosticsParams(uri=params.text_document.uri, diagnostics=[])
        )


@server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
def on_files_changed(ls: SpecServer, params: types.DidChangeWatchedFilesParams) -> None:
    """Files changed on disk."""
    ls.project.forget()
    for name in list(ls.project.texts):
        ls.changed(uri_of(name))


@server.feature(
    types.TEXT_DOCUMENT_DIAGNOSTIC,
    types.DiagnosticOptions(inter_file_dependencies=True, workspace_diagnostics=False),
)
def on_diagnostics(
    ls: SpecServer, params: types.DocumentDiagnosticParams
) -> types.RelatedFullDocumentDiagnosticReport:
    """What is wrong with a spec, for an editor that asks."""
    found = ls.diagnostics(ls.view(params.text_document.uri))
    return types.RelatedFullDocumentDiagnosticReport(items=found)


# ---- at a place


@server.feature(types.TEXT_DOCUMENT_HOVER)
def on_hover(ls: SpecServer, params: types.HoverParams) -> types.Hover | None:
    """What is at a place."""
    view, offset = ls.asked(params)
    found = hover.hover(ls.project, view, offset)
    if found is None:
        return None
    text = types.MarkupContent(kind=types.MarkupKind.Markdown, value=found.markdown)
    return types.Hover(contents=text, range=ls.range(found.span, view.sources))


@server.feature(
    types.TEXT_DOCUMENT_COMPLETION,
    types.CompletionOptions(trigger_characters=[".", ":", "[", "(", '"']),
)
def on_completion(ls: SpecServer, params: types.CompletionParams) -> types.CompletionList:
    """What may stand at a place."""
    view, offset = ls.asked(params)
    items = [
        types.CompletionItem(
            label=item.text.rstrip(" =:"),
            kind=ITEM_KINDS[item.sort],
            detail=item.detail or None,
            documentation=item.meaning or None,
            insert_text=item.text,
        )
        for item in completion.completion(view, offset)
    ]
    return types.CompletionList(is_incomplete=False, items=items)


@server.feature(types.TEXT_DOCUMENT_DEFINITION)
def on_definition(ls: SpecServer, params: types.DefinitionParams) -> list[types.Location]:
    """Where a name is introduced."""
    view, offset = ls.asked(params)
    spans = names.definition(ls.project, view, offset)
    return [ls.location(span, ls.project.view(span.source).sources) for span in spans]


@server.feature(types.TEXT_DOCUMENT_REFERENCES)
def on_references(ls: SpecServer, params: types.ReferenceParams) -> list[types.Location]:
    """Where a name is used."""
    view, offset = ls.asked(params)
    found = names.references(ls.project, view, offset)
    wanted = [o.span for o in found if params.context.include_declaration or not o.introduces]
    return [ls.location(span, ls.project.view(span.source).sources) for span in wanted]


@server.feature(types.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT)
def on_highlight(
    ls: SpecServer, params: types.DocumentHighlightParams
) -> list[types.DocumentHighlight]:
    """Where a name stands in this text."""
    view, offset = ls.asked(params)
    found = names.highlights(view, offset)
    return [types.DocumentHighlight(range=ls.range(o.span, view.sources)) for o in found]


@server.feature(types.TEXT_DOCUMENT_PREPARE_RENAME)
def on_prepare_rename(ls: SpecServer, params: types.PrepareRenameParams) -> types.Range:
    """The name that can be renamed at a place."""
    view, offset = ls.asked(params)
    try:
        return ls.range(names.renamable_name(ls.project, view, offset).span, view.sources)
    except names.CannotRename as reason:
        raise request_failed(reason) from reason


@server.feature(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))
def on_rename(ls: SpecServer, params: types.RenameParams) -> types.WorkspaceEdit:
    """Every place of a name, renamed."""
    view, offset = ls.asked(params)
    try:
        places = names.rename(ls.project, view, offset, params.new_name)
    except names.CannotRename as reason:
        raise request_failed(reason) from reason
    changes: dict[str, Sequence[types.TextEdit]] = {}
    for name, spans in places.items():
        edits = (actions.Edit(span, params.new_name) for span in spans)
        changes[uri_of(name)] = ls.edits(ls.project.view(name), edits)
    return types.WorkspaceEdit(changes=changes)


# ---- edits


@server.feature(
    types.TEXT_DOCUMENT_CODE_ACTION,
    types.CodeActionOptions(code_action_kinds=[types.CodeActionKind.QuickFix, FIX_ALL]),
)
def on_code_action(ls: SpecServer, params: types.CodeActionParams) -> list[types.CodeAction]:
    """What can be done about a part of a text."""
    uri = params.text_document.uri
    view = ls.view(uri)
    wanted = params.context.only
    found: list[types.CodeAction] = []
    if wanted is None or any(kind in ("", "quickfix") for kind in wanted):
        for action in actions.actions(view, ls.positions(view.source).span(params.range)):
            mistake = action.diagnostic
            found.append(
                types.CodeAction(
                    title=action.title,
                    kind=types.CodeActionKind.QuickFix,
                    is_preferred=action.is_preferred or None,
                    diagnostics=[ls.diagnostic(mistake, view)] if mistake else None,
                    edit=types.WorkspaceEdit(changes={uri: ls.edits(view, action.edits)}),
                )
            )
    edits = actions.safe_fix_edits(view)
    asked = wanted is None or any(
        kind == FIX_ALL or FIX_ALL.startswith(f"{kind}.") for kind in wanted
    )
    if edits and asked:
        edit = types.WorkspaceEdit(changes={uri: ls.edits(view, edits)})
        title = "make every safe fix in this file"
        found.append(types.CodeAction(title=title, kind=FIX_ALL, edit=edit))
    return found


@server.feature(types.TEXT_DOCUMENT_FORMATTING)
def on_formatting(ls: SpecServer, params: types.DocumentFormattingParams) -> list[types.TextEdit]:
    """The layout of `metanorm fmt`."""
    view = ls.view(params.text_document.uri)
    return ls.edits(view, actions.formatting_edits(view))


# ---- beside the text


@server.feature(types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL, LEGEND)
def on_semantic_tokens(ls: SpecServer, params: types.SemanticTokensParams) -> types.SemanticTokens:
    """What each name is; each place relative to the one before, as the protocol has it."""
    view = ls.view(params.text_document.uri)
    positions = ls.positions(view.source)
    data: list[int] = []
    line = column = 0
    for name in display.semantic_tokens(view):
        place = positions.position(name.span.start)
        column = 0 if place.line != line else column
        modifiers = name.introduces + 2 * name.of_language
        type = TOKEN_TYPES.index(name.type)
        length = positions.length(name.span)
        data += (place.line - line, place.character - column, length, type, modifiers)
        line, column = place.line, place.character
    return types.SemanticTokens(data=data)


@server.feature(types.TEXT_DOCUMENT_INLAY_HINT)
def on_inlay_hints(ls: SpecServer, params: types.InlayHintParams) -> list[types.InlayHint]:
    """Axes that the text does not say."""
    view = ls.view(params.text_document.uri)
    positions = ls.positions(view.source)
    found = display.hints(view, positions.span(params.range))
    return [
        types.InlayHint(
            position=positions.position(hint.offset),
            label=hint.text,
            kind=types.InlayHintKind.Type,
        )
        for hint in found
    ]


@server.feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
def on_document_symbols(
    ls: SpecServer, params: types.DocumentSymbolParams
) -> list[types.DocumentSymbol]:
    """The norms of a text and what they introduce."""
    view = ls.view(params.text_document.uri)

    def symbol(entry: display.OutlineEntry) -> types.DocumentSymbol:
        return types.DocumentSymbol(
            name=entry.name,
            kind=SYMBOL_KINDS.get(entry.role, types.SymbolKind.Variable),
            range=ls.range(entry.whole, view.sources),
            selection_range=ls.range(entry.span, view.sources),
            detail=entry.detail or None,
            children=[symbol(child) for child in entry.children] or None,
        )

    return [symbol(entry) for entry in display.outline(view)]


@server.thread()
@server.feature(types.TEXT_DOCUMENT_CODE_LENS, types.CodeLensOptions(resolve_provider=False))
def on_code_lens(ls: SpecServer, params: types.CodeLensParams) -> list[types.CodeLens]:
    """Above each norm: what computes the same, and the picture of its pools."""
    uri = params.text_document.uri
    view = ls.view(uri)
    found: list[types.CodeLens] = []
    for norm in view.checked:
        place = ls.range(norm.norm.name.span, view.sources)
        show = types.Command(
            title="show pools", command=SHOW_POOLS, arguments=[uri, norm.norm.name.name]
        )
        found.append(types.CodeLens(range=place, command=show))
        for equal in lenses.equal_norms(norm):
            said = types.Command(title=f"equals {equal}", command="")
            found.append(types.CodeLens(range=place, command=said))
    return found


@server.thread()
@server.command(SHOW_POOLS)
def show_pools(ls: SpecServer, uri: str, norm: str) -> str:
    """Draw what a norm pools; the editor opens the picture. Returns its address."""
    try:
        path = lenses.write_picture(ls.view(uri), norm)
    except lenses.CannotShow as reason:
        raise request_failed(reason) from reason
    address = from_fs_path(str(path)) or ""
    window = ls.client_capabilities.window
    if window is not None and window.show_document is not None:
        ls.window_show_document(types.ShowDocumentParams(uri=address, external=True))
    return address


def main() -> None:
    """Serve one editor, on standard input and output."""
    server.start_io()
