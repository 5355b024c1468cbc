"""What the momenta of running statistics are called, wherever a call has to bring them."""

from __future__ import annotations

from metanorm.ir.nodes import Program
from metanorm.ir.scalar import Scalar


def momenta(program: Program) -> dict[Scalar | None, str]:
    """The argument that brings the momentum of each running statistic."""
    distinct = dict.fromkeys(u.momentum for u in program.updates if u.averages)
    return {m: "momentum" if i == 0 else f"momentum_{i + 1}" for i, m in enumerate(distinct)}
