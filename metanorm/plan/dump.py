"""A plan as text, for `inspect` and for tests."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.dump import body_lines, over_text
from metanorm.ir.nodes import Let
from metanorm.plan.sweeps import Plan, Reduction


def plan_text(plan: Plan, title: str) -> str:
    """The islands of a plan, and its sweeps and narrow values in order."""
    lines = [f"plan {title}", f"  islands {', '.join(plan.islands) or 'one'}"]
    lines += _narrow("before", plan.prologue)
    for number, sweep in enumerate(plan.sweeps, 1):
        lines.append(f"  sweep {number} reads {', '.join(sweep.reads)}")
        lines += body_lines(sweep.maps, "    ")
        lines += [f"    measure {_reduction(r)}" for r in sweep.reductions]
        lines += [f"    write {name} = {ref}" for name, ref in sweep.outputs]
        lines += [f"  {line}" for line in _narrow("finalize", sweep.narrow)]
    lines += _narrow("after", plan.epilogue)
    return "\n".join(lines) + "\n"


def _narrow(title: str, lets: Sequence[Let]) -> list[str]:
    return [f"  {title}", *body_lines(lets, "    ")] if lets else []


def _reduction(r: Reduction) -> str:
    results = ", ".join(f"{name} {ref}" for name, ref in r.results)
    where = f" where {r.where}" if r.where else ""
    weight = f" weight {r.weight}" if r.weight else ""
    when = " (terminal)" if r.terminal else ""
    return f"{results} of {r.value} over {over_text(r.over)}{where}{weight}{when}"
