"""MN0202: unknown functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metanorm.diagnostics.guess import SAFE, UNSAFE, nearest_name_fix, replacement_fix
from metanorm.diagnostics.model import Fix, Problem
from metanorm.diagnostics.registry import problem
from metanorm.diagnostics.suggest import did_you_mean, listing
from metanorm.source import Span

# What other languages call an operation, and how theirs may differ from it.
NAMES_ELSEWHERE: Mapping[str, tuple[str, str]] = {
    "amax": ("max", ""),
    "amin": ("min", ""),
    "average": ("mean", ""),
    "avg": ("mean", ""),
    "detach": ("stop", ""),
    "length": ("size", ""),
    "maximum": ("max", ""),
    "minimum": ("min", ""),
    "stddev": ("std", "it is biased, unless `ddof = 1` is given"),
    "stop_gradient": ("stop", ""),
    "swish": ("silu", "it is swish with beta = 1"),
    "variance": ("var", "it is biased, unless `ddof = 1` is given"),
}


# Functions of other languages whose nearest name here computes something else.
SPELLED_OUT = {
    "cummax": "max(x over T: causal)",
    "cumsum": "sum(x over T: causal)",
    "elu": "where(x > 0, x, exp(min(x, 0)) - 1)",
    "ema": "scan(w * x over T, decay = 1 - w)",
    "expm1": "exp(x) - 1",
    "geomean": "exp(mean(log(x) over C))",
    "hardtanh": "clamp(x, min = -1, max = 1)",
    **dict.fromkeys(("kth", "kthvalue"), "quantile(x over C, q = (k - 1) / (size(C) - 1))"),
    "leaky_relu": "where(x > 0, x, 0.01 * x)",
    "log10": "log(x) / 2.302585092994046",
    "log1p": "log(1 + x)",
    "log2": "log(x) / 0.6931471805599453",
    "logsumexp": "log(sum(exp(x) over C))",
    "mish": "x * tanh(softplus(x))",
    "norm": "l2(x over C)",
    "pow": "x^2",
    "reciprocal": "1 / x",
    "relu6": "clamp(x, min = 0, max = 6)",
    "softmin": "softmax(-x over K)",
    "softsign": "x / (1 + abs(x))",
    "square": "x^2",
    "tan": "sin(x) / cos(x)",
}


# What the language has no form of, however near the name of something else is.
NOT_AVAILABLE = {
    **dict.fromkeys(("sort", "argsort", "argmax", "argmin"),
                    "nothing is sorted; `median` and `quantile` are statistics"),
    "topk": "nothing is sorted; of the k largest, the smallest is "
            "`quantile(x over C, q = 1 - (k - 1) / (size(C) - 1))`",
    "cov": "with `let d = x - mean(x over N)` it is `mean(d * d[C -> D] over N)`",
    "join": "moments are joined by the difference of their means: "
            "`share * a.var + (1 - share) * (b.var + share * (a.mean - b.mean)^2)`",
    **dict.fromkeys(("floor", "ceil", "trunc"), "`round(x)` is the nearest whole number"),
    **dict.fromkeys(("conv", "conv1d", "conv2d", "matmul", "mm", "bmm", "einsum", "dot"),
                    "a contraction is written `sum(a * b over K)`"),
    **dict.fromkeys(("reshape", "view", "flatten", "permute", "transpose", "unsqueeze", "squeeze"),
                    "values combine by the names of their axes; `x[C -> D]` renames one"),
    **dict.fromkeys(("cat", "concatenate", "stack"),
                    "the runs of an axis are joined by `concat(a, b over C)`"),
    **dict.fromkeys(("split", "chunk", "narrow"),
                    "an axis is split or cut by a statement: `axis C = (G = groups, D)`, "
                    "`axis C = (I = half) + B`"),
    **dict.fromkeys(("fft", "ifft", "rfft"),
                    "a transform is a contraction with waves of a copy of the axis: `let w = "
                    "6.283185 * position(T) * position(T)[T -> F] / size(T)`, then "
                    "`sum(x * cos(w) over T)` and `-sum(x * sin(w) over T)`"),
    "eye": "an identity matrix is a comparison of positions: "
           "`where(position(C) == position(C)[C -> D], 1, 0)`",
    "dropout": "what is kept is drawn: `let kept = bernoulli(1 - p per N, C)`",
    "rand": "random numbers say for which positions they are: `uniform(0, 1 per N)`",
    "randn": "random numbers say for which positions they are: `normal(0, 1 per N)`",
    **dict.fromkeys(("randperm", "shuffle"), "a random order of positions is `permutation(per N)`"),
}  # fmt: skip


@problem("MN0202")
@dataclass(frozen=True)
class UnknownFunction(Problem):
    """A function that does not exist.

    ### What it means

    A call is a function or statistic of the language (`metanorm list operations`), or a norm of
    this file or of a file named with `use`.

    ### Example

    ```norm
    norm Root {
      input  x[N, C]
      output x / sqroot(1 + x^2)
    }
    ```

    ### Fix

    Correct the name. A norm of another file needs `use "file.norm"` at the top.

    ```norm
    norm Root {
      input  x[N, C]
      output x / sqrt(1 + x^2)
    }
    ```
    """

    span: Span
    name: str
    candidates: tuple[str, ...]
    statistics: tuple[str, ...] = ()  # all of them, if the call pools
    meanings: Mapping[str, str] = field(default_factory=dict, compare=False)  # of the candidates
    pooling: str = ""  # how a pool has it, if it is a matrix

    def message(self) -> str:
        return f"unknown function `{self.name}`"

    def helps(self) -> tuple[str, ...]:
        guess = did_you_mean(self.name, self.candidates)
        if self.name in NAMES_ELSEWHERE:
            ours, difference = NAMES_ELSEWHERE[self.name]
            return (f"did you mean `{ours}`? {difference}".rstrip(),)
        if self.name in SPELLED_OUT:
            return (f"it is written `{SPELLED_OUT[self.name]}`",)
        if self.name in NOT_AVAILABLE:
            return (f"there is none: {NOT_AVAILABLE[self.name]}",)
        if self.pooling:
            return (f"it says how an axis is pooled: `mean(x over {self.pooling})`",)
        if guess:
            return guess
        if self.name[:1].isupper():
            return ('a norm of another file needs `use "file.norm"` at the top',)
        if self.statistics:
            return (f"the statistics are {listing(self.statistics)}",)
        return ("`metanorm list operations` shows what there is",)

    def fixes(self) -> tuple[Fix, ...]:
        if self.name in SPELLED_OUT or self.name in NOT_AVAILABLE or self.pooling:
            return ()
        if self.name in NAMES_ELSEWHERE:
            ours, difference = NAMES_ELSEWHERE[self.name]
            applicability = UNSAFE if difference else SAFE
            return (replacement_fix(self.span, self.name, ours, applicability, difference),)
        return tuple(
            replacement_fix(
                self.span,
                self.name,
                fix.replacement,
                fix.applicability,
                self.meanings.get(fix.replacement, ""),
            )
            for fix in nearest_name_fix(self.span, self.name, self.candidates)
        )
