"""Compiled modules held against the oracle, under a standing set of settings."""

from metanorm.verify.compare import Finding, Verification, compare, verify_norm
from metanorm.verify.load import load_module

__all__ = ["Finding", "Verification", "compare", "load_module", "verify_norm"]
