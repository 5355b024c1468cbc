"""The Triton target: a sweep plan as kernels for tensors on a GPU."""
