"""What the kernels of all targets share: reading the arguments of a call, plans, autograd.

`native` and `triton` build on this. Terms are in `docs/glossary.md`.
"""
