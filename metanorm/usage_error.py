"""What a run cannot begin with: paths, options and settings."""

from __future__ import annotations


class UsageError(Exception):
    """A problem outside of specs. The command line prints the message as is; exit code 2."""
