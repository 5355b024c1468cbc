"""Desugar clauses to equations: AST to AST without clauses.

This defines the meaning of clauses. The result is a norm in the same language, which
`metanorm explain` prints and the rest of the compiler reads.
"""

from __future__ import annotations

from dataclasses import replace

from metanorm.diagnostics.clauses import ClauseConflict, ClausesUnused, ClauseWithoutReduce
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.statistics import UnknownStat
from metanorm.diagnostics.structure import ComputesNothing
from metanorm.semantics.mix_equations import MIX_FUNCTIONS, mix_equations
from metanorm.semantics.names_in_ast import defined_in, names_in
from metanorm.source import Span
from metanorm.syntax import ast, build

CLAUSES = (ast.Reduce, ast.Shift, ast.Scale, ast.Stat, ast.Mix, ast.Track, ast.AffineClause)
AFFINE_NAMES = {"normalized", "weight", "bias"}  # names that `affine` introduces, or reads
IMPLIED_NAMES = AFFINE_NAMES | {
    "mean",
    "var",
    "eps",
    "true",
    "false",
}  # names that no statement has to introduce
UNIQUE_KINDS = ("reduce", "mix", "shift", "scale", "affine", "output", "backward")


def equations_from_clauses(norm: ast.Norm, problems: Collector) -> ast.Norm:
    """The norm in equations. Reports clauses that contradict each other, and leaves them out."""
    clauses = _Clauses(norm, problems)
    statements = tuple(clauses.equations())
    mentioned = {name for statement in statements for name in names_in(statement)}
    if clauses.normalizes and "eps" in mentioned and "eps" not in clauses.defined_names:
        return replace(norm, hypers=_with_eps(norm), statements=statements)
    return replace(norm, statements=statements)


def _with_eps(norm: ast.Norm) -> tuple[ast.Hyper, ...]:
    """The hyperparameters with `eps = 1e-5` before the others that have a default."""
    span = norm.name.span
    eps = ast.Hyper(
        span=span,
        name=ast.Identifier(span=span, name="eps"),
        default=ast.Number(span=span, value=1e-5, text="1e-5"),
    )
    position = next((i for i, h in enumerate(norm.hypers) if h.default), len(norm.hypers))
    return (*norm.hypers[:position], eps, *norm.hypers[position:])


