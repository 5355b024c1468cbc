"""Print a sweep as C: loops over tiles of the data, which compute wide values and reduce them.

A tile has some rows along the vector axis. Its rows go along further axes over which a statistic is
pooled. Sums over a tile are of type `real`; accumulators in double add them up. A variance takes
two passes over a tile: the first gives the mean, and the second also sums the deviations from it,
which corrects the mean's rounding error. Tiles are joined by Chan's rule.
"""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.nodes import Ref
from metanorm.nest.nest import Block
from metanorm.plan.sweeps import Reduction
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Assign,
    Conditional,
    Declare,
    Element,
    Expr,
    ExprStmt,
    Function,
    If,
    Infix,
    Name,
    Prefix,
    Stmt,
)
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.elements import Elements
from metanorm.targets.native.joining import JOIN_RULES, join_rule
from metanorm.targets.native.members import accumulator, shared
from metanorm.targets.native.moments import plain_moments
from metanorm.targets.native.narrow import NarrowPrinter
from metanorm.targets.native.tiling import ELEMENT, LENGTH, ONE, TILE, ZERO, Tiling, row_loop

SECOND_PASS_SUMS = ("drift", "squares")  # sums of the second pass over a tile

Numbered = Sequence[tuple[int, Reduction]]
Writes = Sequence[tuple[str, Ref]]


