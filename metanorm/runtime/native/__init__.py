"""Kernels in C for tensors in the memory of the CPU: compiled on the machine where they run."""
