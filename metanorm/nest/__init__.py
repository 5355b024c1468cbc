"""Kernels before they are printed: which kernels a norm has, or why it has none, and what each of
them reads, computes and writes.

Every target with kernels builds on this package, so that no target imports another.

`docs/glossary.md` has the words.
"""
