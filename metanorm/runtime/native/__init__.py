"""Kernels in C: built on the machine that runs them, and called through ctypes."""
