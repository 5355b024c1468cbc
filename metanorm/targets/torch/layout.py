"""The dimensions of values: which axis each dimension of a tensor is, and how values broadcast.

A value has exactly the dimensions of its axes, with one exception: if a pool leaves a group of axes
of unknown number, it keeps the pooled dimensions at length one, so that the result broadcasts
against the input. Dimensions that are missing in front broadcast anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from metanorm.ir.program import Program
from metanorm.ir.scalar import Hyper
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Call,
    Expr,
    Literal,
    Name,
    Slice,
    Starred,
    Subscript,
    Tuple,
    Unary,
)


@dataclass(frozen=True, slots=True)
class Dim:
    """A dimension of a tensor. It has the length of its axis if it is `full`, else length one."""

    axis: str
    full: bool = True


Dims = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the IR as an expression, with the dimensions of its tensor.

    It is a Python number if `number` is set, and may be `None` if `optional` is set. With
    `may_lack_dims` it may lack some dimensions: those that only an optional parameter has.
    """

    expr: Expr
    dims: Dims = ()
    number: bool = False
    optional: bool = False
    may_lack_dims: bool = False


@dataclass(frozen=True, slots=True)
class IndexGroup:
    """A group of axes inside index brackets: its dimensions are `new`, or the value has them."""

    axis: str
    new: bool


def method(value: Expr, name: str, *arguments: Expr, **keywords: Expr | None) -> Expr:
    """`value.name(arguments, key=value)`."""
    return replace(call(name, *arguments, **keywords), function=Attribute(value, name))


def call(function: str, *arguments: Expr, **keywords: Expr | None) -> Call:
    """`function(arguments, key=value)`; keywords that are `None` are left out."""
    present = tuple((key, value) for key, value in keywords.items() if value is not None)
    return Call(Name(function), arguments, present)


def integer(value: int) -> Expr:
    """A whole number."""
    return Literal(value)


def plus(value: Expr, number: int) -> Expr:
    """The sum of a value and an integer; adding zero changes nothing."""
    if not number:
        return value
    return Binary("+" if number > 0 else "-", (value, integer(abs(number))))


