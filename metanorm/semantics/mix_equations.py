"""The equations of `mix`: learned convex combinations of named means and variances."""

from __future__ import annotations

from collections.abc import Callable, Collection

from metanorm.syntax import ast, build

MIX_FUNCTIONS = ("softmax", "sparsestmax")


def mix_equations(
    mix: ast.Mix, defined_names: Collection[str], fresh_name: Callable[[str], str]
) -> list[ast.AnyStatement]:
    """The learned convex combinations of named means and variances."""
    span = mix.span
    axis = fresh_name("K")
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
    statements: list[ast.AnyStatement] = [ast.Param(span=span, items=params, trivia=mix.trivia)]
    for moment in dims:
        shares = fresh_name(f"{moment}_share")
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
        is_known = mix.by.name in MIX_FUNCTIONS
        statements.append(build.let(span, shares, by if is_known else ast.Missing(span=span)))
        terms = [
            build.chain(
                span, "*", build.item(span, shares, i), _moment(stat, moment, defined_names)
            )
            for i, stat in enumerate(mix.stats)
        ]
        statements.append(build.let(span, moment, build.chain(span, "+", *terms)))
    return statements


def _moment(stat: ast.Identifier, moment: str, defined_names: Collection[str]) -> ast.Expr:
    if stat.name not in defined_names:
        return ast.Missing(span=stat.span)
    return build.field(stat, moment)
