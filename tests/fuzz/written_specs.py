"""Random specs of every construct of the language, right ones and nearly right ones.

Unlike those of `properties/random_specs.py` they are not typed as they are built: what does not
fit is refused by `check`, and what it lets through has to compile. Deterministic, without torch.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

INPUTS = (
    "x[N, C, *S]",
    "x[N, C = num_features, *S]",
    "x[N, C, H, W]",
    "x[*B, D]",
    "x[*B, D = dim]",
    "x[N, T, C]",
    "x[N, C]",
    "x[V, C = channels]",
    "x[N, *S, C]",
    "x[N, C = 6]",
)
MORE = (
    "mask: mask[N, T] = true",
    "keep: mask[V]",
    "batch: index[V]",
    "label: index[N] of K = num_classes",
    "kind: index[V] of K = 3",
    "choice: index[] of K = 4",
    "edge: edges[V]",
    "A: matrix[N, N]",
    "M: matrix[C, C]",
    "gamma[N, C]",
    "y[N, C, *S] = x",
    "share[N] = 1",
    "w[C] = 0.5",
    "z[N, J]",
    "scalar = 2",
)
HYPERS = (
    "eps = 1e-5",
    "groups: int",
    "parts: int = 2",
    "momentum = 0.1",
    "rate = 0",
    "steps: int = 3",
    "flag: bool = true",
    "U: matrix[C, C] = eye",
    "radius = 0.5",
)
UNARY = (
    *("sqrt rsqrt exp log abs sign sin cos tanh erf sigmoid softplus relu silu gelu stop".split()),
)
STATISTICS = "sum mean var std rms l1 l2 max min".split()
CUTS = ("blocks(2)", "blocks(groups)", "blocks(parts)", "chunks(3)", "chunks(parts)")
CUTS += ("interleave(2)", "interleave(groups)", "window(3)", "window(parts, edge = zero)")
CUTS += ("window(2, edge = replicate)", "causal", "causal(2)", "causal(parts)")
CUTS += ("batch", "label", "kind", "edge", "edge with self", "A", "M", "U")
NUMBERS = ("0", "1", "2", "0.5", "3.25", "1e-5", "1e3", "7")
ON = {"batch": "V", "label": "N", "kind": "V", "edge": "V", "A": "N", "M": "C", "U": "C"}
COMPARISONS = ("<", "<=", "==", "!=", ">", ">=")


@dataclass
class Writer:
    """A norm while it is written: what there is to name so far."""

    rng: random.Random
    axes: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    hypers: list[str] = field(default_factory=list)
    buffers: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    pairs: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    target: str = ""
    dims_of_x: list[str] = field(default_factory=list)
    has_affine: bool = False  # whose weight and bias are there once
    count: int = 0

    def some(self, options: list[str] | tuple[str, ...], most: int) -> list[str]:
        return self.rng.sample(options, self.rng.randint(0, min(most, len(options))))

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def axis(self) -> str:
        return self.rng.choice(self.axes)

    def single(self) -> str:
        """An axis that is one dimension, most of the time."""
        known = [a for a in self.axes if not a.startswith("*")]
        return self.rng.choice(known) if self.chance(0.97) else self.axis()

    def fixed(self) -> str:
        """An axis that parameters may live on, most of the time."""
        known = [a for a in self.axes if a in ("C", "D")]
        return self.rng.choice(known) if known and self.chance(0.97) else self.single()

    def affine(self, value: str) -> str:
        """The value times a weight and plus a bias, where a norm may have them and has not yet."""
        if (self.has_affine or self.target) and self.chance(0.97):
            return value
        self.has_affine = True
        per = self.rng.choice((f"{self.fixed()}{self.rng.choice(('', '', ' off'))}",
                               f"weight[{self.fixed()}]"))  # fmt: skip
        return f"affine({value} per {per})"

    def wide(self, depth: int) -> str:
        """An expression that has all axes of the input, most of the time."""
        text = self.expr(depth)
        return f"({text} {self.rng.choice('+-*')} x)" if self.chance(0.98) else text

    def index(self) -> str:
        known = [i for i in ("label", "kind", "choice") if i in self.inputs]
        return self.rng.choice(known) if known and self.chance(0.8) else self.rng.choice("01")

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def cut(self, axis: str) -> str:
        """A matrix for an axis, which fits it most of the time."""
        indices = [name for name in self.inputs if ON.get(name) == axis]
        if self.chance(0.03):
            return self.rng.choice(CUTS)
        return self.rng.choice((*CUTS[:13], *indices * 6))

    def cuts(self, axis: str) -> bool:
        """Whether an axis is cut: one that is a single dimension, nearly always."""
        return self.chance(0.01 if axis.startswith("*") else 0.3)

    def pool(self, tracks: bool = False) -> str:
        """`N, C: blocks(2), *S where m weight w, ddof = 1`."""
        parts = []
        for axis in self.rng.sample(self.axes, self.rng.randint(1, min(3, len(self.axes)))):
            cut = f": {self.cut(axis)}" if self.cuts(axis) else ""
            parts.append(axis + cut)
        text = ", ".join(parts)
        if self.chance(0.15):
            text += f" where {self.expr(1)}"
        if self.chance(0.1):
            text += f" weight {self.expr(1)}"
        if tracks and self.chance(0.02 if self.target else 0.3):
            text += f" track {self.rng.choice(('momentum', '0.1', 'momentum off'))}"
        return text

    def number(self) -> str:
        if self.hypers and self.chance(0.5):
            return self.rng.choice([h for h in self.hypers if h != "U"] or ["2"])
        if self.chance(0.2):
            return f"size({self.axis()})"
        return self.rng.choice(NUMBERS)

    def expr(self, depth: int) -> str:
        """An expression; most are well typed."""
        if depth <= 0:
            return self.rng.choice(self.values) if self.chance(0.8) else self.number()
        return self.rng.choice(FORMS)(self, depth - 1)

    def dims(self) -> str:
        axes = self.some([a for a in self.axes if a in ("C", "D") or self.chance(0.05)], 2)
        if self.chance(0.1):
            axes.append(f"{self.name('Q')} = {self.rng.choice(('2', '3', 'width'))}")
        return f"[{', '.join(axes)}]" if axes else ""

    def initial(self) -> str:
        kind = self.rng.randrange(5)
        if kind == 0:
            return f"normal(0, {self.number()})"
        if kind == 1:
            return f"uniform(-1, {self.rng.choice(('1', '1 / sqrt(size(C))'))})"
        if kind == 2:
            return f"{self.number()} * {self.number()} + {self.number()}"
        return self.rng.choice(("0", "1", "0.5", "-1"))


def _binary(w: Writer, depth: int) -> str:
    return f"({w.expr(depth)} {w.rng.choice('+-*/')} {w.expr(depth)})"


def _chain(w: Writer, depth: int) -> str:
    operands = [w.expr(depth - 1) for _ in range(w.rng.randint(3, 5))]
    return "(" + operands[0] + "".join(f" {w.rng.choice('+-*/')} {o}" for o in operands[1:]) + ")"


def _call_of_a_norm(w: Writer, depth: int) -> str:
    called = ("LayerNorm({})", "BatchNorm({}, eps = 1e-3)", "RMSNorm({})", "Inner({})")
    called += ("Inner({}, eps = eps)", "InstanceNorm({}, affine = false)")
    if (w.target or w.axes[0] != "N") and w.chance(0.9):
        return w.expr(depth)
    return w.rng.choice(called).format(w.wide(0) if w.chance(0.5) else "x")


def _renamed(w: Writer, depth: int) -> str:
    """A value along an axis of another name, which mostly goes away again."""
    name, text = w.rng.choice(("P", "R")), w.wide(0)
    renamed = f"{text}[{w.single()} -> {name}]"
    pooled = f"{w.rng.choice(('sum', 'mean', 'max'))}({renamed} * {w.expr(depth - 1)} over {name})"
    return pooled if w.chance(0.95) else renamed


FORMS = (
    _binary,
    _binary,
    _binary,
    _chain,
    lambda w, d: f"{w.rng.choice(UNARY)}({w.expr(d)})",
    lambda w, d: f"-{w.expr(d)}",
    lambda w, d: f"{w.expr(d)}^{w.rng.choice(('2', '0.5', '-1', w.number()))}",
    lambda w, d: f"{w.rng.choice(('max', 'min'))}({w.expr(d)}, {w.expr(d)})",
    lambda w, d: f"clamp({w.expr(d)}, {w.number()}, {w.number()})",
    lambda w, d: (
        f"where({w.expr(d)} {w.rng.choice(COMPARISONS)} {w.expr(0)}, {w.expr(d)}, {w.expr(0)})"
    ),
    lambda w, d: f"mode(train: {w.expr(d)}, eval: {w.expr(d)})",
    *(
        lambda w, d: f"{w.rng.choice(STATISTICS)}({w.wide(d)} over {w.pool()})",
        lambda w, d: f"{w.rng.choice(('mean', 'var'))}({w.wide(d)} over {w.pool(tracks=True)})",
        lambda w, d: f"normalize({w.wide(d)} over {w.pool(tracks=True)})",
    )
    * 3,
    lambda w, d: f"var({w.wide(d)} over {w.pool()}, ddof = 1)",
    lambda w, d: f"var({w.wide(d)} over {w.pool()}, about = {w.number()})",
    lambda w, d: f"moments({w.wide(d)} over {w.pool(tracks=True)}).{w.rng.choice(('mean', 'var'))}",
    lambda w, d: f"count(over {w.pool()})",
    lambda w, d: f"size({w.axis()})",
    lambda w, d: f"position({w.single()})",
    lambda w, d: f"softmax({w.wide(d)} over {w.single()})",
    lambda w, d: f"sparsestmax({w.wide(d)} over {w.single()}, radius = {w.number()})",
    lambda w, d: w.affine(w.wide(d)),
    lambda w, d: f"{w.rng.choice(w.tables)}[{w.index()}]" if w.tables else w.expr(d),
    lambda w, d: _renamed(w, d),
    lambda w, d: f"sum({w.wide(d)} * {w.rng.choice(w.values)} over {w.axis()})",
    lambda w, d: (
        f"{w.rng.choice(w.pairs)}.{w.rng.choice(('mean', 'var'))}" if w.pairs else w.expr(d)
    ),
    _call_of_a_norm,
)


def _let(w: Writer) -> None:
    name = w.name("v")
    dims = w.dims() if w.chance(0.1) else ""
    w.lines.append(f"let {name}{dims} = {w.expr(w.rng.randint(1, 3))}")
    w.values.append(name)


def _moments(w: Writer) -> None:
    name = w.name("m")
    w.lines.append(f"let {name} = moments({w.wide(1)} over {w.pool(tracks=True)})")
    w.pairs.append(name)


def _param(w: Writer) -> None:
    if w.target and w.chance(0.97):
        return
    name = w.name("p")
    bounds = " in [0, 1]" if w.chance(0.15) else ""
    w.lines.append(f"param {name}{w.dims()} = {w.initial()}{bounds}")
    w.values.append(name)


def _table(w: Writer) -> None:
    if not any(item in ("label", "kind", "choice") for item in w.inputs):
        return
    name = w.name("t")
    w.lines.append(f"param {name}[K{w.rng.choice(('', ', C'))}] = {w.initial()}")
    w.tables.append(name)


def _buffer(w: Writer) -> None:
    if w.target and w.chance(0.97):
        return
    name = w.name("b")
    w.lines.append(f"buffer {name}{w.dims()} = {w.initial()}")
    w.values.append(name)
    w.buffers.append(name)


def _update(w: Writer) -> None:
    if w.buffers:
        name = w.buffers.pop()
        over = ", ".join(w.axes)
        pooled = f"mean({w.wide(1)} over {over})"
        value = w.expr(2) if w.chance(0.05) else f"{name} + {pooled}"
        w.lines.append(f"update {name} = {w.rng.choice((value, pooled))}")


def _repeat(w: Writer) -> None:
    names = [v for v in w.values if v.startswith("v")]
    if not names:
        return
    name = w.rng.choice(names)
    times = w.rng.choice(("2", "3", "steps"))
    changed = w.expr(2) if w.chance(0.05) else f"tanh({name}) * {w.number()}"
    w.lines.append(f"repeat {times} {{ {name} = {changed} }}")


def _split(w: Writer) -> None:
    axis = w.single()
    outer, inner = w.name("G"), w.name("D")
    w.lines.insert(0, f"axis {axis} = ({outer} = {w.rng.choice(('2', 'groups'))}, {inner})")
    w.axes += [outer, inner]


STATEMENTS = (_let,) * 6 + (_moments, _param, _param, _table, _buffer, _update, _repeat, _split)


def _clauses(w: Writer) -> None:
    """A norm written in clauses, with or without an output of its own."""
    if w.chance(0.4):
        stats = [w.name("s") for _ in range(w.rng.randint(1, 3))]
        for stat in stats:
            w.lines.append(f"stat {stat} over {w.pool()}")
            if w.chance(0.02 if w.target else 0.3):
                w.lines.append("track momentum")
        w.lines.append(
            f"mix {', '.join(stats)} by {w.rng.choice(('softmax', 'sparsestmax(radius)'))}"
        )
    else:
        w.lines.append(f"reduce {w.pool()}{w.rng.choice(('', '', ', ddof = 1'))}")
        if w.chance(0.02 if w.target else 0.3):
            w.lines.append(w.rng.choice(("track momentum", "track momentum off", "track 0.1")))
    if w.chance(0.4):
        shifts = ("shift none", "shift mean", f"shift shifted[{w.fixed()}] = 1")
        shifts = shifts[: 2 if w.target else 3]
        w.lines.append(w.rng.choice((*shifts, f"shift {w.expr(1)}")))
    if w.chance(0.4):
        scales = ("scale none", "scale l1", "scale max", "scale sqrt(var) + eps")
        w.lines.append(w.rng.choice((*scales, f"scale {w.expr(1)}")))
    if w.chance(0.02 if w.target or w.has_affine else 0.5):
        w.has_affine = True
        w.lines.append(f"affine {w.fixed()}{w.rng.choice(('', '', ' off'))}")
    w.values += ["mean", "var", "normalized"]
    if w.target == "loss" or w.chance(0.4):
        w.lines.append(_outputs(w))


def _outputs(w: Writer) -> str:
    if w.target == "loss" and w.chance(0.95):
        return f"output mean({w.wide(2)} over {', '.join(w.dims_of_x)})"
    first = w.rng.choice((f"x * {w.expr(1)} + {w.expr(1)}", w.affine(f"(x - {w.expr(1)})")))
    first = w.rng.choice((first, w.wide(3), f"normalize({w.wide(2)} over {w.pool(tracks=True)})"))
    several = 0 if w.target and w.chance(0.97) else w.rng.choice((0, 0, 0, 1, 2))
    others = [f"{w.name('o')} = {w.expr(2)}" for _ in range(several)]
    if others and w.chance(0.7):
        first = f"y = {first}"
    return "output " + ", ".join([first, *others])


def written(number: int) -> str:
    """The text of a spec. More than half compile; the others are refused for some reason."""
    rng = random.Random(number)
    w = Writer(rng)
    first = rng.choice(INPUTS)
    w.target = rng.choice(("",) * 12 + ("weight", "gradient", "loss"))
    w.axes = [a.partition(" ")[0] for a in first[2:-1].split(", ")]
    w.dims_of_x = list(w.axes)
    more = [m for m in w.some(MORE, 4) if _fits(m, w.axes) or rng.random() < 0.02]
    more = more if w.target in ("", "loss") or rng.random() < 0.03 else []
    w.inputs = [m.partition(":")[0].partition("[")[0] for m in more]
    w.values = ["x", *(m.partition("[")[0].partition(" ")[0] for m in more if ":" not in m)]
    w.values = [f"mean({v} over J)" if v == "z" and rng.random() < 0.9 else v for v in w.values]
    hypers = w.some(HYPERS, 5)
    w.hypers = [h.partition(":")[0].partition(" ")[0] for h in hypers]
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3, 5))):
        rng.choice(STATEMENTS)(w)
    if rng.random() < 0.3:
        _clauses(w)
    else:
        w.lines.append(_outputs(w))
    target = f" for {w.target}" if w.target else ""
    text = " ".join(w.lines)
    for hyper in HYPERS:  # what is named is declared, most of the time
        if re.search(rf"\b{hyper.split(':')[0].split()[0]}\b", text) and rng.random() < 0.97:
            hypers = [*dict.fromkeys((*hypers, hyper))]
    constructor = f"({', '.join(hypers)})" if hypers else ""
    inputs = ", ".join([first, *more])
    body = "".join(f"  {line}\n" for line in (f"input {inputs}", *w.lines))
    head = 'use "layer_norm.norm"\nuse "batch_norm.norm"\nuse "rms_norm.norm"\n'
    head += 'use "instance_norm.norm"\n\n'
    head += "norm Inner(eps = 1e-3) {\n  input  x[N, C, *S]\n  reduce *S\n  affine C\n}\n\n"
    uses = head if "(" in body and _calls(body) else ""
    return f"{uses}norm Written{constructor}{target} {{\n{body}}}\n"


def _calls(body: str) -> bool:
    return any(f"{name}(" in body for name in ("LayerNorm", "BatchNorm", "RMSNorm", "Inner")) or (
        "InstanceNorm(" in body
    )


def _fits(item: str, axes: list[str]) -> bool:
    """Whether an input has axes of the first one only, but for those that it brings."""
    dims = item.partition("[")[2].partition("]")[0]
    return all(dim in axes or dim in ("J", "") for dim in dims.split(", "))
