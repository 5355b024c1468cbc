"""Kernels before they are printed: which ones a norm has, or why none; what each is given, does and
gives back. What every target with kernels needs is here, so that no target imports another.

`docs/glossary.md` has the words.
"""
