"""Compares compiled modules with the oracle, under a fixed set of settings."""