class SweepPrinter:
    """Prints one sweep of a kernel."""

    def __init__(self, context: KernelContext, narrow: NarrowPrinter, sweep: Block) -> None:
        self.ctx = context
        self.cell_printer = narrow
        self.sweep = sweep
        self.numbered_reductions = [
            (number, context.nest.reductions[number]) for number in sweep.measures
        ]
        measured = [reduction for _, reduction in self.numbered_reductions]
        self.tiling = Tiling(context, measured, context.loops[len(context.nest.extra_axes) :])
        self.elements = Elements(self.tiling, narrow.values, sweep)
        self.plain_moments = plain_moments(self.tiling, narrow, sweep)

    # ---- the function

    def function(self, name: str, doc: str) -> Function:
        """The function of the sweep over the range `r` of a worker."""
        body: list[Stmt] = [Declare("const values *", "v", Name("values_"))]
        if not self.numbered_reductions:  # it returns at once if no output is wanted
            has_output: Expr | None = None
            for output, _ in self.sweep.writes:
                output_data = cir.dot(shared(self.ctx.name(output)), "data")
                has_output = (
                    output_data if has_output is None else Infix("||", has_output, output_data)
                )
            if has_output is not None:
                body.append(If(Prefix("!", has_output), (cir.ReturnVoid(),)))
        if self.plain_moments is not None:
            body += self.tiling.outer_loops([self.plain_moments])
        else:
            names = [self.ctx.name(read) for read in self.sweep.reads]
            names += [self.ctx.name(output) for output, _ in self.sweep.writes]
            body += [Declare("const tensor", name, shared(name)) for name in names]
            body += [Declare("real", f"{name}_row", length=TILE) for name in names]
            body += self._loops()
        parameters = (
            ("const void *", "values_"), ("const range *", "r"), ("const accumulator *", "a"),
        )  # fmt: skip
        return Function(doc, "void", name, parameters, tuple(body))

    def _loops(self) -> list[Stmt]:
        return self.tiling.outer_loops(self._tile())

    # ---- one tile

    def _tile(self) -> list[Stmt]:
        """First what there is once for each element, and then what it has several of."""
        parts: dict[tuple[str, ...], list[tuple[int, Reduction]]] = {(): []}
        for number, reduction in self.numbered_reductions:
            axes = self.tiling.extra_axes(reduction)
            parts.setdefault(axes, []).append((number, reduction))
        statements: list[Stmt] = []
        for axes, reductions in parts.items():
            writes = () if axes else self.sweep.writes
            if reductions or writes:
                needed = _operands(reductions) if axes and self.tiling.rows else set()
                part = [*self.elements.gather(needed), *self._tile_part(reductions, writes)]
                statements += self.tiling.over_extra(axes, part)
        return statements

    def _tile_part(self, reductions: Numbered, writes: Writes) -> list[Stmt]:
        statements: list[Stmt] = []
        tiled = [
            (number, reduction)
            for number, reduction in reductions
            if not self.tiling.by_row(reduction)
        ]
        statements += self._declare_sums(tiled)
        statements += self.tiling.over_rows(self._row(reductions, writes))
        for number, reduction in tiled:
            statements += self._finalize_reduction(number, reduction)
        return statements

    def _parts(self, number: int, reduction: Reduction) -> list[str]:
        """The variables that sum over a tile: the values, and the weights if they differ."""
        weighted = len(reduction.row.parts) > 1 and reduction.is_weighted
        return [self._total_name(number, reduction), *([f"weight_{number}"] if weighted else [])]

    def _total_name(self, number: int, reduction: Reduction) -> str:
        """The variable that joins the values of a tile."""
        return f"{join_rule(reduction.row).part}_{number}"

    def _initial_sum(self, number: int, reduction: Reduction, part: str) -> Expr:
        return (
            join_rule(reduction.row).identity
            if part == self._total_name(number, reduction)
            else ZERO
        )

    def _declare_sums(self, reductions: Numbered) -> list[Stmt]:
        """The declarations of sums over a tile: numbers, and rows that one loop fills."""
        declarations: list[Stmt] = []
        initial: list[Stmt] = []
        for number, reduction in reductions:
            for part in self._parts(number, reduction):
                first = self._initial_sum(number, reduction, part)
                if self.tiling.by_column(reduction):
                    declarations.append(Declare("real", part, length=TILE))
                    initial.append(Assign(Element(Name(part), ELEMENT), "=", first))
                else:
                    declarations.append(Declare("real", part, first))
        return [*declarations, *([row_loop(initial)] if initial else [])]

    def _row(self, reductions: Numbered, writes: Writes) -> list[Stmt]:
        """The statements of a row: its reads, a loop over its elements, and reductions per row."""
        statements: list[Stmt] = []
        row_reductions = [
            (number, reduction) for number, reduction in reductions if self.tiling.by_row(reduction)
        ]
        for number, reduction in row_reductions:
            if not self.tiling.by_column(reduction):
                parts = self._parts(number, reduction)
                statements += [
                    Declare("real", part, self._initial_sum(number, reduction, part))
                    for part in parts
                ]
        inner: list[Stmt] = []
        reduced: list[tuple[str, str]] = []
        pointers: list[Stmt] = []
        for number, reduction in reductions:
            if self.tiling.by_column(reduction) and self.tiling.by_row(reduction):
                cell = self._cell(number, reduction)
                pointers.append(
                    Declare(
                        "double *",
                        f"cells_{number}",
                        Infix("+", cir.dot(accumulator(number), "total"), cell),
                    )
                )
        needed = {ref for _, ref in writes} | _operands(reductions)
        reading, inner = self.elements.reads_and_declarations(needed)
        if reductions and (prefetch_point := self.tiling.prefetch_point()):
            names = (cir.address(Name(self.ctx.name(read))) for read in self.sweep.reads)
            reading += [
                ExprStmt(Apply("prefetch", (name, prefetch_point, LENGTH))) for name in names
            ]
        for number, reduction in reductions:
            reduced += self._accumulate(number, reduction, inner)
        for output, ref in writes:
            name = self.ctx.name(output)
            inner.append(
                Assign(
                    Element(Name(f"{name}_here"), ELEMENT), "=", self.elements.element_value(ref)
                )
            )
            at_point = (cir.address(Name(name)), self.tiling.row_point())
            row_pointer = Apply("target", (*at_point, Name(f"{name}_row")))
            pointers.append(Declare("real *", f"{name}_here", row_pointer))
        statements += [*reading, *pointers, row_loop(tuple(inner), tuple(reduced))]
        for output, _ in writes:
            name = self.ctx.name(output)
            at_point = (cir.address(Name(name)), self.tiling.row_point())
            statements.append(ExprStmt(Apply("written", (*at_point, LENGTH, Name(f"{name}_row")))))
        for number, reduction in row_reductions:
            statements += self._finalize_reduction(number, reduction)
        return statements

    # ---- accumulating

    def _weight(self, reduction: Reduction) -> Expr | None:
        """The weight of an element; `None` if every element has weight one."""
        weight = None if reduction.weight is None else self.elements.element_value(reduction.weight)
        if reduction.where is None:
            return weight
        counts = Infix("!=", self.elements.element_value(reduction.where), ZERO)
        return Conditional(counts, ONE if weight is None else weight, ZERO)

    def _weighted(self, reduction: Reduction, value: Expr) -> Expr:
        weight = self._weight(reduction)
        if weight is None:
            return value
        weighted = value
        if reduction.weight is not None and reduction.row.weighs:
            weighted = Infix("*", weight, value)
        return Conditional(Infix("!=", weight, ZERO), weighted, join_rule(reduction.row).identity)

    def _accumulate(
        self, number: int, reduction: Reduction, inner: list[Stmt]
    ) -> list[tuple[str, str]]:
        """Append the statements that accumulate an element. Returns the variables that the loop
        reduces, with their operators."""
        weight, join = self._weight(reduction), join_rule(reduction.row)
        contributions = [
            (
                self._total_name(number, reduction),
                join,
                self._weighted(reduction, self.elements.element_value(reduction.value)),
            )
        ]
        if weight is not None and len(reduction.row.parts) > 1:
            contributions.append((f"weight_{number}", JOIN_RULES["add"], weight))
        reduced = []
        for part, rule, value in contributions:
            if not self.tiling.by_column(reduction):
                inner.append(rule.join_statement(Name(part), value))
                reduced.append((part, rule.operator))
            elif self.tiling.by_row(reduction):
                inner.append(rule.join_statement(Element(Name(f"cells_{number}"), ELEMENT), value))
            else:
                inner.append(rule.join_statement(Element(Name(part), ELEMENT), value))
        return reduced

    def _cell(self, number: int, reduction: Reduction) -> Expr:
        """The index of a cell in its accumulator, or of the first cell of a row."""
        return self.cell_printer.cell(cir.address(accumulator(number)), reduction, self.tiling.at)

    def _finalize_reduction(self, number: int, reduction: Reduction) -> list[Stmt]:
        """The statements at the end of a row or tile, which join its sums into the accumulator."""
        if reduction.kind == "sum":
            if self.tiling.by_column(reduction) and self.tiling.by_row(reduction):
                return []
            total = Infix("+", cir.dot(accumulator(number), "total"), self._cell(number, reduction))
            if self.tiling.by_column(reduction):
                return [ExprStmt(Apply("add_up", (total, Name(f"sum_{number}"), LENGTH)))]
            return [
                Assign(
                    Element(cir.dot(accumulator(number), "total"), self._cell(number, reduction)),
                    "+=",
                    Name(f"sum_{number}"),
                )
            ]
        weighted = self._weight(reduction) is not None
        cell = self._cell(number, reduction)
        count: Expr = LENGTH if not self.tiling.by_column(reduction) else ONE
        if not self.tiling.by_row(reduction):
            row_count = Infix("-", Name("end"), Name("begin"))
            count = cir.product(row_count, count)
        if reduction.row.rule == "moments":
            return self._finalize_moments(number, reduction, cell, count, weighted)
        return self._finalize_single(number, reduction, cell, count, weighted)

    def _finalize_single(
        self, number: int, reduction: Reduction, cell: Expr, count: Expr, weighted: bool
    ) -> list[Stmt]:
        """Join the sum and the weight of a reduction that is not a variance."""
        total, weight = (cir.dot(accumulator(number), part) for part in ("total", "weight"))
        tile_total, join = Name(self._total_name(number, reduction)), join_rule(reduction.row)
        if not self.tiling.by_column(reduction):
            added_weight = Name(f"weight_{number}") if weighted else Prefix("(double)", count)
            return [
                join.join_statement(Element(total, cell), tile_total),
                Assign(Element(weight, cell), "+=", added_weight),
            ]
        statements: list[Stmt] = []
        if join.macro:
            each = Element(total, Infix("+", cell, ELEMENT))
            statements.append(row_loop((join.join_statement(each, Element(tile_total, ELEMENT)),)))
        else:
            statements.append(
                ExprStmt(Apply("add_up", (Infix("+", total, cell), tile_total, LENGTH)))
            )
        if weighted:
            statements.append(
                ExprStmt(
                    Apply("add_up", (Infix("+", weight, cell), Name(f"weight_{number}"), LENGTH))
                )
            )
        else:
            spread = Element(weight, Infix("+", cell, ELEMENT))
            statements.append(row_loop((Assign(spread, "+=", Prefix("(double)", count)),)))
        return statements

    def _finalize_moments(
        self, number: int, reduction: Reduction, cell: Expr, count: Expr, weighted: bool
    ) -> list[Stmt]:
        columns = self.tiling.by_column(reduction)

        def of(part: str) -> Expr:
            return (
                Element(Name(f"{part}_{number}"), ELEMENT) if columns else Name(f"{part}_{number}")
            )

        weight: Expr = of("weight") if weighted else Prefix("(real)", count)
        centre: Expr = Infix("/", of("sum"), weight)
        if weighted:
            centre = Conditional(Infix(">", weight, ZERO), centre, ZERO)
        statements: list[Stmt] = []
        if columns:
            statements += [
                Declare("real", f"{part}_{number}", length=TILE)
                for part in ("centre", *SECOND_PASS_SUMS)
            ]
            cleared = (Assign(of(part), "=", ZERO) for part in SECOND_PASS_SUMS)
            statements.append(row_loop((Assign(of("centre"), "=", centre), *cleared)))
        else:
            statements.append(Declare("const real", f"centre_{number}", centre))
            statements += [Declare("real", f"{part}_{number}", ZERO) for part in SECOND_PASS_SUMS]
        needed = {x for x in (reduction.value, reduction.where, reduction.weight) if x is not None}
        reading, inner = self.elements.reads_and_declarations(needed)
        gap = Declare(
            "const real",
            "gap",
            Infix("-", self.elements.element_value(reduction.value), of("centre")),
        )
        square = self._weighted(reduction, Infix("*", Name("gap"), Name("gap")))
        drift = self._weighted(reduction, Name("gap"))
        inner += [gap, Assign(of("drift"), "+=", drift), Assign(of("squares"), "+=", square)]
        reduced = () if columns else tuple((f"{part}_{number}", "+") for part in SECOND_PASS_SUMS)
        second_pass = [*reading, row_loop(tuple(inner), reduced)]
        if not self.tiling.by_row(reduction):
            statements += self.tiling.over_rows(second_pass)
        else:  # the row is still at hand
            statements.append(second_pass[-1])
        place = (cir.address(accumulator(number)), cell)
        added_weight: Expr = Name(f"weight_{number}") if weighted else Prefix("(double)", count)
        sums = (added_weight, *(Name(f"{part}_{number}") for part in ("centre", *SECOND_PASS_SUMS)))
        if not columns:
            return [*statements, ExprStmt(Apply("merge_at", (*place, *sums)))]
        function = "merge_each" if weighted else "merge_alike"
        return [*statements, ExprStmt(Apply(function, (*place, *sums, LENGTH)))]


def _operands(reductions: Numbered) -> set[Ref]:
    """What reductions read of each element."""
    read = (ref for _, r in reductions for ref in (r.value, r.where, r.weight))
    return {ref for ref in read if ref is not None}
