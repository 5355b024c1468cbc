"""The derivative of each elementwise function: what of an adjoint `d` goes to each argument.

A row gets the builder, the adjoint of the result, the arguments and the result, and gives one
value for each argument, or `None` where no gradient flows.

Where no adjoint arrives, a factor that is NaN there must not make one: what has to be left out
for that, the builder knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from metanorm.ir.nodes import Map, Op, Program, Ref
from metanorm.ir.ops import ELEMENTWISE
from metanorm.passes.builder import Builder


class AdjointBuilder(Builder):
    """Builds products of adjoints. `exposed` are values that may be NaN where nothing counts."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.exposed: set[Ref] = set()

    def expose(self, refs: Iterable[Ref]) -> None:
        """Note values that may be NaN where nothing counts, and so what is computed from them."""
        self.exposed.update(refs)
        for ref, op in self.ops.items():
            self._note(ref, op)

    def emit(self, op: Op, name: Ref = "") -> Ref:
        """Bind an operation; see `Builder.emit`."""
        ref = super().emit(op, name)
        self._note(ref, self.ops[ref])
        return ref

    def _note(self, ref: Ref, op: Op) -> None:
        if isinstance(op, Map) and not self.exposed.isdisjoint(op.arguments):
            self.exposed.add(ref)

    def times(self, d: Ref, factor: Ref) -> Ref:
        """An adjoint times a factor, which is left out where the adjoint is zero."""
        return self.map("mul", d, self._beside(d, factor, 0))

    def over(self, d: Ref, divisor: Ref) -> Ref:
        """An adjoint by a divisor, which is left out where the adjoint is zero."""
        return self.map("div", d, self._beside(d, divisor, 1))

    def _beside(self, d: Ref, factor: Ref, neutral: float) -> Ref:
        """A factor that is `neutral` where no adjoint arrives, if it may be NaN there.

        Only such factors: others, which an adjoint need not be compared for, can leave sums.
        """
        if factor not in self.exposed:
            return factor
        arrives = self.map("ne", d, self.number(0))
        return self.map("where", arrives, factor, self.number(neutral))


Adjoints = tuple["Ref | None", ...]
Derivative = Callable[[AdjointBuilder, Ref, tuple[Ref, ...], Ref], Adjoints]


def _times(factor: Callable[[AdjointBuilder, Ref, Ref], Ref]) -> Derivative:
    """Of a function of one argument: d times a factor made of argument and result."""
    return lambda b, d, args, y: (b.times(d, factor(b, args[0], y)),)


def _none(b: AdjointBuilder, d: Ref, args: tuple[Ref, ...], y: Ref) -> Adjoints:
    return (None,) * len(args)


def _where(b: AdjointBuilder, condition: Ref, value: Ref) -> Ref:
    return b.map("where", condition, value, b.number(0))


def _mul(b: AdjointBuilder, d: Ref, args: tuple[Ref, ...], y: Ref) -> Adjoints:
    left, right = args
    if left == right:
        return (b.times(b.map("mul", b.number(2), d), left), None)
    return (b.times(d, right), b.times(d, left))


def _div(b: AdjointBuilder, d: Ref, args: tuple[Ref, ...], y: Ref) -> Adjoints:
    quotient = b.over(d, args[1])
    return (quotient, b.map("neg", b.times(quotient, y)))


def _pow(b: AdjointBuilder, d: Ref, args: tuple[Ref, ...], y: Ref) -> Adjoints:
    base, exponent = args
    less = b.map("sub", exponent, b.number(1))
    slope = b.map("mul", exponent, b.map("pow", base, less))
    # As in torch: a zero exponent has a flat power, and 0^e one that does not depend on e.
    flat = b.map("eq", exponent, b.number(0))
    at_zero = b.map("eq", base, b.number(0))
    growth = b.map("mul", y, b.map("log", base))
    still = b.map("where", b.map("ge", exponent, b.number(0)), b.number(0), growth)
    growth = b.map("where", at_zero, still, growth)
    d_base = b.times(d, b.map("where", flat, b.number(0), slope))
    return (d_base, None if b.constant_value(exponent) is not None else b.times(d, growth))


def _sigmoid(b: AdjointBuilder, x: Ref, y: Ref) -> Ref:
    return b.map("mul", y, b.map("sub", b.number(1), y))


def _silu(b: AdjointBuilder, x: Ref, y: Ref) -> Ref:
    s = b.map("sigmoid", x)
    rest = b.map("add", b.number(1), b.map("mul", x, b.map("sub", b.number(1), s)))
    return b.map("mul", s, rest)


def _gelu(b: AdjointBuilder, x: Ref, y: Ref) -> Ref:
    half, one = b.number(0.5), b.number(1)
    cdf = b.map("mul", half, b.map("add", one, b.map("erf", b.map("mul", x, b.number(2**-0.5)))))
    bell = b.map("exp", b.map("mul", b.map("mul", x, x), b.number(-0.5)))
    return b.map("add", cdf, b.map("mul", x, b.map("mul", bell, b.number((2 * math.pi) ** -0.5))))


