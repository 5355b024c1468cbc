"""The native target: sweep plans as C11, for tensors in the memory of the CPU."""
