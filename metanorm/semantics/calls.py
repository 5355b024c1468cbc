"""Norms called by norms: the called one is lowered in place, with its axes and names mapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metanorm.diagnostics.structure import Recursion
from metanorm.diagnostics.values import CallMismatch, UnknownArgument, WrongArguments, WrongKind
from metanorm.ir.scalar import Const, Hyper, Scalar, SizeOf
from metanorm.semantics.lowering import Frame, Lowering
from metanorm.semantics.matching import Matching
from metanorm.semantics.naming import snake_case
from metanorm.semantics.scalars import flag_from_ast, scalar_from_ast, sort_of
from metanorm.semantics.statements import Statements
from metanorm.semantics.values import POISON, Entity, Scope, Tensor, Value
from metanorm.source import Span
from metanorm.syntax import ast

SWITCHES = ("affine", "track")


@dataclass(frozen=True)
class KnownNorm:
    """A norm that can be called: its equations (`None` if it is broken), and what it can call."""

    equations: ast.Norm | None
    others: Mapping[str, KnownNorm]


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
        """The first output of the called norm.

        Parameters and buffers take the name of the value (`b_weight`), except where the
        call is the whole output of the caller: that norm is the called one, refined.
        """
        name, caller = call.function.name, statements.frame
        norm = known[name].equations
        if name in caller.path:
            self._recursion(name, caller, call.span)
            return POISON
        if len(caller.path) > MOST_CALLS:
            return POISON  # a circle that is too large to go round; `limits` reports it
        arguments = [statements.e.value(a) for a in call.arguments]
        if norm is None or not all(isinstance(a, Tensor) for a in arguments):
            return POISON  # reported where it went wrong
        prefix = "" if call is caller.whole else f"{caller.let or snake_case(name)}_"
        frame = Frame(
            norm,
            Scope(self.problems),
            axes={},
            prefix=caller.prefix + prefix,
            path=(*caller.path, name),
            calls=(*caller.calls, call.span),
        )
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        if not self._hypers(call, caller, frame) or not self._inputs(call, tensors, caller, frame):
            return POISON
        return self._lower(frame, known[name].others)

    def _recursion(self, name: str, caller: Frame, span: Span) -> None:
        """Report a circle of calls: always from the same norm on, so that it is one report."""
        start = caller.path.index(name)
        norms, calls = caller.path[start:], (*caller.calls[start:], span)
        first = norms.index(min(norms))
        path = (*norms[first:], *norms[:first], norms[first])
        self.problems.add(Recursion(calls[first], path))

    def _lower(self, frame: Frame, known: Mapping[str, KnownNorm]) -> Value:
        inner = Statements(self.low, frame)
        self.enable(inner, known)
        result: Value = POISON
        for statement in frame.norm.statements:
            if isinstance(statement, ast.Output):
                item = statement.items[0]
                frame.whole = item.value
                value = inner.e.value(item.value)
                result = inner.e.as_number(value, item.value) or POISON
            else:
                inner.lower(statement)
        return result

    # ---- hyperparameters

    def _hypers(self, call: ast.Call, caller: Frame, frame: Frame) -> bool:
        """Hyperparameters are given by name, as scalars of the caller, or have their default."""
        known = {h.name.name: h for h in frame.norm.hypers}
        given = {k.name: k for k in call.keywords}
        ok = True
        for name, keyword in given.items():
            if name in SWITCHES and name not in known:
                value = keyword.value
                ok &= isinstance(value, ast.Name) and value.name in ("true", "false")
                frame.fixed[name] = isinstance(value, ast.Name) and value.name == "true"
            elif name not in known or keyword.labelled:
                listed = (*known, *SWITCHES)
                problem = UnknownArgument(
                    keyword.span, name, frame.norm.name.name, listed, tuple(given)
                )
                self.problems.add(problem)
                ok = False
        for name, hyper in known.items():
            ok &= self._hyper(call, hyper, given.get(name), caller, frame)
        return bool(ok)

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
        read = flag_from_ast if sort == "bool" else scalar_from_ast
        if keyword is not None:
            scalar = read(keyword.value, caller, self.low, what)
            if sort == "int" and not self._is_whole(keyword.value, scalar, caller, name):
                return False
        elif hyper.default is None:
            wrong = f"needs a value for `{name}`"
            usage = f"{frame.norm.name.name}(x, {name} = ...)"
            self.problems.add(WrongArguments(call.span, frame.norm.name.name, usage, wrong))
            return False
        else:
            scalar = read(hyper.default, frame, self.low, what)
        if scalar is None:
            return False
        frame.hypers[name], frame.hyper_sorts[name] = scalar, sort
        value = self.low.number(scalar, call.span)
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

    # ---- inputs

    def _inputs(self, call: ast.Call, arguments: list[Tensor], caller: Frame, frame: Frame) -> bool:
        items = [i for s in frame.norm.statements if isinstance(s, ast.Input) for i in s.items]
        name = frame.norm.name.name
        needed = [i for i in items if i.default is None and i.sort is None]
        if not len(needed) <= len(arguments) <= len(items):
            given = [i.name.name for i in items]
            given += [f"{h.name.name} = ..." for h in frame.norm.hypers if h.default is None]
            usage = f"{name}({', '.join(given)})"
            wanted = f"{len(needed)} to {len(items)}" if len(items) > len(needed) else len(needed)
            plural = "s" if wanted != 1 else ""
            wrong = f"takes {wanted} input{plural}, and got {len(arguments) or 'none'}"
            self.problems.add(WrongArguments(call.span, name, usage, wrong))
            return False
        for item, argument in zip(items, arguments):
            if not self._bind(call.span, item, argument, caller, frame):
                return False
        for item in items[len(arguments) :]:
            if not self._bind_default(call.span, item, caller, frame):
                return False
        return self._splits(call, frame)

    def _bind(
        self, span: Span, item: ast.InputItem, argument: Tensor, caller: Frame, frame: Frame
    ) -> bool:
        """Match the dimensions of an input with the axes of the value: by name, then in order."""
        wants_index = item.sort is not None and item.sort.name == "index"
        reason = ""
        if item.sort is not None and item.sort.name in ("edges", "matrix"):
            reason = f"input `{item.name.name}` is of sort `{item.sort.name}`"
        elif wants_index != (argument.type.kind == "int"):
            reason = f"input `{item.name.name}` is {'' if wants_index else 'not '}an index"
        elif item.sort is not None and item.sort.name == "mask" and argument.type.kind != "bool":
            reason = f"input `{item.name.name}` is a mask, and the value is no condition"
        elif item.table is not None:
            reason = f"input `{item.name.name}` chooses rows of a table"
        matched = None
        if not reason:
            names, known = self._names(caller), frame.axes or {}
            matching = Matching(self.low.table, argument.type.axes, names, known)
            matched = matching.matched_dims(item.dims)
        if matched is not None:
            for axis, taken in matched.items():
                if frame.axes is not None and frame.axes.setdefault(axis, taken) != taken:
                    reason = f"axis `{axis}` would stand for two different axes"
        elif not reason:
            shown = ", ".join(self.low.table.shown(a) for a in self.low.dims(argument.type.axes))
            wants = ", ".join(f"{'*' * d.axis.variadic}{d.axis.name}" for d in item.dims)
            reason = f"its input has axes [{wants}], the value has [{shown}]"
        if reason:
            name = frame.norm.name.name
            self.problems.add(CallMismatch(span, name, reason, item.span))
            return False
        self._sizes(item, frame)
        frame.scope.enter(item.name.name, Entity("input", item.span, argument, warns=False))
        return True

    def _names(self, caller: Frame) -> Mapping[str, tuple[str, ...]]:
        """The axes of the program behind each name of an axis that the caller has."""
        if caller.axes is not None:
            return caller.axes
        return {name: self.low.table.space.leaves(name) for name in self.low.table.declared}

    def _sizes(self, item: ast.InputItem, frame: Frame) -> None:
        """`C = num_features` in a called norm names the length of the caller's axis."""
        for dim in item.dims:
            axes = (frame.axes or {}).get(dim.axis.name, ())
            if isinstance(dim.size, ast.Identifier) and len(axes) == 1:
                frame.hypers.setdefault(dim.size.name, SizeOf(axes[0]))
                frame.hyper_sorts.setdefault(dim.size.name, "int")

    def _bind_default(self, span: Span, item: ast.InputItem, caller: Frame, frame: Frame) -> bool:
        name = item.name.name
        if isinstance(item.default, ast.Name):
            entity = frame.scope.find(item.default.name)
            if entity is not None and isinstance(entity.value, Tensor):
                return self._bind(span, item, entity.value, caller, frame)
        if isinstance(item.default, ast.Number):
            value = self.low.number(Const(item.default.value), span)
            frame.scope.enter(name, Entity("input", item.span, value, warns=False))
            return True
        reason = f"input `{name}` must be given"
        self.problems.add(CallMismatch(span, frame.norm.name.name, reason, item.span))
        return False

    def _splits(self, call: ast.Call, frame: Frame) -> bool:
        """A called norm may split an axis only where the caller has split it alike."""
        for statement in frame.norm.statements:
            if isinstance(statement, ast.AxisSplit):
                axes = (frame.axes or {}).get(statement.axis.name, ())
                if len(axes) != len(statement.parts):
                    reason = f"it splits axis `{statement.axis.name}`, which is not split here"
                    name = frame.norm.name.name
                    self.problems.add(CallMismatch(call.span, name, reason, statement.span))
                    return False
                for part, axis in zip(statement.parts, axes):
                    if frame.axes is not None:
                        frame.axes[part.axis.name] = (axis,)
        return True
