"""Calls of kernels, whatever they are written in: when they are used, how a call is read, and what
autograd sees of it. `native` and `triton` build on this.
"""
