"""Optimised IR to code.

`docs/glossary.md` has the words.
"""
