"""A checked norm as a program: AST in equations to typed, unoptimised IR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from metanorm.diagnostics.axes import OutputAxes
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.names import DuplicateName, UnknownSort
from metanorm.diagnostics.structure import NoInput, UnknownTarget
from metanorm.diagnostics.suggest import listing
from metanorm.diagnostics.values import BadDefault, WrongKind
from metanorm.ir.initializers import with_initializers
from metanorm.ir.momenta import momenta_of
from metanorm.ir.nodes import Argument, Check, InputDecl, MinimumPoolSize, Program
from metanorm.ir.ops import STRUCTURED
from metanorm.ir.scalar import Hyper
from metanorm.semantics.calls import Calls
from metanorm.semantics.choices import choices_from_ast
from metanorm.semantics.crossing_groups import report_crossing_groups
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
from metanorm.semantics.integer_inputs import with_integer_inputs
from metanorm.semantics.lints import lint
from metanorm.semantics.lowering import UNKNOWN, CallableNorm, CallScope, Lowering
from metanorm.semantics.open_lengths import report_open_lengths
from metanorm.semantics.outputs import NormOutput
from metanorm.semantics.pieces import cut_axis
from metanorm.semantics.reserved import check_name
from metanorm.semantics.scalars import CHOICE, sort_of
from metanorm.semantics.statements import Statements
from metanorm.semantics.target_checks import check_target
from metanorm.semantics.values import (
    POISON,
    Choice,
    Entity,
    Moments,
    NameTable,
    PoolOnly,
    Tensor,
    Value,
)
from metanorm.source import Span
from metanorm.syntax import ast

HYPER_SORTS = ("int", "float", "bool", "matrix")
TARGETS = ("weight", "gradient", "loss")


@dataclass(frozen=True)
class NamedValue:
    """What a name of a norm denotes: what introduces it, its axes as written, and its sort."""

    what: str  # "hyperparameter", "input", "parameter", "buffer", "value"
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
        self.low.table.on_weight = target == "weight"
        items = [i for s in self.norm.statements if isinstance(s, ast.Input) for i in s.items]
        if self.outer is None:
            self._lower_hypers()
        else:
            self.arguments = self.outer.arguments
            share_hypers(self.low, self.scope, self.outer.scope)
        if not items:
            self.problems.add(NoInput(self.norm.name.span, self.norm.name.name))
            return None
        self.low.table.input_span = items[0].span
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
        self._check_matrix_axes()
        output = None
        for statement in self.norm.statements:
            self.statements.lower(statement)
            if isinstance(statement, ast.Output):
                output = self.statements.outputs.lower(statement)
        entries = self._entries()
        self.low.table.report_free()
        self.low.inputs = with_integer_inputs(self.low)
        report_crossing_groups(self.low, self.problems)
        self._report_clashes()
        check_target(self.norm, self.low, self.problems)
        if not self.problems.has_errors:  # of which one may be why an input has no default
            report_open_lengths(self.norm, self.low, self.problems)
        if output is None or not self._check_output_axes(output, target):
            return None
        program = with_initializers(
            self._program(target, output), self.low.initializers, self.low.first_batch_values
        )
        program = replace(program, entries=entries)
        report_draws(program.body, self.problems)
        if not self.problems.has_errors:
            lint(program, self.low, self.scope, self.problems)
        return program

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
        """The leading axis of the first input enumerates samples."""
        if first.dims:
            self.low.samples = self.low.table.space.leaves(first.dims[0])

    def values(self) -> dict[str, NamedValue]:
        """What each name in scope denotes, without those that have errors."""
        value_by_name: dict[str, NamedValue] = {}
        for name, entity in self.scope.names:
            match entity.value:
                case Tensor(_, type):
                    value_by_name[name] = NamedValue(
                        entity.what, self._shown_axes(type.axes), type.kind
                    )
                case Moments(mean, _):
                    axes = self._shown_axes(mean.type.axes)
                    value_by_name[name] = NamedValue(entity.what, axes, "moments")
                case PoolOnly(what, _, axis):
                    value_by_name[name] = NamedValue(entity.what, (axis, axis), what)
                case _:
                    pass
        return value_by_name

    def _shown_axes(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """Axes as a spec writes them: `*S` for a group of axes, `C/blocks(g)` for cells."""
        names = (axis.partition("/") for axis in self.low.dims(axes))
        return tuple(f"{self.low.table.shown(n)}{slash}{cell}" for n, slash, cell in names)

    # ---- hyperparameters

    def _lower_hypers(self) -> None:
        for hyper in self.norm.hypers:
            name = hyper.name.name
            check_name(hyper.name, self.problems, attribute=True)
            sort = sort_of(hyper)
            if hyper.type is not None and sort not in HYPER_SORTS:
                unknown_sort = UnknownSort(hyper.type.span, sort, "hyperparameter", HYPER_SORTS)
                self.problems.add(unknown_sort)
                sort = UNKNOWN
            self.scope.hyper_sorts[name] = sort
            if sort != CHOICE:
                self.scope.hypers[name] = Hyper(name)
            texts = choices_from_ast(hyper, self.low)
            default = self._hyper_default(hyper, sort) if sort != UNKNOWN else None
            axes = tuple(axis.name for axis in hyper.axes)
            required = hyper.default is None
            argument = Argument(
                name,
                sort,  # type: ignore[arg-type]
                default,
                required,
                axes,
                texts,
            )
            self.arguments.append(argument)
            value: Value
            if sort == "matrix":
                square = self._is_square(hyper)
                value = PoolOnly("a matrix", name, axes[0]) if square else POISON
            elif sort == CHOICE:
                value = Choice(name, texts)
            elif sort == UNKNOWN:
                value = POISON
            else:
                value = self.low.number(Hyper(name), hyper.name.span)
            self.scope.names.enter(name, Entity("hyperparameter", hyper.name.span, value))

    def _is_square(self, hyper: ast.Hyper) -> bool:
        """Whether the matrix pools one axis; reports one that does not."""
        square = len(hyper.axes) == 2 and hyper.axes[0].name == hyper.axes[1].name
        if not square:
            actual = f"{len(hyper.axes) or 'no'} axes" if len(hyper.axes) != 2 else "two axes"
            hint = f"a matrix pools the positions of one axis: `{hyper.name.name}: matrix[N, N]`"
            self.problems.add(WrongKind(hyper.span, actual, "one axis twice", hint))
        return square

    def _check_matrix_axes(self) -> None:
        """Check the axes of matrix hyperparameters, now that the inputs have introduced axes."""
        for hyper in self.norm.hypers:
            for axis in hyper.axes[:1]:
                if self.scope.hyper_sorts[hyper.name.name] == "matrix":
                    self.low.table.resolve(ast.AxisRef(span=axis.span, name=axis.name))

    def _hyper_default(self, hyper: ast.Hyper, sort: str) -> float | bool | str | None:
        default, name = hyper.default, hyper.name.name
        sign = 1.0
        if isinstance(default, ast.Negative):
            default, sign = default.operand, -1.0
        match sort, default:
            case _, None | ast.Missing():
                return None
            case "matrix", ast.Name() if default.name in STRUCTURED:
                return default.name
            case "bool", ast.Name() if default.name in ("true", "false"):
                return default.name == "true"
            case "float", ast.Name() if default.name == "None" and sign > 0:
                return None
            case "choice", ast.Text() if default.value in {c.value for c in hyper.choices}:
                return default.value
            case "int", ast.Number() if default.value == int(default.value):
                return int(sign * default.value)
            case "float", ast.Number():
                return sign * default.value
        expected = {
            "matrix": "`eye` or `ones`",
            "bool": "`true` or `false`",
            "int": "a whole number",
            "float": "a number or `None`",
            "choice": listing(dict.fromkeys(f'"{choice.value}"' for choice in hyper.choices), "or"),
        }[sort]
        if isinstance(default, ast.Text) and sort == "float":
            expected = f'a number, or one of several strings: `{name}: "a" | "b" = "a"`'
        assert hyper.default is not None
        self.problems.add(BadDefault(hyper.default.span, name, expected))
        return None

    # ---- the result

    def _report_clashes(self) -> None:
        """What becomes an argument or an attribute without being written has a name of its own."""
        entities = {name: e for name, e in self.scope.names if e.what in MODULE_ENTITIES}
        seen = {name: entity.span for name, entity in entities.items()}
        kept = {buffer.name for buffer in self.low.buffers}
        seen |= {name: e.span for name, e in self.scope.names if name in kept}
        for name, span, what in self._implied(entities):
            if name in seen and name not in self.scope.names.duplicates:
                self.problems.add(DuplicateName(span, name, seen[name], what=what))
            seen.setdefault(name, span)
        for name in momenta_of(self.low.updates).values():
            if name in entities and entities[name].what != "hyperparameter":
                what = "the momentum of running statistics"
                clash = DuplicateName(self.norm.name.span, name, entities[name].span, what=what)
                self.problems.add(clash)

    def _implied(self, entities: Mapping[str, Entity]) -> Iterator[tuple[str, Span, str]]:
        """Names that come with something else: what they are, and where that is."""
        for argument in self.low.table.arguments.values():
            span = self._argument_span(argument)
            yield argument.name, span, f"the length of axis `{argument.axes[0]}`"
        for flag in self.low.flags:
            assert flag.test is not None
            what = f"what `{flag.test.of}` is compared for"
            yield flag.name, entities[flag.test.of].span, what
        yield from self._switch_names()
        for decl in self.low.inputs:
            if decl.names_groups and decl.name in entities:
                what = "segments" if decl.offsets else "groups"
                groups = f"the number of {what} of `{decl.name}`"
                yield f"{decl.name}_size", entities[decl.name].span, groups
        written = {name for name, e in entities.items() if e.what in ("parameter", "buffer")}
        named = [(p.name, "a parameter") for p in self.low.params]
        named += [(b.name, "a buffer") for b in self.low.buffers]
        for name, what in named:
            if name in written:
                written.remove(name)
            else:
                yield name, self.norm.name.span, what

    def _switch_names(self) -> Iterator[tuple[str, Span, str]]:
        """What `param p = 1 if name` declares. `bias` may turn a parameter of that name on."""
        statements = (s for s in self.norm.statements if isinstance(s, ast.Param))
        items = [item for statement in statements for item in statement.items]
        spans = {i.switch.name: i.switch.span for i in reversed(items) if i.switch is not None}
        for name, span in spans.items():
            if name != "bias":
                yield name, span, "what turns a parameter on"

    def _argument_span(self, argument: Argument) -> Span:
        declared = self.low.table.declared[argument.axes[0]]
        return declared.size_span or declared.span

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
        if actual == expected:
            return True
        input_span = self.low.table.input_span
        assert input_span is not None
        shown_expected = tuple(self.low.table.shown(a) for a in expected)
        shown_actual = tuple(self.low.table.shown(a) for a in actual)
        is_loss = target == "loss"
        problem = OutputAxes(item.value.span, shown_expected, shown_actual, input_span, is_loss)
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
        return Program(
            name=self.norm.name.name,
            target=target,  # type: ignore[arg-type]
            doc=self.norm.doc,
            axes=tuple(self.low.table.space),
            arguments=(*required, *sizes, *optional, *self._flags()),
            inputs=tuple(self.low.inputs),
            # What `affine` learns comes first, as in the layers of torch and PyG: optimizers keep
            # their state by the position of a parameter.
            params=tuple(sorted(self.low.params, key=lambda param: not param.switches)),
            buffers=tuple(self.low.buffers),
            switches=tuple(self.low.switches),
            body=tuple(self.low.body),
            outputs=tuple((o.name, o.tensor.ref) for o in output),
            updates=tuple(self.low.updates),
            checks=self._checks(),
            output_dims=tuple((o.name, o.dims) for o in output[1:] if o.dims),
            output_dtypes=tuple((o.name, o.dtype) for o in output if o.dtype is not None),
        )

    def _flags(self) -> Iterator[Argument]:
        """What hyperparameters that are strings are compared for, as of their defaults."""
        defaults = {a.name: a.default for a in self.arguments}
        for flag in self.low.flags:
            assert flag.test is not None
            yield replace(flag, default=defaults[flag.test.of] == flag.test.text)


# Entities of a scope that are arguments or attributes of the generated module.
MODULE_ENTITIES = ("hyperparameter", "input", "parameter", "buffer")


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
