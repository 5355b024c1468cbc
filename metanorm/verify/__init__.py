"""Compiled modules held against the oracle, under a standing set of settings."""

from metanorm.verify.compare import Finding, Verification, compare, verify_norm

__all__ = ["Finding", "Verification", "compare", "verify_norm"]
