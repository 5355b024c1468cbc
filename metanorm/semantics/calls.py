"""Calls of norms by norms. The callee is lowered in place, with its axes and names mapped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from metanorm.diagnostics.calls import CallMismatch, UnknownArgument, WrongArguments
from metanorm.diagnostics.structure import Recursion
from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.scalar import Const, Hyper, Scalar
from metanorm.semantics.bindings import Bindings, inputs_of, named_inputs
from metanorm.semantics.kept_state import keeps_state, kept_by, tracked_in
from metanorm.semantics.lowering import CallableNorm, CallScope, Lowering
from metanorm.semantics.names_in_ast import nodes_in
from metanorm.semantics.naming import snake_case
from metanorm.semantics.scalars import CHOICE, flag_from_ast, is_none, scalar_from_ast, sort_of
from metanorm.semantics.statements import Statements
from metanorm.semantics.values import (
    POISON,
    Choice,
    Entity,
    NameTable,
    Outputs,
    Poison,
    PoolOnly,
    Tensor,
    Text,
    Value,
)
from metanorm.source import Span
from metanorm.syntax import ast

SWITCHES = ("affine", "track")


MAX_CALL_DEPTH = 40  # of nested calls


class Calls:
    """Inlines the calls of one program."""

    def __init__(self, low: Lowering) -> None:
        self.low = low
        self.problems = low.problems

    def enable(self, statements: Statements, callable_norms: Mapping[str, CallableNorm]) -> None:
        """Let the expressions of a norm call these norms."""
        statements.expressions.norms = tuple(callable_norms)
        statements.expressions.call_norm = lambda call: self._call(call, statements, callable_norms)

    def _call(
        self, call: ast.Call, statements: Statements, callable_norms: Mapping[str, CallableNorm]
    ) -> Value:
        """The output of the called norm, or all of its outputs by name.

        Parameters and buffers take the name of the value (`b_weight`), unless the call is the
        whole output of the caller.
        """
        caller = statements.scope
        first_call = caller.let_scopes.get(call.function.name)
        norm: ast.Norm | None
        if first_call is not None:
            norm, callee_norms = first_call.norm, first_call.callable_norms
        else:
            callable_norm = callable_norms[call.function.name]
            norm, callee_norms = callable_norm.equations, callable_norm.others
        name = norm.name.name if norm is not None else call.function.name
        if name in caller.call_path:
            self._report_recursion(name, caller, call.span)
            return POISON
        if len(caller.call_path) > MAX_CALL_DEPTH:
            return POISON  # `limits` reports a circle of this size
        if first_call is not None:
            statements.scope.names.find(call.function.name)
            if first_call.failed:
                return POISON
        arguments = [self._argument(statements, a) for a in call.arguments]
        keywords = named_inputs(call, norm) if norm is not None else {}
        named = {n: self._argument(statements, k.value) for n, k in keywords.items()}
        if norm is None or any(isinstance(a, Poison) for a in (*arguments, *named.values())):
            return POISON  # reported where it went wrong
        if any(isinstance(statement, ast.Backward) for statement in norm.statements):
            reason = "it states its backward pass, which is that of a whole module"
            hint = "let the model call both, one behind the other"
            self.problems.add(CallMismatch(call.span, name, reason, hint=hint))
            return POISON
        callee = self._callee(call, caller, norm, first_call, callee_norms)
        if first_call is not None and not self._check_sharing(call, first_call):
            return POISON
        return self._inlined(call, caller, callee, arguments, named)

    def _callee(
        self,
        call: ast.Call,
        caller: CallScope,
        norm: ast.Norm,
        first_call: CallScope | None,
        callee_norms: Mapping[str, CallableNorm],
    ) -> CallScope:
        """The scope of the called norm, which the caller has from here on."""
        name = norm.name.name
        prefix = "" if call is caller.first_output else f"{caller.let_name or snake_case(name)}_"
        callee = CallScope(
            norm,
            NameTable(self.problems),
            axes={},
            prefix=caller.prefix + prefix,
            call_path=(*caller.call_path, name),
            call_spans=(*caller.call_spans, call.span),
            first_call=first_call or self._matching_first_call(caller),
            callable_norms=callee_norms,
        )
        caller.inner_scopes.append(callee)
        if caller.let_call is call and caller.let_name:
            caller.let_scopes[caller.let_name] = callee
        return callee

    def _inlined(
        self,
        call: ast.Call,
        caller: CallScope,
        callee: CallScope,
        arguments: list[Value],
        named: Mapping[str, Value],
    ) -> Value:
        """The output of a called norm, lowered in its scope."""
        bindings = Bindings(self.low, call, caller, callee)
        axes = bindings.input_axes()
        if not self._bind_hypers(call, caller, callee, axes) or not bindings.bind(arguments, named):
            return POISON
        if caller.fixed_switches.get("track") is False:  # a norm keeps what those it calls keep
            callee.fixed_switches["track"] = False
        if self.low.in_loop and not self._check_steps(call, callee):
            return POISON
        value = self._lower(callee, callee.callable_norms, whole=caller.let_call is call)
        caller.switched |= callee.switched & {"track"}
        callee.failed = isinstance(value, Poison)
        if not callee.failed:
            self._check_switches(call, callee)
        return value

    def _check_steps(self, call: ast.Call, callee: CallScope) -> bool:
        """Whether a norm may be called in each step of a `repeat`; reports why not."""
        name, hint = callee.norm.name.name, ""
        kept = next((reason for node in nodes_in(callee.norm) if (reason := kept_by(node))), "")
        if not kept and any(not callee.leaves_out("track", t.off) for t in tracked_in(callee)):
            kept, hint = "running statistics", f"`{name}(..., track = false)` keeps none"
        if kept:
            reason = f"it has {kept}, of which a step of `repeat` keeps nothing"
            hint = hint or "call it before the loop, or behind it"
            self.problems.add(CallMismatch(call.span, name, reason, hint=hint))
        return not kept

    def _check_switches(self, call: ast.Call, callee: CallScope) -> None:
        """Report a switch of a call that turns nothing off."""
        name, hypers = callee.norm.name.name, (h.name.name for h in callee.norm.hypers)
        switched = (s for s in SWITCHES if s in callee.switched)
        arguments = (*hypers, *_switches_of(callee.norm), *switched)
        for keyword in call.keywords:
            if keyword.name in SWITCHES and keyword.name not in arguments:
                self.problems.add(UnknownArgument(keyword.span, keyword.name, name, arguments))

    def _argument(self, statements: Statements, expr: ast.Expr) -> Value:
        """A value that a norm can take as an input: a number, an index, edges or a matrix."""
        value = statements.expressions.value(expr)
        if isinstance(value, (PoolOnly, Poison)):
            return value
        if isinstance(value, Tensor) and value.type.kind == "int":
            return value
        return statements.expressions.as_number(value, expr) or POISON

    def _matching_first_call(self, caller: CallScope) -> CallScope | None:
        """The same call in the earlier call of the caller, whose parameters it shares."""
        if caller.first_call is None:
            return None
        position, calls = len(caller.inner_scopes), caller.first_call.inner_scopes
        return calls[position] if position < len(calls) else None

    def _check_sharing(self, call: ast.Call, first_call: CallScope) -> bool:
        """Whether a norm may be called again by the name of its first call; reports why not."""
        name = first_call.norm.name.name
        if keeps_state(first_call):
            reason = "it keeps running statistics or buffers, which two calls would both update"
            hint = f"give each its own: `{name}(...)`"
            self.problems.add(CallMismatch(call.span, name, reason, hint=hint))
            return False
        hypers = {h.name.name for h in first_call.norm.hypers}
        decided = (*hypers, *SWITCHES, *_switches_of(first_call.norm))
        dims = (dim for item in inputs_of(first_call.norm) for dim in item.dims)
        axes = tuple(dict.fromkeys(dim.axis.name for dim in dims))
        inputs = named_inputs(call, first_call.norm)
        for keyword in call.keywords:
            if keyword.name in decided:
                reason = f"`{keyword.name}` was decided where it was called first"
                hint = f"give it there, or call another `{name}(...)`"
                self.problems.add(CallMismatch(keyword.span, name, reason, hint=hint))
                return False
            if keyword.labelled or keyword.name not in (*axes, *inputs):
                self._report_unknown(keyword, first_call.norm, axes, call)
                return False
        return True

    def _report_unknown(
        self, keyword: ast.Keyword, norm: ast.Norm, arguments: Iterable[str], call: ast.Call
    ) -> None:
        """Report an argument by a name that is no input, no axis and no hyperparameter."""
        name, inputs = norm.name.name, [item.name.name for item in inputs_of(norm)]
        used = (*inputs[: len(call.arguments)], *(k.name for k in call.keywords))
        known = tuple(dict.fromkeys((*inputs, *arguments)))
        if keyword.labelled and keyword.name in known:
            reason = f"`{keyword.name}` stands before a colon"
            hint = f"an argument stands before an equals sign: `{keyword.name} = ...`"
            self.problems.add(CallMismatch(keyword.span, name, reason, hint=hint))
            return
        self.problems.add(UnknownArgument(keyword.span, keyword.name, name, known, used))

    def _report_recursion(self, name: str, caller: CallScope, span: Span) -> None:
        """Report a circle of calls. It begins with the same norm each time, so it is one report."""
        start = caller.call_path.index(name)
        norms, calls = caller.call_path[start:], (*caller.call_spans[start:], span)
        first = norms.index(min(norms))
        path = (*norms[first:], *norms[:first], norms[first])
        self.problems.add(Recursion(calls[first], path))

    def _lower(
        self, callee: CallScope, callable_norms: Mapping[str, CallableNorm], whole: bool
    ) -> Value:
        inner = Statements(self.low, callee)
        self.enable(inner, callable_norms)
        result: Value = POISON
        for statement in callee.norm.statements:
            if isinstance(statement, ast.Output):
                items = statement.items if whole else statement.items[:1]
                result = self._outputs(inner, replace(statement, items=items))
            else:
                inner.lower(statement)
        return result

    def _outputs(self, inner: Statements, statement: ast.Output) -> Value:
        """A single output as its tensor, several as `Outputs`."""
        outputs = inner.outputs.lower(statement)
        if outputs is None:
            return POISON
        if len(outputs) == 1:
            return outputs[0].tensor
        return Outputs(tuple((output.name, output.tensor) for output in outputs))

    # ---- hyperparameters

    def _bind_hypers(
        self, call: ast.Call, caller: CallScope, callee: CallScope, axes: Mapping[str, ast.AxisRef]
    ) -> bool:
        """Give each hyperparameter its value: a scalar of the caller, by name, or its default.

        A norm that shares the parameters of an earlier call takes the values of that call.
        """
        if callee.first_call is not None:
            self._share_hypers(call, callee, callee.first_call)
            return True
        declared = {h.name.name: h for h in callee.norm.hypers}
        keywords = {k.name: k for k in call.keywords}
        switches = (*SWITCHES, *_switches_of(callee.norm))
        inputs = named_inputs(call, callee.norm)
        ok = True
        for name, keyword in keywords.items():
            if name in switches and name not in declared:
                value = keyword.value
                if not isinstance(value, ast.Name) or value.name not in ("true", "false"):
                    expected = "`true` or `false`"
                    hint = f"`{name} = false` leaves out what it turns on"
                    self.problems.add(WrongKind(value.span, "another value", expected, hint))
                    ok = False
                    continue
                callee.fixed_switches[name] = value.name == "true"
            elif name in (*axes, *inputs) and name not in declared and not keyword.labelled:
                continue
            elif name not in declared or keyword.labelled:
                self._report_unknown(keyword, callee.norm, (*declared, *axes, *switches), call)
                ok = False
        for name, hyper in declared.items():
            ok &= self._bind_hyper(call, hyper, keywords.get(name), caller, callee)
        return bool(ok)

    def _share_hypers(self, call: ast.Call, callee: CallScope, first_call: CallScope) -> None:
        callee.fixed_switches = dict(first_call.fixed_switches)
        for hyper in callee.norm.hypers:
            name = hyper.name.name
            callee.hyper_sorts[name] = first_call.hyper_sorts[name]
            entity = first_call.names.find(name)
            assert entity is not None
            value = entity.value
            if name in first_call.hypers:
                callee.hypers[name] = first_call.hypers[name]
                value = self.low.number(first_call.hypers[name], call.span)
            entity = Entity("hyperparameter", hyper.name.span, value, warns=False)
            callee.names.enter(name, entity)

    def _bind_hyper(
        self,
        call: ast.Call,
        hyper: ast.Hyper,
        keyword: ast.Keyword | None,
        caller: CallScope,
        callee: CallScope,
    ) -> bool:
        name = hyper.name.name
        scalar: Scalar | None
        what = f"`{name}` of `{callee.norm.name.name}`"
        sort = sort_of(hyper)
        if sort == CHOICE:
            return self._bind_choice(call, hyper, keyword, caller, callee)
        read = flag_from_ast if sort == "bool" else scalar_from_ast
        if keyword is not None:
            scalar = read(keyword.value, caller, self.low, what)
            if sort == "int" and not self._check_integer(keyword.value, scalar, caller, name):
                return False
        elif hyper.default is None:
            self._report_missing(call, callee, name)
            return False
        elif is_none(hyper.default):
            reason = f"its `{name}` is None, the machine epsilon, unless the call gives it"
            hint = f"give the caller one, `{name} = None`, and pass it on: `{name} = {name}`"
            self.problems.add(CallMismatch(call.span, callee.norm.name.name, reason, hint=hint))
            return False
        else:
            scalar = read(hyper.default, callee, self.low, what)
        if scalar is None:
            return False
        callee.hypers[name], callee.hyper_sorts[name] = scalar, sort
        value = self.low.number(scalar, call.span)
        callee.names.enter(name, Entity("hyperparameter", hyper.name.span, value, warns=False))
        return True

    def _report_missing(self, call: ast.Call, callee: CallScope, name: str) -> None:
        wrong = f"needs a value for `{name}`"
        usage = f"{callee.norm.name.name}(x, {name} = ...)"
        self.problems.add(WrongArguments(call.span, callee.norm.name.name, usage, wrong))

    def _bind_choice(
        self,
        call: ast.Call,
        hyper: ast.Hyper,
        keyword: ast.Keyword | None,
        caller: CallScope,
        callee: CallScope,
    ) -> bool:
        """Bind a choice of strings: to a string, or to such a choice of the caller."""
        name, expr = hyper.name.name, keyword.value if keyword is not None else hyper.default
        value: Value | None = None
        match expr:
            case None:
                self._report_missing(call, callee, name)
                return False
            case ast.Text():
                value = Text(expr.value)
            case ast.Name() if caller.hyper_sorts.get(expr.name) == CHOICE:
                entity = caller.names.find(expr.name)
                value = entity.value if entity is not None else None
        texts = {choice.value for choice in hyper.choices}
        possible_texts = {value.text} if isinstance(value, Text) else set()
        possible_texts |= set(value.texts) if isinstance(value, Choice) else set()
        if value is None or not possible_texts or not possible_texts <= texts:
            allowed = listing([f'"{choice.value}"' for choice in hyper.choices], "or")
            hint = f"`{callee.norm.name.name}` asks which of them it is to be"
            self.problems.add(WrongKind(expr.span, "another value", allowed, hint))
            return False
        callee.hyper_sorts[name] = CHOICE
        callee.names.enter(name, Entity("hyperparameter", hyper.name.span, value, warns=False))
        return True

    def _check_integer(
        self, expr: ast.Expr, scalar: Scalar | None, caller: CallScope, name: str
    ) -> bool:
        """Whether an integer hyperparameter gets an integer; reports one that does not."""
        match scalar:
            case Const(value):
                is_integer = value == int(value)
            case Hyper(other):
                is_integer = caller.hyper_sorts.get(other) != "float"
            case _:
                is_integer = True
        if not is_integer:
            self.problems.add(
                WrongKind(expr.span, "a number with a fraction", f"an integer `{name}`")
            )
        return is_integer


def _switches_of(norm: ast.Norm) -> Iterator[str]:
    """What turns parameters of a norm on: `param scale = 1 if learn_scale`."""
    items = (node for node in nodes_in(norm) if isinstance(node, ast.ParamItem))
    yield from dict.fromkeys(item.switch.name for item in items if item.switch is not None)
