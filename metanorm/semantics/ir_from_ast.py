"""A checked norm as a program: AST in equations to typed, unoptimised IR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from metanorm.diagnostics.axes import OutputAxes
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.names import DuplicateName
from metanorm.diagnostics.structure import NoInput, UnknownTarget
from metanorm.ir.batch import leading_axis
from metanorm.ir.draws import with_drawn_inputs
from metanorm.ir.initializers import with_initializers
from metanorm.ir.momenta import with_named_momenta
from metanorm.ir.program import FOR_WEIGHTS, Argument, Check, InputDecl, MinimumPoolSize, Program
from metanorm.ir.stated import StatedPass
from metanorm.semantics.backward_pass import BackwardLowering, backward_block, with_backward
from metanorm.semantics.calls import Calls
from metanorm.semantics.crossing_groups import report_crossing_segments
from metanorm.semantics.draws import report_draws
from metanorm.semantics.entries import (
    check_adds_nothing,
    check_entries,
    entries_of,
    norm_of_entry,
    note_uses,
    share_axes,
    share_hypers,
    share_names,
    with_what_it_reads,
)
from metanorm.semantics.hyperparameters import HyperparameterLowering, check_matrix_axes
from metanorm.semantics.integer_inputs import with_integer_inputs
from metanorm.semantics.lints import lint
from metanorm.semantics.lowering import CallableNorm, CallScope, Lowering
from metanorm.semantics.name_clashes import report_momentum_clashes, report_name_clashes
from metanorm.semantics.open_lengths import report_open_lengths
from metanorm.semantics.outputs import NormOutput
from metanorm.semantics.pieces import cut_axis
from metanorm.semantics.reserved import check_name
from metanorm.semantics.statements import Statements
from metanorm.semantics.target_checks import check_target
from metanorm.semantics.values import (
    EntityRole,
    Moments,
    NameTable,
    PoolOnly,
    Tensor,
)
from metanorm.source import Span
from metanorm.syntax import ast

TARGETS = (*FOR_WEIGHTS, "loss")


@dataclass(frozen=True)
class NamedValue:
    """What a name of a norm denotes: what introduces it, its axes as written, and its sort."""

    role: EntityRole
    axes: tuple[str, ...]
    sort: str  # "real", "bool", "int", "moments", "edges" or "a matrix"


@dataclass(frozen=True)
class Lowered:
    """The program of a norm, `None` if it has errors, and its names without errors."""

    program: Program | None
    values: Mapping[str, NamedValue]


def ir_from_ast(
    norm: ast.Norm, callable_norms: Mapping[str, CallableNorm], problems: Collector
) -> Lowered:
    """Lower a norm, whose clauses are equations by now, to a program."""
    own_problems = Collector()
    lowering = _Norm(norm, callable_norms, own_problems)
    program = lowering.program()
    problems.extend(own_problems.sorted())
    return Lowered(None if own_problems.has_errors else program, lowering.values())


class _Norm:
    def __init__(
        self,
        norm: ast.Norm,
        callable_norms: Mapping[str, CallableNorm],
        problems: Collector,
        outer: _Norm | None = None,
    ) -> None:
        self.norm = norm
        self.problems = problems
        self.low = Lowering(problems)
        self.scope = CallScope(norm, NameTable(problems), call_path=(norm.name.name,))
        self.scope.introduced_later = _introduction_spans(norm)
        self.statements = Statements(self.low, self.scope)
        self.arguments: list[Argument] = []
        self.callable_norms = callable_norms
        self.outer = outer  # the norm that an entry belongs to
        Calls(self.low).enable(self.statements, callable_norms)

    def program(self) -> Program | None:
        if self.outer is None:
            check_name(self.norm.name, self.problems)
        else:
            share_axes(self.low, self.outer.low)
        target = self.low.target = self._target()
        self.low.table.on_weight = target in FOR_WEIGHTS
        items = [i for s in self.norm.statements if isinstance(s, ast.Input) for i in s.items]
        if self.outer is None:
            self.arguments = HyperparameterLowering(self.low, self.scope).declare(self.norm.hypers)
        else:
            self.arguments = self.outer.arguments
            share_hypers(self.low, self.scope, self.outer.scope)
        if not items:
            self.problems.add(NoInput(self.norm.name.span, self.norm.name.name))
            return None
        self.low.table.input_span = items[0].span
        self.statements.inputs.note_lengths(items)
        for position, item in enumerate(items):
            self.statements.inputs.declare(item, position == 0)
        for statement in self.norm.statements:
            if isinstance(statement, ast.AxisSplit):
                self.low.table.split(statement, self.scope.hypers)
                for part in statement.parts:
                    if isinstance(part.size, ast.Identifier):
                        self.scope.names.find(part.size.name)
            elif isinstance(statement, ast.AxisCut):
                cut_axis(statement, self.scope, self.low)
        if self.low.inputs:
            self._note_samples(self.low.inputs[0])
        self.statements.inputs.bind()
        if self.outer is not None:
            share_names(self.low, self.scope, self.outer.low, self.outer.scope)
        check_matrix_axes(self.norm.hypers, self.scope, self.low)
        output = None
        for statement in self.norm.statements:
            self.statements.lower(statement)
            if isinstance(statement, ast.Output):
                output = self.statements.outputs.lower(statement)
        stated = self._stated_backward(output)
        entries = self._entries()
        self.low.table.report_free()
        self.low.inputs = with_integer_inputs(self.low)
        report_crossing_segments(self.low, self.problems)
        report_name_clashes(self.norm, self.scope, self.low)
        check_target(self.norm, self.low, self.problems)
        if not self.problems.has_errors:  # of which one may be why an input has no default
            report_open_lengths(self.norm, self.low, self.problems)
        if output is None or not self._check_output_axes(output, target):
            return None
        program = with_initializers(
            self._program(target, output), self.low.initializers, self.low.first_batch_values
        )
        program = with_named_momenta(replace(program, entries=entries))
        report_momentum_clashes(program, self.norm, self.scope, self.problems)
        report_draws(program, stated, self.problems)
        program = with_backward(with_drawn_inputs(program), stated)
        if not self.problems.has_errors:
            lint(program, self.low, self.scope, self.problems)
        return program

    def _stated_backward(self, output: list[NormOutput] | None) -> StatedPass | None:
        """The backward pass that the norm states, if it does and has outputs."""
        block = backward_block(self.norm)
        if block is None or output is None:
            return None
        return BackwardLowering(self.statements, self.low, self.scope).lower(block, output)

    def _entries(self) -> tuple[Program, ...]:
        """The programs of the entries, of those without errors."""
        check_entries(self.norm, self.scope, self.low)
        programs = []
        for entry in entries_of(self.norm):
            norm_of_its_own = norm_of_entry(self.norm, entry)
            inner = _Norm(norm_of_its_own, self.callable_norms, self.problems, outer=self)
            sizes = list(self.low.table.arguments)
            program = inner.program()
            note_uses(inner.scope, self.scope)
            check_adds_nothing(entry, inner.low, self.low, sizes)
            if program is not None:
                programs.append(with_what_it_reads(program))
        return tuple(programs)

    def _target(self) -> str:
        target = self.norm.target
        if target is not None and target.name not in TARGETS:
            self.problems.add(UnknownTarget(target.span, target.name, TARGETS))
        return target.name if target is not None else "activation"

    def _note_samples(self, first: InputDecl) -> None:
        """Note which axis of the first input enumerates samples."""
        if first.dims:
            space = self.low.table.space
            self.low.samples = space.leaves(leading_axis(first, space))

    def values(self) -> dict[str, NamedValue]:
        """What each name in scope denotes, without those that have errors."""
        value_by_name: dict[str, NamedValue] = {}
        for name, entity in self.scope.names:
            match entity.value:
                case Tensor(_, type):
                    value_by_name[name] = NamedValue(
                        entity.role, self._shown_axes(type.axes), type.kind
                    )
                case Moments(mean, _):
                    axes = self._shown_axes(mean.type.axes)
                    value_by_name[name] = NamedValue(entity.role, axes, "moments")
                case PoolOnly(what, _, axis):
                    value_by_name[name] = NamedValue(entity.role, (axis, axis), what)
                case _:
                    pass
        return value_by_name

    def _shown_axes(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """Axes as a spec writes them: `*S` for a group of axes, `C/blocks(g)` for cells."""
        names = (axis.partition("/") for axis in self.low.dims(axes))
        return tuple(f"{self.low.table.shown(n)}{slash}{cell}" for n, slash, cell in names)

    def _check_output_axes(self, output: list[NormOutput], target: str) -> bool:
        space = self.low.table.space
        first, item = output[0].tensor, output[0].item
        expected = self.low.declarations().axes(self.low.inputs[0].dims) if target != "loss" else ()
        actual = space.ordered(space.base(a) for a in first.type.axes)
        seen: dict[str, Span] = {}
        for name, _, other, *_ in output:
            if name in seen:
                self.problems.add(DuplicateName(other.span, name, seen[name]))
            seen[name] = other.span
        if actual == expected or (target == "activation" and output[0].is_sized):
            return True
        input_span = self.low.table.input_span
        assert input_span is not None
        shown_expected = tuple(self.low.table.shown(a) for a in expected)
        shown_actual = tuple(self.low.table.shown(a) for a in actual)
        problem = OutputAxes(item.value.span, shown_expected, shown_actual, input_span, target)
        self.problems.add(problem)
        return False

    def _checks(self) -> tuple[Check, ...]:
        """The checks of the program, without needless ones against pools of a single value.

        Such pools do no harm in a norm with statistics of several pools. A spec that counts a pool
        handles the case by itself.
        """
        minimum_sizes = [check for check in self.low.checks if isinstance(check, MinimumPoolSize)]
        checks = [c for c in self.low.checks if c not in minimum_sizes or len(minimum_sizes) == 1]
        counted_by_spec = [
            c for c in minimum_sizes if not c.tracked and dict(c.over) in self.low.counted_pools
        ]
        checks = [c for c in checks if c not in counted_by_spec]
        return tuple(dict.fromkeys((*self.low.table.splits, *self.low.table.held, *checks)))

    def _program(self, target: str, output: list[NormOutput]) -> Program:
        required = [a for a in self.arguments if a.required]
        optional = [a for a in self.arguments if not a.required]
        sizes = list(self.low.table.arguments.values())
        affine_params = self.scope.affine_params
        return Program(
            name=self.norm.name.name,
            target=target,  # type: ignore[arg-type]
            doc=self.norm.doc,
            axes=tuple(self.low.table.space),
            arguments=(*required, *sizes, *optional, *self._flags()),
            inputs=tuple(self.low.inputs),
            # What `affine` learns comes first, as in the layers of torch and PyG, the rest as it is
            # declared: optimizers keep their state by the position of a parameter.
            params=tuple(sorted(self.low.params, key=lambda p: p.name not in affine_params)),
            buffers=tuple(self.low.buffers),
            switches=tuple(self.low.switches),
            body=tuple(self.low.body),
            outputs=tuple((o.name, o.tensor.ref) for o in output),
            updates=tuple(self.low.updates),
            checks=self._checks(),
            output_dims=self._output_dims(output),
            output_dtypes=tuple((o.name, o.dtype) for o in output if o.dtype is not None),
        )

    def _output_dims(self, output: list[NormOutput]) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The dimensions of the outputs, without those of a first one that is shaped as the first
        input is."""
        first, input_dims = output[0], self.low.inputs[0].dims
        others = output[1:] if first.dims == input_dims else output
        return tuple((o.name, o.dims) for o in others if o.dims)

    def _flags(self) -> Iterator[Argument]:
        """What hyperparameters that are strings are compared for, as of their defaults."""
        defaults = {a.name: a.default for a in self.arguments}
        for flag in self.low.flags:
            assert flag.test is not None
            yield replace(flag, default=defaults[flag.test.of] == flag.test.text)


def _introduction_spans(norm: ast.Norm) -> dict[str, Span]:
    """The place that introduces each value of a norm, for reports of a use before it."""
    span_by_name: dict[str, Span] = {}
    for statement in norm.statements:
        match statement:
            case ast.Let():
                span_by_name.setdefault(statement.name.name, statement.name.span)
            case ast.Param() | ast.Buffer():
                for item in statement.items:
                    span_by_name.setdefault(item.name.name, item.name.span)
            case _:
                pass
    return span_by_name
