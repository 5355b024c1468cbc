"""Benchmarks of norms, beside the layers that users would take instead."""
