"""What editors are given: word lists, lexers, and the extension for VS Code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from limited import HANGS
from pygments.token import Comment, Error, Keyword, Name

from docs import editor
from metanorm.pygments_lexer import NormLexer
from metanorm.syntax import words
from metanorm.syntax.grammar import parser
from metanorm.version import __version__

GOOD = sorted([*(ROOT / "specs").glob("*.norm"), *(ROOT / "tests" / "good").glob("*/*.norm")])
VSCODE = ROOT / "editors" / "vscode"


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_pygments_knows_every_word_of_a_spec(path: Path) -> None:
    text = path.read_text()
    tokens = list(NormLexer(ensurenl=False, stripnl=False).get_tokens(text))
    assert "".join(word for _, word in tokens) == text
    assert [word for kind, word in tokens if kind is Error] == []
    comments = [word for kind, word in tokens if kind in Comment]
    lexed = parser().lex(text, dont_ignore=True)
    assert comments == [str(token) for token in lexed if token.type == "COMMENT"]


def test_pygments_tells_words_apart() -> None:
    text = "norm A(eps = 1e-5) {\n  reduce C: blocks(2)\n  output sqrt(scale) + B(x over C)\n}\n"
    kinds = {word: kind for kind, word in NormLexer().get_tokens(text)}
    assert kinds["A"] is Name.Class and kinds["B"] is Name.Class and kinds["C"] is Name.Label
    assert kinds["reduce"] is Keyword and kinds["over"] is Keyword.Pseudo
    assert kinds["blocks"] is Name.Builtin and kinds["sqrt"] is Name.Builtin


def test_pygments_finds_the_lexer() -> None:
    """By the entry point of an installed metanorm, which this checkout only declares."""
    text = (ROOT / "pyproject.toml").read_text()
    assert 'norm = "metanorm.pygments_lexer:NormLexer"' in text


def test_all_lists_are_of_the_same_words() -> None:
    """TextMate, CodeMirror and Emacs name each word that Pygments does."""
    files = (editor.text_mate(), editor.code_mirror(), editor.emacs())
    for table in (words.STATEMENTS, words.SOFT, words.SORTS, words.LITERALS, words.FUNCTIONS):
        for word in table:
            for text in files:
                assert re.search(rf"\b{word}\b", text), word


def test_the_grammar_of_text_mate_compiles() -> None:
    for pattern in json.loads(editor.text_mate())["patterns"]:
        re.compile(pattern["match"])


def test_the_extension_is_of_this_version_and_whole() -> None:
    package = json.loads((VSCODE / "package.json").read_text())
    assert package["version"] == __version__
    contributes = package["contributes"]
    named = [package["icon"], "README.md", "LICENSE", contributes["grammars"][0]["path"]]
    for file in (*named, contributes["languages"][0]["configuration"]):
        assert (VSCODE / file).is_file()
    json.loads((VSCODE / "language-configuration.json").read_text())
    lock = json.loads((VSCODE / "package-lock.json").read_text())
    assert lock["packages"][""]["devDependencies"] == package["devDependencies"]
    command = contributes["configuration"]["properties"]["metanorm.command"]
    assert command["default"] == ["metanorm", "lsp"] and command["scope"] == "machine-overridable"
    assert (VSCODE / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@pytest.mark.extended
def test_the_extension_is_built_without_network(tmp_path: Path) -> None:
    """What `make vsix` does once npm has fetched its packages."""
    if shutil.which("node") is None or not (VSCODE / "node_modules").is_dir():
        pytest.skip("needs node, and the packages that `make vsix` has npm fetch")
    built = VSCODE / "dist" / "metanorm.vsix"
    built.unlink(missing_ok=True)
    subprocess.run(["npm", "run", "package", "--offline"], cwd=VSCODE, check=True)
    with zipfile.ZipFile(built) as archive:
        names = set(archive.namelist())
    assert {
        "extension/dist/extension.js",
        "extension/syntaxes/norm.tmLanguage.json",
        "extension/language-configuration.json",
        "extension/icon.png",
        "extension/package.json",
    } <= names
    assert not any("node_modules" in name for name in names)


NEOVIM = """
vim.o.swapfile = false
vim.cmd("edit " .. vim.env.SPEC)
local command = { vim.env.PYTHON, "-m", "metanorm", "lsp" }
local id = vim.lsp.start_client({ name = "metanorm", cmd = command })
vim.lsp.buf_attach_client(0, id)
vim.wait(600000, function() return #vim.diagnostic.get(0) > 0 end)
for _, d in ipairs(vim.diagnostic.get(0)) do
  io.stdout:write(d.lnum .. ":" .. d.col .. " " .. d.code .. "\\n")
end
local done = vim.lsp.buf_request_sync(0, "textDocument/hover", {
  textDocument = { uri = vim.uri_from_bufnr(0) }, position = { line = 1, character = 12 },
}, 600000)
for _, answer in pairs(done) do io.stdout:write(answer.result.contents.value .. "\\n") end
vim.cmd("qall!")
"""


@pytest.mark.extended
def test_neovim_shows_what_is_wrong(tmp_path: Path) -> None:
    """An editor that is told, and does not ask."""
    if shutil.which("nvim") is None:
        pytest.skip("needs Neovim: apt-get install neovim")
    spec, script = tmp_path / "a.norm", tmp_path / "try.lua"
    spec.write_text("norm A {\n  input  x[N, C]\n  reduce D\n}\n")
    script.write_text(NEOVIM)
    done = subprocess.run(
        ["nvim", "--headless", "-u", "NONE", "-c", f"luafile {script}"],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "SPEC": str(spec),
            "PYTHON": sys.executable,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert "2:9 MN0302" in done.stdout, done.stderr
    assert "axis `N`" in done.stdout
