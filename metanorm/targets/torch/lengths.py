"""Print the lengths of axes and shapes, as expressions over the shapes of arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from metanorm.ir.program import Program
from metanorm.ir.scalar import Scalar, SizeOf, leaves
from metanorm.targets.python.pyir import (
    Attribute,
    Binary,
    Call,
    Expr,
    Name,
    Slice,
    Starred,
    Subscript,
    Tuple,
    Unary,
)
from metanorm.targets.torch.cell_counts import cell_count
from metanorm.targets.torch.elementwise import number_expr
from metanorm.targets.torch.layout import Dim, Dims, Layouts, Value, call, integer, method, plus


class Lengths:
    """Prints lengths and shapes, and splits and merges dimensions of split axes."""

    def __init__(self, program: Program, layouts: Layouts, groups: Callable[[str], Expr]) -> None:
        self.program = program
        self.layouts = layouts
        self.space = layouts.space
        self.groups = groups  # the local that holds the groups of an index

    def merged(self, expr: Expr, dims: Dims) -> Expr:
        """The expression with the parts of split axes flattened."""
        axes = [d.axis for d in dims]
        for axis in self.space:
            leaves = self.space.leaves(axis.name)
            if axis.parts and all(leaf in axes for leaf in leaves):
                index = axes.index(leaves[0])
                dims_now = tuple(Dim(a) for a in axes)
                begin = self.layouts.position(dims_now, index)
                end = self.layouts.position(dims_now, index + len(leaves) - 1)
                expr = method(expr, "flatten", begin, end)
                axes[index : index + len(leaves)] = [axis.name]
        return expr

    def of(self, axis: str) -> Expr:
        """The length of an axis, from the shape of a tensor that has it."""
        leaves = self.space.leaves(axis)
        if len(leaves) > 1:
            return Binary("*", tuple(self.of(leaf) for leaf in leaves))
        if (cells_of := self.space[axis].cells_of) is not None:
            return cell_count(cells_of, self.number, self.groups)
        tensors = [
            (i.name, self.layouts.full_dims(i.dims))
            for i in self.program.inputs
            if i.required or isinstance(i.default, str)
        ]
        if self.program.target != "initial":  # where a parameter is what is being computed
            # Inputs are unflattened under their own names, and parameters are not.
            tensors += [
                (p.name, tuple(map(Dim, p.dims))) for p in self.program.params if not p.switches
            ]
        for name, dims in tensors:
            for index, dim in enumerate(dims):
                if dim.axis == axis:
                    shape = Attribute(Name(name), "shape")
                    if not self.layouts.variadic(dim):
                        return Subscript(shape, (self.layouts.position(dims, index),))
                    return call("runtime.numel", Subscript(shape, (self._slice(dims, index),)))
        size = self.space[axis].size
        assert size is not None, axis
        return self.number(size)

    def number(self, scalar: Scalar) -> Expr:
        """A scalar as an expression; it may depend on lengths."""
        return number_expr(scalar, self.of, read=True)

    def _slice(self, dims: Dims, index: int) -> Expr:
        before = [d for d in dims[:index] if self.layouts.variadic(d)]
        after = len(dims) - index - 1
        if not before:
            later_groups = [d for d in dims[index + 1 :] if self.layouts.variadic(d)]
            if later_groups:
                stop: Expr | None = plus(self.layouts.rank(dims[index].axis), index)
            else:
                stop = integer(-after) if after else None
            return Slice(integer(index) if index else None, stop)
        begin = plus(Unary("-", self.layouts.rank(dims[index].axis)), -after)
        return Slice(begin, integer(-after) if after else None)

    def shape(self, dims: Dims) -> Expr:
        """The shape of a tensor with these dimensions."""
        items: list[Expr] = []
        for dim in dims:
            size = self.of(dim.axis)
            if self.layouts.variadic(dim):
                assert isinstance(size, Call)
                items.append(Starred(size.arguments[0]))
            else:
                items.append(size)
        return Tuple(tuple(items))

    def split(self, value: Value) -> Value:
        """The value with its split axes unflattened."""
        expr, dims = value.expr, list(value.dims)
        for axis in self.space:
            whole = Dim(axis.name)
            if axis.parts and whole in dims:
                index = dims.index(whole)
                position = self.layouts.position(tuple(dims), index)
                part_sizes = (self.space[part].size for part in axis.parts)
                sizes = [self.part(size, axis.name) for size in part_sizes if size is not None]
                expr = call("torch.unflatten", expr, position, Tuple(tuple(sizes)))
                dims[index : index + 1] = [Dim(part) for part in axis.parts]
        return replace(value, expr=expr, dims=tuple(dims))

    def part(self, size: Scalar, whole: str) -> Expr:
        """The length of a part as `unflatten` takes it: -1 for the part that is inferred."""
        is_rest = SizeOf(whole) in leaves(size)
        return integer(-1) if is_rest else self.number(size)
