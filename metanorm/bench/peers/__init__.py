"""Layers that equal a norm of the library: those of packages, and those written by hand.

Apart from the rows of `networks` and `by_hand`, only this package of the benchmark knows norms by
name.
"""
