"""What the Triton kernels of a nest share: loops, value properties, and the names of parameters.

A *key* names what a kernel parameter receives, in the words of the spec: `tensor x`, `stride x C`,
`size C.inner`, `number eps`, `value var`, `part 0 mean`. The runtime resolves keys at each call.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from metanorm.ir.aggregation import ByIndex, Ones
from metanorm.ir.index import closure
from metanorm.ir.nodes import (
    POINTWISE,
    Buffer,
    Count,
    Detach,
    Expand,
    Input,
    Inside,
    Let,
    Link,
    Map,
    Number,
    Param,
    Position,
    Recurrence,
    Ref,
)
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.roles import roles
from metanorm.nest.arguments import start_of
from metanorm.nest.nest import Nest
from metanorm.nest.statements import is_sparsestmax, reach_of
from metanorm.plan.sweeps import Reduction
from metanorm.targets.python.pyir import Expr, Name
from metanorm.targets.triton.terms import ONE

RESERVED = frozenset(
    """False None True and as assert async await break class continue def del elif else except
    finally for from global if import in is lambda nonlocal not or pass raise return try while with
    tl triton arithmetic simplex float int range min max abs REAL INDEX ROWS BLOCK LANES CELLS PARTS
    program chunk block island first left begin end row cell inside in_rows in_columns in_cells
    place start stop length""".split()
)
# The names of parameters that do not come from the spec, by key.
RUNTIME_PARAMETERS = {
    "blocks": "blocks",
    "chunks": "chunks",
    "rows of a chunk": "rows_of_chunk",
    "islands of a chunk": "islands_of_chunk",
    "starts": "starts",
    "order": "order",
    "index": "index_of_groups",
}


class Names:
    """The names of one kernel. A name of the spec is kept if it is free."""

    def __init__(self) -> None:
        self._taken: set[str] = {*RESERVED, *RUNTIME_PARAMETERS.values()}

    def fresh(self, preferred: str) -> str:
        """A free name that is like the preferred one."""
        base = re.sub(r"\W+", "_", preferred).strip("_") or "t"
        base = f"_{base}" if base[0].isdigit() else base
        name, number = base, 2
        while name in self._taken:
            name, number = f"{base}_{number}", number + 1
        self._taken.add(name)
        return name


class Arguments:
    """The parameters of a kernel, by key, in the order in which the kernel first needs them."""

    def __init__(self) -> None:
        self.names = Names()
        self.keys: dict[str, str] = {}  # the name of each key's parameter

    def __call__(self, key: str, preferred: str = "") -> Name:
        """The parameter of a key. It is added if the kernel has not needed it before."""
        if key not in self.keys:
            self.keys[key] = (
                RUNTIME_PARAMETERS[key]
                if key in RUNTIME_PARAMETERS
                else self.names.fresh(preferred)
            )
        return Name(self.keys[key])


class KernelContext:
    """The nest of one kernel: its loops, outermost first, and the properties of its values."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.program: Program = nest.program
        self.loops = nest.loops
        self.space = self.program.index.space
        self.lets = self.program.index.lets
        self.wide_axes = set(nest.data_axes)
        self.group_axis = nest.group_axis
        self.reductions = nest.reductions
        self.measured: dict[Ref, tuple[int, Reduction]] = {
            ref: (finish.reduction, nest.reductions[finish.reduction])
            for ref, finish in nest.finishes.items()
        }
        self._axis_orders = nest.axis_orders
        self.roles = roles(self.program)
        self._recomputable: dict[Ref, bool] = {}

    def axis_order(self, ref: Ref) -> tuple[str, ...]:
        """The axes of a value as its array has them."""
        return self._axis_orders.get(ref, self.lets[ref].type.axes)

    def phase_axes(self, ref: Ref) -> tuple[str, ...]:
        """The axes of the cells of a phase that computes a value. A cell has all of its
        `line_axis`."""
        line_axis = self.line_axis(ref)
        return tuple(axis for axis in self.axis_order(ref) if axis != line_axis)

    def line_axis(self, ref: Ref) -> str | None:
        """The axis along which a cell of a phase computes one value after the other, if it does."""
        op = self.lets[ref].op
        return op.axis if isinstance(op, Recurrence) or is_sparsestmax(op) else None

    def reads_along_axis(self, ref: Ref) -> bool:
        """Whether a value reads other positions of an axis that it has itself."""
        op = self.lets[ref].op
        return isinstance(op, Recurrence) or reach_of(op) is not None

    def is_wide(self, ref: Ref) -> bool:
        """Whether a value is as large as the data."""
        return self.wide_axes <= set(self.lets[ref].type.axes)

    def is_external(self, ref: Ref) -> bool:
        """Whether a value is a tensor of the call: an input, a parameter or a buffer."""
        return isinstance(self.lets[ref].op, (Input, Param, Buffer))

    def absent_value(self, ref: Ref) -> float | None:
        """The number that replaces an optional tensor of the call; `None` for a required one."""
        op = self.lets[ref].op
        assert isinstance(op, (Input, Param, Buffer))
        array = self.nest.array[op.name]
        return array.absent if array.optional else None

    def is_number(self, ref: Ref) -> bool:
        """Whether a value depends on numbers and lengths alone."""
        let = self.lets[ref]
        if let.type.axes:
            return False
        match let.op:
            case Number():
                return True
            case Count(over=over, where=None, weight=None):
                return all(isinstance(matrix, Ones) for _, matrix in over)
            case Map() | Detach() | Expand():
                return all(self.is_number(r) for r in operands(let.op))
        return False

    def is_inline(self, ref: Ref) -> bool:
        """Whether every kernel can compute a value without reading memory."""
        return self.is_number(ref) or isinstance(self.lets[ref].op, (Position, Inside, Link))

    def is_recomputable(self, ref: Ref) -> bool:
        """Whether a narrow value is elementwise in tensors of the call, so that each kernel that
        reads it computes it again."""
        if ref not in self._recomputable:
            op = self.lets[ref].op
            self._recomputable[ref] = not self.is_wide(ref) and isinstance(op, POINTWISE)
            self._recomputable[ref] = self._recomputable[ref] and all(
                self.is_external(r) or self.is_inline(r) or self.is_recomputable(r)
                for r in operands(op)
            )
        return self._recomputable[ref]

    def depends_on_statistics(self, ref: Ref) -> bool:
        """Whether a value depends on statistics that the kernels of the nest measure."""
        lets = self.lets
        return any(r in self.measured for r in closure([ref], lambda r: operands(lets[r].op)))

    def is_group_size(self, let: Let) -> bool:
        """Whether a value is the number of rows in each group."""
        return isinstance(let.op, Count) and any(isinstance(m, ByIndex) for _, m in let.op.over)

    def reads_groups(self, refs: Iterable[Ref], arrays: Collection[Ref]) -> bool:
        """Whether computing these values reads a value per group of rows. `arrays` and statistics
        need no computing."""

        def read(ref: Ref) -> tuple[Ref, ...]:
            is_known = ref in arrays or ref in self.measured
            return () if is_known else operands(self.lets[ref].op)

        return any(self.group_axis in self.lets[ref].type.axes for ref in closure(refs, read))

    def leaves(self, axes: Iterable[str]) -> tuple[str, ...]:
        """The parts of some axes; an axis without parts stands for itself."""
        return tuple(leaf for axis in axes for leaf in self.space.leaves(axis))

    def dim_of(self, leaf: str) -> str:
        """The dimension of the data that an axis belongs to."""
        return next(d for d in self.program.inputs[0].dims if leaf in self.space.leaves(d))

    def whole_axis(self, run: str) -> str:
        """The axis that a run of positions is cut out of."""
        return self.space.cut(run)[0]

    def run_start(self, arguments: Arguments, run: str) -> Expr:
        """The parameter with the first position of a run."""
        return arguments(f"size {start_of(run)}", f"{run.lower()}_start")

    def size(self, arguments: Arguments, axes: Sequence[str]) -> Expr:
        """The parameter with a length, or with a product of lengths."""
        if not axes:
            return ONE
        preferred = "size_" + "_".join(axis.lower() for axis in axes)
        return arguments(f"size {'*'.join(axes)}", preferred)
