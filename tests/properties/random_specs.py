"""Random specs: well-typed norms for the compiler, and odd layouts for the formatter.

Expressions stay well conditioned (denominators are at least one, exponentials at most), so that
module and oracle may be compared to nearly all digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

UNARY = ("tanh({})", "sigmoid({})", "softplus({})", "exp(-abs({}))", "sqrt({}^2 + 1)", "-{}")
UNARY += ("abs({})", "relu({})", "clamp({}, -1, 1)", "erf({})", "({} / 2)", "stop({})")
BINARY = ("({} + {})", "({} - {})", "({} * {})", "{} / (1 + abs({}))", "max({}, {})", "min({}, {})")
BINARY += ("mode(train: {}, eval: {})",)
KINDS = ("unary", "binary", "statistic", "where", "normalize", "shares", "mixed")
STATISTICS = ("mean", "var", "std", "rms", "l1", "l2", "max", "min", "sum")
PARTITIONS = ("blocks(2)", "chunks(2)", "interleave(2)")
EDGES = ("truncate", "zero", "replicate")
NEAR = (*(f"window({k}, edge = {e})" for k in (1, 2, 5) for e in EDGES), "causal", "causal(2)")


@dataclass(frozen=True)
class Layout:
    """An input, the axes that may be cut in two, and those that parameters may live on."""

    dims: str
    axes: tuple[str, ...]
    cut: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    more: str = ""
    matrices: dict[str, str] = field(default_factory=dict)
    matrix_by_axis: dict[str, str] = field(
        default_factory=dict
    )  # matrices that pool means and variances

    @property
    def masked(self) -> frozenset[str]:
        """The axes of the mask, if there is one."""
        mask = self.more.partition("mask[")[2].partition("]")[0]
        return frozenset(mask.split(", ")) if mask else frozenset()

    def __hash__(self) -> int:
        return hash(self.dims + self.more)


LAYOUTS = (
    Layout("N, C, *S", ("N", "C", "*S"), ("N", "C"), ("C",)),
    Layout("N, C, H, W", ("N", "C", "H", "W"), ("C",), ("C",)),
    Layout("V, C", ("V", "C"), ("C",), ("C",), ", edge: edges[V]", {"V": "edge with self"}),
    Layout(
        "V, C", ("V", "C"), (), ("C",), ", edge: edges[V], keep: mask[V], trust[V]", {"V": "edge"}
    ),
    Layout("N, *S, C", ("N", "*S", "C"), ("C",), ("C",)),
    Layout(
        "N, C, *S",
        ("N", "C", "*S"),
        ("N",),
        ("C",),
        ", alike: matrix[N, N], mixing: matrix[C, C]",
        matrix_by_axis={"N": "alike", "C": "mixing"},
    ),
    Layout("*B, D", ("*B", "D"), ("D",), ("D",)),
    Layout(
        "N, T, D",
        ("N", "T", "D"),
        ("T",),
        ("D",),
        more=", keep: mask[N, T] = true, trust[N, T] = 1",
    ),
    Layout("V, C", ("V", "C"), ("C",), ("C",), ", batch: index[V]", {"V": "batch"}),
    Layout("N, C", ("N", "C"), ("C",), ("C",), ", label: index[N] of K = 5", {"N": "label"}),
    Layout(
        "V, C",
        ("V", "C"),
        ("C",),
        ("C",),
        ", batch: index[V], keep: mask[V] = true, trust[V]",
        {"V": "batch"},
    ),
)


@dataclass
class Names:
    """The values so far, each with its axes."""

    layout: Layout
    values: dict[str, frozenset[str]]

    def of(self, text: str) -> frozenset[str]:
        return self.values[text]


@st.composite
def pools(draw: DrawFn, layout: Layout, axes: frozenset[str]) -> tuple[str, frozenset[str]]:
    """A pool over some of these axes, and the axes that are left."""
    ordered = [axis for axis in layout.axes if axis in axes]
    chosen = draw(st.lists(st.sampled_from(ordered), min_size=1, unique=True))
    parts, left = [], set(axes)
    for axis in [a for a in ordered if a in chosen]:
        ways = [axis]
        ways += [f"{axis}: {p}" for p in PARTITIONS if axis in layout.cut]
        ways += [f"{axis}: {layout.matrices[axis]}"] if axis in layout.matrices else []
        may_be_near = not axis.startswith("*") and layout.matrices.get(axis) != "batch"
        near = draw(st.integers(0, 3)) == 0 and may_be_near  # none reaches into the next group
        way = f"{axis}: {draw(st.sampled_from(NEAR))}" if near else draw(st.sampled_from(ways))
        parts.append(way)
        if way == axis:
            left.discard(axis)
    text = ", ".join(parts)
    if layout.masked and layout.masked <= axes and draw(st.booleans()):
        text += " where keep"
        if draw(st.booleans()):
            text += " weight 1 / (2 + tanh(trust))"
    return text, frozenset(left)


@st.composite
def mixtures(
    draw: DrawFn, layout: Layout, inner: str, axes: frozenset[str]
) -> tuple[str, frozenset[str]]:
    """A statistic by given matrices, where there are some, and the axes that are left."""
    mixed = [axis for axis in layout.matrix_by_axis if axis in axes]
    if not mixed:
        return f"tanh({inner})", axes
    chosen = draw(st.lists(st.sampled_from(mixed), min_size=1, unique=True))
    pooled = [axis for axis in layout.axes if axis in axes and axis not in chosen]
    pooled = [axis for axis in pooled if draw(st.booleans())]
    over = ", ".join([*(f"{axis}: {layout.matrix_by_axis[axis]}" for axis in chosen), *pooled])
    statistic = draw(st.sampled_from(("mean", "var", "normalize")))
    left = axes if statistic == "normalize" else axes.difference(pooled)
    return f"{statistic}({inner} over {over})", left


@st.composite
def expressions(draw: DrawFn, names: Names, depth: int) -> tuple[str, frozenset[str]]:
    """An expression, and its axes."""
    if depth == 0:
        name = draw(st.sampled_from(sorted(names.values)))
        return name, names.of(name)
    inner, axes = draw(expressions(names, depth - 1))
    kind = draw(st.sampled_from(KINDS))
    if kind == "unary":
        return draw(st.sampled_from(UNARY)).format(inner), axes
    if kind == "binary":
        other, more = draw(expressions(names, depth - 1))
        return draw(st.sampled_from(BINARY)).format(inner, other), axes | more
    if kind == "where":
        other, more = draw(expressions(names, depth - 1))
        return f"where({other} < 0.25, {inner}, {other})", axes | more
    if not axes:
        return f"tanh({inner})", axes
    if kind == "shares":
        axis = draw(st.sampled_from(sorted(a for a in axes if a != "*S" and a != "*B") or [""]))
        return (f"softmax({inner} over {axis})" if axis else f"exp(-abs({inner}))"), axes
    if kind == "mixed":
        return draw(mixtures(names.layout, inner, axes))
    pool, left = draw(pools(names.layout, axes))
    if kind == "normalize":
        # What is pooled with a mask has the axes of the mask.
        return f"normalize({inner} over {pool})", axes
    return f"{draw(st.sampled_from(STATISTICS))}({inner} over {pool})", left


@st.composite
def norms(draw: DrawFn, name: str = "Random") -> str:
    """The text of a norm that has no errors."""
    layout = draw(st.sampled_from(LAYOUTS))
    lines = [f"  input x[{layout.dims}]{layout.more}"]
    names = Names(layout, {"x": frozenset(layout.axes)})
    for number in range(draw(st.integers(0, 2))):
        axes = draw(st.sampled_from([(), layout.fixed]))
        dims = f"[{', '.join(axes)}]" if axes else ""
        lines.append(f"  param p{number}{dims} = {draw(st.sampled_from(('1', '0', '0.5')))}")
        names.values[f"p{number}"] = frozenset(axes)
    if "label: index" in layout.more:  # of the rows, some are chosen by no label
        lines.append("  param rows[K] = 0.5")
        names.values["rows[label]"] = frozenset("N")
    if draw(st.booleans()):
        axis = layout.axes[0]
        index = layout.matrices.get(axis, "") if "index" in layout.more else ""
        pool = f"{axis}: {index}" if index and draw(st.booleans()) else axis
        lines.append(f"  let tracked = normalize(x over {pool} track 0.1)")
        names.values["tracked"] = frozenset(layout.axes)
    if layout.masked:
        names.values["trust"] = layout.masked
    for number in range(draw(st.integers(0, 3))):
        text, axes = draw(expressions(names, draw(st.integers(1, 3))))
        lines.append(f"  let v{number} = {text}")
        names.values[f"v{number}"] = axes
    result, _ = draw(expressions(names, 2))
    affine = draw(st.sampled_from(("", f" per {layout.fixed[0]}")))
    body = f"x * tanh({result}) + {draw(st.sampled_from(sorted(names.values)))}"
    lines.append(f"  output affine({body}{affine})" if affine else f"  output {body}")
    return f"norm {name}(eps = 1e-5) {{\n" + "\n".join(lines) + "\n}\n"


GAPS = st.sampled_from((" ", "  ", "\t", "   "))
ENDS = st.sampled_from(("\n", "\n\n", "\n\n\n", "  # a\n", "\n# between\n", "\n\n  # apart\n"))


@st.composite
def untidy(draw: DrawFn, text: str) -> str:
    """The same spec with other white space and with comments."""
    out = []
    for line in text.rstrip("\n").split("\n"):
        words = line.split(" ")
        gaps = [draw(GAPS if not w.endswith(",") else GAPS | ENDS) for w in words[:-1]]
        spaced = "".join(w + gap for w, gap in zip(words, gaps)) + words[-1]
        out.append(spaced + draw(ENDS))
    return "".join(out)


@st.composite
def beginnings(draw: DrawFn, layout: Layout) -> tuple[str, frozenset[str]]:
    """Axes and first value of a parameter of a norm for weights, in any order of dimensions."""
    text, axes = draw(expressions(Names(layout, {"x": frozenset(layout.axes)}), 2))
    text = "0.5" if "mode(" in text else f"init tanh({text})"
    dims = draw(st.permutations(sorted(axes)))
    return f"[{', '.join(dims)}] = {text}" if dims else f" = {text}", axes


@st.composite
def norms_for(draw: DrawFn, target: str) -> str:
    """The text of a norm for weights, gradients or a loss that has no errors."""
    layout = draw(st.sampled_from([candidate for candidate in LAYOUTS if not candidate.more]))
    lines = [f"  input x[{layout.dims}]"]
    names = Names(layout, {"x": frozenset(layout.axes)})
    for number in range(draw(st.integers(0, 2)) if target == "weight" else 0):
        first, axes = draw(beginnings(layout))
        lines.append(f"  param p{number}{first}")
        names.values[f"p{number}"] = axes
    for number in range(draw(st.integers(0, 2))):
        text, axes = draw(expressions(names, draw(st.integers(1, 3))))
        lines.append(f"  let v{number} = {text}")
        names.values[f"v{number}"] = axes
    result, _ = draw(expressions(names, 2))
    body = f"x * tanh({result}) + {draw(st.sampled_from(sorted(names.values)))}"
    if target == "loss":
        body = f"mean({body} over {', '.join(layout.axes)})"
    lines.append(f"  output {body}")
    return f"norm Random(eps = 1e-5) for {target} {{\n" + "\n".join(lines) + "\n}\n"
