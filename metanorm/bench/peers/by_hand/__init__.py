"""Norms as a careful engineer writes them by hand, on operations of torch, to be timed beside ours.

A layer takes what the norm takes, keeps the same running statistics, and has parameters of the same
names and shapes; a test compares both in float64, forward, backward and in evaluation. Where a few
ways were tried, the quickest on CPUs is here. Second moments are E[x^2] - E[x]^2 wherever that
saves a pass over the data, as it does in most code; norms of the library lose no digits by that.
"""