class Layouts:
    """Prints ranks, positions of dimensions and broadcasting, from the function's arguments."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.space = program.index.space
        self.locals: dict[tuple[str, str], Assign] = {}  # by stem and group of axes
        self.used_names: set[str] = set()

    def full_dims(self, dims: Sequence[str]) -> Dims:
        """The dimensions of a tensor on these axes, with split axes unflattened."""
        return tuple(Dim(leaf) for dim in dims for leaf in self.space.leaves(dim))

    # ---- how many dimensions a group of axes has

    def rank(self, axis: str) -> Expr:
        """The number of dimensions of a group of axes."""
        size = self.space[axis].size
        if isinstance(size, Hyper):
            return call("len", Name(size.name))
        for decl in self.program.inputs:
            if axis in decl.dims and decl.sort in ("tensor", "mask", "whole"):
                full_dims = self.full_dims(decl.dims)
                single_dims = sum(not self.space[d.axis].variadic for d in full_dims)
                other_ranks = [
                    self.rank(d.axis)
                    for d in full_dims
                    if self.space[d.axis].variadic and d.axis != axis
                ]
                total: Expr = method(Name(decl.name), "dim")
                operands = [total, *([integer(single_dims)] if single_dims else []), *other_ranks]
                return Binary("-", tuple(operands)) if len(operands) > 1 else total
        raise KeyError(axis)

    # ---- where a dimension is

    def variadic(self, dim: Dim) -> bool:
        """Whether a dimension stands for several."""
        return self.space[dim.axis].variadic

    def position(self, dims: Dims, index: int) -> Expr:
        """The number of a single dimension, counted from the end where a group is before it."""
        before = [d for d in dims[:index] if self.variadic(d)]
        after = [d for d in dims[index + 1 :] if self.variadic(d)]
        if not before:
            return integer(index)
        if not after:
            return integer(index - len(dims))
        single = sum(not self.variadic(d) for d in dims[:index])
        return plus(self.rank(before[0].axis), single)

    def positions(self, value: Value, axes: Sequence[str]) -> Expr:
        """The dimensions of several axes: `(0, *range(2, x.dim()))`."""
        items: list[Expr] = []
        for index, dim in enumerate(value.dims):
            if dim.axis in axes:
                if self.variadic(dim):
                    items.append(Starred(self._range(value, index)))
                else:
                    items.append(self.position(value.dims, index))
        items = _contiguous(items)
        only = items[0] if len(items) == 1 else None
        return only.value if isinstance(only, Starred) else Tuple(tuple(items))

    def _range(self, value: Value, index: int) -> Expr:
        """The dimensions of a group of axes."""
        dims = value.dims
        before, after = dims[:index], dims[index + 1 :]
        if not any(self.variadic(d) for d in (*before, *after)):
            end = plus(method(value.expr, "dim"), -len(after))
            return call("range", integer(len(before)), end) if before else call("range", end)
        rank = self.rank(dims[index].axis)
        if not any(self.variadic(d) for d in before):
            if not before:
                return call("range", rank)
            return call("range", integer(len(before)), Binary("+", (integer(len(before)), rank)))
        if not after:
            return call("range", Unary("-", rank), integer(0))
        return call("range", plus(Unary("-", rank), -len(after)), integer(-len(after)))

    # ---- broadcasting

    def aligned(self, value: Value, full_dims: Dims) -> Expr:
        """The value, indexed so that it broadcasts against a tensor with `full_dims`."""
        value = self.without_other_dims(value, full_dims)
        if value.number or not value.dims:
            return value.expr
        indices = [self.dim_index(full_dims, d.axis) for d in value.dims]
        if indices != sorted(indices):
            value = self._permuted(value, indices)
            indices = sorted(indices)
        missing = [i for i in range(indices[0], len(full_dims)) if i not in indices]
        if not missing:
            return value.expr
        if any(not d.full for d in value.dims):
            value = self._compact(value)
            if not value.dims:
                return value.expr
            indices = [self.dim_index(full_dims, d.axis) for d in value.dims]
            missing = [i for i in range(indices[0], len(full_dims)) if i not in indices]
            if not missing:
                return value.expr
        return self._indexed(value, full_dims, indices)

    def without_other_dims(self, value: Value, full_dims: Dims) -> Value:
        """The value without dimensions of length one, if `full_dims` lacks some of its axes."""
        bases = {self.space.base(d.axis) for d in full_dims}
        has_other_dims = any(self.space.base(d.axis) not in bases for d in value.dims)
        return self._compact(value) if has_other_dims else value

    def dim_index(self, full_dims: Dims, axis: str) -> int:
        """The index of an axis in `full_dims`; for an axis of cells, that of the divided axis."""
        for i, dim in enumerate(full_dims):
            if dim.axis == axis:
                return i
        base = self.space.base(axis)
        return next(i for i, d in enumerate(full_dims) if self.space.base(d.axis) == base)

    def _indexed(self, value: Value, full_dims: Dims, indices: list[int]) -> Expr:
        """`v[:, None]` or `v[along_s]`: the value with dimensions of length one inserted."""
        items: list[Expr | IndexGroup] = []
        groups = sum(self.variadic(full_dims[i]) for i in indices)
        for i in range(indices[0], len(full_dims)):
            axis = full_dims[i].axis
            if self.variadic(full_dims[i]):
                is_ellipsis = i in indices and groups == 1
                items.append(Name("...") if is_ellipsis else IndexGroup(axis, new=i not in indices))
            else:
                items.append(Slice() if i in indices else Literal(None))
        if indices == list(range(indices[0], indices[0] + len(indices))):
            return self._behind(value.expr, items[len(indices) :])
        if (
            value.may_lack_dims
        ):  # dimensions in front may not be there: what is new is counted from the end
            new = [i for i, item in enumerate(items) if _is_new(item)]
            exact_items = [IndexGroup(full_dims[i].axis, new=False) if item == Name("...") else item
                     for i, item in enumerate(items, indices[0])]  # fmt: skip
            return Subscript(value.expr, self._brackets([Name("..."), *exact_items[new[0] :]]))
        while items[-1] in (Slice(), Name("...")) and Name("...") not in items[:-1]:
            items.pop()
        return Subscript(value.expr, self._brackets(items))

    def _behind(self, value: Expr, items: list[Expr | IndexGroup]) -> Expr:
        """New dimensions behind all others."""
        singles = [item for item in items if not isinstance(item, IndexGroup)]
        if singles:
            value = Subscript(value, (Name("..."), *singles))
        for group in items:
            if isinstance(group, IndexGroup):
                nones = Starred(Binary("*", (Tuple((Literal(None),)), self.rank(group.axis))))
                value = Subscript(value, (self._local("along", group, (Name("..."), nones)),))
        return value

    def _brackets(self, items: list[Expr | IndexGroup]) -> tuple[Expr, ...]:
        """The items of index brackets. Python 3.10 allows no star there, so tuples are added."""
        if not any(isinstance(item, IndexGroup) for item in items):
            return tuple(item for item in items if not isinstance(item, IndexGroup))
        parts: list[Expr] = []
        for item in items:
            if isinstance(item, IndexGroup):
                one = Literal(None) if item.new else call("slice", Literal(None))
                several = Binary("*", (Tuple((one,)), self.rank(item.axis)))
                parts.append(self._local("new" if item.new else "all", item, several))
                continue
            slice_item = call("slice", Literal(None)) if item == Slice() else item
            if parts and isinstance(parts[-1], Tuple):
                parts[-1] = Tuple((*parts[-1].items, slice_item))
            else:
                parts.append(Tuple((slice_item,)))
        return (Binary("+", tuple(parts)) if len(parts) > 1 else parts[0],)

    def _local(self, stem: str, group: IndexGroup, value: Expr | tuple[Expr, ...]) -> Expr:
        """A local variable of the prologue, such as `along_s`."""
        key = stem, group.axis
        if key not in self.locals:
            name = f"{stem}_{group.axis.lower()}"
            while name in self.used_names:
                name += "_"
            self.used_names.add(name)
            description = "a new dimension" if group.new else "all"
            value = Tuple(value) if isinstance(value, tuple) else value
            comment = f"{description} for each of *{group.axis}"
            self.locals[key] = Assign((Name(name),), value, comment)
        return self.locals[key].targets[0]

    def _permuted(self, value: Value, order: list[int]) -> Value:
        """The value with its dimensions permuted into ascending order of `order`."""
        ranks = sorted(range(len(order)), key=lambda i: order[i])
        items: list[Expr] = []
        for i in ranks:
            if self.variadic(value.dims[i]):
                items.append(Starred(self._range(value, i)))
            else:
                items.append(self.position(value.dims, i))
        dims = tuple(value.dims[i] for i in ranks)
        return Value(method(value.expr, "permute", *items), dims)

    def _compact(self, value: Value) -> Value:
        """The value without dimensions of length one."""
        length_one = [d.axis for d in value.dims if not d.full]
        dims = tuple(d for d in value.dims if d.full)
        positions = self.positions(value, length_one)
        if isinstance(positions, Call):  # a range, which `squeeze` does not take
            positions = call("tuple", positions)
        return Value(method(value.expr, "squeeze", positions), dims)

    def compact(self, value: Value) -> Value:
        """The value without dimensions of length one, if it has any."""
        return value if all(d.full for d in value.dims) else self._compact(value)


def _is_new(item: object) -> bool:
    """Whether an item of index brackets inserts a dimension."""
    return item == Literal(None) or (isinstance(item, IndexGroup) and item.new)


def _contiguous(items: list[Expr]) -> list[Expr]:
    """`2, *range(3, n)` as `*range(2, n)`."""
    match items:
        case [*front, Literal(int(before)), Starred(Call(function, (Literal(int(start)), end)))]:
            if start == before + 1:
                first = (Literal(before),) if before else ()
                return [*front, Starred(Call(function, (*first, end)))]
    return items
