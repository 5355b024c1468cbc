"""Errors of norms that are divided among processes."""

from __future__ import annotations

from collections.abc import Sequence


class ShardingError(ValueError):
    """A norm, or an axis of it, that cannot be divided among processes; the message says why."""


class ExchangeError(RuntimeError):
    """A message that failed, or to which another process answered with a different one."""


def refused(summary: str, reasons: Sequence[str]) -> ShardingError:
    """The error for several reasons: a summary, and each reason on a line of its own."""
    return ShardingError("\n".join([summary, *(f"  {reason}" for reason in reasons)]))
