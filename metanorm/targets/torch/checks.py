"""What a call checks before it computes: ranks, lengths of axes, and pools of a single value."""

from __future__ import annotations

from metanorm.ir.aggregation import Blocks, Chunks, Interleave, Ones, matrix_text
from metanorm.ir.idle import is_idle, is_one_part
from metanorm.ir.momenta import counts_batches
from metanorm.ir.nodes import Divisible, Equal, InputDecl, Pool, Program, Several
from metanorm.ir.outputs import output_dims
from metanorm.ir.reachable import reachable
from metanorm.ir.scalar import Hyper, Scalar
from metanorm.ir.space import Space
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
    Return,
    Slice,
    Starred,
    Stmt,
    Subscript,
    Tuple,
    Unary,
)
from metanorm.targets.torch.elementwise import number_expr
from metanorm.targets.torch.layout import call, integer, method, plus


def count_batch() -> Stmt:
    """One batch more."""
    return Do(method(Name("self.num_batches_tracked"), "add_", integer(1)))


class CallChecks:
    """Prints the checks of one norm, over whole (unsplit) axes."""

    def __init__(self, program: Program, result: str) -> None:
        self.result = result
        self.program = program
        self.space = Space(program.axes)
        self.locals: set[str] = set()  # arguments of the constructor that a call may change
        self.known: dict[str, Expr] = {}  # lengths (shapes, for groups of axes) seen so far
        self.kept: dict[str, Expr] = {}  # those of what was made for a weight

    def fit_parameters(self) -> None:
        """Demand the lengths for which parameters and buffers have been made."""
        kept = [(p.name, p.dims) for p in self.program.params if not p.switches]
        kept += [(b.name, b.dims) for b in self.program.buffers if not b.tracked]
        for name, dims in kept:
            for place, dim in enumerate(dims):
                if self.space[dim].size is None:
                    self.kept.setdefault(dim, self._part(f"self.{name}", dims, place))

    def statements(self) -> list[Stmt]:
        """Shape checks, then the way out for an input without elements, then the rest."""
        done = self.shapes()
        done += self._no_elements(self.program.inputs[0])
        for check in self.program.checks:
            if isinstance(check, Several):
                done.append(self._several(check))
        return done

    def shapes(self) -> list[Stmt]:
        """Whether inputs have the axes that they should have, and these the lengths."""
        done: list[Stmt] = []
        for decl in self.program.inputs:
            if isinstance(decl.default, str):
                missing = Binary("is", (Name(decl.name), Literal(None)))
                done.append(If(missing, (Assign((Name(decl.name),), Name(decl.default)),)))
            done += self._input(decl)
        for check in self.program.checks:
            if isinstance(check, Divisible) and self.space[check.axis].size is None:
                done += self._divisible(check)
            elif isinstance(check, Equal):
                done += self._equal(check)
        return done

    # ---- shapes

    def _input(self, decl: InputDecl) -> list[Stmt]:
        x = Name(decl.name)
        shape = Attribute(x, "shape")
        if decl.sort == "edges":
            return [self._edges(x)]
        wrong: list[Expr] = []
        groups = [d for d in decl.dims if self.space[d].variadic]
        exact = self._exact(decl)
        if exact is not None:
            wrong.append(Binary("!=", (shape, exact)))
        else:
            wrong.append(self._rank(decl, groups))
            for place, dim in enumerate(decl.dims):
                wanted = self._wanted(dim)
                if wanted is not None:
                    part = self._part(decl.name, decl.dims, place)
                    wrong.append(Binary("!=", (part, wanted)))
        for place, dim in enumerate(decl.dims):
            self.known.setdefault(dim, self._part(decl.name, decl.dims, place))
        axes = ", ".join(f"*{d}" if self.space[d].variadic else d for d in decl.dims)
        sizes = {d: w for d in decl.dims if (w := self._demanded(d)) is not None}
        error = call(
            "runtime.shape_error", Name("self"), Literal(decl.name), Literal(axes), x, **sizes
        )
        condition = wrong[0] if len(wrong) == 1 else Binary("or", tuple(wrong))
        if not decl.required and not isinstance(decl.default, str):
            present = Binary("is not", (x, Literal(None)))
            condition = Binary("and", (present, condition))
        return [If(condition, (Raise(error),))]

    def _edges(self, edges: Name) -> Stmt:
        """Sources and targets, in two rows."""
        rank = Binary("!=", (method(edges, "dim"), integer(2)))
        rows = Subscript(Attribute(edges, "shape"), (integer(0),))
        wrong = Binary("or", (rank, Binary("!=", (rows, integer(2)))))
        error = call(
            "runtime.shape_error", Name("self"), Literal(edges.text), Literal("2, E"), edges
        )
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

    def _rank(self, decl: InputDecl, groups: list[str]) -> Expr:
        dim = method(Name(decl.name), "dim")
        single = len(decl.dims) - len(groups)
        free = [g for g in groups if self.space[g].size is None]
        fixed = [call("len", self._shape(g)) for g in groups if g not in free]
        least: Expr = integer(single)
        if fixed:
            least = Binary("+", (*fixed, least)) if single else fixed[0]
            least = least if len(fixed) == 1 or single else Binary("+", tuple(fixed))
        return Binary("<" if free else "!=", (dim, least))

    def _shape(self, axis: str) -> Expr:
        size = self.space[axis].size
        assert isinstance(size, Hyper)
        return Name(f"self.{size.name}")

    def _part(self, name: str, dims: tuple[str, ...], place: int) -> Expr:
        """The length of a dimension of a tensor, or the shape of a group of axes."""
        shape = Attribute(Name(name), "shape")
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
        return number_expr(scalar, self._length, "self.")

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
        return method(known, "numel") if self.space[axis].variadic else known

    # ---- the rest

    def _divisible(self, check: Divisible) -> list[Stmt]:
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
        one_part = is_one_part(check, self.program)
        local = Name(shown) if one_part else by
        bad: Expr = Binary("%", (size, local))
        if not isinstance(by, Literal):  # a number in the spec is known to be positive
            bad = Binary("or", (Binary("<", (local, integer(1))), bad))
        demand = If(bad, (Raise(error),))
        if not is_idle(check, self.program):
            return [demand]
        if not one_part:
            return [If(Unary("not ", self._evaluating(check)), (demand,))]
        whole = Assign((Name(shown),), size, "one part: nothing is pooled")
        self.locals.add(shown)
        return [Assign((Name(shown),), by), If(self._evaluating(check), (whole,), (demand,))]

    def _evaluating(self, check: Divisible) -> Expr:
        """Whether a call evaluates, with running statistics where these leave an axis idle."""
        evaluating = Unary("not ", Name("self.training"))
        if is_idle(check, self.program, keeps=False):
            return evaluating
        kept = next(b.name for b in self.program.buffers if b.tracked)
        there = Binary("is not", (Name(f"self.{kept}"), Literal(None)))
        return Binary("and", (evaluating, there))

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

    def _no_elements(self, first: InputDecl) -> list[Stmt]:
        x = Name(first.name)
        empty = Binary("==", (method(x, "numel"), integer(0)))
        parameters = call("self.parameters")
        first_result: Expr = call("runtime.no_elements", x, parameters)
        if not self.program.keeps_shape:
            first_result = method(first_result, "sum")
        done: list[Stmt] = []
        if counts_batches(self.program):  # torch counts such a batch, too
            there = Binary("is not", (Name("self.num_batches_tracked"), Literal(None)))
            counted = Binary("and", (Name("self.training"), there))
            done.append(If(counted, (count_batch(),)))
        if len(self.program.outputs) == 1:
            return [If(empty, (*done, Return(first_result)))]
        results: list[Expr] = [first_result]
        results += [self._zeros(x, *output) for output in self.program.outputs[1:]]
        result = call(self.result, *results)
        return [If(empty, (*done, Return(result)))]

    def _zeros(self, x: Name, name: str, ref: str) -> Expr:
        """A further output for an input without elements."""
        return method(x, "new_zeros", self.shape(output_dims(self.program, name, ref)))

    def _several(self, check: Several) -> Stmt:
        factors: list[Expr] = []
        shown = []
        for axis, matrix in check.over:
            star = "*" if self.space[axis].variadic else ""
            shown.append(
                f"{star}{axis}" if isinstance(matrix, Ones) else f"{axis}: {matrix_text(matrix)}"
            )
            size = self._length(axis)
            match matrix:
                case Blocks(count) | Interleave(count):
                    size = Binary("//", (size, self.number(count)))
                case Chunks(width):
                    size = self.number(width)
            factors.append(size)
        product = factors[0] if len(factors) == 1 else Binary("*", tuple(factors))
        arguments = (Name("self"), product, Literal(", ".join(shown)))
        demand = Do(call("runtime.demand_several", *arguments))
        if not check.tracked:
            evaluated = self._pooled_in_evaluation(check)
            return demand if evaluated else If(Name("self.training"), (demand,))
        kept = next(b.name for b in self.program.buffers if b.tracked)
        missing = Binary("is", (Name(f"self.{kept}"), Literal(None)))
        return If(Binary("or", (Name("self.training"), missing)), (demand,))

    def _pooled_in_evaluation(self, check: Several) -> bool:
        """Whether these pools, or others over some of the same axes, count in eval mode too."""
        wanted = {axis for axis, _ in check.over}
        reached = reachable(self.program, updates=False, evaluating=True)
        pools = [let.op for let in self.program.body if let.name in reached]
        return any(
            wanted & {self.space.base(axis) for axis, _ in op.over}
            for op in pools
            if isinstance(op, Pool)
        )
