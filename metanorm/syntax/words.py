"""The words of the language by kind, each with an explanation, for editors.

The editor grammar, the Pygments lexer, the mode of CodeMirror and the language server read these.
"""

from __future__ import annotations

from metanorm.ir.ops import public
from metanorm.syntax.hints import USAGE

# What each statement does. `USAGE` has an example of each.
STATEMENTS = {
    "use": "Read the norms of another file, beside this one or of the library.",
    "norm": "A normalization layer: its name, its hyperparameters, its statements.",
    "input": "What a call is given. The first input is the one that is normalized.",
    "axis": "Split an axis into parts, or cut it into runs of positions.",
    "reduce": "Normalize over these axes: subtract their mean, divide by their deviation.",
    "shift": "What `reduce` subtracts, if not the mean.",
    "scale": "What `reduce` divides by, if not the standard deviation.",
    "stat": "Name the mean and variance over these axes, to `mix` them.",
    "mix": "Normalize by a learned mixture of named statistics.",
    "track": "Keep running statistics, and use them in eval mode.",
    "affine": "Learn a weight and a bias for each position of these axes.",
    "param": "Learn a value, which begins with a number.",
    "let": "Give a value a name.",
    "buffer": "Keep a value between calls, which is not learned.",
    "update": "What a buffer holds after a call in training mode.",
    "repeat": "Compute values anew, several times.",
    "output": "What a call returns, one or several values.",
    "example": "A call and what it gives, which `metanorm test` tries.",
    "entry": "A further method, which shares the parameters of the norm.",
    "gradient": "In `backward`: the gradient of an input, in place of the derived one.",
    "backward": "A backward pass that the norm states: gradients of inputs, and updates.",
}
assert {word.upper() for word in STATEMENTS} == USAGE.keys()  # completion and hints show both

# Words that are keywords in one context only.
SOFT = {
    "over": "the axes that are pooled: `mean(x over C, *S)`",
    "where": "pool those elements only: `over N where mask`",
    "weight": "weigh the elements of a pool: `over N weight w`",
    "track": "keep a running average: `over N track momentum`",
    "per": "the axes of what is learned: `affine(e per C)`",
    "of": "the axis that an index chooses from: `label: index[N] of K = classes`",
    "by": "how statistics are mixed: `mix a, b by softmax`",
    "for": "what a norm is for, if not for activations: `norm Name for weight`",
    "in": "the interval that a parameter stays in: `param p = 1 in [0, 1]`",
    "if": "learned where the constructor is asked for it: `param scale = 1 if learn_scale`",
    "init": "computed from the weight at first: `param g[O] = init l2(v over *I)`",
    "first": "from the first batch in training: `param b[C] = 0 first -mean(x over N)`",
    "into": "what running statistics are called: `track momentum into source`",
    "from": "what a running statistic begins with: `track momentum from 1`",
    "off": "not unless the constructor is asked for it: `affine C off`",
    "with": "edges and the node itself: `V: graph with self`",
    "within": "windows that end with their segment: `T: causal within ends`; or how far off an "
    "example may be: `gives [0.33] within 0.01`",
    "like": "the dtype of a tensor: `output y like residual`",
    "as": "a dtype by its name: `cast(e as float32)`",
    "gives": "what the call of an example gives: `example x = [1, 3] gives [-1, 1]`",
    "none": "leave it out: `shift none`",
}

SORTS = {
    "int": "a whole number that the constructor is given",
    "float": "a number that the constructor is given",
    "bool": "a switch that the constructor is given",
    "matrix": "how the positions of an axis pool: `U: matrix[N, N]`",
    "index": "whole numbers that group positions or choose rows: `batch: index[V]`",
    "offsets": "where consecutive segments begin, and the length: `cu_seqlens: offsets[T]`",
    "mask": "which elements count: `m: mask[N, T]`",
    "edges": "a graph as pairs of nodes: `graph: edges[V]`",
}

# Operations with a call syntax, and groupings.
FUNCTIONS = frozenset(row.name for row in public() if row.group != "operator")

FIELDS = {
    "before": "the state of a scan before each position",
    "mean": "the mean of each pool",
    "var": "its variance",
}  # of `moments`
LITERALS = ("true", "false", "None")
TARGETS = {
    "weight": "a parametrization of the weight of another layer",
    "gradient": "a change of gradients before an optimizer's step",
    "step": "what becomes of a weight after an optimizer's step",
    "loss": "a number that is minimized",
}

OPTIONS = {
    "ddof": "1 for the unbiased variance: `var(x over C, ddof = 1)`",
    "about": "the second moment about this value instead of the mean: `var(x over C, about = 0)`",
    "q": "the share of a pool that lies below: `quantile(x over T, q = 0.9)`",
    "radius": "how sparse the weights of `sparsestmax` are",
    "decay": "what a scan keeps of its state at each step: `scan(x over T, decay = a)`",
    "start": "the state of a scan before its first position; zero if it is not said",
    "reverse": "`true` for a scan from the last position to the first",
    "edge": "what is beyond the border: `truncate`, `zero` or `replicate`",
    "train": "the value in training mode",
    "eval": "the value in eval mode",
}

CLAUSE_VALUES = {
    "mean": "subtract the mean",
    "none": "leave this step out",
    "std": "divide by `sqrt(var + eps)`",
    "l1": "divide by the mean of the absolute values, plus eps",
    "max": "divide by the largest absolute value, plus eps",
}

# Names that clauses introduce.
IMPLIED = {
    "mean": "what `reduce` or `mix` subtracts",
    "var": "the variance that `reduce` or `mix` divides by the root of",
    "normalized": "the result of the clauses",
    "eps": "a small number beside the variance, 1e-5 unless it is declared",
    "weight": "what `affine` multiplies with, learned",
    "bias": "what `affine` adds, learned",
}


def usage(word: str) -> str:
    """An example of a statement."""
    return USAGE[word.upper()]
