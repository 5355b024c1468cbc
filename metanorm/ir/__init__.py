"""The intermediate representation: nodes, axes, aggregations, types.

`docs/glossary.md` has the words.
"""
