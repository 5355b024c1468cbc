"""Norms called by norms: the called one is lowered in place, with its axes and names mapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from metanorm.diagnostics.structure import Recursion
from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.values import CallMismatch, UnknownArgument, WrongArguments, WrongKind
from metanorm.ir.scalar import Const, Hyper, Scalar
from metanorm.semantics.bindings import Bindings
from metanorm.semantics.lowering import Frame, KnownNorm, Lowering
from metanorm.semantics.names_in_ast import nodes_in
from metanorm.semantics.naming import snake_case
from metanorm.semantics.scalars import CHOICE, flag_from_ast, scalar_from_ast, sort_of
from metanorm.semantics.statements import Statements
from metanorm.semantics.values import (
    POISON,
    Choice,
    Entity,
    Outputs,
    Poison,
    PoolOnly,
    Scope,
    Tensor,
    Text,
    Value,
)
from metanorm.source import Span
from metanorm.syntax import ast

SWITCHES = ("affine", "track")


MOST_CALLS = 40  # inside each other


class Calls:
    """Inlines the calls of one program."""

    def __init__(self, low: Lowering) -> None:
        self.low = low
        self.problems = low.problems

    def enable(self, statements: Statements, known: Mapping[str, KnownNorm]) -> None:
        """Let the expressions of a norm call the norms that it knows."""
        statements.e.norms = tuple(known)
        statements.e.call_norm = lambda call: self._call(call, statements, known)

    def _call(
        self, call: ast.Call, statements: Statements, known: Mapping[str, KnownNorm]
    ) -> Value:
        """The output of the called norm, or all of them by their names.

        Parameters and buffers take the name of the value (`b_weight`), except where the
        call is the whole output of the caller: that norm is the called one, refined.
        """
        caller = statements.frame
        twin = caller.shared.get(call.function.name)
        others = twin.known if twin is not None else known[call.function.name].others
        norm = twin.norm if twin is not None else known[call.function.name].equations
        name = norm.name.name if norm is not None else call.function.name
        if name in caller.path:
            self._recursion(name, caller, call.span)
            return POISON
        if len(caller.path) > MOST_CALLS:
            return POISON  # a circle that is too large to go round; `limits` reports it
        if twin is not None:
            statements.frame.scope.find(call.function.name)
            if twin.failed:
                return POISON
        arguments = [self._argument(statements, a) for a in call.arguments]
        if norm is None or any(isinstance(a, Poison) for a in arguments):
            return POISON  # reported where it went wrong
        prefix = "" if call is caller.whole else f"{caller.let or snake_case(name)}_"
        frame = Frame(
            norm,
            Scope(self.problems),
            axes={},
            prefix=caller.prefix + prefix,
            path=(*caller.path, name),
            calls=(*caller.calls, call.span),
            twin=twin or self._inner_twin(caller),
            known=others,
        )
        caller.inner.append(frame)
        if caller.called is call and caller.let:
            caller.shared[caller.let] = frame
        bindings = Bindings(self.low, call, caller, frame)
        if twin is not None and not self._shares(call, twin):
            return POISON
        axes = bindings.own_axes()
        if not self._hypers(call, caller, frame, axes) or not bindings.bind(arguments):
            return POISON
        found = self._lower(frame, others, whole=caller.called is call)
        frame.failed = isinstance(found, Poison)
        return found

    def _argument(self, statements: Statements, given: ast.Expr) -> Value:
        """A value that a norm can be called with; moments are none."""
        value = statements.e.value(given)
        if isinstance(value, (PoolOnly, Poison)):
            return value
        if isinstance(value, Tensor) and value.type.kind == "int":
            return value
        return statements.e.as_number(value, given) or POISON

    def _inner_twin(self, caller: Frame) -> Frame | None:
        """What this call was in the call whose parameters the caller shares."""
        if caller.twin is None:
            return None
        place = len(caller.inner)
        return caller.twin.inner[place] if place < len(caller.twin.inner) else None

    def _shares(self, call: ast.Call, twin: Frame) -> bool:
        """Whether a norm may be called again by the name of its first call."""
        name = twin.norm.name.name
        if _keeps_state(twin):
            reason = "it keeps running statistics or buffers, which two calls would both update"
            hint = f"give each its own: `{name}(...)`"
            self.problems.add(CallMismatch(call.span, name, reason, hint=hint))
            return False
        hypers = {h.name.name for h in twin.norm.hypers}
        given = next((k for k in call.keywords if k.name in (*hypers, *SWITCHES)), None)
        if given is not None:
            reason = f"`{given.name}` was decided where it was called first"
            hint = f"give it there, or call another `{name}(...)`"
            self.problems.add(CallMismatch(given.span, name, reason, hint=hint))
            return False
        return True

    def _recursion(self, name: str, caller: Frame, span: Span) -> None:
        """Report a circle of calls: always from the same norm on, so that it is one report."""
        start = caller.path.index(name)
        norms, calls = caller.path[start:], (*caller.calls[start:], span)
        first = norms.index(min(norms))
        path = (*norms[first:], *norms[:first], norms[first])
        self.problems.add(Recursion(calls[first], path))

    def _lower(self, frame: Frame, known: Mapping[str, KnownNorm], whole: bool) -> Value:
        inner = Statements(self.low, frame)
        self.enable(inner, known)
        result: Value = POISON
        for statement in frame.norm.statements:
            if isinstance(statement, ast.Output):
                items = statement.items if whole else statement.items[:1]
                result = self._outputs(inner, replace(statement, items=items))
            else:
                inner.lower(statement)
        return result

    def _outputs(self, inner: Statements, statement: ast.Output) -> Value:
        """One output as it is, several by their names."""
        found = inner.output(statement)
        if found is None:
            return POISON
        if len(found) == 1:
            return found[0].tensor
        return Outputs(tuple((output.name, output.tensor) for output in found))

    # ---- hyperparameters

    def _hypers(
        self, call: ast.Call, caller: Frame, frame: Frame, axes: Mapping[str, ast.AxisRef]
    ) -> bool:
        """Hyperparameters are given by name, as scalars of the caller, or have their default.

        A norm that shares the parameters of an earlier call has those of that call.
        """
        if frame.twin is not None:
            self._same_hypers(call, frame, frame.twin)
            return True
        known = {h.name.name: h for h in frame.norm.hypers}
        given = {k.name: k for k in call.keywords}
        ok = True
        for name, keyword in given.items():
            if name in SWITCHES and name not in known:
                value = keyword.value
                ok &= isinstance(value, ast.Name) and value.name in ("true", "false")
                frame.fixed[name] = isinstance(value, ast.Name) and value.name == "true"
            elif name in axes and name not in known and not keyword.labelled:
                continue
            elif name not in known or keyword.labelled:
                listed = (*known, *axes, *SWITCHES)
                problem = UnknownArgument(
                    keyword.span, name, frame.norm.name.name, listed, tuple(given)
                )
                self.problems.add(problem)
                ok = False
        for name, hyper in known.items():
            ok &= self._hyper(call, hyper, given.get(name), caller, frame)
        return bool(ok)

    def _same_hypers(self, call: ast.Call, frame: Frame, twin: Frame) -> None:
        frame.fixed = dict(twin.fixed)
        for hyper in frame.norm.hypers:
            name = hyper.name.name
            frame.hyper_sorts[name] = twin.hyper_sorts[name]
            entity = twin.scope.find(name)
            assert entity is not None
            value = entity.value
            if name in twin.hypers:
                frame.hypers[name] = twin.hypers[name]
                value = self.low.number(twin.hypers[name], call.span)
            entity = Entity("hyperparameter", hyper.name.span, value, warns=False)
            frame.scope.enter(name, entity)

    def _hyper(
        self,
        call: ast.Call,
        hyper: ast.Hyper,
        keyword: ast.Keyword | None,
        caller: Frame,
        frame: Frame,
    ) -> bool:
        name = hyper.name.name
        scalar: Scalar | None
        what = f"`{name}` of `{frame.norm.name.name}`"
        sort = sort_of(hyper)
        if sort == CHOICE:
            return self._choice(call, hyper, keyword, caller, frame)
        read = flag_from_ast if sort == "bool" else scalar_from_ast
        if keyword is not None:
            scalar = read(keyword.value, caller, self.low, what)
            if sort == "int" and not self._is_whole(keyword.value, scalar, caller, name):
                return False
        elif hyper.default is None:
            self._lacks(call, frame, name)
            return False
        else:
            scalar = read(hyper.default, frame, self.low, what)
        if scalar is None:
            return False
        frame.hypers[name], frame.hyper_sorts[name] = scalar, sort
        value = self.low.number(scalar, call.span)
        frame.scope.enter(name, Entity("hyperparameter", hyper.name.span, value, warns=False))
        return True

    def _lacks(self, call: ast.Call, frame: Frame, name: str) -> None:
        wrong = f"needs a value for `{name}`"
        usage = f"{frame.norm.name.name}(x, {name} = ...)"
        self.problems.add(WrongArguments(call.span, frame.norm.name.name, usage, wrong))

    def _choice(
        self,
        call: ast.Call,
        hyper: ast.Hyper,
        keyword: ast.Keyword | None,
        caller: Frame,
        frame: Frame,
    ) -> bool:
        """One of several strings: one of them, or a hyperparameter of the caller that is."""
        name, given = hyper.name.name, keyword.value if keyword is not None else hyper.default
        value: Value | None = None
        match given:
            case None:
                self._lacks(call, frame, name)
                return False
            case ast.Text():
                value = Text(given.value)
            case ast.Name() if caller.hyper_sorts.get(given.name) == CHOICE:
                entity = caller.scope.find(given.name)
                value = entity.value if entity is not None else None
        texts = {choice.value for choice in hyper.choices}
        found = {value.text} if isinstance(value, Text) else set()
        found |= set(value.texts) if isinstance(value, Choice) else set()
        if value is None or not found or not found <= texts:
            known = listing([f'"{choice.value}"' for choice in hyper.choices], "or")
            hint = f"`{frame.norm.name.name}` asks which of them it is to be"
            self.problems.add(WrongKind(given.span, "another value", known, hint))
            return False
        frame.hyper_sorts[name] = CHOICE
        frame.scope.enter(name, Entity("hyperparameter", hyper.name.span, value, warns=False))
        return True

    def _is_whole(self, given: ast.Expr, scalar: Scalar | None, caller: Frame, name: str) -> bool:
        """Whether an integer is given for one."""
        match scalar:
            case Const(value):
                whole = value == int(value)
            case Hyper(other):
                whole = caller.hyper_sorts.get(other) != "float"
            case _:
                whole = True
        if not whole:
            self.problems.add(
                WrongKind(given.span, "a number with a fraction", f"an integer `{name}`")
            )
        return whole


def _keeps_state(frame: Frame) -> bool:
    """Whether a norm that was called, or one that it calls, has buffers."""
    pools = (node for node in nodes_in(frame.norm) if isinstance(node, (ast.Tracked, ast.Buffer)))
    tracks = frame.fixed.get("track", True)
    own = any(tracks or isinstance(node, ast.Buffer) for node in pools)
    return own or any(map(_keeps_state, frame.inner))
