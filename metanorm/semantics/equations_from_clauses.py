"""Clauses to the equations they stand for: AST in, AST without clauses out.

This is the definition of the clauses. What comes out is a norm in the same
language, which `metanorm explain` prints and the rest of the compiler reads.
"""

from __future__ import annotations

from dataclasses import replace

from metanorm.diagnostics.clauses import ClauseConflict, ClausesUnused, ClauseWithoutReduce
from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.statistics import UnknownStat
from metanorm.diagnostics.structure import ComputesNothing
from metanorm.semantics.names_in_ast import defined_in, names_in
from metanorm.source import Span
from metanorm.syntax import ast, build

CLAUSES = (ast.Reduce, ast.Shift, ast.Scale, ast.Stat, ast.Mix, ast.Track, ast.AffineClause)
MIXED_BY = ("softmax", "sparsestmax")
LEARNED = {"normalized", "weight", "bias"}  # what an `affine` brings, or is part of
IMPLIED = LEARNED | {"mean", "var", "eps", "true", "false"}  # what no statement has to introduce
ONCE = ("reduce", "mix", "shift", "scale", "affine", "output")


def equations_from_clauses(norm: ast.Norm, problems: Collector) -> ast.Norm:
    """The norm in equations. Clauses that contradict each other are reported and left out."""
    clauses = _Clauses(norm, problems)
    statements = tuple(clauses.equations())
    mentioned = {name for statement in statements for name in names_in(statement)}
    if clauses.normalizes and "eps" in mentioned and "eps" not in clauses.named:
        return replace(norm, hypers=_with_eps(norm), statements=statements)
    return replace(norm, statements=statements)


def _with_eps(norm: ast.Norm) -> tuple[ast.Hyper, ...]:
    """The hyperparameters and `eps = 1e-5`, in front of the others that have a default."""
    span = norm.name.span
    eps = ast.Hyper(
        span=span,
        name=ast.Identifier(span=span, name="eps"),
        default=ast.Number(span=span, value=1e-5, text="1e-5"),
    )
    place = next((i for i, h in enumerate(norm.hypers) if h.default), len(norm.hypers))
    return (*norm.hypers[:place], eps, *norm.hypers[place:])


