"""Layers that compute what a norm of the library computes: those of packages, and written by hand.

Beside the rows of `networks` and `by_hand`, the only place of the benchmark that knows norms by
their names.
"""
