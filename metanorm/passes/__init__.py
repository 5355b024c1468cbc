"""IR to better IR, one file per pass; `pipeline` is the ordered list.

`docs/glossary.md` has the words.
"""
