"""The derivative of each elementwise function: the part of an adjoint `d` for each argument.

A row takes the builder, the adjoint of the result, the arguments and the result. It returns one
value for each argument, or `None` for an argument without a gradient.

Where an adjoint is zero, a factor that is NaN must not make the product NaN. The builder leaves
such factors out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from metanorm.ir.nodes import Map, Op, Ref
from metanorm.ir.ops import ELEMENTWISE
from metanorm.ir.program import Program
from metanorm.passes.builder import Builder


class AdjointBuilder(Builder):
    """A builder of products with adjoints. `exposed` holds values that may be NaN where the adjoint
    is zero."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.exposed: set[Ref] = set()

    def mark_exposed(self, refs: Iterable[Ref]) -> None:
        """Mark values as exposed, and every map of one."""
        self.exposed.update(refs)
        for ref, op in self.ops.items():
            self._track_exposure(ref, op)

    def emit(self, op: Op, name: Ref = "") -> Ref:
        """Bind an operation; see `Builder.emit`."""
        ref = super().emit(op, name)
        self._track_exposure(ref, self.ops[ref])
        return ref

    def _track_exposure(self, ref: Ref, op: Op) -> None:
        if isinstance(op, Map) and not self.exposed.isdisjoint(op.arguments):
            self.exposed.add(ref)

    def times(self, d: Ref, factor: Ref) -> Ref:
        """An adjoint times a factor, zero where the adjoint is zero."""
        return self.map("mul", d, self._neutralized(d, factor, 0))

    def divided(self, d: Ref, divisor: Ref) -> Ref:
        """An adjoint divided by a divisor, zero where the adjoint is zero."""
        return self.map("div", d, self._neutralized(d, divisor, 1))

    def _neutralized(self, d: Ref, factor: Ref, neutral: float) -> Ref:
        """The factor, but `neutral` where the adjoint is zero, if the factor may be NaN there.

        Other factors stay as they are: `sums` can move them out of a sum.
        """
        if factor not in self.exposed:
            return factor
        arrives = self.map("ne", d, self.number(0))
        return self.map("where", arrives, factor, self.number(neutral))


Adjoints = tuple["Ref | None", ...]
Derivative = Callable[[AdjointBuilder, Ref, tuple[Ref, ...], Ref], Adjoints]


def _times(factor: Callable[[AdjointBuilder, Ref, Ref], Ref]) -> Derivative:
    """A derivative of one argument: d times a factor of the argument and the result."""
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
    quotient = b.divided(d, args[1])
    return (quotient, b.map("neg", b.times(quotient, y)))


def _pow(b: AdjointBuilder, d: Ref, args: tuple[Ref, ...], y: Ref) -> Adjoints:
    base, exponent = args
    less = b.map("sub", exponent, b.number(1))
    slope = b.map("mul", exponent, b.map("pow", base, less))
    # As in torch: a zero exponent has a flat power, and 0^e one that does not depend on e.
    has_zero_exponent = b.map("eq", exponent, b.number(0))
    at_zero = b.map("eq", base, b.number(0))
    growth = b.map("mul", y, b.map("log", base))
    growth_at_zero = b.map("where", b.map("ge", exponent, b.number(0)), b.number(0), growth)
    growth = b.map("where", at_zero, growth_at_zero, growth)
    d_base = b.times(d, b.map("where", has_zero_exponent, b.number(0), slope))
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
    slope = b.divided(b.map("mul", d, b.number(0.5)), y)
    return (b.map("where", b.map("eq", y, b.number(0)), b.number(0), slope),)


def _rsqrt(b: AdjointBuilder, x: Ref, y: Ref) -> Ref:
    return b.map("mul", b.number(-0.5), b.map("mul", y, b.map("mul", y, y)))


def _extreme(function: str) -> Derivative:
    """min and max: equal arguments share the gradient, and NaN gets it, as in torch."""

    def derivative(b: AdjointBuilder, d: Ref, args: tuple[Ref, ...], y: Ref) -> Adjoints:
        left, right = args
        shared = b.map("where", b.map("eq", left, right), b.map("mul", d, b.number(0.5)), d)
        loses = "lt" if function == "max" else "gt"
        first = b.map("where", b.map(loses, left, right), b.number(0), shared)
        return (first, b.map("where", b.map(loses, right, left), b.number(0), shared))

    return derivative


def _clamp(inside: str, outside: str) -> Derivative:
    """clamp_min and clamp_max: NaN gets no gradient, as in torch."""

    def derivative(b: AdjointBuilder, d: Ref, args: tuple[Ref, ...], y: Ref) -> Adjoints:
        return (_where(b, b.map(inside, *args), d), _where(b, b.map(outside, *args), d))

    return derivative


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
    d_count = _where(b, b.map("gt", count, b.number(1)), slope)
    return (b.map("unbiased", d, count), b.times(d, d_count))


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
    "round": lambda b, d, args, y: (d,),
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
    "clamp_min": _clamp("ge", "lt"),
    "clamp_max": _clamp("le", "gt"),
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
