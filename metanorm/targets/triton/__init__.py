"""The Triton target: nests as kernels for tensors on a GPU.

`docs/glossary.md` has the words.
"""
