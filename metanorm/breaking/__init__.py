"""Compares two versions of a spec: state dicts, constructors, calls and numbers."""
