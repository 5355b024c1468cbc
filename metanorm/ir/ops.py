"""The operation table: a row for each operation of the language.

The checker, `metanorm explain`, the reference page and the editor grammar read this table. The
oracle and every target have one entry for each elementwise row; a test compares them. To add an
operation, add a row here and an entry there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Group = Literal["operator", "elementwise", "statistic", "form", "matrix", "draw"]


@dataclass(frozen=True, slots=True)
class Operation:
    """A row. A parameter that ends in `?` is optional. Specs cannot use an internal row."""

    name: str
    group: Group
    usage: str
    meaning: str
    parameters: tuple[str, ...] = ()
    boolean: bool = False
    internal: bool = False
    whole: bool = False  # whether its results are positions of an axis
    # Functions of two values that the checker makes of it, in order, by the parameter behind `x`.
    steps: tuple[tuple[str, str], ...] = ()

    @property
    def summary(self) -> str:
        """The first sentence of the meaning."""
        return self.meaning.partition(". ")[0].rstrip(".")

    @property
    def takes_over(self) -> bool:
        """Whether calls name axes behind `over`, as the usage shows."""
        return "over " in self.usage

    @property
    def min_arguments(self) -> int:
        """The number of arguments that are not optional."""
        return sum(not p.endswith("?") for p in self.parameters)


def _function(name: str, meaning: str) -> Operation:
    return Operation(name, "elementwise", f"{name}(x)", meaning, ("x",))


def _operator(name: str, usage: str, meaning: str, boolean: bool = False) -> Operation:
    return Operation(name, "operator", usage, meaning, ("a", "b"), boolean=boolean)


def _statistic(name: str, meaning: str) -> Operation:
    return Operation(name, "statistic", f"{name}(x over P)", meaning, ("x",))


def _form(name: str, usage: str, meaning: str, *parameters: str) -> Operation:
    return Operation(name, "form", usage, meaning, parameters)


def _matrix(name: str, usage: str, meaning: str, *parameters: str) -> Operation:
    return Operation(name, "matrix", usage, meaning, parameters)


def _draw(
    name: str, usage: str, meaning: str, *parameters: str, boolean: bool = False
) -> Operation:
    return Operation(name, "draw", usage, meaning, parameters, boolean=boolean)


_ROWS = (
    _operator("add", "a + b", "The sum."),
    _operator("sub", "a - b", "The difference."),
    _operator("mul", "a * b", "The product."),
    _operator("div", "a / b", "The quotient."),
    _operator("pow", "a^b", "The power. A whole exponent takes a base of any sign."),
    Operation("neg", "operator", "-a", "The negative.", ("a",)),
    _operator("lt", "a < b", "Whether a is less than b.", boolean=True),
    _operator("le", "a <= b", "Whether a is at most b.", boolean=True),
    _operator("eq", "a == b", "Whether a equals b.", boolean=True),
    _operator("ne", "a != b", "Whether a differs from b.", boolean=True),
    _operator("ge", "a >= b", "Whether a is at least b.", boolean=True),
    _operator("gt", "a > b", "Whether a is greater than b.", boolean=True),
    _function("sqrt", "The square root."),
    _function("rsqrt", "One over the square root."),
    _function("exp", "The exponential."),
    _function("log", "The natural logarithm."),
    _function("abs", "The absolute value."),
    _function("sign", "-1, 0 or 1; no gradient flows through it."),
    _function(
        "round",
        "The nearest whole number, of two the even one. Its gradient is that of x.",
    ),
    _function("sin", "The sine."),
    _function("cos", "The cosine."),
    _function("tanh", "The hyperbolic tangent."),
    _function("erf", "The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x."),
    _function("sigmoid", "1 / (1 + exp(-x))."),
    _function("softplus", "log(1 + exp(x))."),
    _function("relu", "max(x, 0)."),
    _function("silu", "x * sigmoid(x)."),
    _function("gelu", "x * (1 + erf(x / sqrt(2))) / 2."),
    Operation(
        "clamp",
        "elementwise",
        "clamp(x, min, max)",
        "x, but at least `min` and at most `max`; one may be left out: `clamp(x, max = 1)`. At a "
        "bound, `x` has the gradient.",
        ("x", "min?", "max?"),
        steps=(("min", "clamp_min"), ("max", "clamp_max")),
    ),
    Operation("min", "elementwise", "min(a, b)", "The smaller one.", ("a", "b")),
    Operation("max", "elementwise", "max(a, b)", "The larger one.", ("a", "b")),
    Operation(
        "where",
        "elementwise",
        "where(c, a, b)",
        "a where the condition c holds, else b. What is not chosen may be NaN; a NaN in its "
        "derivative reaches the gradient, as in torch.",
        ("c", "a", "b"),
    ),
    _statistic("sum", "The sum over each pool, weighted by the matrix entries as they are."),
    _statistic("mean", "The mean over each pool."),
    _statistic(
        "var",
        "The variance over each pool, total: it includes the spread between pooled cells. Biased "
        "unless `ddof = 1`. With `about = e`, the mean of (x - e)^2, with e as at the result; "
        "zero, too, where there is nothing to pool.",
    ),
    _statistic("std", "sqrt(var), with derivative zero where the variance is zero."),
    _statistic("rms", "sqrt(mean(x^2)), with derivative zero at zero."),
    _statistic("l1", "The sum of absolute values."),
    _statistic("l2", "sqrt(sum(x^2)), with derivative zero at zero."),
    _statistic(
        "max",
        "The largest value of each pool; equal ones share the gradient.",
    ),
    _statistic(
        "min",
        "The smallest value of each pool; equal ones share the gradient.",
    ),
    _statistic(
        "median",
        "The middle value of each pool, or the mean of the two middle ones, as in NumPy. Its "
        "gradient goes to these. It pools whole axes and blocks, and takes no `weight`.",
    ),
    Operation(
        "quantile",
        "statistic",
        "quantile(x over P, q = 0.9)",
        "The value below which a share q of each pool lies, between its neighbours as in "
        "`torch.quantile`. It pools as `median` does, which is the one half.",
        ("x",),
    ),
    _form(
        "count",
        "count(over P)",
        "How many elements each pool holds; with `where` or `weight`, their total weight.",
    ),
    _form(
        "moments",
        "moments(x over P)",
        "Mean and variance of each pool: `m.mean` and `m.var`. With `track m` they come from "
        "running averages in eval mode.",
        "x",
    ),
    _form(
        "normalize",
        "normalize(x over P)",
        "(x - mean) / sqrt(var + eps) with the moments over P; zero where a pool weighs nothing.",
        "x",
    ),
    _form(
        "affine",
        "affine(e per A)",
        "weight * e + bias, learned, with one weight and one bias for each position of the axes A. "
        "`per weight[A]` learns the weight alone.",
        "e",
    ),
    _form(
        "mode",
        "mode(train: a, eval: b)",
        "a in training mode, b in eval mode.",
        "train",
        "eval",
    ),
    _form("stop", "stop(e)", "e, without its gradient.", "e"),
    _form(
        "cells",
        "output y, cells(m)",
        "m as a further output with one row for each cell, such as each group or block, instead of "
        "being spread over the positions of the axis.",
        "m",
    ),
    _form(
        "cast",
        "cast(e)",
        "e rounded to the dtype of the first input, or as `cast(e like h)` and "
        "`cast(e as bfloat16)` say. The gradient is rounded too, but not to a dtype of eight bits.",
        "e",
    ),
    _form("size", "size(A)", "The length of axis A."),
    _form("position", "position(A)", "0, 1, 2, ... along axis A."),
    _form(
        "softmax",
        "softmax(x over A)",
        "exp(x) over its sum along axis A: positive weights that sum to one.",
        "x",
    ),
    _form(
        "sparsestmax",
        "sparsestmax(x over A, radius = r)",
        "Weights that sum to one, sparser as the radius grows (Shao et al., 2019).",
        "x",
    ),
    _form(
        "concat",
        "concat(a, b over C)",
        "The values on the runs of axis C, one behind the other: "
        "`axis C = (I = half) + B`, then `concat(x[I], 2 * x[B] over C)`.",
        "a",
        "b",
    ),
    _form(
        "scan",
        "scan(x over T, decay = a, start = s)",
        "The state m[t] = a[t] * m[t - 1] + x[t] after each position of axis T. Before the first "
        "one it is s, or zero. `m.before` is the state before each position; with "
        "`reverse = true`, steps go from the last position to the first.",
        "x",
    ),
    _matrix("blocks", "C: blocks(g)", "g equal consecutive blocks of the axis.", "g"),
    _matrix("chunks", "C: chunks(k)", "Consecutive blocks of k positions.", "k"),
    _matrix("interleave", "C: interleave(g)", "Positions that are equal modulo g.", "g"),
    _matrix(
        "window",
        "W: window(k, edge = truncate)",
        "A centred window of k positions. Beyond the border there is nothing (`truncate`), zeros "
        "(`zero`) or the nearest position again (`replicate`).",
        "k",
        "edge?",
    ),
    _matrix(
        "causal",
        "T: causal(k)",
        "This position and those before it; the last k of them where k is given.",
        "k?",
    ),
    _draw(
        "normal",
        "normal(mean, std)",
        "Normally distributed numbers: as an initial value, or in the `train` side of a mode with "
        "one for each position of the axes behind `per`, as in `normal(0, 0.1 per N, C)`.",
        "mean",
        "std",
    ),
    _draw(
        "uniform",
        "uniform(low, high)",
        "Numbers that are equally likely everywhere from `low` to `high`: as an initial value, or "
        "in the `train` side of a mode, as in `uniform(0, 1 per N)`.",
        "low",
        "high",
    ),
    _draw(
        "bernoulli",
        "bernoulli(p per A)",
        "Conditions that hold with the probability p, one for each position of the axes A, in the "
        "`train` side of a mode: `where(bernoulli(0.9 per N), a, b)`.",
        "p",
        boolean=True,
    ),
    Operation(
        "permutation",
        "draw",
        "permutation(per A)",
        "The positions of an axis in random order, in the `train` side of a mode: with "
        "`let other = permutation(per N)`, `x[other]` is x with its samples in that order.",
        whole=True,
    ),
    Operation(
        "clamp_min",
        "elementwise",
        "clamp(x, min = a)",
        "The larger one of x and a; equal ones give their gradient to x.",
        ("x", "a"),
        internal=True,
    ),
    Operation(
        "clamp_max",
        "elementwise",
        "clamp(x, max = a)",
        "The smaller one of x and a; equal ones give their gradient to x.",
        ("x", "a"),
        internal=True,
    ),
    Operation(
        "rescale",
        "elementwise",
        "a * (x - m) + b",
        "All that a chain of affine maps does to x; the scale a is one factor or two.",
        ("x", "m", "b", "a", "a2?"),
        internal=True,
    ),
    Operation(
        "root",
        "elementwise",
        "sqrt(x)",
        "The square root, with derivative zero at zero.",
        ("x",),
        internal=True,
    ),
    Operation(
        "unbiased",
        "elementwise",
        "v * n / (n - 1)",
        "A biased variance of n values made unbiased; as it is where n is at most one.",
        ("v", "n"),
        internal=True,
    ),
)

# Functions that programs have.
ELEMENTWISE: Mapping[str, Operation] = {
    row.name: row for row in _ROWS if row.group in ("operator", "elementwise") and not row.steps
}
# Functions that cost no more to compute again than their result costs to read.
CHEAP_FUNCTIONS = frozenset("add sub mul div neg where eq ne".split())
# Statistics that need sorted values: they have no kernels.
ORDERED = frozenset({"median", "quantile"})
STATISTICS: Mapping[str, Operation] = {row.name: row for row in _ROWS if row.group == "statistic"}
# Statistics that programs have: the checker makes the others of these.
POOLED_STATISTICS = STATISTICS.keys() - {"std", "rms", "median"}
FORMS: Mapping[str, Operation] = {row.name: row for row in _ROWS if row.group == "form"}
MATRICES: Mapping[str, Operation] = {row.name: row for row in _ROWS if row.group == "matrix"}
DRAWS: Mapping[str, Operation] = {row.name: row for row in _ROWS if row.group == "draw"}
STRUCTURED = ("eye", "ones")  # names of matrices, as defaults of hyperparameters

OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
COMPARISONS = {"<": "lt", "<=": "le", "==": "eq", "!=": "ne", ">=": "ge", ">": "gt"}

# Functions that a spec may call by name.
FUNCTIONS: Mapping[str, Operation] = {
    row.name: row for row in _ROWS if row.group == "elementwise" and not row.internal
}
CALLABLE = sorted({*FUNCTIONS, *STATISTICS, *FORMS, *DRAWS})


def operations(name: str) -> list[Operation]:
    """The public rows of a name; `max` has two."""
    return [row for row in _ROWS if row.name == name and not row.internal]


def public() -> list[Operation]:
    """The rows that a spec can use, in the order of the table."""
    return [row for row in _ROWS if not row.internal]
