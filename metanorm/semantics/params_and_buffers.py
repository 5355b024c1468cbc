"""Lowering of the parameters and buffers of one norm: initial values, bounds and switches."""

from __future__ import annotations

from metanorm.diagnostics.structure import NotForTarget
from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.values import BadInterval, WrongKind
from metanorm.ir.initializers import backward_slice
from metanorm.ir.nodes import Buffer, Expand, Init, Mode, Param
from metanorm.ir.program import FOR_WEIGHTS, BufferDecl, ParamDecl, Switch
from metanorm.ir.scalar import Const, Scalar
from metanorm.semantics.declared_axes import DeclaredAxes
from metanorm.semantics.draws import check_identity, initial_from_ast
from metanorm.semantics.expressions import Expressions
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.semantics.reserved import AFFINE_SWITCHES, check_name
from metanorm.semantics.scalars import scalar_from_ast
from metanorm.semantics.values import POISON, Entity, PoolOnly, Tensor
from metanorm.syntax import ast


class StateLowering:
    """Declares the parameters and buffers of one norm."""

    def __init__(
        self, low: Lowering, scope: CallScope, axes: DeclaredAxes, expressions: Expressions
    ) -> None:
        self.low = low
        self.scope = scope
        self.axes = axes
        self.expressions = expressions
        self.problems = low.problems

    def _new_name(self, name: ast.Identifier) -> str:
        """The name in the program of a parameter or buffer."""
        check_name(name, self.problems, attribute=True)
        full = self.scope.prefix + name.name
        if self.scope.is_called:
            return self.low.unique(full)
        return full

    def _shared_param(self, item: ast.ParamItem, first_call: CallScope) -> None:
        """Bind a parameter of an earlier call of the same norm."""
        entity = Entity("parameter", item.name.span, POISON)
        if not self.scope.names.enter(item.name.name, entity):
            return
        if self._is_turned_off(item):
            dims = self.axes.dims(item.dims, "a parameter")
            init = self._initial(item, item.name.name, None)
            if isinstance(init, Const) and dims is not None:
                entity.value = self._constant(init, item, dims)
            return
        name = first_call.param_names.get(item.name.name)
        decl = next((p for p in self.low.params if p.name == name), None)
        if decl is None:
            return  # the first call has reported it
        dims = self.axes.dims(item.dims, "a parameter")
        if dims is None:
            return
        if self.low.dims(dims) != decl.dims:
            self.low.report_shared(self.scope, item.name.name, decl.dims)
            return
        entity.value = self.low.emit(Param(decl.name), item.name.span)

    def param(self, item: ast.ParamItem) -> None:
        """Declare a parameter, or bind the one that an earlier call of the same norm shares."""
        if self.scope.first_call is not None:
            self._shared_param(item, self.scope.first_call)
            return
        name = self._new_name(item.name)
        self.scope.param_names[item.name.name] = name
        dims = self.axes.dims(item.dims, "a parameter")
        init = self._initial(item, name, dims)
        init = self._check_identity(item, init, dims)
        low, high = self._bounds(item, None if item.from_weight else init)
        self._first_batch_value(item, name, dims)
        switches = self._switches(item, init)
        if dims is None or init is None:
            self.scope.names.enter(item.name.name, Entity("parameter", item.name.span, POISON))
            return
        entity = Entity("parameter", item.name.span, POISON)
        if not self.scope.names.enter(item.name.name, entity):
            return
        if self._is_turned_off(item) and isinstance(init, Const):
            entity.value = self._constant(init, item, dims)
            return
        absent = init.value if switches and isinstance(init, Const) else None
        decl = ParamDecl(name, self.low.dims(dims), init, low, high, switches, absent)
        self.low.params.append(decl)
        if len(dims) == 2 and dims[0] == dims[1]:
            entity.value = PoolOnly("a matrix", name, dims[0])
        else:
            entity.value = self.low.emit(Param(name), item.name.span, name)

    def _switches(self, item: ast.ParamItem, init: Init | None) -> tuple[str, ...]:
        """The constructor argument that turns a parameter on; declare it where it is new.

        A norm that is called has none: the call says which of its parameters there are.
        """
        if item.switch is None:
            return ()
        name = item.switch.name
        if item.from_weight or item.first or (init is not None and not isinstance(init, Const)):
            hint = "a parameter that is left out counts as the number that it begins with"
            value = item.first or item.value
            self.problems.add(WrongKind(value.span, "a value that is computed", "a number", hint))
            return ()
        if name not in AFFINE_SWITCHES:
            check_name(item.switch, self.problems, attribute=True)
        if self.scope.is_called:
            return ()
        declared = next((s for s in self.low.switches if s.name == name), None)
        if declared is None:
            self.low.switches.append(Switch(name, not item.off))
        elif declared.default == item.off:
            default = "on" if declared.default else "off"
            expected = f"`{name}` to be {default} by default, as before"
            hint = f"write `if {name} off` each time, or `if {name}`"
            self.problems.add(WrongKind(item.switch.span, "another default", expected, hint))
        return (name,)

    def _is_turned_off(self, item: ast.ParamItem) -> bool:
        """Whether the call of this norm leaves a parameter out."""
        return item.switch is not None and self.scope.leaves_out(item.switch.name, item.off)

    def _constant(self, value: Const, item: ast.ParamItem, dims: tuple[str, ...]) -> Tensor:
        """What stands for a parameter that is left out: one number on all of its axes."""
        number = self.low.number(value, item.name.span)
        if not dims:
            return number
        return self.low.emit(Expand(number.ref, self.low.table.space.ordered(dims)), item.name.span)

    def _initial(
        self, item: ast.ParamItem | ast.BufferItem, name: str, dims: tuple[str, ...] | None
    ) -> Init | None:
        """The initial value of a parameter or a buffer; `None` after a report."""
        if item.from_weight:
            return self._from_weight(item, name, dims)
        what = f"the initial value of `{item.name.name}`"
        return initial_from_ast(item.value, self.scope, self.low, what)

    def _check_identity(
        self,
        item: ast.ParamItem | ast.BufferItem,
        init: Init | None,
        dims: tuple[str, ...] | None,
    ) -> Init | None:
        """The initial value, checked: an identity matrix needs two axes."""
        if init is None or dims is None:
            return init
        what = f"`{item.name.name}`"
        return check_identity(init, self.low.dims(dims), what, item.value.span, self.low)

    def _from_weight(
        self, item: ast.ParamItem | ast.BufferItem, name: str, dims: tuple[str, ...] | None
    ) -> Scalar | None:
        """`init l2(v over *I)`: note the value. Zero stands for it until there is a weight."""
        target = self.low.target
        if target not in FOR_WEIGHTS:
            what = "param" if isinstance(item, ast.ParamItem) else "buffer"
            hint = f"`{what} g[O] = 1` begins with a number"
            self.problems.add(NotForTarget(item.span, target, "no weight to begin with", hint))
            return None
        value = self._initial_value_on(item.value, dims, "init l2")
        if value is None:
            return None
        self.low.initializers[name] = value.ref
        return Const(0.0)

    def _initial_value_on(
        self, expr: ast.Expr, dims: tuple[str, ...] | None, example: str
    ) -> Tensor | None:
        """An initial value computed in the spec, on these dimensions; `None` after a report."""
        value = self.expressions.number(expr)
        if value is None or dims is None:
            return None
        value_axes = [self.low.table.space.base(axis) for axis in value.type.axes]
        surplus = [axis for axis in value_axes if axis not in dims]
        if not surplus:
            return value
        expected = f"a value on {listing(dims) or 'no axes'}"
        hint = f"pool it away: `{example}(... over {self.low.table.shown(surplus[0])})`"
        actual = f"one with axis `{surplus[0]}`"
        self.problems.add(WrongKind(expr.span, actual, expected, hint))
        return None

    def _first_batch_value(
        self, item: ast.ParamItem | ast.BufferItem, name: str, dims: tuple[str, ...] | None
    ) -> None:
        """`first -mean(x over N)`: note the initial value of the first batch."""
        if item.first is None:
            return
        if self.low.target != "activation":
            hint = "what a norm for weights begins with is said by `init`"
            target = self.low.target
            self.problems.add(NotForTarget(item.first.span, target, "no first batch", hint))
            return
        value = self._initial_value_on(item.first, dims, "first mean")
        if value is None:
            return
        computed = backward_slice({value.ref}, self.low.body)
        if any(isinstance(let.op, Mode) for let in computed):
            hint = "it is computed once, in training: leave `track` and `mode` out of it"
            actual = "a value that differs in evaluation"
            self.problems.add(WrongKind(item.first.span, actual, "one of the batch alone", hint))
            return
        self.low.first_batch_values[name] = value.ref

    def _bounds(
        self, item: ast.ParamItem, init: Init | None
    ) -> tuple[Scalar | None, Scalar | None]:
        if item.low is None or item.high is None:
            return None, None
        low = scalar_from_ast(item.low, self.scope, self.low, "a bound")
        high = scalar_from_ast(item.high, self.scope, self.low, "a bound")
        span = item.low.span.to(item.high.span)
        if isinstance(low, Const) and isinstance(high, Const):
            if low.value > high.value:
                self.problems.add(BadInterval(span, "the lower bound is above the upper one"))
            elif isinstance(init, Const) and not low.value <= init.value <= high.value:
                reason = "the initial value is outside of it"
                self.problems.add(BadInterval(item.value.span.to(span), reason))
        return low, high

    def buffer(self, item: ast.BufferItem) -> None:
        """Declare a buffer."""
        name = self._new_name(item.name)
        dims = self.axes.dims(item.dims, "a buffer")
        init = self._check_identity(item, self._initial(item, name, dims), dims)
        self._first_batch_value(item, name, dims)
        if dims is None or init is None:
            self.scope.names.enter(item.name.name, Entity("buffer", item.name.span, POISON))
            return
        entity = Entity("buffer", item.name.span, POISON)
        if not self.scope.names.enter(item.name.name, entity):
            return
        self.low.buffers.append(BufferDecl(name, self.low.dims(dims), init))
        entity.value = self.low.emit(Buffer(name), item.name.span, name)