class _Clauses:
    def __init__(self, norm: ast.Norm, problems: Collector) -> None:
        self.norm = norm
        self.problems = problems
        self.defined_names = frozenset(defined_in(norm))
        self.used_names = set(self.defined_names)
        self.clause_by_kind: dict[str, ast.AnyStatement] = {}
        # By the position of the `reduce` or `stat`.
        self.track_by_position: dict[int, ast.Track] = {}
        self.read_names = {n for s in norm.statements for n in names_in(s)}
        self.input = self._input_name()
        self.centre = "centre"  # the name of the value that a learned shift subtracts

    @property
    def normalizes(self) -> bool:
        """Whether there are clauses that subtract and divide."""
        return "reduce" in self.clause_by_kind or "mix" in self.clause_by_kind

    def equations(self) -> list[ast.AnyStatement]:
        self._collect_clauses()
        pools, maps = self._insertion_points()
        statements: list[ast.AnyStatement] = []
        for position, statement in enumerate(self.norm.statements):
            match statement:
                case ast.Stat():
                    statements.append(self._stat(statement, self.track_by_position.get(position)))
                case ast.Mix() if self.clause_by_kind.get("mix") is statement:
                    self._check_mix(statement)
                    statements += mix_equations(statement, self.defined_names, self._fresh_name)
                case ast.Output() if self.clause_by_kind.get("output") is not statement:
                    pass
                case (
                    ast.Reduce()
                    | ast.Shift()
                    | ast.Scale()
                    | ast.Track()
                    | ast.AffineClause()
                    | ast.Mix()
                ):
                    pass
                case _:
                    statements.append(statement)
            if position == pools:
                statements += self._statistics()
            if position == maps:
                statements += self._normalized()
        if "output" not in self.clause_by_kind:
            statements.append(self._output())
        return statements

    # ---- which clauses there are

    def _input_name(self) -> str:
        for statement in self.norm.statements:
            if isinstance(statement, ast.Input):
                return statement.items[0].name.name
        return "x"

    def _collect_clauses(self) -> None:
        """Collect the clauses, and report those that cannot stand together."""
        last_pool: int | None = None
        has_input = False
        for position, s in enumerate(self.norm.statements):
            if s.kind in UNIQUE_KINDS:
                if s.kind in self.clause_by_kind:
                    self._conflict(s, self.clause_by_kind[s.kind])
                self.clause_by_kind.setdefault(s.kind, s)
            if isinstance(s, ast.Stat) or self.clause_by_kind.get("reduce") is s:
                last_pool = position
            if isinstance(s, ast.Input):
                has_input = True
            elif isinstance(s, ast.Track):
                target = self._target_of_track(position, last_pool)
                if target is None:
                    self.problems.add(ClauseWithoutReduce(build.keyword_span(s), "track"))
                elif target in self.track_by_position:
                    self._conflict(s, self.track_by_position[target])
                else:
                    self.track_by_position[target] = s
        reduce, mix = self.clause_by_kind.get("reduce"), self.clause_by_kind.get("mix")
        if reduce and mix:
            self._conflict(mix, reduce)
            del self.clause_by_kind["mix"]
        for kind in ("shift", "scale"):
            if kind in self.clause_by_kind and not (reduce or mix):
                self.problems.add(
                    ClauseWithoutReduce(build.keyword_span(self.clause_by_kind[kind]), kind)
                )
                del self.clause_by_kind[kind]
        self._warn_if_unused()
        if has_input and not self.clause_by_kind.keys() & {"reduce", "mix", "affine", "output"}:
            self.problems.add(ComputesNothing(self.norm.name.span, self.norm.name.name))

    def _target_of_track(self, position: int, last_pool: int | None) -> int | None:
        """A `track` belongs to a `stat` that stands right before it, else to `reduce`."""
        if position and last_pool == position - 1:
            return last_pool
        for target, statement in enumerate(self.norm.statements):
            if isinstance(statement, ast.Reduce):
                return target
        return last_pool

    def _conflict(self, later: ast.AnyStatement, earlier: ast.AnyStatement) -> None:
        problem = ClauseConflict(
            build.keyword_span(later), later.kind, build.keyword_span(earlier), earlier.kind
        )
        self.problems.add(problem)

    def _warn_if_unused(self) -> None:
        output = self.clause_by_kind.get("output")
        clauses = [
            self.clause_by_kind[k] for k in ("reduce", "mix", "affine") if k in self.clause_by_kind
        ]
        if output and set(names_in(output)) - defined_in(self.norm) - IMPLIED_NAMES:
            return  # a wrong name there may mean one of them
        if output and clauses and not {"normalized", "mean", "var"} & self.read_names:
            kinds = tuple(clause.kind for clause in clauses)
            self.problems.add(ClausesUnused(build.keyword_span(clauses[0]), kinds))
        elif output and "affine" in self.clause_by_kind and not AFFINE_NAMES & self.read_names:
            span = build.keyword_span(self.clause_by_kind["affine"])
            self.problems.add(ClausesUnused(span, ("affine",)))

    def _insertion_points(self) -> tuple[int | None, int | None]:
        """The positions behind which to insert the statistics and the normalized value."""
        pools = maps = None
        for position, s in enumerate(self.norm.statements):
            if isinstance(s, ast.Reduce) or (
                isinstance(s, (ast.Shift, ast.Track)) and "reduce" in self.clause_by_kind
            ):
                pools = position
            if isinstance(s, CLAUSES) and not isinstance(s, ast.Stat):
                maps = position
        return pools, maps

    # ---- equations

    def _stat(self, stat: ast.Stat, track: ast.Track | None) -> ast.AnyStatement:
        pool = build.with_track(stat.pool, track)
        value = build.call(stat.span, "moments", build.name(stat.span, self.input), over=pool)
        return ast.Let(span=stat.span, name=stat.name, value=value, trivia=stat.trivia)

    def _statistics(self) -> list[ast.AnyStatement]:
        """The `mean` and `var` of `reduce`, if anything reads them."""
        reduce = self.clause_by_kind.get("reduce")
        if not isinstance(reduce, ast.Reduce):
            return []
        span = reduce.span
        position = next(i for i, s in enumerate(self.norm.statements) if s is reduce)
        track = self.track_by_position.get(position)
        live_pool = replace(reduce.pool, keywords=())
        mean = build.call(
            span, "mean", build.name(span, self.input), over=build.with_track(live_pool, track)
        )
        statements: list[ast.AnyStatement] = []
        shift, kind = self._shift()
        if kind in ("mean", "learned") or "mean" in self.read_names:
            statements.append(build.let(span, "mean", mean))
        if kind == "learned" and shift is not None:
            statements += self._learned_shift(shift)
        if self._reads_var():
            statements.append(build.let(span, "var", self._var(span, reduce.pool, track, kind)))
        return statements

    def _reads_var(self) -> bool:
        scale = self.clause_by_kind.get("scale")
        by_std = not isinstance(scale, ast.Scale) or build.is_word(scale.value, "std")
        return by_std or "var" in self.read_names

    def _var(self, span: Span, pool: ast.Pool, track: ast.Track | None, kind: str) -> ast.Expr:
        """The variance that `scale std` divides by: the second moment about the shift."""
        x = build.name(span, self.input)
        tracked = build.with_track(pool, track)
        if kind == "mean":
            return build.call(span, "var", x, over=tracked)
        if kind == "none":
            about = ast.Keyword(span=span, name="about", value=build.number(span, 0))
            return build.call(span, "var", x, over=build.with_keyword(tracked, about))
        centre = self._centre(span)
        assert centre is not None, "a learned or written shift has a centre"
        if track is None:
            about = ast.Keyword(span=span, name="about", value=centre)
            return build.call(span, "var", x, over=build.with_keyword(tracked, about))
        # The running variance is about the mean; the rest of the second moment is exact.
        offset = ast.Power(
            span=span,
            base=build.chain(span, "-", build.name(span, "mean"), centre),
            exponent=build.number(span, 2),
        )
        return build.chain(span, "+", build.call(span, "var", x, over=tracked), offset)

    def _shift(self) -> tuple[ast.Shift | None, str]:
        """The `shift` clause and its sort: mean, none, learned (a parameter) or written."""
        shift = self.clause_by_kind.get("shift")
        if not isinstance(shift, ast.Shift) or build.is_word(shift.value, "mean"):
            return None, "mean"
        if shift.initial is not None:
            return shift, "learned"
        return shift, "none" if build.is_word(shift.value, "none") else "written"

    def _learned_shift(self, shift: ast.Shift) -> list[ast.AnyStatement]:
        """The parameter of a learned shift, `shift p[A] = v`, and the centre that it gives."""
        assert shift.initial is not None
        target = shift.value
        dims: tuple[ast.Dim, ...] = ()
        if isinstance(target, ast.Index):
            dims = build.dims(target.subscripts)
            target = target.value
        name = target.name if isinstance(target, ast.Name) else "shift_scale"
        item = ast.ParamItem(
            span=shift.span,
            name=ast.Identifier(span=target.span, name=name),
            dims=dims,
            value=shift.initial,
        )
        self.centre = self._fresh_name("centre")
        product = build.chain(
            shift.span, "*", build.name(shift.span, name), build.name(shift.span, "mean")
        )
        return [
            ast.Param(span=shift.span, items=(item,), trivia=shift.trivia),
            build.let(shift.span, self.centre, product),
        ]

    def _centre(self, span: Span) -> ast.Expr | None:
        """The value that the clauses subtract; `None` for none."""
        shift, kind = self._shift()
        if kind == "none":
            return None
        if kind == "mean" or shift is None:
            return build.name(span, "mean")
        if kind == "learned":
            return build.name(span, self.centre)
        return shift.value

    def _check_mix(self, mix: ast.Mix) -> None:
        """Report unknown statistics of a `mix`, and an unknown function of its weights."""
        stats = tuple(s.name.name for s in self.norm.statements if isinstance(s, ast.Stat))
        for stat in mix.stats:
            if stat.name not in self.defined_names:
                self.problems.add(UnknownStat(stat.span, stat.name, stats))
        if mix.by.name not in MIX_FUNCTIONS:
            self.problems.add(UnknownStat(mix.by.span, mix.by.name, MIX_FUNCTIONS, is_by=True))

    def _normalized(self) -> list[ast.AnyStatement]:
        """`let normalized = ...`, or nothing if the default output alone computes it."""
        if not self._result_is_read() or not (
            {"reduce", "mix", "affine"} & self.clause_by_kind.keys()
        ):
            return []
        value = self._value()
        return [build.let(value.span, "normalized", value)]

    def _result_is_read(self) -> bool:
        """Whether something else than the default output reads the result of the clauses."""
        return "output" in self.clause_by_kind or "normalized" in self.read_names

    def _output(self) -> ast.AnyStatement:
        value = self._value()
        if self._result_is_read():  # by a backward pass
            value = build.name(value.span, "normalized")
        return ast.Output(span=value.span, items=(ast.OutputItem(span=value.span, value=value),))

    def _value(self) -> ast.Expr:
        """The result of the clauses: the shifted, scaled and affinely mapped input."""
        anchor = self.clause_by_kind.get("reduce") or self.clause_by_kind.get("mix")
        span = anchor.span if anchor else self.norm.name.span
        value: ast.Expr = build.name(span, self.input)
        if anchor is not None:
            centre = self._centre(span)
            if centre is not None:
                value = build.chain(span, "-", value, centre)
            divisor = self._divisor(span, value)
            if divisor is not None:
                value = build.chain(span, "/", value, divisor)
            if isinstance(anchor, ast.Reduce):
                value = self._zero_if_empty(anchor, value)
        affine = self.clause_by_kind.get("affine")
        if isinstance(affine, ast.AffineClause):
            value = build.call(affine.span, "affine", value, per=affine.affine)
        return value

    def _divisor(self, span: Span, centred: ast.Expr) -> ast.Expr | None:
        scale = self.clause_by_kind.get("scale")
        eps = build.name(span, "eps")
        if not isinstance(scale, ast.Scale) or build.is_word(scale.value, "std"):
            return build.call(span, "sqrt", build.chain(span, "+", build.name(span, "var"), eps))
        if build.is_word(scale.value, "none"):
            return None
        for word, statistic in (("l1", "mean"), ("max", "max")):
            reduce = self.clause_by_kind.get("reduce")
            if build.is_word(scale.value, word) and isinstance(reduce, ast.Reduce):
                live_pool = replace(reduce.pool, keywords=())
                size = build.call(
                    scale.span, statistic, build.call(span, "abs", centred), over=live_pool
                )
                return build.chain(scale.span, "+", size, eps)
        return scale.value

    def _zero_if_empty(self, reduce: ast.Reduce, value: ast.Expr) -> ast.Expr:
        """The normalized value, zero in an empty pool.

        A mask or weights may leave a pool empty, and so may a node without in-neighbours.
        """
        pool = replace(reduce.pool, keywords=())
        may_lack_neighbours = any(
            a.matrix and not a.matrix.extra and self._is_edges(a.matrix) for a in pool.axes
        )
        if pool.where is None and pool.weight is None and not may_lack_neighbours:
            return value
        span = reduce.span
        weight: ast.Expr = build.call(span, "count", over=pool)
        if any(self.norm.statements[position] is reduce for position in self.track_by_position):
            train = ast.Keyword(span=span, name="train", value=weight, labelled=True)
            evaluated = ast.Keyword(
                span=span, name="eval", value=build.number(span, 1), labelled=True
            )
            weight = ast.Call(
                span=span,
                function=ast.Identifier(span=span, name="mode"),
                keywords=(train, evaluated),
            )
        is_filled = ast.Compare(span=span, operator=">", left=weight, right=build.number(span, 0))
        return build.call(span, "where", is_filled, value, build.number(span, 0))

    def _is_edges(self, matrix: ast.Matrix) -> bool:
        """Whether a grouping is an input of edges."""
        inputs = (s for s in self.norm.statements if isinstance(s, ast.Input))
        items = (item for s in inputs for item in s.items if item.name.name == matrix.name)
        return any(item.sort is not None and item.sort.name == "edges" for item in items)

    def _fresh_name(self, name: str) -> str:
        while name in self.used_names:
            name += "_"
        self.used_names.add(name)
        return name
