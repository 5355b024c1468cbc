"""Calls of kernels in C without Python in between, where torch and Python are as they are known."""
