"""Kernels in Triton, for tensors in the memory of a GPU.

Nothing here imports triton before the first such tensor comes. What generated kernels call is in
`arithmetic`; how large tiles are is decided in `tiles`.
"""
