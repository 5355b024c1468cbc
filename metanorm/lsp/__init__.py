"""The language server, `metanorm lsp`.

Every answer is a function of a `View`, the spec that an editor shows, in spans of its text. Only
`server.py`, `spec_server.py` and `positions.py` know the protocol.
"""
