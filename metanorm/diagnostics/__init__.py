"""Errors and warnings: what they are, where they are gathered, how they are shown."""