class _Clauses:
    def __init__(self, norm: ast.Norm, problems: Collector) -> None:
        self.norm = norm
        self.problems = problems
        self.named = frozenset(defined_in(norm))
        self.taken = set(self.named)
        self.first: dict[str, ast.AnyStatement] = {}
        self.tracked: dict[int, ast.Track] = {}  # by the place of the `reduce` or `stat`
        self.used = {n for s in norm.statements for n in names_in(s)}
        self.input = self._input_name()
        self.centre = "centre"  # the name of what a learned shift subtracts

    @property
    def normalizes(self) -> bool:
        """Whether there are clauses that subtract and divide."""
        return "reduce" in self.first or "mix" in self.first

    def equations(self) -> list[ast.AnyStatement]:
        self._sort_out()
        pools, maps = self._places()
        done: list[ast.AnyStatement] = []
        for place, statement in enumerate(self.norm.statements):
            match statement:
                case ast.Stat():
                    done.append(self._stat(statement, self.tracked.get(place)))
                case ast.Mix() if self.first.get("mix") is statement:
                    done += self._mix(statement)
                case ast.Output() if self.first.get("output") is not statement:
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
                    done.append(statement)
            if place == pools:
                done += self._pooled()
            if place == maps:
                done += self._normalized()
        if "output" not in self.first:
            done.append(self._output())
        return done

    # ---- which clauses there are

    def _input_name(self) -> str:
        for statement in self.norm.statements:
            if isinstance(statement, ast.Input):
                return statement.items[0].name.name
        return "x"

    def _sort_out(self) -> None:
        """Find the clauses, and what is wrong with their company."""
        last: int | None = None
        has_input = False
        for place, s in enumerate(self.norm.statements):
            if s.kind in ONCE:
                if s.kind in self.first:
                    self._conflict(s, self.first[s.kind])
                self.first.setdefault(s.kind, s)
            if isinstance(s, ast.Stat) or self.first.get("reduce") is s:
                last = place
            if isinstance(s, ast.Input):
                has_input = True
            elif isinstance(s, ast.Track):
                target = self._target_of_track(place, last)
                if target is None:
                    self.problems.add(ClauseWithoutReduce(build.keyword_span(s), "track"))
                elif target in self.tracked:
                    self._conflict(s, self.tracked[target])
                else:
                    self.tracked[target] = s
        reduce, mix = self.first.get("reduce"), self.first.get("mix")
        if reduce and mix:
            self._conflict(mix, reduce)
            del self.first["mix"]
        for kind in ("shift", "scale"):
            if kind in self.first and not (reduce or mix):
                self.problems.add(ClauseWithoutReduce(build.keyword_span(self.first[kind]), kind))
                del self.first[kind]
        self._warn_if_unused()
        if has_input and not self.first.keys() & {"reduce", "mix", "affine", "output"}:
            self.problems.add(ComputesNothing(self.norm.name.span, self.norm.name.name))

    def _target_of_track(self, place: int, last: int | None) -> int | None:
        """A `track` belongs to a `stat` that stands right before it, else to `reduce`."""
        if place and last == place - 1:
            return last
        for target, statement in enumerate(self.norm.statements):
            if isinstance(statement, ast.Reduce):
                return target
        return last

    def _conflict(self, later: ast.AnyStatement, earlier: ast.AnyStatement) -> None:
        problem = ClauseConflict(
            build.keyword_span(later), later.kind, build.keyword_span(earlier), earlier.kind
        )
        self.problems.add(problem)

    def _warn_if_unused(self) -> None:
        output = self.first.get("output")
        clauses = [self.first[k] for k in ("reduce", "mix", "affine") if k in self.first]
        if output and set(names_in(output)) - defined_in(self.norm) - IMPLIED:
            return  # a name is wrong there: who knows what it was meant to be
        if output and clauses and not {"normalized", "mean", "var"} & self.used:
            kinds = tuple(clause.kind for clause in clauses)
            self.problems.add(ClausesUnused(build.keyword_span(clauses[0]), kinds))
        elif output and "affine" in self.first and not LEARNED & self.used:
            span = build.keyword_span(self.first["affine"])
            self.problems.add(ClausesUnused(span, ("affine",)))

    def _places(self) -> tuple[int | None, int | None]:
        """Behind which statements the statistics, and the normalized value, are written."""
        pools = maps = None
        for place, s in enumerate(self.norm.statements):
            if isinstance(s, ast.Reduce) or (
                isinstance(s, (ast.Shift, ast.Track)) and "reduce" in self.first
            ):
                pools = place
            if isinstance(s, CLAUSES) and not isinstance(s, ast.Stat):
                maps = place
        return pools, maps

    # ---- equations

    def _stat(self, stat: ast.Stat, track: ast.Track | None) -> ast.AnyStatement:
        pool = build.with_track(stat.pool, track)
        value = build.call(stat.span, "moments", build.name(stat.span, self.input), over=pool)
        return ast.Let(span=stat.span, name=stat.name, value=value, trivia=stat.trivia)

    def _pooled(self) -> list[ast.AnyStatement]:
        """`mean` and `var` of `reduce`, as far as anything needs them."""
        reduce = self.first.get("reduce")
        if not isinstance(reduce, ast.Reduce):
            return []
        span = reduce.span
        place = next(i for i, s in enumerate(self.norm.statements) if s is reduce)
        track = self.tracked.get(place)
        plain = replace(reduce.pool, keywords=())
        mean = build.call(
            span, "mean", build.name(span, self.input), over=build.with_track(plain, track)
        )
        done: list[ast.AnyStatement] = []
        shift, kind = self._shift()
        if kind in ("mean", "learned") or "mean" in self.used:
            done.append(build.let(span, "mean", mean))
        if kind == "learned" and shift is not None:
            done += self._learned_shift(shift)
        if self._needs_var():
            done.append(build.let(span, "var", self._var(span, reduce.pool, track, kind)))
        return done

    def _needs_var(self) -> bool:
        scale = self.first.get("scale")
        by_std = not isinstance(scale, ast.Scale) or build.is_word(scale.value, "std")
        return by_std or "var" in self.used

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
        shift = self.first.get("shift")
        if not isinstance(shift, ast.Shift) or build.is_word(shift.value, "mean"):
            return None, "mean"
        if shift.initial is not None:
            return shift, "learned"
        return shift, "none" if build.is_word(shift.value, "none") else "written"

    def _learned_shift(self, shift: ast.Shift) -> list[ast.AnyStatement]:
        """`shift p[A] = v`: a parameter of that name."""
        assert shift.initial is not None
        named = shift.value
        dims: tuple[ast.Dim, ...] = ()
        if isinstance(named, ast.Index):
            dims = build.dims(named.subscripts)
            named = named.value
        name = named.name if isinstance(named, ast.Name) else "shift_scale"
        item = ast.ParamItem(
            span=shift.span,
            name=ast.Identifier(span=named.span, name=name),
            dims=dims,
            value=shift.initial,
        )
        self.centre = self._fresh("centre")
        product = build.chain(
            shift.span, "*", build.name(shift.span, name), build.name(shift.span, "mean")
        )
        return [
            ast.Param(span=shift.span, items=(item,), trivia=shift.trivia),
            build.let(shift.span, self.centre, product),
        ]

    def _centre(self, span: Span) -> ast.Expr | None:
        """What is subtracted."""
        shift, kind = self._shift()
        if kind == "none":
            return None
        if kind == "mean" or shift is None:
            return build.name(span, "mean")
        if kind == "learned":
            return build.name(span, self.centre)
        return shift.value

    def _mix(self, mix: ast.Mix) -> list[ast.AnyStatement]:
        """Learned convex combinations of the named means and variances."""
        span = mix.span
        self._check_mix(mix)
        axis = self._fresh("K")
        dims = {
            "mean": ast.Dim(
                span=span,
                axis=ast.AxisRef(span=span, name=axis),
                size=build.number(span, len(mix.stats)),
            ),
            "var": ast.Dim(span=span, axis=ast.AxisRef(span=span, name=axis)),
        }
        params = tuple(
            ast.ParamItem(
                span=span,
                name=ast.Identifier(span=span, name=f"{moment}_weight"),
                dims=(dim,),
                value=build.number(span, 1),
            )
            for moment, dim in dims.items()
        )
        done: list[ast.AnyStatement] = [ast.Param(span=span, items=params, trivia=mix.trivia)]
        for moment in dims:
            shares = self._fresh(f"{moment}_share")
            pool = ast.Pool(
                span=span,
                axes=(ast.PoolAxis(span=span, axis=ast.AxisRef(span=span, name=axis)),),
                keywords=()
                if mix.argument is None
                else (ast.Keyword(span=span, name="radius", value=mix.argument),),
            )
            by = ast.Call(
                span=span,
                function=mix.by,
                arguments=(build.name(span, f"{moment}_weight"),),
                over=pool,
            )
            known = mix.by.name in MIXED_BY
            done.append(build.let(span, shares, by if known else ast.Missing(span=span)))
            terms = [
                build.chain(span, "*", build.item(span, shares, i), self._moment(stat, moment))
                for i, stat in enumerate(mix.stats)
            ]
            done.append(build.let(span, moment, build.chain(span, "+", *terms)))
        return done

    def _check_mix(self, mix: ast.Mix) -> None:
        """Report what is no statistic, and what makes no weights."""
        stats = tuple(s.name.name for s in self.norm.statements if isinstance(s, ast.Stat))
        for stat in mix.stats:
            if stat.name not in self.named:
                self.problems.add(UnknownStat(stat.span, stat.name, stats))
        if mix.by.name not in MIXED_BY:
            self.problems.add(UnknownStat(mix.by.span, mix.by.name, MIXED_BY, is_by=True))

    def _moment(self, stat: ast.Identifier, moment: str) -> ast.Expr:
        if stat.name not in self.named:
            return ast.Missing(span=stat.span)
        return build.field(stat, moment)

    def _normalized(self) -> list[ast.AnyStatement]:
        """`let normalized = ...`, or nothing where the default output will say it."""
        if "output" not in self.first or not ({"reduce", "mix", "affine"} & self.first.keys()):
            return []
        value = self._value()
        return [build.let(value.span, "normalized", value)]

    def _output(self) -> ast.AnyStatement:
        value = self._value()
        return ast.Output(span=value.span, items=(ast.OutputItem(span=value.span, value=value),))

    def _value(self) -> ast.Expr:
        """What the clauses produce: shifted, scaled, and with the affine map on it."""
        anchor = self.first.get("reduce") or self.first.get("mix")
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
        affine = self.first.get("affine")
        if isinstance(affine, ast.AffineClause):
            value = build.call(affine.span, "affine", value, per=affine.affine)
        return value

    def _divisor(self, span: Span, centred: ast.Expr) -> ast.Expr | None:
        scale = self.first.get("scale")
        eps = build.name(span, "eps")
        if not isinstance(scale, ast.Scale) or build.is_word(scale.value, "std"):
            return build.call(span, "sqrt", build.chain(span, "+", build.name(span, "var"), eps))
        if build.is_word(scale.value, "none"):
            return None
        for word, statistic in (("l1", "mean"), ("max", "max")):
            reduce = self.first.get("reduce")
            if build.is_word(scale.value, word) and isinstance(reduce, ast.Reduce):
                plain = replace(reduce.pool, keywords=())
                size = build.call(
                    scale.span, statistic, build.call(span, "abs", centred), over=plain
                )
                return build.chain(scale.span, "+", size, eps)
        return scale.value

    def _zero_if_empty(self, reduce: ast.Reduce, value: ast.Expr) -> ast.Expr:
        """A pool in which nothing counts normalizes to zero.

        Masks and weights make one, and so does a node without in-neighbours.
        """
        pool = replace(reduce.pool, keywords=())
        alone = any(a.matrix and not a.matrix.extra and self._is_edges(a.matrix) for a in pool.axes)
        if pool.where is None and pool.weight is None and not alone:
            return value
        span = reduce.span
        weight: ast.Expr = build.call(span, "count", over=pool)
        if any(self.norm.statements[place] is reduce for place in self.tracked):
            train = ast.Keyword(span=span, name="train", value=weight, labelled=True)
            evaluated = ast.Keyword(
                span=span, name="eval", value=build.number(span, 1), labelled=True
            )
            weight = ast.Call(
                span=span,
                function=ast.Identifier(span=span, name="mode"),
                keywords=(train, evaluated),
            )
        holds = ast.Compare(span=span, operator=">", left=weight, right=build.number(span, 0))
        return build.call(span, "where", holds, value, build.number(span, 0))

    def _is_edges(self, matrix: ast.Matrix) -> bool:
        """Whether a matrix is an input that lists edges."""
        inputs = (s for s in self.norm.statements if isinstance(s, ast.Input))
        items = (item for s in inputs for item in s.items if item.name.name == matrix.name)
        return any(item.sort is not None and item.sort.name == "edges" for item in items)

    def _fresh(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name
