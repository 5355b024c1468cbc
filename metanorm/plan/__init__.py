"""How often the data is gone through, and what is done each time: the plan that nests are made of.

`docs/glossary.md` has the words.
"""
