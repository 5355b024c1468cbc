"""Expressions drawn at random, each as text and as a function over tensors with named axes.

They stay well conditioned: denominators are at least one, and exponentials at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

import torch
from named_axes import (
    Named,
    Pool,
    blocks,
    causal,
    chunks,
    compare,
    elementwise,
    interleave,
    neighbours,
    number,
    same,
    statistic,
    window,
)
from torch import Tensor

Run = Callable[["Call"], Named]
Way = tuple[str, Callable[["Call"], "tuple[Tensor | None, Tensor | None]"]]


@dataclass
class Call:
    """One call of a norm: its values by name, and what lengths and modes it has."""

    values: dict[str, Named]
    sizes: dict[str, int]
    hypers: Mapping[str, float]
    training: bool
    keeps: bool = True  # whether there are running statistics
    edges: Mapping[str, Tensor] = field(default_factory=dict)
    new_state: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Expr:
    """The text of an expression, its axes, and what it computes.

    Along `cells` it may have one value for each part of the axis instead of each position.
    """

    text: str
    axes: frozenset[str]
    run: Run
    cells: frozenset[str] = frozenset()


def both(a: Expr, b: Expr, text: str, function: Callable[..., Named]) -> Expr:
    full = {x for e in (a, b) for x in e.axes - e.cells}
    return Expr(
        text, a.axes | b.axes, lambda call: function(a.run(call), b.run(call)),
        (a.cells | b.cells) - full,
    )  # fmt: skip


def of(e: Expr, text: str, function: Callable[[Named], Named]) -> Expr:
    return Expr(text, e.axes, lambda call: function(e.run(call)), e.cells)


UNARY: Mapping[str, Callable[[Tensor], Tensor]] = {
    "tanh({})": torch.tanh,
    "sigmoid({})": torch.sigmoid,
    "softplus({})": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "exp(-abs({}))": lambda x: torch.exp(-x.abs()),
    "sqrt(({})^2 + 1)": lambda x: torch.sqrt(x * x + 1),
    "rsqrt(({})^2 + 0.5)": lambda x: 1 / torch.sqrt(x * x + 0.5),
    "log(1.5 + ({})^2)": lambda x: torch.log(1.5 + x * x),
    "(-{})": torch.neg,
    "abs({})": torch.abs,
    "sign({})": torch.sign,
    "sin({})": torch.sin,
    "cos({})": torch.cos,
    "erf({})": torch.erf,
    "relu({})": torch.relu,
    "silu({})": lambda x: x * torch.sigmoid(x),
    "gelu({})": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
    "clamp({}, -1, 1.25)": lambda x: x.clamp(-1, 1.25),
    "clamp({}, max = 0.5)": lambda x: x.clamp(max=0.5),
    "clamp({}, min = -0.75)": lambda x: x.clamp(min=-0.75),
    "({} / 3)": lambda x: x / 3,
    "(1 / (1 + abs({})))": lambda x: 1 / (1 + x.abs()),
    "(({})^2)": lambda x: x * x,
    "(tanh({})^3)": lambda x: torch.tanh(x) ** 3,
    "((1 + abs({}))^0.3)": lambda x: (1 + x.abs()) ** 0.3,
    "((1 + ({})^2)^-1)": lambda x: 1 / (1 + x * x),
    "(0.7 - {})": lambda x: 0.7 - x,
    "(1.3 * {})": lambda x: 1.3 * x,
    "(2^tanh({}))": lambda x: 2 ** torch.tanh(x),
}
BINARY: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "({} + {})": torch.add,
    "({} - {})": torch.sub,
    "({} * {})": torch.mul,
    "({} / (1 + abs({})))": lambda a, b: a / (1 + b.abs()),
    "({} / (({}) ^ 2 + 1))": lambda a, b: a / (b * b + 1),
    "max({}, {})": torch.maximum,
    "min({}, {})": torch.minimum,
}
COMPARISONS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "<": torch.lt, "<=": torch.le, ">": torch.gt, ">=": torch.ge, "!=": torch.ne, "==": torch.eq,
}  # fmt: skip
CUT_BY = {"blocks": blocks, "chunks": chunks, "interleave": interleave}
CUTS = tuple(f"{name}({count})" for name in CUT_BY for count in (2, 4, "parts"))
SUMMED = ("mean", "var", "std", "rms", "l1", "l2", "sum")  # what kernels can measure


@dataclass
class Drawing:
    """What expressions of one norm may be made of."""

    random: Random
    values: list[Expr]
    axes: tuple[str, ...]  # of the first input, in order
    cut: tuple[str, ...] = ()  # axes of lengths that 2 and 4 divide
    masks: list[Expr] = field(default_factory=list)
    weights: list[Expr] = field(default_factory=list)
    indices: dict[str, str] = field(default_factory=dict)  # of which axis
    segments: dict[str, str] = field(default_factory=dict)  # by the offsets of which axis
    edges: dict[str, str] = field(default_factory=dict)
    matrices: dict[str, str] = field(default_factory=dict)
    one_cut: str = "blocks(2)"  # the one way in which all pools cut an axis, where `narrow`
    narrow: bool = False  # what kernels serve: no extremes of wide values
    near: bool = False  # pools that overlap along one axis, of what is pooled along others
    twins: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    # ---- expressions

    def expression(self, depth: int) -> Expr:
        """An expression with about this many operations inside each other."""
        if depth <= 0:
            return self.random.choice(self.values) if self.chance(0.93) else self.literal()
        inner = self.expression(depth - 1)
        kinds = ["unary", "binary", "statistic", "normalize", "choice", "mode", "mixed"]
        kind = self.random.choices(kinds, (20, 25, 25, 15, 6, 4, 5))[0]
        if kind in ("statistic", "normalize") and not inner.axes:
            kind = "unary"
        return getattr(self, kind)(inner, depth)

    def literal(self) -> Expr:
        value = self.random.choice((0.25, 1, 2, 0.1, 1e-3, 0.6180339887498949))
        return Expr(f"{value:.17g}", frozenset(), lambda _: number(value))

    def unary(self, inner: Expr, _: int) -> Expr:
        if self.chance(0.06):
            return of(inner, f"stop({inner.text})", Named.stopped)
        text, function = self.random.choice(list(UNARY.items()))
        return of(inner, text.format(inner.text), lambda v: elementwise(function, v))

    def binary(self, inner: Expr, depth: int) -> Expr:
        other = self.expression(self.random.randrange(depth))
        if self.chance(0.5):
            inner, other = other, inner
        text, function = self.random.choice(list(BINARY.items()))
        text = text.format(inner.text, other.text)
        return both(inner, other, text, lambda a, b: elementwise(function, a, b))

    def choice(self, inner: Expr, depth: int) -> Expr:
        """`where`, and conditions as numbers."""
        condition = self.condition(inner)
        if self.chance(0.3):
            return both(inner, condition, f"({inner.text} * ({condition.text}))",
                        lambda a, b: elementwise(torch.mul, a, b))  # fmt: skip
        other = self.expression(depth - 1)
        pair = both(inner, other, "", lambda a, _: a)
        whole = both(pair, condition, "", lambda a, _: a)

        def run(call: Call) -> Named:
            parts = condition.run(call), inner.run(call), other.run(call)
            return elementwise(lambda c, a, b: torch.where(c != 0, a, b), *parts)

        text = f"where({condition.text}, {inner.text}, {other.text})"
        return Expr(text, whole.axes, run, whole.cells)

    def condition(self, value: Expr) -> Expr:
        sign, function = self.random.choice(list(COMPARISONS.items()))
        other = self.random.choice((self.literal(), *self.values))
        text = f"{value.text} {sign} {other.text}"
        return both(value, other, text, lambda a, b: compare(function, a, b))

    def mode(self, inner: Expr, depth: int) -> Expr:
        other = self.expression(depth - 1)
        pair = both(inner, other, f"mode(train: {inner.text}, eval: {other.text})", lambda a, _: a)

        def run(call: Call) -> Named:
            chosen = inner if call.training else other
            axes = tuple(a for a in (*inner.axes, *other.axes))
            value, sizes = chosen.run(call), call.sizes
            axes = tuple(dict.fromkeys((*value.axes, *sorted(axes))))
            return Named(value.spread(axes, sizes), axes)

        return Expr(pair.text, pair.axes, run, pair.cells)

    def mixed(self, inner: Expr, _: int) -> Expr:
        """`softmax`, and products of an axis with itself."""
        single = [a for a in sorted(inner.axes - inner.cells) if not a.startswith("*")]
        if not single or (self.narrow and len(inner.axes) >= len(self.axes)):
            return of(inner, f"tanh({inner.text})", lambda v: elementwise(torch.tanh, v))
        axis = self.random.choice(single)
        if self.chance(0.5) or self.narrow or len(inner.axes) < 2:
            return of(
                inner, f"softmax({inner.text} over {axis})",
                lambda v: Named(torch.softmax(v.tensor, v.axes.index(axis)), v.axes),
            )  # fmt: skip
        return self.products(inner, axis)

    def products(self, inner: Expr, axis: str) -> Expr:
        """sum_d (mean over the rest of y_c y_d) y_d: a covariance, applied."""
        twin = f"{axis}q"
        rest = self.pool(inner.axes - {axis}, plain=True)
        if rest is None:
            return inner
        text = f"mean(tanh({inner.text}) * tanh({inner.text})[{axis} -> {twin}] over {rest.text})"
        text = f"sum({text} * ({inner.text})[{axis} -> {twin}] over {twin})"

        def run(call: Call) -> Named:
            value = inner.run(call)
            y = elementwise(torch.tanh, value)
            pair = elementwise(torch.mul, y, y.renamed(axis, twin))
            shares = statistic("mean", pair, rest.made(call))
            applied = elementwise(torch.mul, shares, value.renamed(axis, twin))
            return statistic("sum", applied, Pool({twin: None}))

        return Expr(text, inner.axes, run, inner.cells | rest.cells)

    # ---- pools

    def pool(
        self, axes: frozenset[str], cells: frozenset[str] = frozenset(), plain: bool = False,
        wide: bool = False,
    ) -> DrawnPool | None:  # fmt: skip
        """A pool over some of these axes."""
        ordered = [a for a in self.axes if a in axes]
        ordered += [a for a in sorted(axes) if a not in ordered]
        if not ordered:
            return None
        chosen = [a for a in ordered if self.chance(0.5)] or [self.random.choice(ordered)]
        ways = {axis: self.way(axis) for axis in chosen}
        if self.near and len(axes) > 1 and self.chance(0.5):
            ways = self.near_ways(ordered, cells)
        where = weight = None
        zeros = any("zero" in text for text, *_ in ways.values())
        if not plain and not zeros:
            if self.masks and self.chance(0.4):
                where = self.random.choice(self.masks)
            elif self.chance(0.05) and not self.narrow:
                where = self.condition(self.random.choice(self.values))
                where = Expr(f"({where.text})", where.axes, where.run, where.cells)
            if self.weights and self.chance(0.35):
                weight = self.random.choice(self.weights)
        return DrawnPool(ways, where, weight)

    def near_ways(self, ordered: list[str], cells: frozenset[str]) -> dict[str, Way]:
        """One axis by what overlaps, and some or all of the others whole."""
        single = [a for a in ordered if a in self.axes and not a.startswith("*") and a not in cells]
        if not single:
            return {axis: self.way(axis) for axis in ordered}
        near = self.random.choice(single)
        others = [a for a in ordered if a != near and self.chance(0.8)]
        kinds = ["edges"] * 4 if near in self.edges else ["window", "causal"]
        whole: Way = ("", lambda _: (None, None))
        return {a: (a, whole[1]) for a in others} | {
            near: self.way(near, "" if near in self.segments else self.random.choice(kinds))
        }

    def way(self, axis: str, kind: str = "") -> Way:
        """How one axis is pooled: its text, and its matrix in a call."""
        options: list[str] = ["all"] * 4
        single = not axis.startswith("*") and axis in self.axes
        options += ["cut"] * 2 if axis in self.cut else []
        options += ["index"] * 3 if axis in self.indices else []
        if not self.narrow:
            options += ["edges"] * 3 if axis in self.edges else []
            options += ["matrix"] * 3 if axis in self.matrices else []
            options += ["window", "causal"] * (4 if axis in self.segments else single)
        kind = kind or self.random.choice(options)
        r = self.random
        if kind == "cut":
            text = self.one_cut if self.narrow else r.choice(CUTS)
            name, _, count = text.rstrip(")").partition("(")
            if count == "parts":
                self.used.add("parts")

            def cut(call: Call) -> tuple[Tensor, None]:
                number = int(call.hypers["parts"]) if count == "parts" else int(count)
                return CUT_BY[name](call.sizes[axis], number), None

            return f"{axis}: {text}", cut
        if kind == "index":
            name = self.indices[axis]
            return f"{axis}: {name}", lambda call: (same(call.values[name].tensor), None)
        if kind == "edges":
            name, itself = self.edges[axis], self.chance(0.5)
            text = f"{axis}: {name}" + (" with self" if itself else "")
            return text, lambda call: (neighbours(call.sizes[axis], call.edges[name], itself), None)
        if kind == "matrix":
            name = self.matrices[axis]
            return f"{axis}: {name}", lambda call: (call.values[name].tensor, None)
        segments = self.segments.get(axis, "")  # which no window may cross
        within = f" within {segments}" if segments else ""

        def inside(call: Call, matrix: Tensor) -> Tensor:
            return matrix * same(call.values[segments].tensor) if within else matrix

        if kind == "causal":
            reach = r.choice((None, 1, 2, 3))
            text = f"{axis}: causal" + ("" if reach is None else f"({reach})") + within
            return text, lambda call: (inside(call, causal(call.sizes[axis], reach)), None)
        if kind == "window":
            width, edge = r.choice((1, 2, 3, 4, 5)), r.choice(("", "truncate", "zero", "replicate"))
            edge = "" if within else edge
            text = f"{axis}: window({width}{f', edge = {edge}' if edge else ''}){within}"

            def made(call: Call) -> tuple[Tensor, Tensor | None]:
                matrix, outside = window(call.sizes[axis], width, edge == "replicate")
                return inside(call, matrix), outside if edge == "zero" else None

            return text, made
        return axis, lambda _: (None, None)

    def statistic(self, inner: Expr, _: int) -> Expr:
        wide = len(inner.axes) >= len(self.axes)
        kinds = list(SUMMED)
        if not (self.narrow and wide):
            kinds += ["max", "min"]
        kinds += ["count"]
        kind = self.random.choice(kinds)
        pool = self.pool(inner.axes, inner.cells)
        assert pool is not None
        if kind == "count":
            if self.narrow and pool.where is None and pool.weight is None:
                kind = "mean"
            else:
                return self.counted(inner, pool)
        ddof = int(kind in ("var", "std") and self.chance(0.15) and not (self.narrow))
        about = None
        option = ", ddof = 1" if ddof else ""
        if kind == "var" and not ddof and self.chance(0.2):
            about = self.about(inner, pool)
            option = f", about = {about.text}"
        return pooled(
            kind, inner, pool, f"{kind}({inner.text} over {pool.text}{option})", ddof, about
        )

    def about(self, inner: Expr, pool: DrawnPool) -> Expr:
        if self.chance(0.3):
            return self.literal()
        centre = pooled("mean", inner, pool, f"mean({inner.text} over {pool.text})")
        return of(centre, f"0.7 * {centre.text}", lambda v: elementwise(lambda t: 0.7 * t, v))

    def counted(self, inner: Expr, pool: DrawnPool) -> Expr:
        """A count knows the axes of its pool, and of what weighs, alone."""
        text = f"log(1 + count(over {pool.text}))"
        axes = frozenset(pool.ways) | pool.more_axes
        gone = {a for a, (t, _) in pool.ways.items() if t == a}

        def run(call: Call) -> Named:
            ones = Named(
                torch.ones([call.sizes[a] for a in pool.ways], dtype=torch.float64),
                tuple(pool.ways),
            )
            return elementwise(
                lambda n: torch.log(1 + n), statistic("count", ones, pool.made(call))
            )

        return Expr(text, axes - gone, run, pool.cells - gone)

    def normalize(self, inner: Expr, _: int) -> Expr:
        pool = self.pool(inner.axes, inner.cells)
        assert pool is not None
        ddof = int(self.chance(0.1) and not self.narrow)
        text = f"normalize({inner.text} over {pool.text}{', ddof = 1' if ddof else ''})"
        return Expr(
            text, inner.axes | pool.more_axes,
            lambda call: normalized(inner.run(call), pool.made(call), call.hypers["eps"], ddof),
            (inner.cells | pool.cells) - (inner.axes - inner.cells),
        )  # fmt: skip


@dataclass(frozen=True)
class DrawnPool:
    """A pool as text, and its matrices and weights in a call."""

    ways: Mapping[str, tuple[str, Callable[[Call], tuple[Tensor | None, Tensor | None]]]]
    where: Expr | None = None
    weight: Expr | None = None

    @property
    def text(self) -> str:
        text = ", ".join(text for text, _ in self.ways.values())
        text += f" where {self.where.text}" if self.where else ""
        return text + (f" weight {self.weight.text}" if self.weight else "")

    @property
    def more_axes(self) -> frozenset[str]:
        """Axes that a mask or a weight has, pooled or not."""
        weight_axes = [e.axes for e in (self.where, self.weight) if e is not None]
        return frozenset().union(*weight_axes)

    @property
    def cells(self) -> frozenset[str]:
        """Axes of which the pools may be kept by part."""
        return frozenset(a for a, (text, _) in self.ways.items() if text != a)

    def made(self, call: Call) -> Pool:
        made = {axis: way(call) for axis, (_, way) in self.ways.items()}
        beyond = None
        if any(outside is not None for _, outside in made.values()):
            none = torch.zeros(1, dtype=torch.float64)
            beyond = {a: none if outside is None else outside for a, (_, outside) in made.items()}
        return Pool(
            {axis: matrix for axis, (matrix, _) in made.items()},
            self.where.run(call) if self.where else None,
            self.weight.run(call) if self.weight else None,
            beyond,
            frozenset(a for a, (text, _) in self.ways.items() if text == f"{a}: near"),
        )


def pooled(
    kind: str, inner: Expr, pool: DrawnPool, text: str, ddof: int = 0, about: Expr | None = None
) -> Expr:
    gone = {a for a, (t, _) in pool.ways.items() if t == a}

    def run(call: Call) -> Named:
        centre = about.run(call) if about else None
        return statistic(kind, inner.run(call), pool.made(call), ddof, centre)

    axes = (inner.axes | pool.more_axes) - gone
    return Expr(text, axes, run, (inner.cells | pool.cells) - gone)


def normalized(value: Named, pool: Pool, eps: float, ddof: int = 0) -> Named:
    """By the mean and the variance of the pool; zero where nothing counts."""
    mean, var = statistic("mean", value, pool), statistic("var", value, pool, ddof)
    total = statistic("count", value, pool)
    return scaled(value, mean, var, total, eps)


def scaled(value: Named, mean: Named, var: Named, total: Named, eps: float) -> Named:
    centred = elementwise(torch.sub, value, mean)
    divided = elementwise(lambda c, v: c / torch.sqrt(v + eps), centred, var)
    return elementwise(lambda d, n: torch.where(n != 0, d, 0.0), divided, total)
