"""Lowering of what stands in brackets behind a value: renames, lookups, positions and runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Union

from metanorm.diagnostics.axes import BadRename
from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.values import CannotLookUp
from metanorm.ir.nodes import Draw, Lookup, Ref, Rename
from metanorm.ir.program import Equal
from metanorm.ir.scalar import SizeOf
from metanorm.semantics.pieces import piece_named, take_piece
from metanorm.semantics.values import POISON, Poison, Tensor, Value
from metanorm.syntax import ast

if TYPE_CHECKING:
    from metanorm.semantics.expressions import Expressions

Subscript = Union[ast.Rename, ast.At, ast.Expr]
MAX_POSITION = 2**31


class Subscripts:
    """Lowers the subscripts of one norm."""

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions
        self.low, self.scope = expressions.low, expressions.scope

    def apply(self, expr: ast.Index) -> Value:
        """A value with its subscripts, applied one by one."""
        value: Value = self.expressions.value(expr.value)
        for subscript in self._ordered_subscripts(expr, value):
            tensor = self.expressions.as_number(value, expr.value)
            if tensor is None:
                return POISON
            if isinstance(subscript, ast.Rename):
                value = self._rename(tensor, subscript)
            elif isinstance(subscript, ast.At):
                value = self._look_up_position(tensor, subscript)
            elif (piece := piece_named(subscript, self.scope, self.low)) is not None:
                value = take_piece(tensor, piece, subscript, self.low)
            else:
                value = self._lookup(tensor, subscript, expr)
        return value

    def _ordered_subscripts(self, expr: ast.Index, value: Value) -> list[Subscript]:
        """The subscripts in an order in which they can be applied one by one.

        The renames of one bracket happen at once. So `a[O -> P, P -> Q]` renames P first, and the
        transpose `a[O -> P, P -> O]` goes through a temporary axis.
        """
        renames = [s for s in expr.subscripts if isinstance(s, ast.Rename)]
        if len(renames) < 2 or len(renames) < len(expr.subscripts):
            return list(expr.subscripts)
        space = self.low.table.space
        value_axes = (
            {space.base(a) for a in value.type.axes} if isinstance(value, Tensor) else set()
        )
        if not all(
            set(self.expressions.pools.resolve(s.old, quiet=True) or ("",)) <= value_axes
            for s in renames
        ):
            return list(renames)
        ordered: list[Subscript] = []
        deferred: list[Subscript] = []
        while renames:
            olds = {s.old.name for s in renames}
            ready = next((s for s in renames if s.new.name not in olds - {s.old.name}), None)
            if ready is None:
                ready = renames[0]
                name = ready.new.name
                while name in self.low.table.declared or name in (self.scope.axes or {}):
                    name += "_"
                temporary = replace(ready.new, name=name)
                ordered.append(replace(ready, new=temporary))
                deferred.append(replace(ready, old=temporary))
            else:
                ordered.append(ready)
            renames.remove(ready)
        return [*ordered, *deferred]

    def _rename(self, tensor: Tensor, rename: ast.Rename) -> Value:
        old = self.expressions.pools.resolve(rename.old)
        if old is not None and len(old) == 1 and not rename.new.variadic:
            self._introduce_copy(rename.new, old[0])
        new = self.expressions.pools.resolve(rename.new) if old is not None else None
        if old is None or new is None:
            return POISON
        space = self.low.table.space
        axes = tensor.type.axes
        reason = ""
        if len(old) != 1 or len(new) != 1 or rename.old.variadic != rename.new.variadic:
            reason = "one is a single axis and the other is not"
        elif old[0] not in axes:
            reason = f"the value has no axis `{rename.old.name}`"
        elif new[0] in {space.base(a) for a in axes}:
            reason = f"the value has an axis `{rename.new.name}` already"
        if reason:
            names = rename.old.name, rename.new.name
            has = listing(self.low.table.shown(a) for a in self.low.dims(axes) if "/" not in a)
            hint = f"the axes of the value are {has}" if has else "the value is a single number"
            self.low.problems.add(BadRename(rename.span, *names, reason, hint))
            return POISON
        check = Equal(*space.ordered((old[0], new[0])))
        if check not in self.low.checks and space[new[0]].size != SizeOf(old[0]):
            self.low.checks.append(check)
        return self.low.emit(Rename(tensor.ref, old[0], new[0]), rename.span)

    def _introduce_copy(self, new: ast.AxisRef, old: str) -> None:
        """Introduce D in `v[C -> D]`, if there is none: an axis as long as C."""
        local = self.scope.axes
        if new.name not in (self.low.table.declared if local is None else local):
            name = self.low.table.copy_axis(new.name, old, new.span)
            if local is not None:
                local[new.name] = (name,)

    def _is_axis(self, expr: ast.Expr) -> bool:
        return isinstance(expr, ast.Name) and expr.name in self.low.table.declared

    def _lookup(self, table: Tensor, subscript: ast.Expr, expr: ast.Index) -> Value:
        if isinstance(subscript, ast.Number):
            return self._look_up_item(table, subscript, expr)
        if isinstance(subscript, ast.Compare) and self._is_axis(subscript.left):
            reason = "a condition chooses no positions"
            hint = "some of them are a run with a name: `axis C = (I = 3) + B`, and then `x[I]`"
            self.low.problems.add(CannotLookUp(subscript.span, reason, None, hint))
            return POISON
        index = self.expressions.value(subscript)
        if isinstance(index, Poison):
            return POISON
        entity = self.scope.names.find(subscript.name) if isinstance(subscript, ast.Name) else None
        declared = entity.span if entity else None
        if not isinstance(index, Tensor) or index.type.kind != "int":
            reason = "the subscript is no index"
            hint = "an index is declared in the `input`: `label: index[N] of K = num_classes`"
            self.low.problems.add(CannotLookUp(subscript.span, reason, declared, hint))
            return POISON
        drawn = self.low.ops[index.ref]
        if isinstance(drawn, Draw):
            return self._in_order(table, index.ref, drawn, expr)
        name = next(i for i in self.low.inputs if i.name == index.ref)
        if name.table is None:
            reason = f"`{name.name}` does not say which axis it chooses rows of"
            hint = f"declare it as `{name.name}: index[{', '.join(name.dims)}] of K = num_classes`"
            self.low.problems.add(CannotLookUp(subscript.span, reason, declared, hint))
            return POISON
        if name.table not in table.type.axes:
            reason = f"the table has no axis `{name.table}`"
            hint = f"a table has the axis that the index chooses from: `[{name.table}, C]`"
            self.low.problems.add(CannotLookUp(expr.value.span, reason, declared, hint))
            return POISON
        return self.low.emit(Lookup(table.ref, name.table, index.ref), expr.span)

    def _in_order(self, value: Tensor, order: Ref, drawn: Draw, expr: ast.Index) -> Value:
        """A value with the positions of an axis in the order of a permutation."""
        (axis,) = drawn.axes
        assert drawn.table is not None
        if axis not in value.type.axes:
            reason = f"the value has no axis `{axis}` of its own, whose positions were drawn"
            shown = [self.low.table.shown(a) for a in self.low.dims(value.type.axes)]
            has = listing(a for a in shown if "/" not in a)
            hint = f"its axes are {has}" if has else "it is a single number"
            span = self.low.spans[order]
            self.low.problems.add(CannotLookUp(expr.value.span, reason, span, hint))
            return POISON
        table = self.low.emit(Rename(value.ref, axis, drawn.table), expr.span)
        return self.low.emit(Lookup(table.ref, drawn.table, order), expr.span)

    def _look_up_position(self, tensor: Tensor, at: ast.At) -> Value:
        """Lower `x[T = 0]`: one position of an axis. A negative one counts from the end."""
        axes = self.expressions.pools.resolve(at.axis, alone=True)
        position, sign = at.position, 1
        if isinstance(position, ast.Negative):
            position, sign = position.operand, -1
        if axes is None or isinstance(position, ast.Missing):
            return POISON
        space = self.low.table.space
        reason, span = "", at.position.span
        hint = "write a number: `x[T = 0]` is the first position, `x[T = -1]` the last"
        if not isinstance(position, ast.Number) or position.value != int(position.value):
            reason = "positions are whole numbers that are written out"
        elif position.value >= MAX_POSITION:
            reason = f"no axis has {position.text} positions"
        elif len(axes) != 1 or space[axes[0]].variadic or axes[0] not in tensor.type.axes:
            shown = [self.low.table.shown(a) for a in self.low.dims(tensor.type.axes)]
            has = listing(a for a in shown if "/" not in a)
            reason, span = f"the value has no axis `{at.axis.name}` of its own", at.axis.span
            hint = f"its axes are {has}" if has else "it is a single number"
        if reason or not isinstance(position, ast.Number):
            self.low.problems.add(CannotLookUp(span, reason, None, hint))
            return POISON
        size = getattr(space[axes[0]].size, "value", None)
        index = sign * int(position.value)
        if size is not None and not -size <= index < size:
            reason = f"axis `{at.axis.name}` has {int(size)} positions, counted from 0"
            self.low.problems.add(CannotLookUp(span, reason, None, hint))
            return POISON
        return self.low.emit(Lookup(tensor.ref, axes[0], index), at.span)

    def _look_up_item(self, table: Tensor, position: ast.Number, expr: ast.Index) -> Value:
        space = self.low.table.space
        axes = table.type.axes
        size = space[axes[0]].size if len(axes) == 1 else None
        length = getattr(size, "value", None)
        reason = ""
        if len(axes) != 1:
            reason = f"the value has {len(axes) or 'no'} axes, not one"
        elif position.value != int(position.value):
            reason = "positions are whole numbers"
        elif length is None:
            reason = f"the length of axis `{axes[0]}` is not written out"
        elif position.value >= length:
            reason = f"axis `{axes[0]}` has {int(length)} positions, counted from 0"
        if reason:
            hint = "a position is taken of a value with one axis of written length: `w[K = 3]`"
            self.low.problems.add(CannotLookUp(position.span, reason, None, hint))
            return POISON
        return self.low.emit(Lookup(table.ref, axes[0], int(position.value)), expr.span)
