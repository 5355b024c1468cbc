"""`metanorm lsp`: the language server."""

from __future__ import annotations

from importlib.util import find_spec

from metanorm.workspace import WorkspaceError


def command() -> None:
    """Serve an editor on standard input and output, by the language server protocol."""
    if find_spec("pygls") is None or find_spec("lsprotocol") is None:
        raise WorkspaceError("the language server needs pygls: pip install 'metanorm[lsp]'")
    from metanorm.lsp.server import main

    main()
