"""Compiled modules held against the oracle, under a standing set of settings."""
