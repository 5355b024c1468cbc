"""The language server: what an editor asks of specs, and `metanorm lsp`, which answers it.

Every answer is a function of a `View`, a spec as an editor has it, in spans of its text.
`server.py` alone knows the protocol.
"""
