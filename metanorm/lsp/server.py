"""The language server protocol: converts requests and answers. It knows nothing of specs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.uris import from_fs_path

from metanorm.lsp import actions, completion, display, hover, lenses, names
from metanorm.lsp.spec_server import SpecServer, name_of, uri_of
from metanorm.semantics.symbols import Role

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


def request_failed(reason: object) -> JsonRpcException:
    """The error for a request that cannot be answered. The editor shows it."""
    return JsonRpcException(message=str(reason), code=types.LSPErrorCodes.RequestFailed)


server = SpecServer()


# ---- documents


@server.feature(types.INITIALIZED)
def on_initialized(ls: SpecServer, params: types.InitializedParams) -> None:
    """Note what the editor can do, and its folders."""
    document = ls.client_capabilities.text_document
    ls.pulls_diagnostics = document is not None and document.diagnostic is not None
    ls.project.folders = [name_of(uri) for uri in ls.workspace.folders]


@server.feature(types.TEXT_DOCUMENT_DID_OPEN)
def on_open(ls: SpecServer, params: types.DidOpenTextDocumentParams) -> None:
    """A document replaces its file from now on."""
    ls.project.set_document(name_of(params.text_document.uri), params.text_document.text)
    ls.send_diagnostics(params.text_document.uri)


@server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
def on_change(ls: SpecServer, params: types.DidChangeTextDocumentParams) -> None:
    """The text of a document has changed."""
    uri = params.text_document.uri
    ls.project.set_document(name_of(uri), ls.workspace.get_text_document(uri).source)
    ls.send_diagnostics(uri)


@server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
def on_close(ls: SpecServer, params: types.DidCloseTextDocumentParams) -> None:
    """The file on disk counts again. Pushed diagnostics are cleared."""
    ls.project.close_document(name_of(params.text_document.uri))
    if not ls.pulls_diagnostics:
        ls.text_document_publish_diagnostics(
            types.PublishDiagnosticsParams(uri=params.text_document.uri, diagnostics=[])
        )


@server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
def on_files_changed(ls: SpecServer, params: types.DidChangeWatchedFilesParams) -> None:
    """Files changed on disk."""
    ls.project.clear_views()
    for name in list(ls.project.texts):
        ls.send_diagnostics(uri_of(name))


@server.feature(
    types.TEXT_DOCUMENT_DIAGNOSTIC,
    types.DiagnosticOptions(inter_file_dependencies=True, workspace_diagnostics=False),
)
def on_diagnostics(
    ls: SpecServer, params: types.DocumentDiagnosticParams
) -> types.RelatedFullDocumentDiagnosticReport:
    """The diagnostics of a spec, for an editor that pulls them."""
    diagnostics = ls.diagnostics(ls.view(params.text_document.uri))
    return types.RelatedFullDocumentDiagnosticReport(items=diagnostics)


# ---- requests at a position


@server.feature(types.TEXT_DOCUMENT_HOVER)
def on_hover(ls: SpecServer, params: types.HoverParams) -> types.Hover | None:
    """The hover text at a position."""
    view, offset = ls.view_and_offset(params)
    answer = hover.hover(ls.project, view, offset)
    if answer is None:
        return None
    text = types.MarkupContent(kind=types.MarkupKind.Markdown, value=answer.markdown)
    return types.Hover(contents=text, range=ls.range(answer.span, view.sources))


@server.feature(
    types.TEXT_DOCUMENT_COMPLETION,
    types.CompletionOptions(trigger_characters=[".", ":", "[", "(", '"']),
)
def on_completion(ls: SpecServer, params: types.CompletionParams) -> types.CompletionList:
    """The completions at a position."""
    view, offset = ls.view_and_offset(params)
    items = [
        types.CompletionItem(
            label=item.text.rstrip(" =:"),
            kind=ITEM_KINDS[item.kind],
            detail=item.detail or None,
            documentation=item.meaning or None,
            insert_text=item.text,
        )
        for item in completion.completion(view, offset)
    ]
    return types.CompletionList(is_incomplete=False, items=items)


@server.feature(types.TEXT_DOCUMENT_DEFINITION)
def on_definition(ls: SpecServer, params: types.DefinitionParams) -> list[types.Location]:
    """The definitions of a name."""
    view, offset = ls.view_and_offset(params)
    spans = names.definition(ls.project, view, offset)
    return [ls.location(span, ls.project.view(span.source).sources) for span in spans]


@server.feature(types.TEXT_DOCUMENT_REFERENCES)
def on_references(ls: SpecServer, params: types.ReferenceParams) -> list[types.Location]:
    """The references to a name."""
    view, offset = ls.view_and_offset(params)
    occurrences = names.references(ls.project, view, offset)
    spans = [o.span for o in occurrences if params.context.include_declaration or not o.introduces]
    return [ls.location(span, ls.project.view(span.source).sources) for span in spans]


@server.feature(types.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT)
def on_highlight(
    ls: SpecServer, params: types.DocumentHighlightParams
) -> list[types.DocumentHighlight]:
    """The occurrences of a name in this text."""
    view, offset = ls.view_and_offset(params)
    occurrences = names.highlights(view, offset)
    return [types.DocumentHighlight(range=ls.range(o.span, view.sources)) for o in occurrences]


@server.feature(types.TEXT_DOCUMENT_PREPARE_RENAME)
def on_prepare_rename(ls: SpecServer, params: types.PrepareRenameParams) -> types.Range:
    """The range of the name at a position, if it can be renamed."""
    view, offset = ls.view_and_offset(params)
    try:
        return ls.range(names.renamable_name(ls.project, view, offset).span, view.sources)
    except names.CannotRename as reason:
        raise request_failed(reason) from reason


@server.feature(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))
def on_rename(ls: SpecServer, params: types.RenameParams) -> types.WorkspaceEdit:
    """The edits that rename a name everywhere."""
    view, offset = ls.view_and_offset(params)
    try:
        spans_by_source = names.rename(ls.project, view, offset, params.new_name)
    except names.CannotRename as reason:
        raise request_failed(reason) from reason
    changes: dict[str, Sequence[types.TextEdit]] = {}
    for name, spans in spans_by_source.items():
        edits = (actions.Edit(span, params.new_name) for span in spans)
        changes[uri_of(name)] = ls.edits(ls.project.view(name), edits)
    return types.WorkspaceEdit(changes=changes)


# ---- edits


@server.feature(
    types.TEXT_DOCUMENT_CODE_ACTION,
    types.CodeActionOptions(code_action_kinds=[types.CodeActionKind.QuickFix, FIX_ALL]),
)
def on_code_action(ls: SpecServer, params: types.CodeActionParams) -> list[types.CodeAction]:
    """The code actions for a range."""
    uri = params.text_document.uri
    view = ls.view(uri)
    kinds = params.context.only
    code_actions: list[types.CodeAction] = []
    if kinds is None or any(kind in ("", "quickfix") for kind in kinds):
        for action in actions.actions(view, ls.positions(view.source).span(params.range)):
            diagnostic = action.diagnostic
            code_actions.append(
                types.CodeAction(
                    title=action.title,
                    kind=types.CodeActionKind.QuickFix,
                    is_preferred=action.is_preferred or None,
                    diagnostics=[ls.diagnostic(diagnostic, view)] if diagnostic else None,
                    edit=types.WorkspaceEdit(changes={uri: ls.edits(view, action.edits)}),
                )
            )
    edits = actions.safe_fix_edits(view)
    wants_fix_all = kinds is None or any(
        kind == FIX_ALL or FIX_ALL.startswith(f"{kind}.") for kind in kinds
    )
    if edits and wants_fix_all:
        edit = types.WorkspaceEdit(changes={uri: ls.edits(view, edits)})
        title = "make every safe fix in this file"
        code_actions.append(types.CodeAction(title=title, kind=FIX_ALL, edit=edit))
    return code_actions


@server.feature(types.TEXT_DOCUMENT_FORMATTING)
def on_formatting(ls: SpecServer, params: types.DocumentFormattingParams) -> list[types.TextEdit]:
    """The edits of `metanorm fmt`."""
    view = ls.view(params.text_document.uri)
    return ls.edits(view, actions.formatting_edits(view))


# ---- beside the text


@server.feature(types.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL, LEGEND)
def on_semantic_tokens(ls: SpecServer, params: types.SemanticTokensParams) -> types.SemanticTokens:
    """The tokens of all names, each position relative to the one before, as the protocol asks."""
    view = ls.view(params.text_document.uri)
    positions = ls.positions(view.source)
    data: list[int] = []
    line = column = 0
    for token in display.semantic_tokens(view):
        position = positions.position(token.span.start)
        column = 0 if position.line != line else column
        modifiers = token.introduces + 2 * token.of_language
        token_type = TOKEN_TYPES.index(token.type)
        length = positions.length(token.span)
        data += (position.line - line, position.character - column, length, token_type, modifiers)
        line, column = position.line, position.character
    return types.SemanticTokens(data=data)


@server.feature(types.TEXT_DOCUMENT_INLAY_HINT)
def on_inlay_hints(ls: SpecServer, params: types.InlayHintParams) -> list[types.InlayHint]:
    """The inferred axes in a range."""
    view = ls.view(params.text_document.uri)
    positions = ls.positions(view.source)
    axes_hints = display.hints(view, positions.span(params.range))
    return [
        types.InlayHint(
            position=positions.position(hint.offset),
            label=hint.text,
            kind=types.InlayHintKind.Type,
        )
        for hint in axes_hints
    ]


@server.feature(types.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
def on_document_symbols(
    ls: SpecServer, params: types.DocumentSymbolParams
) -> list[types.DocumentSymbol]:
    """The outline: norms and the names that they introduce."""
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
    """The lenses above each norm: equal norms, and the picture of its pools."""
    uri = params.text_document.uri
    view = ls.view(uri)
    code_lenses: list[types.CodeLens] = []
    for norm in view.checked:
        norm_range = ls.range(norm.norm.name.span, view.sources)
        show = types.Command(
            title="show pools", command=SHOW_POOLS, arguments=[uri, norm.norm.name.name]
        )
        code_lenses.append(types.CodeLens(range=norm_range, command=show))
        for equal in lenses.equal_norms(norm):
            equal_command = types.Command(title=f"equals {equal}", command="")
            code_lenses.append(types.CodeLens(range=norm_range, command=equal_command))
    return code_lenses


@server.thread()
@server.command(SHOW_POOLS)
def show_pools(ls: SpecServer, uri: str, norm: str) -> str:
    """Draw what a norm pools; the editor opens the picture. Returns its URI."""
    try:
        path = lenses.write_picture(ls.view(uri), norm)
    except lenses.CannotShow as reason:
        raise request_failed(reason) from reason
    picture_uri = from_fs_path(str(path)) or ""
    window = ls.client_capabilities.window
    if window is not None and window.show_document is not None:
        ls.window_show_document(types.ShowDocumentParams(uri=picture_uri, external=True))
    return picture_uri


def main() -> None:
    """Serve one editor, on standard input and output."""
    server.start_io()
