"""What a call checks before it computes: ranks, lengths of axes, and pools of a single value."""

from __future__ import annotations

from metanorm.ir.aggregation import Blocks, Chunks, Interleave, Ones, grouping_text
from metanorm.ir.division import Division
from metanorm.ir.momenta import flag_alone_decides
from metanorm.ir.nodes import Divisible, Equal, InputDecl, MinimumPoolSize, Program
from metanorm.ir.reachable import pools_in_evaluation
from metanorm.ir.scalar import Hyper, Scalar
from metanorm.ir.unused_splits import is_single_part_in_evaluation, is_unused_in_evaluation
from metanorm.targets.python.pyir import (
    Assign,
    Attribute,
    Binary,
    Do,
    Expr,
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
from metanorm.targets.torch.elementwise import number_expr
from metanorm.targets.torch.layout import call, integer, method, plus


class CallChecks:
    """Prints the checks of one norm, over whole (unsplit) axes.

    What belongs to the module is called `{owner}name`. The shape of the first input, and whether
    a call takes statistics of its input where there are running ones, may have names of their own.
    """

    def __init__(
        self, program: Program, owner: str = "self.", shape: str = "", measuring: str = ""
    ) -> None:
        self.owner = owner
        self._measuring = Name(measuring)
        self.program = program
        self.space = program.index.space
        self.first_shape = shape
        self.known: dict[str, Expr] = {}  # lengths (shapes, for groups of axes) seen so far
        self.kept: dict[str, Expr] = {}  # those of what was made for a weight

    def fit_parameters(self) -> None:
        """Demand the lengths for which parameters and buffers have been made."""
        kept = [(p.name, p.dims) for p in self.program.params if not p.switches]
        kept += [(b.name, b.dims) for b in self.program.buffers if not b.tracked]
        for name, dims in kept:
            shape = Attribute(self._own(name), "shape")
            for place, dim in enumerate(dims):
                if self.space[dim].size is None:
                    self.kept.setdefault(dim, self._part(shape, dims, place))

    def statements(self) -> list[Stmt]:
        """Shape checks, then pools of a single value."""
        done = self.shapes()
        for check in self.program.checks:
            if isinstance(check, MinimumPoolSize) and not self._is_divided(check):
                done.append(self._several(check))
        return done

    def shapes(self) -> list[Stmt]:
        """Whether inputs have the axes that they should have, and these the lengths."""
        done: list[Stmt] = []
        if self.first_shape:
            first = Attribute(Name(self.program.inputs[0].name), "shape")
            done.append(Assign((Name(self.first_shape),), first))
        done += self._tensors()
        # What may be left out tells no length, and is compared with what does.
        for decl in sorted(self.program.inputs, key=lambda decl: not _is_there(decl)):
            done += self._input(decl)
        for check in self.program.checks:
            if isinstance(check, Divisible) and not self.space.is_fixed(check.axis):
                done.append(self._divisible(check))
            elif isinstance(check, Equal):
                done += self._equal(check)
        return done

    def defaults(self) -> list[Stmt]:
        """Inputs that are another one where they are not given."""
        done: list[Stmt] = []
        for decl in self.program.inputs:
            if isinstance(decl.default, str):
                missing = Binary("is", (Name(decl.name), Literal(None)))
                done.append(If(missing, (Assign((Name(decl.name),), Name(decl.default)),)))
        return done

    def idle(self) -> dict[str, list[Stmt]]:
        """Numbers of parts that evaluation does not need, each as what a call sets it to."""
        done: dict[str, list[Stmt]] = {}
        for check in self.program.checks:
            if isinstance(check, Divisible) and is_single_part_in_evaluation(check, self.program):
                assert isinstance(check.by, Hyper)
                parts = Name(check.by.name)
                whole = Assign((parts,), self._length(check.axis), "one part: nothing is pooled")
                evaluating: Expr = Unary("not ", self._own("training"))
                if not is_unused_in_evaluation(check, self.program, keeps=False):
                    there = Binary("is not", (self._tracked(), Literal(None)))
                    on = [self._flag()] if flag_alone_decides(self.program) else []
                    evaluating = Binary("and", (evaluating, *on, there))
                done[check.by.name] = [
                    Assign((parts,), self._own(check.by.name)),
                    If(evaluating, (whole,)),
                ]
        return done

    def measuring(self) -> Expr:
        """Whether a call takes statistics of its input where there are running ones."""
        missing = Binary("is", (self._tracked(), Literal(None)))
        off = [Unary("not ", self._flag())] if flag_alone_decides(self.program) else []
        return Binary("or", (self._own("training"), *off, missing))

    def _own(self, name: str) -> Name:
        """What belongs to the module."""
        return Name(f"{self.owner}{name}")

    def _flag(self) -> Name:
        return self._own("track_running_stats")

    def _tracked(self) -> Name:
        return self._own(next(b.name for b in self.program.buffers if b.tracked))

    # ---- shapes

    def _tensors(self) -> list[Stmt]:
        """Whether further inputs are tensors at all; `forward` has asked that of the first."""
        further = self.program.inputs[1:]
        required = {i.name: Name(i.name) for i in further if _is_there(i)}
        optional = {i.name: Name(i.name) for i in further if not _is_there(i)}
        owner = Literal(self.program.name)
        done: list[Stmt] = []
        for demand, names in (("tensors", required), ("tensors_or_none", optional)):
            if names:
                done.append(Do(call(f"runtime.demand_{demand}", owner, **names)))
        return done

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
        wrong: list[Expr] = []
        groups = [d for d in decl.dims if self.space[d].variadic]
        exact = self._exact(decl)
        if exact is not None:
            wrong.append(Binary("!=", (shape, exact)))
        else:
            wrong.append(self._rank(shape, decl, groups))
            for place, dim in enumerate(decl.dims):
                wanted = self._wanted(dim)
                if wanted is not None:
                    part = self._part(shape, decl.dims, place)
                    wrong.append(Binary("!=", (part, wanted)))
        if _is_there(decl):
            for place, dim in enumerate(decl.dims):
                self.known.setdefault(dim, self._part(shape, decl.dims, place))
        axes = ", ".join(f"*{d}" if self.space[d].variadic else d for d in decl.dims)
        sizes = {d: w for d in decl.dims if (w := self._demanded(d)) is not None}
        owner = Literal(self.program.name)
        error = call("runtime.shape_error", owner, Literal(decl.name), Literal(axes), x, **sizes)
        condition = wrong[0] if len(wrong) == 1 else Binary("or", tuple(wrong))
        if not _is_there(decl):
            present = Binary("is not", (x, Literal(None)))
            condition = Binary("and", (present, condition))
        return [If(condition, (Raise(error),))]

    def _edges(self, edges: Name) -> Stmt:
        """Sources and targets, in two rows."""
        rank = Binary("!=", (method(edges, "dim"), integer(2)))
        rows = Subscript(Attribute(edges, "shape"), (integer(0),))
        wrong = Binary("or", (rank, Binary("!=", (rows, integer(2)))))
        owner = Literal(self.program.name)
        error = call("runtime.shape_error", owner, Literal(edges.text), Literal("2, E"), edges)
        return If(wrong, (Raise(error),))

    def _exact(self, decl: InputDecl) -> Expr | None:
        """The whole shape, where earlier inputs have told every length."""
        if not decl.dims or any(d not in self.known for d in decl.dims):
            return None
        parts: list[Expr] = []
        for dim in decl.dims:
            known = self.known[dim]
            parts.append(Starred(known) if self.space[dim].variadic else known)
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
        return self._own(size.name)

    def _part(self, shape: Expr, dims: tuple[str, ...], place: int) -> Expr:
        """The length of a dimension of a tensor, or the shape of a group of axes."""
        before, after = dims[:place], dims[place + 1 :]
        groups_before = [d for d in before if self.space[d].variadic]
        groups_after = [d for d in after if self.space[d].variadic]
        if not self.space[dims[place]].variadic:
            if groups_before and groups_after:
                rank = call("len", self._shape(groups_before[0]))
                return Subscript(shape, (Binary("+", (rank, integer(len(before) - 1))),))
            index = place - len(dims) if groups_before else place
            return Subscript(shape, (integer(index),))
        start: Expr | None = integer(len(before)) if before else None
        stop: Expr | None = integer(-len(after)) if after else None
        if groups_before:
            rank = call("len", self._shape(dims[place]))
            start = plus(Unary("-", rank), -len(after))
        elif groups_after:
            rank = call("len", self._shape(groups_after[0]))
            stop = plus(Unary("-", rank), 1 - len(after))
        return Subscript(shape, (Slice(start, stop),)) if start or stop else shape

    def _wanted(self, axis: str) -> Expr | None:
        """What the constructor or an earlier input says of an axis."""
        return self._demanded(axis) or self.known.get(axis)

    def _demanded(self, axis: str) -> Expr | None:
        return self._argument(axis) or self.kept.get(axis)

    def _argument(self, axis: str) -> Expr | None:
        size = self.space[axis].size
        if size is None or (self.space[axis].variadic and not isinstance(size, Hyper)):
            return None
        return self.number(size)

    def number(self, scalar: Scalar) -> Expr:
        """A number, once the inputs are checked: lengths are those of inputs and arguments."""
        return number_expr(scalar, self._length, self.owner)

    def shape(self, dims: tuple[str, ...]) -> Tuple:
        """The shape of a tensor on these axes, once the inputs are checked."""
        parts: list[Expr] = []
        for dim in dims:
            if self.space[dim].variadic:
                parts.append(Starred(self.known.get(dim) or self._shape(dim)))
            else:
                parts.append(self._length(dim))
        return Tuple(tuple(parts))

    def _length(self, axis: str) -> Expr:
        known = self.known.get(axis)
        if known is None:
            argument = self._argument(axis)
            assert argument is not None, axis
            return argument
        return call("runtime.numel", known) if self.space[axis].variadic else known

    # ---- the rest

    def _divisible(self, check: Divisible) -> Stmt:
        size, by = self._length(check.axis), self.number(check.by)
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
            bad = Binary("and", (self._own("training") if always else self._measuring, bad))
        return If(bad, (Raise(error),))

    def _equal(self, check: Equal) -> list[Stmt]:
        first, second = self._length(check.first), self._length(check.second)
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
        """Whether pools lie on several processes: then none of them knows how many values these
        hold before all have been asked."""
        division = Division(self.program)
        return any(division.divides(axis) for axis, _ in check.over)

    def _several(self, check: MinimumPoolSize) -> Stmt:
        factors: list[Expr] = []
        shown = []
        for axis, matrix in check.over:
            star = "*" if self.space[axis].variadic else ""
            shown.append(
                f"{star}{axis}" if isinstance(matrix, Ones) else f"{axis}: {grouping_text(matrix)}"
            )
            size = self._length(axis)
            match matrix:
                case Blocks(count) | Interleave(count):
                    size = Binary("//", (size, self.number(count)))
                case Chunks(width):
                    size = self.number(width)
            factors.append(size)
        product = factors[0] if len(factors) == 1 else Binary("*", tuple(factors))
        first = Name(self.program.inputs[0].name)
        arguments = (Literal(self.program.name), first, product, Literal(", ".join(shown)))
        demand = Do(call("runtime.demand_several", *arguments))
        if not check.tracked:
            evaluated = pools_in_evaluation(self.program, check.over)
            return demand if evaluated else If(self._own("training"), (demand,))
        return If(self._measuring, (demand,))


def _is_there(decl: InputDecl) -> bool:
    """Whether an input has come with a call, or another one in its place."""
    return decl.required or isinstance(decl.default, str)
