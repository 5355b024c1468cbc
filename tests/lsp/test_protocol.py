"""The language server as an editor meets it: a process, and the protocol."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from commands import in_a_child, in_this
from conftest import ROOT
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pytest_lsp import ClientServerConfig, LanguageClient, make_test_lsp_client

CORPUS = sorted([*(ROOT / "specs").glob("*.norm"), *(ROOT / "tests").glob("*/**/*.norm")])
BAD = [path for path in CORPUS if path.parent.name == "bad"]
COMMAND = [sys.executable, "-m", "metanorm", "lsp"]


def capabilities(pulls: bool, encoding: str) -> types.ClientCapabilities:
    return types.ClientCapabilities(
        general=types.GeneralClientCapabilities(position_encodings=[encoding]),
        text_document=types.TextDocumentClientCapabilities(
            diagnostic=types.DiagnosticClientCapabilities() if pulls else None,
        ),
        workspace=types.WorkspaceClientCapabilities(
            diagnostics=types.DiagnosticWorkspaceClientCapabilities(refresh_support=True)
        ),
    )


class Editor:
    """A client with what tests ask of it."""

    def __init__(self, client: LanguageClient) -> None:
        self.client = client
        self.version = 0

    def open(self, path: Path, text: str | None = None) -> types.TextDocumentIdentifier:
        uri = path.as_uri()
        if text is None:
            text = path.read_bytes().decode()
        item = types.TextDocumentItem(uri=uri, language_id="norm", version=0, text=text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(text_document=item))
        return types.TextDocumentIdentifier(uri=uri)

    def change(self, document: types.TextDocumentIdentifier, text: str) -> None:
        self.version += 1
        named = types.VersionedTextDocumentIdentifier(uri=document.uri, version=self.version)
        change = types.TextDocumentContentChangeWholeDocument(text=text)
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(text_document=named, content_changes=[change])
        )

    def close(self, document: types.TextDocumentIdentifier) -> None:
        self.client.text_document_did_close(
            types.DidCloseTextDocumentParams(text_document=document)
        )

    async def pull(self, document: types.TextDocumentIdentifier) -> list[types.Diagnostic]:
        report = await self.client.text_document_diagnostic_async(
            types.DocumentDiagnosticParams(text_document=document)
        )
        return list(report.items)


async def started(pulls: bool = True, encoding: str = "utf-16", folder: Path = ROOT) -> Editor:
    config = ClientServerConfig(server_command=COMMAND, client_factory=make_test_lsp_client)
    client = await config.start()
    editor = Editor(client)

    await client.initialize_session(
        types.InitializeParams(
            capabilities=capabilities(pulls, encoding),
            workspace_folders=[types.WorkspaceFolder(uri=folder.as_uri(), name="x")],
        )
    )
    return editor


async def ended(editor: Editor) -> None:
    await editor.client.shutdown_session()
    assert editor.client.error is None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def editor() -> AsyncIterator[Editor]:
    editor = await started()
    yield editor
    await ended(editor)


pytestmark = pytest.mark.asyncio(loop_scope="module")


def units(line: str) -> int:
    """The UTF-16 units of a text, counted as the protocol says and not as the server does."""
    return len(line.encode("utf-16-le", errors="surrogatepass")) // 2


def lines_of(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def line_and_character(lines: list[str], position: dict[str, int]) -> tuple[int, int]:
    """A line and column of `check` as the protocol counts them."""
    line = position["line"] - 1
    return line, units(lines[line][: position["column"] - 1])


async def test_diagnostics_are_those_of_check(
    editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for path in CORPUS:
        document = editor.open(path)
        reported = await editor.pull(document)
        name = path.relative_to(ROOT).as_posix()
        checked = json.loads(in_this("check", "--format=json", name).stdout)
        lines = lines_of(path.read_bytes().decode())
        expected = [
            (
                d["code"],
                d["severity"],
                *(line_and_character(lines, d["primary"][e]) for e in ("start", "end")),
            )
            for d in checked["diagnostics"]
            if d["primary"]["path"] == name
        ]
        assert [
            (
                d.code,
                d.severity.name.lower(),
                (d.range.start.line, d.range.start.character),
                (d.range.end.line, d.range.end.character),
            )
            for d in reported
        ] == expected
        for d, said in zip(reported, checked["diagnostics"]):
            assert d.message.startswith(said["message"])
        editor.close(document)


async def test_every_request_is_answered_on_every_bad_spec(editor: Editor) -> None:
    client = editor.client
    for path in [*BAD, *CORPUS[::9]]:
        document = editor.open(path)
        lines = lines_of(path.read_bytes().decode())[:40]
        last = types.Position(line=len(lines), character=0)
        whole = types.Range(start=types.Position(line=0, character=0), end=last)
        for number in range(0, len(lines), 3):
            at = {
                "text_document": document,
                "position": types.Position(line=number, character=units(lines[number]) // 2),
            }
            await client.text_document_hover_async(types.HoverParams(**at))
            offered = await client.text_document_completion_async(types.CompletionParams(**at))
            assert all(item.label for item in offered.items)
            await client.text_document_definition_async(types.DefinitionParams(**at))
            await client.text_document_document_highlight_async(types.DocumentHighlightParams(**at))
            try:
                await client.text_document_prepare_rename_async(types.PrepareRenameParams(**at))
            except JsonRpcException as reason:
                assert reason.code == types.LSPErrorCodes.RequestFailed
        context = types.CodeActionContext(diagnostics=[])
        await client.text_document_code_action_async(
            types.CodeActionParams(text_document=document, range=whole, context=context)
        )
        tokens = await client.text_document_semantic_tokens_full_async(
            types.SemanticTokensParams(text_document=document)
        )
        assert len(tokens.data) % 5 == 0
        await client.text_document_inlay_hint_async(
            types.InlayHintParams(text_document=document, range=whole)
        )
        await client.text_document_document_symbol_async(
            types.DocumentSymbolParams(text_document=document)
        )
        options = types.FormattingOptions(tab_size=2, insert_spaces=True)
        await client.text_document_formatting_async(
            types.DocumentFormattingParams(text_document=document, options=options)
        )
        editor.close(document)


UNTIDY = (
    "norm A {\n  input x[N,C]  # \N{GRINNING FACE} \u2028 odd\n"
    "  output x × 2 # \N{GRINNING FACE}\n}\n"
)


def applied(text: str, edits: list[types.TextEdit]) -> str:
    """Edits as an editor makes them: in UTF-16 units of lines with their ends."""
    lines = [line.encode("utf-16-le") for line in text.split("\n")]
    starts = [sum(len(line) + 2 for line in lines[:n]) for n in range(len(lines) + 1)]
    data = text.encode("utf-16-le")

    def offset(position: types.Position) -> int:
        return starts[position.line] + 2 * position.character

    for edit in sorted(edits, key=lambda e: offset(e.range.start), reverse=True):
        start, end = offset(edit.range.start), offset(edit.range.end)
        data = data[:start] + edit.new_text.encode("utf-16-le") + data[end:]
    return data.decode("utf-16-le")


async def test_edits_are_those_of_the_command_line(editor: Editor, tmp_path: Path) -> None:
    path = tmp_path / "a.norm"
    path.write_text(UNTIDY)
    document = editor.open(path)
    (diagnostic,) = await editor.pull(document)
    assert (diagnostic.range.start.line, diagnostic.range.start.character) == (2, 11)
    context = types.CodeActionContext(diagnostics=[diagnostic])
    offered = await editor.client.text_document_code_action_async(
        types.CodeActionParams(text_document=document, range=diagnostic.range, context=context)
    )
    fix, every = offered
    assert (fix.title, fix.is_preferred, fix.kind) == ("write `*` instead of `×`", True, "quickfix")
    assert every.kind == "source.fixAll.metanorm"
    for action in offered:
        fixed = applied(UNTIDY, action.edit.changes[document.uri])
        assert fixed == in_this("check", "-", "--fix", stdin=UNTIDY).stdout
    editor.change(document, fixed)
    options = types.FormattingOptions(tab_size=2, insert_spaces=True)
    edits = await editor.client.text_document_formatting_async(
        types.DocumentFormattingParams(text_document=document, options=options)
    )
    formatted = in_this("fmt", "-", stdin=fixed).stdout
    assert formatted != fixed and applied(fixed, edits) == formatted
    editor.close(document)


async def test_a_mark_and_other_line_ends_are_counted(editor: Editor, tmp_path: Path) -> None:
    text = "\ufeffnorm A { input x[N] output y }\r\nnorm B {\r\n  input x[N]\r\n  output z\r\n}\r\n"
    document = editor.open(tmp_path / "a.norm", text)
    first, second = await editor.pull(document)
    assert first.range.start == types.Position(line=0, character=text.index("y }"))
    assert second.range.start == types.Position(line=3, character=9)
    editor.close(document)


USED = "norm Inner {\n  input  x[N]\n  output 2 * x\n}\n"
USER = 'use "inner.norm"\n\nnorm Outer {\n  input  x[N]\n  output Inner(x)\n}\n'


async def test_what_is_open_counts_and_users_look_again(editor: Editor, tmp_path: Path) -> None:
    inner, user = tmp_path / "inner.norm", tmp_path / "user.norm"
    inner.write_text(USED)
    user.write_text(USER)
    used, using = editor.open(inner), editor.open(user)
    assert await editor.pull(using) == []
    before = editor.client.diagnostic_refresh_count
    editor.change(used, USED.replace("Inner", "Other"))
    assert [d.code for d in await editor.pull(using)] == ["MN0202"]
    assert editor.client.diagnostic_refresh_count > before
    editor.close(used)
    assert await editor.pull(using) == []
    editor.close(using)


async def test_rename(editor: Editor, tmp_path: Path) -> None:
    path = tmp_path / "a.norm"
    text = "norm A {\n  input  x[N, C]  # \N{GRINNING FACE}\n  reduce C\n  affine C\n}\n"
    document = editor.open(path, text)
    at = {"text_document": document, "position": types.Position(line=3, character=9)}
    name_range = await editor.client.text_document_prepare_rename_async(
        types.PrepareRenameParams(**at)
    )
    assert (name_range.start.character, name_range.end.character) == (9, 10)
    edit = await editor.client.text_document_rename_async(
        types.RenameParams(**at, new_name="channel")
    )
    renamed = applied(text, edit.changes[document.uri])
    assert renamed == text.replace("C]", "channel]").replace("e C", "e channel")
    with pytest.raises(JsonRpcException, match="cannot be a name"):
        await editor.client.text_document_rename_async(types.RenameParams(**at, new_name="reduce"))
    editor.close(document)


async def test_an_editor_that_does_not_ask_is_told(tmp_path: Path) -> None:
    inner, user = tmp_path / "inner.norm", tmp_path / "user.norm"
    inner.write_text(USED)
    user.write_text(USER)
    editor = await started(pulls=False, encoding="utf-32", folder=tmp_path)
    used, using = editor.open(inner), editor.open(user)
    editor.change(used, "# \N{GRINNING FACE}\n" + USED.replace("* x", "* \N{GRINNING FACE}"))
    await editor.client.wait_for_notification(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    hover = types.HoverParams(text_document=using, position=types.Position(line=4, character=9))
    await editor.client.text_document_hover_async(hover)  # after which all has arrived
    (diagnostic, *_) = editor.client.diagnostics[used.uri]
    assert (diagnostic.code, diagnostic.range.start.character) == ("MN0104", 13)
    editor.close(used)
    await editor.client.text_document_hover_async(hover)
    assert list(editor.client.diagnostics[used.uri]) == []
    await ended(editor)


@pytest.mark.extended
async def test_lenses_and_pictures(tmp_path: Path) -> None:
    """What a norm equals, and what it pools, which takes torch."""
    editor = await started(folder=tmp_path)
    path = tmp_path / "mine.norm"
    path.write_text((ROOT / "specs" / "layer_norm.norm").read_text().replace("LayerNorm", "Mine"))
    document = editor.open(path)
    lenses = await editor.client.text_document_code_lens_async(
        types.CodeLensParams(text_document=document)
    )
    titles = [lens.command.title for lens in lenses]
    assert titles == ["show pools", "equals torch.nn.LayerNorm", "equals LayerNorm"]
    command = lenses[0].command
    uri = await editor.client.workspace_execute_command_async(
        types.ExecuteCommandParams(command=command.command, arguments=command.arguments)
    )
    assert Path(uri.removeprefix("file://")).read_text().startswith("<svg")
    with pytest.raises(JsonRpcException, match="there is no norm"):
        await editor.client.workspace_execute_command_async(
            types.ExecuteCommandParams(command=command.command, arguments=[document.uri, "No"])
        )
    await ended(editor)


@pytest.mark.asyncio(loop_scope="function")
async def test_without_pygls_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metanorm.cli.lsp.find_spec", lambda name: None)
    done = in_this("lsp")
    assert done.returncode == 2 and "pip install 'metanorm[lsp]'" in done.stderr


@pytest.mark.asyncio(loop_scope="function")
async def test_other_commands_import_no_server() -> None:
    done = in_a_child("check", "-", stdin="", PYTHONPROFILEIMPORTTIME="1")
    assert "metanorm.frontend" in done.stderr
    assert "pygls" not in done.stderr and "metanorm.lsp" not in done.stderr
