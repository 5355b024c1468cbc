"""The program under construction: declarations, bindings, and the scope of each norm in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from metanorm.diagnostics.calls import CallMismatch
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.aggregation import Grouping
from metanorm.ir.nodes import Input, Let, Map, Number, Op, Pool, Ref, Type
from metanorm.ir.program import Argument, BufferDecl, Check, InputDecl, ParamDecl, Switch, Update
from metanorm.ir.rename import map_operands
from metanorm.ir.scalar import Const, Scalar
from metanorm.ir.typing import Declarations, type_of
from metanorm.semantics.axes import AxisTable
from metanorm.semantics.values import NameTable, Tensor
from metanorm.source import Span
from metanorm.syntax import ast

UNKNOWN = "unknown"  # the sort of a hyperparameter whose declared sort is none, and reported


@dataclass(frozen=True)
class CallableNorm:
    """A norm that can be called: its equations, `None` if it has errors, and what it can call."""

    equations: ast.Norm | None
    others: Mapping[str, CallableNorm]


@dataclass
class CallScope:
    """One norm while it is lowered: the one that is compiled, or one that it calls.

    A called norm is lowered in place. `axes` maps its axes to those of the program, and `prefix`
    begins the names of its parameters and values; `axes` of the norm that is compiled is `None`.
    """

    norm: ast.Norm
    names: NameTable
    hypers: dict[str, Scalar] = field(default_factory=dict)
    hyper_sorts: dict[str, str] = field(default_factory=dict)
    axes: dict[str, tuple[str, ...]] | None = None
    prefix: str = ""
    fixed_switches: dict[str, bool] = field(default_factory=dict)  # those that the call sets
    switched: set[str] = field(default_factory=set)  # switches that have something to turn off
    call_path: tuple[str, ...] = ()  # the norms that called each other, down to this one
    call_spans: tuple[Span, ...] = ()  # where they did
    introduced_later: dict[str, Span] = field(default_factory=dict)  # names of later statements
    names_of_call: frozenset[str] = frozenset()  # what an entry cannot read of its norm
    let_name: str = ""  # the `let` that is being lowered
    let_call: ast.Expr | None = None  # its value, where that is a call and nothing else
    let_scopes: dict[str, CallScope] = field(default_factory=dict)  # callees by the `let` they are
    first_call: CallScope | None = None  # an earlier call, whose parameters this one shares
    callable_norms: Mapping[str, CallableNorm] = field(default_factory=dict)
    inner_scopes: list[CallScope] = field(default_factory=list)  # the calls it makes, in order
    failed: bool = True  # whether it has no value, because of an error in it
    affine_params: list[str] = field(default_factory=list)  # parameters of its `affine`, in order
    param_names: dict[str, str] = field(default_factory=dict)  # name in the spec to the program's
    first_output: ast.Expr | None = None  # the first output, while it is lowered

    @property
    def is_called(self) -> bool:
        """Whether another norm calls this one, which sets its switches."""
        return self.axes is not None

    def leaves_out(self, switch: str, is_off: bool) -> bool:
        """Whether a call leaves out what a switch turns on, which is off by default if `is_off`."""
        return self.is_called and not self.fixed_switches.get(switch, not is_off)


class Lowering:
    """Everything that ends up in the program."""

    def __init__(self, problems: Collector) -> None:
        self.problems = problems
        self.table = AxisTable(problems)
        self.target = "activation"  # the target of the compiled norm
        self.is_entry = False  # whether it is a further method of a norm
        self.inputs: list[InputDecl] = []
        self.params: list[ParamDecl] = []
        # Computed initial values, by parameter or buffer: of the weight, and of the first batch.
        self.initializers: dict[str, Ref] = {}
        self.first_batch_values: dict[str, Ref] = {}
        self.buffers: list[BufferDecl] = []
        self.switches: list[Switch] = []
        self.flags: list[Argument] = []  # comparisons of hyperparameters that are strings
        self.opposites: dict[Ref, Tensor] = {}  # by one less a flag: the flag
        self.updates: list[Update] = []
        self.checks: list[Check] = []
        self.counted_pools: list[dict[str, Grouping]] = []  # the pools of `count`
        self.body: list[Let] = []
        self.ops: dict[Ref, Op] = {}
        self.types: dict[Ref, Type] = {}
        self.spans: dict[Ref, Span] = {}
        self.known_orders: dict[Ref, tuple[str, ...]] = {}  # of dimensions, by `OutputOrders`
        self.divisors: list[tuple[Ref, Span]] = []
        self.samples: tuple[str, ...] = ()  # `leading_axis` of the first input
        # The axes of `let d[N, C]`, in that order
        self.written_axes: dict[Ref, tuple[str, ...]] = {}
        self.running_statistics: dict[str, Tensor] = {}  # running statistics, by buffer
        self.tracked_prefixes: dict[tuple[object, ...], str] = {}  # prefixes of tracked statistics
        self.tracked_by_name: dict[str, tuple[object, ...]] = {}  # tracked statistics, by buffer
        self.always_true: set[Ref] = set()  # masks that are known to be true everywhere
        # Each value to the first binding that computes the same
        self.first_equal: dict[Ref, Ref] = {}
        self._firsts: dict[Op, Ref] = {}
        self._leaves: dict[Op, Tensor] = {}
        self._count = 0
        self._loops = 0  # that are open

    def declarations(self) -> Declarations:
        """The declarations so far."""
        return Declarations(self.table.space, self.inputs, self.params, self.buffers)

    def emit(self, op: Op, span: Span, name: str = "") -> Tensor:
        """Bind an operation. Scalars and inputs are bound once."""
        if op in self._leaves:
            return self._leaves[op]
        self._count += 1
        if not name or name.startswith("%"):  # `%new_mean` says what a nameless value is for
            name = f"{name}.{self._count}" if name else f"%{self._count}"
        if name in self.types:  # a running statistic and a value of one name: reported later
            name = f"%{self._count}"
        type_ = type_of(op, self.types, self.declarations())
        self.body.append(Let(name, op, type_, span))
        self.ops[name] = op
        self.types[name] = type_
        self.spans[name] = span
        self.first_equal[name] = self._firsts.setdefault(map_operands(op, self.first_equal), name)
        tensor = Tensor(name, type_)
        if isinstance(op, (Number, Input)):
            self._leaves[op] = tensor
        return tensor

    def operation(self, value: Tensor) -> Op | None:
        """The operation of a value; `None` for one from outside of the current `repeat`."""
        return next((let.op for let in reversed(self.body) if let.name == value.ref), None)

    def enter_body(self) -> tuple[list[Let], dict[Op, Tensor]]:
        """Begin the body of a `repeat`: further bindings are local to it."""
        outer = self.body, dict(self._leaves)
        self.body = []
        self._loops += 1
        return outer

    def leave_body(self, outer: tuple[list[Let], dict[Op, Tensor]]) -> tuple[Let, ...]:
        """End the body of a `repeat`; returns its bindings."""
        steps = tuple(self.body)
        self.body, self._leaves = outer
        self._loops -= 1
        return steps

    @property
    def in_loop(self) -> bool:
        """Whether what is lowered stands in a `repeat`."""
        return self._loops > 0

    def number(self, value: float | Scalar, span: Span) -> Tensor:
        """A scalar."""
        scalar = Const(float(value)) if isinstance(value, (int, float)) else value
        return self.emit(Number(scalar), span)

    def map(self, function: str, *arguments: Tensor, span: Span) -> Tensor:
        """An elementwise function."""
        mapped = self.emit(Map(function, tuple(a.ref for a in arguments)), span)
        self._report_two_pieces(mapped, arguments, span)
        return mapped

    def _report_two_pieces(self, mapped: Tensor, operands: Sequence[Tensor], span: Span) -> None:
        """Report operands on two runs of one axis: all pairs of positions are hardly meant."""
        by_whole: dict[str, list[str]] = {}
        for axis in mapped.type.axes:
            piece_of = self.table.space[axis].piece_of
            if piece_of is not None:
                by_whole.setdefault(piece_of[0], []).append(axis)
        for whole, pieces in by_whole.items():
            if len(pieces) > 1 and not any(set(pieces) <= {*o.type.axes} for o in operands):
                first, second = pieces[:2]
                renamed = f"`x[{second}][{second} -> {first}]`"
                hint = f"call one as the other, where it is as long: {renamed}"
                actual = f"values on `{first}` and on `{second}`"
                self.problems.add(WrongKind(span, actual, f"one run of axis `{whole}`", hint))

    def rename(self, tensor: Tensor, name: str) -> Tensor:
        """Give the last binding the name that the spec has for it."""
        last = self.body[-1] if self.body else None
        if last is None or last.name != tensor.ref or not tensor.ref.startswith("%"):
            return tensor
        if name in self.types or isinstance(last.op, Number):
            return tensor
        self.body[-1] = replace(last, name=name)
        self.ops[name] = self.ops.pop(tensor.ref)
        self.types[name] = self.types.pop(tensor.ref)
        self.spans[name] = self.spans.pop(tensor.ref)
        self.first_equal[name] = self.first_equal.pop(tensor.ref)
        self.divisors = [(name if r == tensor.ref else r, s) for r, s in self.divisors]
        renamed = Tensor(name, tensor.type)
        self.running_statistics = {
            b: renamed if t == tensor else t for b, t in self.running_statistics.items()
        }
        return renamed

    def report_shared(self, scope: CallScope, name: str, dims: tuple[str, ...]) -> None:
        """Report a value that lacks axes on which a shared parameter lives."""
        shown = ", ".join(self.table.shown(axis) for axis in dims)
        reason = f"its parameter `{name}` lives on [{shown}] in the first call, and elsewhere here"
        hint = f"give it a norm of its own: `{scope.norm.name.name}(...)`"
        problem = CallMismatch(scope.call_spans[-1], scope.norm.name.name, reason, hint=hint)
        self.problems.add(problem)

    def unique(self, name: str) -> str:
        """The name, with a number if a binding or declaration has it already."""
        state_names = {*(p.name for p in self.params), *(b.name for b in self.buffers)}
        candidate, number = name, 2
        while candidate in self.types or candidate in state_names:
            candidate, number = f"{name}_{number}", number + 1
        return candidate

    def dims(self, axes: Sequence[str]) -> tuple[str, ...]:
        """Axes as tensor dimensions: a split axis in place of all of its parts."""
        return self.table.space.unsplit(axes)

    def has_offsets(self, ref: Ref) -> bool:
        """Whether a value is the segment of each position, from an input of sort `offsets`."""
        return any(decl.name == ref and decl.offsets for decl in self.inputs)

    def pools(self) -> list[Pool]:
        """The statistics bound so far."""
        return [let.op for let in self.body if isinstance(let.op, Pool)]
