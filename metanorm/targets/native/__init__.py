"""The native target: nests as C11, for tensors in the memory of the CPU.

`docs/glossary.md` has the words.
"""
