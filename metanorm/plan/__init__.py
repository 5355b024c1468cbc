"""The sweep plan of a program: how many passes over the data it takes, and what each one does.

`docs/glossary.md` has the words.
"""
