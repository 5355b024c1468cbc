"""Chooses the path of calls to kernels in C: through C as well, or through Python.

Both compute the same. The path through Python runs every call, and leaves a plan for the path
through C. That one runs calls for which it has a plan. It is used if it can be built, and if torch
and Python are as it expects.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

from metanorm.runtime.backends import BackendChoice
from metanorm.runtime.kernels.call_plan import CallPlan
from metanorm.runtime.kernels.errors import CannotBuild
from metanorm.runtime.kernels.plan_cache import PlanCache
from metanorm.runtime.native.call_path.library import CallPathLibrary, PlanContext
from metanorm.runtime.native.call_path.plans import encode_forward
from metanorm.runtime.native.call_path.symbols import Unverified

VARIABLE = "METANORM_CALL_PATH"
PATHS = ("auto", "python")


@dataclass(frozen=True)
class CallPath:
    """The path of calls, and for `"python"` the reason."""

    name: Literal["c", "python"]
    reason: str = ""


class CallPaths:
    """Chooses the path of calls, once in a process."""

    def __init__(
        self, backend: ContextVar[BackendChoice], allowing: tuple[BackendChoice, BackendChoice]
    ) -> None:
        self._backend = backend
        self._allowing = allowing
        self._library: CallPathLibrary | None = None
        self._path: CallPath | None = None

    def path(self) -> CallPath:
        """The path that calls take in this process."""
        if self._path is None:
            try:
                self._library = self._load()
                self._path = CallPath("c")
            except (CannotBuild, Unverified) as reason:
                self._path = CallPath("python", str(reason))
        return self._path

    def _load(self) -> CallPathLibrary:
        setting = os.environ.get(VARIABLE) or "auto"
        if setting == "python":
            raise Unverified(f"{VARIABLE} says so")
        if setting != "auto":
            raise Unverified(f"{VARIABLE} is {setting!r}, which is none of {', '.join(PATHS)}")
        return CallPathLibrary(self._backend, self._allowing)

    def entry(self, slow: Callable[..., Any]) -> EntryPoint | None:
        """The entry point of a norm on the path through C; `None` if that is not in use."""
        self.path()
        return None if self._library is None else EntryPoint(self._library, slow)


class EntryPoint:
    """The function of a norm on the path through C, and the keys of its plans."""

    def __init__(self, library: CallPathLibrary, slow: Callable[..., Any]) -> None:
        self._library = library
        self._norm = library.norm(slow)
        self.function: Callable[..., Any] = library.function(self._norm)
        self._plan_keys: set[tuple[Any, ...]] = set()

    def learn(self, plans: PlanCache, plan: CallPlan, args: Sequence[Any]) -> bool:
        """Offer a plan to the path through C; whether it was added."""
        if plan.offered_to_c:
            return False
        encoded = encode_forward(plans, plan, args)
        plan.offered_to_c = True  # no sooner: an interrupt may come in between
        if encoded is None or encoded.key in self._plan_keys:
            return False
        evicted = self._library.add(self._norm, encoded, PlanContext(plans, plan, encoded.key))
        self._plan_keys.add(encoded.key)
        if evicted is not None:  # the next call with its signature offers it again
            self._plan_keys.discard(evicted.key)
            evicted.plan.offered_to_c = False
        return True
