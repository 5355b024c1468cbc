"""Which path calls take to kernels in C: through C as well, or through Python.

Both compute the same. The path through Python serves every call. That through C is tried first,
where it can be built and what it relies on is as it is known; it takes a call for which it has a
plan, which the path through Python has left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

from metanorm.runtime.demands import Demand
from metanorm.runtime.kernels.refusals import CannotBuild
from metanorm.runtime.kernels.route import Route
from metanorm.runtime.kernels.routes import Routes
from metanorm.runtime.native.call_path.library import Library, Planned
from metanorm.runtime.native.call_path.plans import forward_plan
from metanorm.runtime.native.call_path.symbols import Unverified

VARIABLE = "METANORM_CALL_PATH"
PATHS = ("auto", "python")


@dataclass(frozen=True)
class CallPath:
    """The path of calls, `"c"` or `"python"`, and the reason where it is not the first."""

    name: Literal["c", "python"]
    reason: str = ""


class CallPaths:
    """Finds out once in a process which path calls take."""

    def __init__(self, demand: ContextVar[Demand], allowing: tuple[Demand, Demand]) -> None:
        self._demand = demand
        self._allowing = allowing
        self._library: Library | None = None
        self._found: CallPath | None = None

    def path(self) -> CallPath:
        """The path that calls take in this process."""
        if self._found is None:
            try:
                self._library = self._load()
                self._found = CallPath("c")
            except (CannotBuild, Unverified) as reason:
                self._found = CallPath("python", str(reason))
        return self._found

    def _load(self) -> Library:
        asked = os.environ.get(VARIABLE) or "auto"
        if asked == "python":
            raise Unverified(f"{VARIABLE} says so")
        if asked != "auto":
            raise Unverified(f"{VARIABLE} is {asked!r}, which is none of {', '.join(PATHS)}")
        return Library(self._demand, self._allowing)

    def entry(self, slow: Callable[..., Any]) -> Entry | None:
        """The function of a norm on the path through C, where that is in use."""
        self.path()
        return None if self._library is None else Entry(self._library, slow)


class Entry:
    """The function of a norm on the path through C, and the plans that it has."""

    def __init__(self, library: Library, slow: Callable[..., Any]) -> None:
        self._library = library
        self._norm = library.norm(slow)
        self.function: Callable[..., Any] = library.function(self._norm)
        self._added: set[tuple[Any, ...]] = set()

    def learn(self, routes: Routes, route: Route, args: Sequence[Any]) -> bool:
        """Add a plan for calls like this one, if C can serve such; whether there is a new one."""
        if route.planned:
            return False
        plan = forward_plan(routes, route, args)
        route.planned = True  # no sooner: an interrupt may come in between
        if plan is None or plan.key in self._added:
            return False
        forgotten = self._library.add(self._norm, plan, Planned(routes, route, plan.key))
        self._added.add(plan.key)
        if forgotten is not None:  # it comes again with the next call like that
            self._added.discard(forgotten.key)
            forgotten.route.planned = False
        return True
