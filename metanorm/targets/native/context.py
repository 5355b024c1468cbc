"""The names and indexes of one C kernel: loop variables, lengths, and arrays of narrow values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from metanorm.ir.nodes import Dtype, Input, Link, Param, Ref
from metanorm.ir.program import Program
from metanorm.ir.rename import role_of
from metanorm.ir.roles import roles
from metanorm.ir.scalar import FUNCTIONS as SCALAR_FUNCTIONS
from metanorm.ir.scalar import Apply as ApplyScalar
from metanorm.ir.scalar import Const, Hyper, Scalar, SizeOf, leaves
from metanorm.nest.arguments import size_argument_dims, start_of
from metanorm.nest.nest import Nest
from metanorm.nest.statements import Scan
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Declare,
    Element,
    Expr,
    Infix,
    Name,
    Number,
    Prefix,
    Stmt,
    product,
)
from metanorm.targets.native.members import GROUPS, GROUPS_POINTER, argument, shared
from metanorm.targets.native.names import SharedNames

# Names that a value of a spec cannot have in C: keywords, and what `metanorm.h` defines.
RESERVED = frozenset(
    """auto break case char const continue default do double else enum extern float for goto if
    inline int long register restrict return short signed sizeof static struct switch typedef
    union unsigned void volatile while real tensor narrow range accumulator segments shape stage
    reduction kernel division arena row target written widen round_off arena_alloc as_real give
    track merge grouped min max launch run place join cell cell_along sum_of mean_of share_of v
    exact total_of centre_of quotient_of
    r a ordered ahead prefetch bytes_of PIECE STREAM_PIECE AHEAD i call call_fields memory kept
    saved threads strided main index values plan stages reductions prepare begin finish start
    length rows end total count centre squares largest gap share matrix extent extents entry
    entry_across identity matrix_of stream_fence stream elements divide everything block_of
    apart work_on_islands lay_out copied absent merge_at merge_alike merge_each add_up direct
    offset group_of round rint floor ceil exp log sqrt pow sin cos tanh erf abs widened_bfloat16
    rounded_bfloat16 widened_float16 rounded_float16 rounded_to as_float16 low high
    ISLANDS arena_alloc_all sums_across total_along sum_along mean_along moments_along AXES DIMS
    GROUPS ROWS VECTOR TILE TILE_AREA TILE_ROWS STRIP CACHE SERIAL THREADS AT R REAL_TYPE LARGER
    SMALLER larger smaller extreme_of parts_of clear links edge_list edge_ends edges_of links_of
    to from LINKS edge BY_VECTORS EXPORTED GATHER SCATTER FLOAT32 FLOAT64 BFLOAT16 FLOAT16
    BOOLEAN INT64 STREAMED SIMPLEX simplex face is_on below project simplex_of weight_of arrived
    arrive adjoint_of nearest arriving APART SCANS LANES lanes lines lines_room scratch
    scratch_of scan_sums scan_moments scan_weighed tiles tiles_of tile_room strip_of columns
    strip_begin strip_end value_lines weight_lines first_lines second_lines spare_lines NULL
    is_inside larger_float larger_double smaller_float smaller_double
    INFINITY NAN TOTALS ALIKE WEIGHED SUM MOMENTS MAXIMUM MINIMUM DONE NO_MEMORY BROKEN_LABELS
    GAP LARGE_PAGE UNCOUNTABLE piece aligned countable empty of_rows parts_in put_by report
    room_to_align running scan scan_lanes scan_pasts scan_windows scan_segments segment_end
    FOR EACH EACH_OF PIECES EACH_PIECE TILES EACH_TILE STEPS PRAGMA SIMD REDUCING tile_rows at
    elements_from prefetch_from row_moments tile_moments column_moments set_lengths TENSOR LENGTHS
    STRIDES ENTRY KEPT ONCE LOOPS
    take_in times bool true false size_t int64_t uintptr_t uint8_t uint16_t uint32_t""".split()
)
# Names of the sums of a reduction in sweeps, and of what holds one row of a value.
DERIVED = re.compile(
    r"CELL_\d+|(sum|extreme|weight|drift|squares|centre|cells?|step)_\d+(_\d+)?|.*_(row|here|tile)"
)
PREFIXES = ("AXIS_", "DTYPE_", "size_")  # of axis numbers, of dtypes and of lengths
SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
MATH = {
    **{name: name for name in ("floor", "ceil", "pow", "sqrt", "exp", "log")},
    **{name: f"f{name}" for name in ("abs", "min", "max")},
}
assert {*SYMBOLS, *MATH, "neg", "floordiv"} == SCALAR_FUNCTIONS.keys(), "a function C has not"


class KernelContext:
    """The names, lengths and indexes of one kernel. `layouts` are its nests in all layouts, which
    share the names of values."""

    def __init__(self, nest: Nest, layouts: Sequence[Nest], shared_names: SharedNames) -> None:
        self.nest, self.loops = nest, nest.loops
        self.ranged_axes, self.sometimes_ranged_axes = _ranged(layouts)
        self.vector = self.loops[-1]  # memory is contiguous along it
        self.program: Program = nest.program
        self.space = self.program.index.space
        self.types = self.program.index.types
        self._axis_orders = nest.axis_orders
        self.matrices = self._find_matrices()
        self.scans = tuple(s.let for _, s in nest.statements() if isinstance(s, Scan))
        self.scans_elements = any(sweep.scans for sweep in nest.sweeps)
        self.links = {let.name: let.op for let in self.program.body if isinstance(let.op, Link)}
        self.size_argument_dims = size_argument_dims(self.program)
        self._used_names: set[str] = set(RESERVED)
        self._names: dict[str, str] = {}
        self._fields: dict[str, str] = {}
        self._shared_names = shared_names
        self._identities = shared_names.identities(nest, layouts)
        self._roles = roles(self.program)
        self._axis_constants = axis_constants(self.program)
        self._index_names: dict[Expr, str] = {}
        self.group_axis = nest.group_axis
        # Loop variables are named first, so that they get plain letters.
        self.variables: dict[str, str] = {}
        for axis in [leaf for group in self.loops for leaf in group] + [
            a.name for a in self.program.axes
        ]:
            if axis not in self.variables:
                self.variables[axis] = self._fresh(_identifier(axis).lower())
        self.merged = {group: self._fresh(_identifier(self._whole(group)).lower())
                       for group in self.loops if len(group) > 1}  # fmt: skip

    def _find_matrices(self) -> dict[Ref, tuple[str, str]]:
        """The pooling matrices among inputs and parameters, with their row and column axes."""
        tensors = (let for let in self.program.body if isinstance(let.op, (Input, Param)))
        axes_by_ref = {let.name: self._axis_orders.get(let.name, ()) for let in tensors}
        return {
            ref: (axes[0], axes[1])
            for ref, axes in axes_by_ref.items()
            if len(axes) == 2 and self.space[axes[1]].size == SizeOf(axes[0])
        }

    def axis_order(self, ref: Ref) -> tuple[str, ...]:
        """The axes of a value as its array has them. Beside several values of an element, those of
        one row lie side by side."""
        axes = self.types[ref].axes
        if self.nest.extra_axes:
            along = tuple(axis for axis in axes if axis in self.vector)
            axes = (*(axis for axis in axes if axis not in self.vector), *along)
        return self._axis_orders.get(ref, axes)

    # ---- names

    def _fresh(self, base: str) -> str:
        if base.startswith(PREFIXES) or DERIVED.fullmatch(base):
            base = f"t_{base}"
        name, number = base, 2
        gap = "" if DERIVED.fullmatch(f"{base}_2") else "_"
        taken = self._used_names | self._shared_names.taken
        while name in taken or DERIVED.fullmatch(name):
            name, number = f"{base}{gap}{number}", number + 1
        self._used_names.add(name)
        return name

    def name(self, ref: str) -> str:
        """The C name of a value, after its name in the spec if it has one."""
        if ref not in self._names:
            self._names[ref] = self._shared_name(ref, self._identities.get(ref, ref))
        return self._names[ref]

    def field(self, name: str) -> str:
        """The C name of what a call brings, which in the structure of values may be called after
        what it is to the sweeps."""
        if name not in self._fields:
            self._fields[name] = self._shared_name(name, name)
        return self._fields[name]

    def _shared_name(self, ref: str, identity: str) -> str:
        """The name of what has this identity, in all kernels in which nothing else has it."""
        shared_name = self._shared_names.names.get(identity)
        if shared_name is not None and shared_name not in self._used_names:
            self._used_names.add(shared_name)
            return shared_name
        if ref in self._fields:
            name = self._fields[ref]
        else:
            base = ref if not ref.startswith("%") else role_of(ref) or self._roles.get(ref, "t")
            name = self._fresh(_identifier(base))
        self._shared_names.names.setdefault(identity, name)
        return name

    def index_name(self, index: Expr, variables: Sequence[str]) -> str:
        """The variable that holds an array index, named after the loop variables in the index."""
        if index not in self._index_names:
            self._index_names[index] = self._fresh("_".join(variables) or "place")
        return self._index_names[index]

    def _whole(self, group: tuple[str, ...]) -> str:
        """The axis whose parts a merged loop covers."""
        return next(a.name for a in self.space if self.space.leaves(a.name) == group)

    def axis(self, group: tuple[str, ...]) -> str:
        """The C constant with the number of a loop."""
        whole = self._whole(group) if len(group) > 1 else group[0]
        return f"AXIS_{self._axis_constants[whole]}"

    def variable(self, group: tuple[str, ...]) -> str:
        """The variable of a loop."""
        return self.merged[group] if len(group) > 1 else self.variables[group[0]]

    def size_name(self, axis: str) -> str:
        """The member that holds the length of an axis."""
        return f"size_{_identifier(axis)}"

    def size(self, axis: str) -> Expr:
        """The length of an axis."""
        return shared(self.size_name(axis))

    def run_start(self, run: str) -> Expr:
        """The first position of a run of positions."""
        return argument(f"size_{self.name(start_of(run))}")

    def is_inside(self, run: str, position: Expr) -> Expr:
        """Whether a position of the whole axis is in a run."""
        return Apply("is_inside", (position, self.run_start(run), self.size(run)))

    def whole_axis(self, run: str) -> str:
        """The axis that a run of positions is cut out of."""
        return self.space.cut(run)[0]

    def volume(self, axes: Iterable[str]) -> Expr:
        """The product of lengths."""
        result: Expr = Number(1)
        for axis in axes:
            result = product(result, self.size(axis))
        return result

    def in_double(self, scalar: Scalar) -> Expr:
        """A number in double precision, as the call passes it."""
        match scalar:
            case Hyper(name) if name not in self.size_argument_dims:
                return argument(self.name(name))
            case ApplyScalar(function, arguments) if function != "floordiv":
                parts = [self.in_double(a) for a in arguments]
                if function in SYMBOLS:
                    return Infix(SYMBOLS[function], parts[0], parts[1])
                if function == "neg":
                    return Prefix("-", parts[0])
                return Apply(MATH[function], tuple(parts))
            case Const(value):  # a number with a fraction would be `real`
                is_plain = float(value).is_integer() or not math.isfinite(value)
                return Number(value) if is_plain else cir.Double(float(value))
            case _:
                return Prefix("(double)", self.scalar(scalar, as_int=True))

    def scalar(self, scalar: Scalar, as_int: bool = False) -> Expr:
        """A number that is known at the call, in `real` or as an integer."""
        match scalar:
            case Const(value):
                return Number(value)
            case Hyper(name) if name in self.size_argument_dims:  # the length of a dimension
                length = argument(f"size_{self.name(self.size_argument_dims[name])}")
                return length if as_int else Prefix("(real)", length)
            case Hyper(name):
                # Converted from double: `real` may be too narrow for a length.
                as_passed = Prefix("(int64_t)", argument(self.name(name)))
                return as_passed if as_int else shared(self.name(name))
            case SizeOf(axis):
                leaves = self.space.leaves(axis)
                size = self.volume(leaves)
                return size if as_int else Prefix("(real)", size)
            case ApplyScalar("floordiv", (a, b)):
                return Infix("/", self.scalar(a, True), self.scalar(b, True))
            case ApplyScalar("floor" | "ceil"):
                return Prefix("(int64_t)" if as_int else "(real)", self.in_double(scalar))
            case ApplyScalar() if not as_int and self._reads_numbers(scalar):
                # `1 - decay` of a decay near one would be off by a thousandth in float.
                return Prefix("(real)", self.in_double(scalar))
            case ApplyScalar(function, arguments):
                parts = [self.scalar(a, as_int) for a in arguments]
                if function in SYMBOLS:
                    return Infix(SYMBOLS[function], parts[0], parts[1])
                if function == "neg":
                    return Prefix("-", parts[0])
                return Apply(f"R({MATH[function]})", tuple(parts))

    def _reads_numbers(self, scalar: Scalar) -> bool:
        """Whether a scalar depends on a hyperparameter that is no length."""
        numbers = (leaf.name for leaf in leaves(scalar) if isinstance(leaf, Hyper))
        return any(name not in self.size_argument_dims for name in numbers)

    # ---- rows in groups

    def group_row_range(self, group: Expr) -> tuple[Expr, Expr]:
        """The first sorted row of a group, and the end of its rows."""
        start = cir.dot(GROUPS, "start")
        return Element(start, group), Element(start, Infix("+", group, Number(1)))

    def row_declaration(self) -> Stmt:
        """The declaration of the row variable, for the sorted row number `place`."""
        assert self.nest.grouped_axis is not None
        row = Apply("ordered", (GROUPS_POINTER, Name("place")))
        return Declare("const int64_t", self.variables[self.nest.grouped_axis], row)

    def group_declaration(self) -> Stmt:
        """The declaration of the group variable, for the group of the current row."""
        assert self.nest.grouped_axis is not None and self.group_axis is not None
        row = Name(self.variables[self.nest.grouped_axis])
        group = Apply("group_of", (GROUPS_POINTER, row))
        return Declare("const int64_t", self.variables[self.group_axis], group)

    @staticmethod
    def dtype(to: Dtype) -> Expr:
        """The C constant of a dtype. A build defines those of tensors."""
        return Name(f"DTYPE_{to.name}" if to.like else to.name.upper())

    # ---- indexes of array elements

    def index(self, axes: Sequence[str], positions: Mapping[str, Expr]) -> Expr:
        """The flat index of an element in a contiguous array over `axes`.

        `positions` has the position along each axis. The position of a merged loop has the name of
        the first part with a star, and stands for all parts.
        """
        flat_index: Expr = Number(0)
        skipped = 0
        for number, axis in enumerate(axes):
            if skipped:
                skipped -= 1
                continue
            group = next((g for g in self.loops if len(g) > 1 and g[0] == axis), None)
            is_merged = group is not None and tuple(axes[number : number + len(group)]) == group
            if is_merged and group is not None and f"*{axis}" in positions:
                skipped = len(group) - 1
                size, position = self.volume(group), positions[f"*{axis}"]
            elif axis in positions:
                size, position = self.size(axis), positions[axis]
            else:
                raise AssertionError(f"no place along {axis}")
            flat_index = product(flat_index, size) if flat_index != Number(0) else flat_index
            flat_index = cir.total([term for term in (flat_index, position) if term != Number(0)])
        return flat_index

    def stride(self, axes: Sequence[str], group: tuple[str, ...]) -> Expr:
        """The stride of a loop in a contiguous array over `axes`, in elements."""
        last = list(axes).index(group[-1])
        return self.volume(axes[last + 1 :])


def _ranged(layouts: Sequence[Nest]) -> tuple[set[str], set[str]]:
    """The island axes of which a worker has a range: in all layouts, and only in layouts that loop
    over them."""
    looped = [{axis for group in n.loops if len(group) == 1 for axis in group} for n in layouts]
    ranged = [loops & set(n.islands) for n, loops in zip(layouts, looped)]
    everywhere = set.intersection(*ranged)
    fixed = {axis for loops, islands in zip(looped, ranged) for axis in loops - islands}
    return everywhere, set.union(*ranged) - everywhere - fixed


def axis_constants(program: Program) -> dict[str, str]:
    """The name of each axis in constants, by axis. It is in capitals, in which two may be equal."""
    names: dict[str, str] = {}
    for axis in program.axes:
        base = name = _identifier(axis.name).upper()
        number = 2
        while name in names.values():
            name, number = f"{base}_{number}", number + 1
        names[axis.name] = name
    return names


def _identifier(text: str) -> str:
    cleaned = re.sub(r"\W+", "_", text).strip("_")
    return f"_{cleaned}" if cleaned[:1].isdigit() else cleaned or "t"