def _erf(b: AdjointBuilder, x: Ref, y: Ref) -> Ref:
    bell = b.map("exp", b.map("neg", b.map("mul", x, x)))
    return b.map("mul", b.number(2 / math.sqrt(math.pi)), bell)


def _root(b: AdjointBuilder, d: Ref, args: tuple[Ref, ...], y: Ref) -> Adjoints:
    slope = b.over(b.map("mul", d, b.number(0.5)), y)
    return (b.map("where", b.map("eq", y, b.number(0)), b.number(0), slope),)


def _rsqrt(b: AdjointBuilder, x: Ref, y: Ref) -> Ref:
    return b.map("mul", b.number(-0.5), b.map("mul", y, b.map("mul", y, y)))


def _extreme(function: str) -> Derivative:
    """min and max of two: equal ones share the gradient, and NaN keeps it, as in torch."""

    def derivative(b: AdjointBuilder, d: Ref, args: tuple[Ref, ...], y: Ref) -> Adjoints:
        left, right = args
        shared = b.map("where", b.map("eq", left, right), b.map("mul", d, b.number(0.5)), d)
        behind = "lt" if function == "max" else "gt"
        first = b.map("where", b.map(behind, left, right), b.number(0), shared)
        return (first, b.map("where", b.map(behind, right, left), b.number(0), shared))

    return derivative


def _clamp(b: AdjointBuilder, d: Ref, args: tuple[Ref, ...], y: Ref) -> Adjoints:
    kept = d
    for bound, inside in zip(args[1:], ("ge", "le")):
        kept = _where(b, b.map(inside, args[0], bound), kept)
    return (kept, *(None for _ in args[1:]))


def _rescale(b: AdjointBuilder, d: Ref, args: tuple[Ref, ...], y: Ref) -> Adjoints:
    """y = a (x - m) + b, where a is one factor or two."""
    x, centre, _, *factors = args
    to_x = d
    for factor in factors:
        to_x = b.times(to_x, factor)
    weighted = b.times(d, b.map("sub", x, centre))
    scales: list[Ref] = []
    for position in range(len(factors)):
        others = [f for i, f in enumerate(factors) if i != position]
        scales.append(b.times(weighted, others[0]) if others else weighted)
    return (to_x, b.map("neg", to_x), d, *scales)


def _unbiased(b: AdjointBuilder, d: Ref, args: tuple[Ref, ...], y: Ref) -> Adjoints:
    """v n / (n - 1), and v itself where n is at most one."""
    variance, count = args
    less = b.map("sub", count, b.number(1))
    slope = b.map("neg", b.map("div", variance, b.map("mul", less, less)))
    several = _where(b, b.map("gt", count, b.number(1)), slope)
    return (b.map("unbiased", d, count), b.times(d, several))


DERIVATIVES: Mapping[str, Derivative] = {
    "add": lambda b, d, args, y: (d, d),
    "sub": lambda b, d, args, y: (d, b.map("neg", d)),
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "neg": lambda b, d, args, y: (b.map("neg", d),),
    **dict.fromkeys(("lt", "le", "eq", "ne", "ge", "gt", "sign"), _none),
    "sqrt": _times(lambda b, x, y: b.map("div", b.number(0.5), y)),
    "rsqrt": _times(_rsqrt),
    "exp": _times(lambda b, x, y: y),
    "log": _times(lambda b, x, y: b.map("div", b.number(1), x)),
    "abs": _times(lambda b, x, y: b.map("sign", x)),
    "sin": _times(lambda b, x, y: b.map("cos", x)),
    "cos": _times(lambda b, x, y: b.map("neg", b.map("sin", x))),
    "tanh": _times(lambda b, x, y: b.map("sub", b.number(1), b.map("mul", y, y))),
    "erf": _times(_erf),
    "sigmoid": _times(_sigmoid),
    "softplus": _times(lambda b, x, y: b.map("sigmoid", x)),
    "relu": lambda b, d, args, y: (  # NaN goes through, as in torch
        b.map("where", b.map("le", args[0], b.number(0)), b.number(0), d),
    ),
    "silu": _times(_silu),
    "gelu": _times(_gelu),
    "clamp": _clamp,
    "min": _extreme("min"),
    "max": _extreme("max"),
    "where": lambda b, d, args, y: (
        None,
        _where(b, args[0], d),
        b.map("where", args[0], b.number(0), d),
    ),
    "rescale": _rescale,
    "root": _root,
    "unbiased": _unbiased,
}
assert DERIVATIVES.keys() <= ELEMENTWISE.keys(), DERIVATIVES.keys() - ELEMENTWISE.keys()
