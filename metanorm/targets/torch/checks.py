"""Print the checks of a call: ranks, lengths of axes, and variances of a single value."""

from __future__ import annotations

from metanorm.ir.aggregation import Ones, grouping_text, pool_size
from metanorm.ir.division import Division
from metanorm.ir.momenta import flag_alone_decides
from metanorm.ir.program import Divisible, Equal, Holds, InputDecl, MinimumPoolSize, Program
from metanorm.ir.reachable import pools_in_evaluation
from metanorm.ir.scalar import Hyper, Scalar, SizeOf
from metanorm.ir.unused_splits import is_single_part_in_evaluation, is_unused_in_evaluation
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Expr,
    ExprStmt,
    If,
    Literal,
    Name,
    Raise,
    Slice,
    Starred,
    Stmt,
    Subscript,
    Tuple,
    Unary,
)
from metanorm.targets.torch.cell_counts import cell_count
from metanorm.targets.torch.elementwise import number_expr
from metanorm.targets.torch.layout import call, integer, method, plus


class CallChecks:
    """Prints the checks of one norm, over unsplit axes.

    An attribute of the module is printed as `{owner}name`. `shape` and `measuring` name the
    variables that hold the shape of the first input, and whether the call computes statistics of
    its input although the module has running statistics.
    """

    def __init__(
        self, program: Program, owner: str = "self.", shape: str = "", measuring: str = ""
    ) -> None:
        self.owner = owner
        self._measuring = Name(measuring)
        self.program = program
        self.space = program.index.space
        self.first_shape = shape
        self.seen_lengths: dict[str, Expr] = {}  # by axis; for a group of axes, its shape
        self.parameter_lengths: dict[
            str, Expr
        ] = {}  # lengths of parameters that were created for a weight

    def record_parameter_lengths(self) -> None:
        """Also check inputs against the lengths of existing parameters and buffers."""
        tensors = [(p.name, p.dims) for p in self.program.params if not p.switches]
        tensors += [(b.name, b.dims) for b in self.program.buffers if not b.tracked]
        for name, dims in tensors:
            shape = Attribute(self._module_attribute(name), "shape")
            for index, dim in enumerate(dims):
                if self.space[dim].size is None:
                    self.parameter_lengths.setdefault(dim, self.length_in_shape(shape, dims, index))

    def statements(self) -> list[Stmt]:
        """All checks: shapes first, then the minimum sizes of pools."""
        statements = self.shapes()
        for check in self.program.checks:
            if isinstance(check, MinimumPoolSize) and not self._is_divided(check):
                statements.append(self._minimum_pool_size(check))
        return statements

    def shapes(self) -> list[Stmt]:
        """The checks that inputs have the right ranks and lengths."""
        statements: list[Stmt] = []
        if self.first_shape:
            first = Attribute(Name(self.program.inputs[0].name), "shape")
            statements.append(Assign((Name(self.first_shape),), first))
        statements += self._tensors()
        # Required inputs define the lengths of axes; optional ones are compared with them.
        for decl in sorted(self.program.given_inputs, key=lambda decl: not _is_always_given(decl)):
            statements += self._input(decl)
        for check in self.program.checks:
            if isinstance(check, Divisible) and not self.space.is_fixed(check.axis):
                statements.append(self._divisible(check))
            elif isinstance(check, Equal):
                statements += self._equal(check)
            elif isinstance(check, Holds) and not self.space.is_fixed(check.axis):
                size, length = self.length(check.axis), self.number(check.length)
                statements.append(holds(self.program.name, check.axis, size, length))
        return statements

    def defaults(self) -> list[Stmt]:
        """The statements that replace a missing input by the input that is its default."""
        statements: list[Stmt] = []
        for decl in self.program.given_inputs:
            if isinstance(decl.default, str):
                missing = Binary("is", (Name(decl.name), Literal(None)))
                statements.append(If(missing, (Assign((Name(decl.name),), Name(decl.default)),)))
        return statements

    def idle(self) -> dict[str, list[Stmt]]:
        """For each number of parts that evaluation does not need, the statements that set it."""
        statements: dict[str, list[Stmt]] = {}
        for check in self.program.checks:
            if isinstance(check, Divisible) and is_single_part_in_evaluation(check, self.program):
                assert isinstance(check.by, Hyper)
                parts = Name(check.by.name)
                one_part = Assign((parts,), self.length(check.axis), "one part: nothing is pooled")
                evaluating: Expr = Unary("not ", self._module_attribute("training"))
                if not is_unused_in_evaluation(check, self.program, keeps=False):
                    has_running_statistics = Binary("is not", (self._tracked(), Literal(None)))
                    on = [self._flag()] if flag_alone_decides(self.program) else []
                    evaluating = Binary("and", (evaluating, *on, has_running_statistics))
                statements[check.by.name] = [
                    Assign((parts,), self._module_attribute(check.by.name)),
                    If(evaluating, (one_part,)),
                ]
        return statements

    def measuring(self) -> Expr:
        """Whether a call computes statistics of its input instead of using running ones."""
        missing = Binary("is", (self._tracked(), Literal(None)))
        off = [Unary("not ", self._flag())] if flag_alone_decides(self.program) else []
        return Binary("or", (self._module_attribute("training"), *off, missing))

    def _module_attribute(self, name: str) -> Name:
        """An attribute of the module."""
        return Name(f"{self.owner}{name}")

    def _flag(self) -> Name:
        return self._module_attribute("track_running_stats")

    def _tracked(self) -> Name:
        return self._module_attribute(next(b.name for b in self.program.buffers if b.tracked))

    # ---- shapes

    def _tensors(self) -> list[Stmt]:
        """The checks that further inputs are tensors. `forward` checks the first input."""
        further = self.program.given_inputs[1:]
        required = {i.name: Name(i.name) for i in further if _is_always_given(i)}
        optional = {i.name: Name(i.name) for i in further if not _is_always_given(i)}
        owner = Literal(self.program.name)
        statements: list[Stmt] = []
        for demand, names in (("tensors", required), ("tensors_or_none", optional)):
            if names:
                statements.append(ExprStmt(call(f"runtime.demand_{demand}", owner, **names)))
        return statements

    def _shape_of(self, name: str) -> Expr:
        """The shape of an input."""
        if self.first_shape and name == self.program.inputs[0].name:
            return Name(self.first_shape)
        return Attribute(Name(name), "shape")

    def _input(self, decl: InputDecl) -> list[Stmt]:
        x = Name(decl.name)
        shape = self._shape_of(decl.name)
        if decl.sort == "edges":
            return [self._edges(x)]
        if decl.offsets or decl.of_piece:  # what calls the function sees to them
            return []
        mismatches: list[Expr] = []
        groups = [d for d in decl.dims if self.space[d].variadic]
        exact = self._exact_shape(decl)
        if exact is not None:
            mismatches.append(Binary("!=", (shape, exact)))
        else:
            mismatches.append(self._rank(shape, decl, groups))
            for index, dim in enumerate(decl.dims):
                expected = self._expected_length(dim)
                if expected is not None:
                    part = self.length_in_shape(shape, decl.dims, index)
                    mismatches.append(Binary("!=", (part, expected)))
        if _is_always_given(decl):
            for index, dim in enumerate(decl.dims):
                self.seen_lengths.setdefault(dim, self.length_in_shape(shape, decl.dims, index))
        axes = ", ".join(f"*{d}" if self.space[d].variadic else d for d in decl.dims)
        sizes = {d: w for d in decl.dims if (w := self._fixed_length(d)) is not None}
        owner = Literal(self.program.name)
        error = call("runtime.shape_error", owner, Literal(decl.name), Literal(axes), x, **sizes)
        condition = mismatches[0] if len(mismatches) == 1 else Binary("or", tuple(mismatches))
        if not _is_always_given(decl):
            present = Binary("is not", (x, Literal(None)))
            condition = Binary("and", (present, condition))
        return [If(condition, (Raise(error),))]

    def _edges(self, edges: Name) -> Stmt:
        """The check that an edge list has the shape `[2, E]`."""
        rank = Binary("!=", (method(edges, "dim"), integer(2)))
        rows = Subscript(Attribute(edges, "shape"), (integer(0),))
        wrong = Binary("or", (rank, Binary("!=", (rows, integer(2)))))
        owner = Literal(self.program.name)
        error = call("runtime.shape_error", owner, Literal(edges.text), Literal("2, E"), edges)
        return If(wrong, (Raise(error),))

    def _exact_shape(self, decl: InputDecl) -> Expr | None:
        """The exact shape of an input, if earlier inputs define the length of every axis."""
        if not decl.dims or any(d not in self.seen_lengths for d in decl.dims):
            return None
        parts: list[Expr] = []
        for dim in decl.dims:
            length = self.seen_lengths[dim]
            parts.append(Starred(length) if self.space[dim].variadic else length)
        return Tuple(tuple(parts))

    def _rank(self, shape: Expr, decl: InputDecl, groups: list[str]) -> Expr:
        rank = call("len", shape) if isinstance(shape, Name) else method(Name(decl.name), "dim")
        single = len(decl.dims) - len(groups)
        free = [g for g in groups if self.space[g].size is None]
        fixed = [call("len", self._shape(g)) for g in groups if g not in free]
        least: Expr = integer(single)
        if fixed:
            least = Binary("+", (*fixed, least)) if single else fixed[0]
            least = least if len(fixed) == 1 or single else Binary("+", tuple(fixed))
        return Binary("<" if free else "!=", (rank, least))

    def _shape(self, axis: str) -> Expr:
        size = self.space[axis].size
        assert isinstance(size, Hyper)
        return self._module_attribute(size.name)

    def length_in_shape(self, shape: Expr, dims: tuple[str, ...], index: int) -> Expr:
        """The length of a dimension of a tensor, or the shape of a group of axes."""
        before, after = dims[:index], dims[index + 1 :]
        groups_before = [d for d in before if self.space[d].variadic]
        groups_after = [d for d in after if self.space[d].variadic]
        if not self.space[dims[index]].variadic:
            if groups_before and groups_after:
                rank = call("len", self._shape(groups_before[0]))
                return Subscript(shape, (Binary("+", (rank, integer(len(before) - 1))),))
            position = index - len(dims) if groups_before else index
            return Subscript(shape, (integer(position),))
        start: Expr | None = integer(len(before)) if before else None
        stop: Expr | None = integer(-len(after)) if after else None
        if groups_before:
            rank = call("len", self._shape(dims[index]))
            start = plus(Unary("-", rank), -len(after))
        elif groups_after:
            rank = call("len", self._shape(groups_after[0]))
            stop = plus(Unary("-", rank), 1 - len(after))
        return Subscript(shape, (Slice(start, stop),)) if start or stop else shape

    def _expected_length(self, axis: str) -> Expr | None:
        """The length of an axis according to the constructor or an earlier input."""
        return self._fixed_length(axis) or self.seen_lengths.get(axis)

    def _fixed_length(self, axis: str) -> Expr | None:
        return self._length_from_constructor(axis) or self.parameter_lengths.get(axis)

    def _length_from_constructor(self, axis: str) -> Expr | None:
        size = self.space[axis].size
        if size is None or (self.space[axis].variadic and not isinstance(size, Hyper)):
            return None
        return self.number(size)

    def number(self, scalar: Scalar) -> Expr:
        """A scalar as an expression. It is valid after the shape checks."""
        return number_expr(scalar, self.length, self.owner)

    def shape(self, dims: tuple[str, ...]) -> Tuple:
        """The shape of a tensor on these axes. It is valid after the shape checks."""
        parts: list[Expr] = []
        for dim in dims:
            if self.space[dim].variadic:
                parts.append(Starred(self.seen_lengths.get(dim) or self._shape(dim)))
            else:
                parts.append(self.length(dim))
        return Tuple(tuple(parts))

    def length(self, axis: str) -> Expr:
        """The length of an axis, or how many cells it enumerates. It is valid after the shape
        checks."""
        if (cells_of := self.space[axis].cells_of) is not None:
            return cell_count(cells_of, self.number, self._groups)
        length = self.seen_lengths.get(axis)
        if length is None:
            argument = self._length_from_constructor(axis)
            assert argument is not None, axis
            return argument
        return call("runtime.numel", length) if self.space[axis].variadic else length

    def _groups(self, index: str) -> Expr:
        """The groups of an index, in the function of the norm."""
        decl = self.program.index.inputs[index]
        count = Name(f"{index}_size") if decl.table is None else self.length(decl.table)
        return call("runtime.Groups", Name(index), count, self.length(decl.dims[0]))

    # ---- the rest

    def _divisible(self, check: Divisible) -> Stmt:
        size, by = self.length(check.axis), self.number(check.by)
        shown = by.text.removeprefix("self.") if isinstance(by, Name) else "parts"
        arguments = (
            Literal(self.program.name),
            Literal(check.axis),
            size,
            Literal(shown),
            by,
        )
        error = call("runtime.not_divisible", *arguments)
        bad: Expr = Binary("%", (size, by))
        if not isinstance(by, Literal):  # a number in the spec is known to be positive
            bad = Binary("or", (Binary("<", (by, integer(1))), bad))
        if is_single_part_in_evaluation(
            check, self.program
        ):  # a batch of no samples is one part of length zero
            bad = Binary("and", (size, bad))
        elif is_unused_in_evaluation(check, self.program):
            always = is_unused_in_evaluation(check, self.program, keeps=False)
            bad = Binary(
                "and", (self._module_attribute("training") if always else self._measuring, bad)
            )
        return If(bad, (Raise(error),))

    def _equal(self, check: Equal) -> list[Stmt]:
        first, second = self.length(check.first), self.length(check.second)
        error = call(
            "runtime.not_equal",
            Literal(self.program.name),
            Literal(check.first),
            first,
            Literal(check.second),
            second,
        )
        return [If(Binary("!=", (first, second)), (Raise(error),))]

    def _is_divided(self, check: MinimumPoolSize) -> bool:
        """Whether pools are divided among processes. Then the size of a pool is known only after
        communication, and this check is left out."""
        division = Division(self.program)
        return any(division.divides(axis) for axis, _ in check.over)

    def _minimum_pool_size(self, check: MinimumPoolSize) -> Stmt:
        factors: list[Expr] = []
        shown = []
        for axis, matrix in check.over:
            star = "*" if self.space[axis].variadic else ""
            shown.append(
                f"{star}{axis}" if isinstance(matrix, Ones) else f"{axis}: {grouping_text(matrix)}"
            )
            factors.append(self.number(pool_size(matrix, SizeOf(axis))))
        product = factors[0] if len(factors) == 1 else Binary("*", tuple(factors))
        first = Name(self.program.inputs[0].name)
        arguments = (Literal(self.program.name), first, product, Literal(", ".join(shown)))
        demand = ExprStmt(call("runtime.demand_several", *arguments))
        if not check.tracked:
            evaluated = pools_in_evaluation(self.program, check.over)
            return demand if evaluated else If(self._module_attribute("training"), (demand,))
        return If(self._measuring, (demand,))


def _is_always_given(decl: InputDecl) -> bool:
    """Whether an input is never `None`: it is required, or another input is its default."""
    return decl.required or isinstance(decl.default, str)


def holds(owner: str, axis: str, size: Expr, length: Expr) -> Stmt:
    """The check that an axis has room for its runs of given length."""
    return ExprStmt(call("runtime.demand_room", Literal(owner), Literal(axis), size, length))
