"""Whole norms drawn at random: a spec, and what it is to compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

import torch
from drawn_expressions import (
    COMPARISONS,
    CUTS,
    Call,
    Drawing,
    DrawnPool,
    Expr,
    both,
    normalized,
    pooled,
    scaled,
)
from drawn_layouts import LAYOUTS, Layout
from named_axes import Named, Pool, elementwise, number, same, statistic
from torch import Tensor

Step = Callable[[Call], None]
EPS = 1e-5


@dataclass(frozen=True)
class Input:
    """An input: how it is declared, its axes, and what it stands for where it is left out."""

    name: str
    sort: str  # tensor, weight, mask, index, rows (of a table), offsets, whole, edges or matrix
    axes: tuple[str, ...]
    default: float | str | None = None
    table: str = ""
    zeros: bool = True  # some weights may be zero; as values, they would tie for the smallest


@dataclass
class DrawnNorm:
    """The text of a norm and its reference."""

    name: str
    seed: int
    text: str = ""
    layout: Layout = LAYOUTS[0]
    inputs: list[Input] = field(default_factory=list)
    params: dict[str, tuple[tuple[str, ...], float]] = field(default_factory=dict)
    buffers: dict[str, tuple[tuple[str, ...], float]] = field(default_factory=dict)
    hypers: dict[str, float | int | bool] = field(default_factory=dict)
    required: dict[str, int] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)  # axes of written or given length
    steps: list[Step] = field(default_factory=list)
    outputs: list[tuple[str, Expr]] = field(default_factory=list)
    tracks: bool = False
    counts_batches: bool = False
    has_affine: bool = False
    narrow: bool = False
    target: str = "activation"


class Writer:
    """Draws one norm: `norm` is what comes out."""

    def __init__(self, seed: int, narrow: bool, callees: tuple[Callee, ...]) -> None:
        self.r = Random(seed)
        self.norm = DrawnNorm(f"Drawn{seed}", seed, narrow=narrow)
        self.callees = callees
        self.lines: list[str] = []
        self.norm.hypers["eps"] = EPS
        self.layout = self.norm.layout = self.r.choice(LAYOUTS)
        x = Expr("x", frozenset(self.layout.axes), lambda call: call.values["x"])
        self.d = Drawing(self.r, [x], self.layout.axes, self.layout.cut, narrow=narrow)
        self.d.one_cut = self.r.choice([c for c in CUTS if "parts" not in c or not narrow])
        self.d.near = narrow and self.chance(0.4)
        self.tracked: list[str] = []

    def chance(self, p: float) -> bool:
        return self.r.random() < p

    # ---- declarations

    def inputs(self) -> None:
        layout, norm = self.layout, self.norm
        norm.inputs.append(Input("x", "tensor", layout.axes))
        texts = [f"x[{layout.dims}]"]
        first = layout.axes[0]
        dims = [d.split("=")[0].strip() for d in layout.dims.split(",")]

        def some() -> list[str]:
            chosen = [d for d in dims if self.chance(0.6)] or [self.r.choice(dims)]
            return chosen

        if self.chance(0.45):  # another tensor, perhaps with fewer axes, in another order
            input_dims = some()
            if self.chance(0.25):
                self.r.shuffle(input_dims)
            default = self.r.choice((None, None, 1.0, 0.7, -0.25))
            if input_dims == dims and self.chance(0.4):
                default = "x"
            self.add_input("u", "tensor", input_dims, default, texts)
            self.d.values.append(self.named("u", layout.of(", ".join(input_dims))))
        if self.chance(0.4):
            input_dims = some()
            self.add_input("keep", "mask", input_dims, self.r.choice((None, "true")), texts)
            self.d.masks.append(self.named("keep", layout.of(", ".join(input_dims))))
        if self.chance(0.35):
            input_dims = some()
            self.add_input("w", "weight", input_dims, self.r.choice((None, 1.0)), texts)
            self.d.weights.append(self.named("w", layout.of(", ".join(input_dims))))
            if self.chance(0.3):
                self.d.values.append(self.named("w", layout.of(", ".join(input_dims))))
                norm.inputs[-1] = replace(norm.inputs[-1], zeros=False)
        compared = self.whole_numbers(some(), texts) if self.chance(0.2) else None
        if first in ("N", "V") and self.chance(0.5 if first == "V" else 0.25):
            kind = self.r.choice(("rows", "index", "offsets") if first == "V" else ("rows",))
            if kind == "rows":
                norm.tables["K"] = 3
                norm.inputs.append(Input("label", "rows", (first,), table="K"))
                texts.append(f"label: index[{first}] of K = 3")
                self.d.indices[first] = "label"
            elif kind == "offsets":
                self.offsets(first, texts)
            else:
                norm.inputs.append(Input("label", "index", (first,)))
                texts.append(f"label: index[{first}]")
                self.d.indices[first] = "label"
        elif first == "V" and self.chance(0.6) and (self.d.near or not norm.narrow):
            norm.inputs.append(Input("e", "edges", ("V",)))
            texts.append("e: edges[V]")
            self.d.edges["V"] = "e"
        if "T" in layout.axes and not norm.narrow and self.chance(0.7):
            self.offsets("T", texts)
        single = [a for a in layout.axes if not a.startswith("*") and a in dims]
        if not self.norm.narrow and self.chance(0.15):
            axis = self.r.choice(single)
            norm.inputs.append(Input("near", "matrix", (axis,)))
            texts.append(f"near: matrix[{axis}, {axis}]")
            self.d.matrices[axis] = "near"
        self.lines.append(f"  input  {', '.join(texts)}\n{layout.split}")
        if compared is not None:  # one that nothing compares would name groups
            self.let("compared", compared)

    def offsets(self, axis: str, texts: list[str]) -> None:
        """Offsets of consecutive segments, which pool, and which windows can be kept within."""
        self.norm.inputs.append(Input("cu", "offsets", (axis,)))
        texts.append(f"cu: offsets[{axis}]")
        self.d.indices[axis] = self.d.segments[axis] = "cu"

    def whole_numbers(self, dims: list[str], texts: list[str]) -> Expr:
        """An index that is compared, with positions or with a number."""
        axes = self.layout.of(", ".join(dims))
        self.norm.inputs.append(Input("many", "whole", axes))
        texts.append(f"many: index[{', '.join(dims)}]")
        word = self.r.choice(tuple(COMPARISONS))
        single = [a for a in self.layout.axes if not a.startswith("*")]
        beside = self.r.choice([*single, "2"])
        with_ = frozenset(() if beside == "2" else (beside,))

        def run(call: Call) -> Named:
            other = number(2.0)
            if beside != "2":
                other = Named(torch.arange(call.sizes[beside], dtype=torch.float64), (beside,))
            return elementwise(
                lambda p, q: COMPARISONS[word](p, q).to(torch.float64), other, call.values["many"]
            )

        text = "2" if beside == "2" else f"position({beside})"
        condition = Expr(f"({text} {word} many)", with_ | frozenset(axes), run)
        self.d.masks.append(condition)
        if self.chance(0.5):
            self.d.values.append(condition)
        return condition

    def add_input(
        self, name: str, sort: str, dims: list[str], default: float | str | None, texts: list[str]
    ) -> None:
        self.norm.inputs.append(Input(name, sort, self.layout.of(", ".join(dims)), default))
        end = "" if default is None else f" = {default}"
        begin = f"{name}: mask" if sort == "mask" else name
        texts.append(f"{begin}[{', '.join(dims)}]{end}")

    def named(self, name: str, axes: tuple[str, ...]) -> Expr:
        return Expr(name, frozenset(axes), lambda call: call.values[name])

    def params(self) -> None:
        choices = [("", ()), *self.layout.fixed]
        for number_ in range(self.r.randrange(3)):
            dims, axes = self.r.choice(choices)
            value = self.r.choice((1.0, 0.0, 0.5))
            self.param(f"p{number_}", dims, axes, value)
        if "K" in self.norm.tables and self.chance(0.7):
            dims, axes = self.r.choice(choices)
            table_dims = f"K, {dims}" if dims else "K"
            self.norm.params["table"] = (("K", *axes), 0.5)
            self.lines.append(f"  param  table[{table_dims}] = 0.5\n")
            first = self.layout.axes[0]
            axes = tuple(axes)

            def rows(call: Call) -> Named:
                table, label = call.values["table"], call.values["label"]
                return Named(table.tensor[label.tensor], (first, *axes))

            self.d.values.append(Expr("table[label]", frozenset((first, *axes)), rows))
        for name, value in (("alpha", 0.3), ("beta", 2.0)):
            if self.chance(0.15):
                self.norm.hypers[name] = value
                self.d.values.append(
                    Expr(name, frozenset(), lambda call, n=name: number(call.hypers[n]))
                )
        if self.chance(0.15):
            axis = self.r.choice(self.layout.axes)
            self.d.values.append(
                Expr(f"sqrt(size({axis}))", frozenset(),
                     lambda call, a=axis: number(float(call.sizes[a]) ** 0.5))
            )  # fmt: skip
        if self.chance(0.1):
            axis = self.r.choice([a for a in self.layout.axes if not a.startswith("*")])
            self.d.values.append(
                Expr(f"(position({axis}) / size({axis}))", frozenset((axis,)),
                     lambda call, a=axis: Named(
                         torch.arange(call.sizes[a], dtype=torch.float64) / call.sizes[a], (a,)))
            )  # fmt: skip

    def param(self, name: str, dims: str, axes: tuple[str, ...], value: float) -> None:
        self.norm.params[name] = (axes, value)
        self.lines.append(f"  param  {name}{f'[{dims}]' if dims else ''} = {value}\n")
        self.d.values.append(self.named(name, axes))

    # ---- statements

    def let(self, name: str, e: Expr) -> Expr:
        self.lines.append(f"  let    {name} = {e.text}\n")
        self.step(name, e)
        value = Expr(name, e.axes, lambda call: call.values[name], e.cells)
        self.d.values.append(value)
        return value

    def step(self, name: str, e: Expr) -> None:
        def run(call: Call) -> None:
            call.values[name] = e.run(call)

        self.norm.steps.append(run)

    def moments(self, name: str) -> None:
        value = self.d.expression(1)
        if not value.axes:
            return
        pool = self.d.pool(value.axes, value.cells)
        assert pool is not None
        self.lines.append(f"  let    {name} = moments({value.text} over {pool.text})\n")
        for part in ("mean", "var"):
            statistic = pooled(part, value, pool, f"{name}.{part}")
            self.step(f"{name}.{part}", statistic)
            self.d.values.append(
                Expr(
                    statistic.text,
                    statistic.axes,
                    lambda call, t=statistic.text: call.values[t],
                    statistic.cells,
                )
            )

    def repeat(self, name: str) -> None:
        """A few steps of r = r / 2 + tanh(something of r)."""
        begin = self.d.expression(1)
        if not begin.axes or begin.cells:
            return
        count = self.r.choice((1, 2, 3))
        self.lines.append(f"  let    {name} = {begin.text}\n")
        r = Expr(name, begin.axes, lambda call: call.values[name], begin.cells)
        pool = self.d.pool(begin.axes, begin.cells, plain=True)
        assert pool is not None
        kind = self.r.choice(("mean", "rms", "sum"))
        inner = pooled(kind, r, pool, f"{kind}({name} over {pool.text})")

        def moved(a: Named, b: Named) -> Named:
            return elementwise(lambda p, q: 0.5 * p + 0.3 * torch.tanh(q - p), a, b)

        body = both(r, inner, f"0.5 * {name} + 0.3 * tanh({inner.text} - {name})", moved)
        self.lines.append(f"  repeat {count} {{ {name} = {body.text} }}\n")

        def run(call: Call) -> None:
            call.values[name] = begin.run(call)
            for _ in range(count):
                call.values[name] = body.run(call)

        self.norm.steps.append(run)
        self.d.values.append(r)

    def track(self, name: str) -> None:
        """`normalize(... track m)`, or the moments of it, over all but axes of fixed length."""
        fixed = {a for _, axes in self.layout.fixed for a in axes}
        first = self.layout.axes[0]
        over = [a for a in self.layout.axes if a not in fixed and (a != first or self.chance(0.8))]
        if not over:
            return
        value = self.r.choice([e for e in self.d.values if e.axes >= frozenset(self.layout.axes)
                               and not e.cells])  # fmt: skip
        ways = {a: (a, lambda _: (None, None)) for a in over}
        rows = next((i for i in self.norm.inputs if i.sort == "rows"), None)
        by_label = rows is not None and first in over and self.chance(0.5)
        if by_label:
            ways[first] = (
                f"{first}: label", lambda call: (same(call.values["label"].tensor), None)
            )  # fmt: skip
        pool = DrawnPool(ways)
        allowed = set(over) | fixed | {first}
        masks = [m for m in self.d.masks if m.axes <= allowed]
        weights = [w for w in self.d.weights if w.axes <= allowed]
        if masks and self.chance(0.5):
            pool = DrawnPool(ways, self.r.choice(masks))
        elif weights and self.chance(0.5):
            pool = DrawnPool(ways, None, self.r.choice(weights))
        momentum = self.r.choice(("0.1", "0.3", "momentum", "None"))
        kind = self.r.choice(("normalize", "normalize", "mean", "var", "moments"))
        group = f"{value.text} over {pool.text} track {momentum}"
        if group in self.tracked:  # its running statistics would be those of the first
            return
        prefix = "" if not self.tracked else f"{name}_"
        self.tracked.append(group)
        if momentum == "momentum":
            self.norm.hypers["momentum"] = 0.2
        self.norm.tracks = True
        # As in torch's instance norm, means of statistics of each sample are not counted.
        self.norm.counts_batches |= first in over or momentum == "None"
        kept = tuple(a for a in self.layout.axes if a in fixed)
        if by_label:
            kept = ("K", *kept)
        parts = {"mean": ("mean",), "var": ("var",)}.get(kind, ("mean", "var"))
        for part in parts:
            self.norm.buffers[f"{prefix}running_{part}"] = (kept, {"mean": 0.0, "var": 1.0}[part])
        self.lines.append(
            f"  let    {name} = {kind}({value.text} over {pool.text} track {momentum})\n"
        )

        def run(call: Call) -> None:
            x, p = value.run(call), pool.made(call)
            total = statistic("count", x, p)
            live = {part: statistic(part, x, p) for part in parts}
            used = {}
            is_live = call.training or not call.keeps
            for part in parts:
                if is_live:
                    used[part] = live[part]
                buffer = call.values.get(f"{prefix}running_{part}")
                if buffer is None:
                    continue
                if call.training:
                    call.new_state[f"{prefix}running_{part}"] = self.moved(
                        call, live[part], total, buffer, part, kept, by_label, momentum
                    )
                elif by_label:
                    table = buffer.tensor[call.values["label"].tensor]
                    used[part] = Named(table, (first, *buffer.axes[1:]))
                else:  # the same for all that it is averaged over
                    axes = tuple(dict.fromkeys((*live[part].axes, *kept)))
                    used[part] = Named(buffer.spread(axes, call.sizes), axes)
            if kind == "normalize":
                eps = call.hypers["eps"]
                ones = number(1.0)
                call.values[name] = scaled(
                    x, used["mean"], used["var"], total if is_live else ones, eps
                )
            elif kind == "moments":
                call.values[f"{name}.mean"], call.values[f"{name}.var"] = used["mean"], used["var"]
            else:
                call.values[name] = used[kind]

        self.norm.steps.append(run)
        left = (value.axes | pool.more_axes) - {a for a, (t, _) in ways.items() if t == a}
        cells = frozenset((first,)) if by_label else frozenset()
        if kind == "normalize":
            self.d.values.append(self.named(name, tuple(value.axes)))
        for text in {"moments": (f"{name}.mean", f"{name}.var")}.get(kind, (name,)):
            if kind != "normalize":
                self.d.values.append(
                    Expr(text, frozenset(left), lambda call, t=text: call.values[t], cells)
                )

    def moved(
        self, call: Call, live: Named, total: Named, old: Named, part: str,
        kept: tuple[str, ...], by_label: bool, momentum: str,
    ) -> Tensor:  # fmt: skip
        """A running statistic after a call, as the section on running statistics has it."""

        def entering(v: Tensor, n: Tensor, before: Tensor) -> Tensor:
            if part == "var":
                v = torch.where(n > 1, v * n / torch.where(n > 1, n - 1, 1.0), v)
            return torch.where(n > 0, v, before)

        first = self.layout.axes[0]
        batches = int(call.values["num_batches_tracked"].tensor) + 1
        rate = {"None": 1 / batches, "momentum": call.hypers.get("momentum", 0)}.get(momentum)
        rate = float(momentum) if rate is None else rate
        with torch.no_grad():
            if by_label:
                new = old.tensor.clone()
                axes = (first, *kept[1:])
                for k in range(new.shape[0]):
                    chosen = call.values["label"].tensor == k
                    if chosen.any():
                        at = int(chosen.nonzero()[0])
                        n = total.spread(axes, call.sizes)[at]
                        v = live.spread(axes, call.sizes)[at]
                        new[k] = entering(v, n, old.tensor[k])
            else:
                axes = tuple(dict.fromkeys((*live.axes, *total.axes, *kept)))
                new = entering(
                    live.spread(axes, call.sizes),
                    total.spread(axes, call.sizes),
                    old.lined_up(axes),
                )
                free = tuple(i for i, a in enumerate(axes) if a not in kept)
                left = tuple(a for a in axes if a in kept)
                new = Named(new.mean(free) if free else new, left).lined_up(kept)
            return (1 - rate) * old.tensor + rate * new

    def buffer(self) -> None:
        """A buffer that follows a statistic by hand."""
        dims, axes = self.r.choice([("", ()), *self.layout.fixed])
        self.norm.buffers["seen"] = (axes, 0.5)
        self.lines.append(f"  buffer seen{f'[{dims}]' if dims else ''} = 0.5\n")
        over = [a for a in self.layout.axes if a not in axes]
        self.d.values.append(self.named("seen", axes))
        text = f"0.9 * seen + 0.1 * mean(tanh(x) over {', '.join(over)})"
        self.lines.append(f"  update seen = {text}\n")

        def run(call: Call) -> None:
            if call.training:
                new = elementwise(torch.tanh, call.values["x"])
                new = statistic("mean", new, Pool(dict.fromkeys(over)))
                old = call.values["seen"]
                call.new_state["seen"] = (0.9 * old.tensor + 0.1 * new.lined_up(axes)).detach()

        self.norm.steps.append(run)

    def affine(self, e: Expr, off: bool = False) -> Expr:
        """`affine(e per C)`, or its weight alone."""
        dims, axes = self.r.choice(self.layout.fixed)
        alone = self.chance(0.2)
        self.norm.has_affine = True
        self.norm.params["weight"] = (axes, 1.0)
        if not alone:
            self.norm.params["bias"] = (axes, 0.0)

        def run(call: Call) -> Named:
            y = elementwise(torch.mul, e.run(call), call.values["weight"])
            return y if alone else elementwise(torch.add, y, call.values["bias"])

        per = f"weight[{dims}]" if alone else dims
        return Expr(f"affine({e.text} per {per})", e.axes | frozenset(axes), run)

    def call(self, name: str) -> None:
        """`let name = Other(...)`: another norm of the same file."""
        fitting = [c for c in self.callees if c.axes == self.layout.axes]
        full = [e for e in self.d.values if e.axes == frozenset(self.layout.axes) and not e.cells]
        if not fitting or not full:
            return
        callee = self.r.choice(fitting)
        value = self.r.choice(full)
        self.lines.append(f"  let    {name} = {callee.name}({value.text}{callee.options})\n")
        callee.bring(self, name, value)
        self.d.values.append(self.named(name, tuple(value.axes)))

    # ---- the whole

    def write(self) -> DrawnNorm:
        norm = self.norm
        self.inputs()
        self.params()
        if self.chance(0.3):
            self.track("t0")
        if self.chance(0.1) and not any(a.startswith("*B") for a in self.layout.axes):
            self.buffer()
        for position in range(self.r.randrange(4)):
            kind = self.r.choices(
                ("let", "moments", "repeat", "call"), (6, 2, 0 if norm.narrow else 1, 2)
            )[0]
            if kind == "let":
                self.let(f"v{position}", self.d.expression(self.r.choice((1, 2, 2, 3))))
            else:
                getattr(self, kind)(f"{kind[0]}{position}")
        if norm.tracks and self.chance(0.15):
            self.track("t1")
        self.finish()
        return norm

    def finish(self) -> None:
        norm, full = self.norm, frozenset(self.layout.axes)
        result = self.d.expression(2)
        other = self.r.choice(self.d.values)
        x = self.d.values[0]
        shown = both(both(x, result, f"x * tanh({result.text})",
                          lambda a, b: elementwise(lambda p, q: p * torch.tanh(q), a, b)),
                     other, "", lambda a, b: elementwise(torch.add, a, b))  # fmt: skip
        body = Expr(f"x * tanh({result.text}) + {other.text}", shown.axes, shown.run)
        assert body.axes == full, (body, full)
        if self.layout.fixed and self.chance(0.35):
            body = self.affine(body)
        norm.outputs.append(("y", body))
        more = [
            e for e in self.d.values if e.axes <= full and not e.cells and e.text.isidentifier()
        ]
        if more and self.chance(0.2) and not (norm.narrow and self.chance(0.5)):
            norm.outputs.append(("more", self.r.choice(more)))
        text = ", ".join(f"{n} = {e.text}" for n, e in norm.outputs)
        self.lines.append(f"  output {text if len(norm.outputs) > 1 else body.text}\n")
        if "parts" in "".join(self.lines):
            norm.required["parts"] = 2
            norm.hypers["parts"] = 2
        hypers = [f"{n}: int" for n in norm.required]
        hypers += [f"{n} = {v}" for n, v in norm.hypers.items() if n not in norm.required]
        norm.text = f"norm {norm.name}({', '.join(hypers)}) {{\n{''.join(self.lines)}}}\n"


@dataclass(frozen=True)
class Callee:
    """A norm that others call: its text, and what a call of it brings and computes."""

    name: str
    text: str
    options: str
    axes: tuple[str, ...]
    bring: Callable[[Writer, str, Expr], None]


def _layer(writer: Writer, name: str, value: Expr) -> None:
    """(x - mean) / sqrt(var + 1e-3) over C, times a weight."""
    writer.norm.params[f"{name}_weight"] = (("C",), 1.0)
    pool = DrawnPool({"C": ("C", lambda _: (None, None))})

    def run(call: Call) -> None:
        y = normalized(value.run(call), pool.made(call), 1e-3)
        call.values[name] = elementwise(torch.mul, y, call.values[f"{name}_weight"])

    writer.norm.steps.append(run)


def _squash(writer: Writer, name: str, value: Expr) -> None:
    """tanh(gain * x) less its mean over C."""
    writer.norm.params[f"{name}_gain"] = ((), 0.7)
    pool = DrawnPool({"C": ("C", lambda _: (None, None))})

    def run(call: Call) -> None:
        y = elementwise(
            lambda x, g: torch.tanh(2 * g * x), value.run(call), call.values[f"{name}_gain"]
        )
        call.values[name] = elementwise(torch.sub, y, statistic("mean", y, pool.made(call)))

    writer.norm.steps.append(run)


CALLEES = (
    Callee(
        "CalledLayer",
        "norm CalledLayer(eps = 1e-5) {\n  input  x[N, C = num_c]\n"
        "  output affine(normalize(x over C) per weight[C])\n}\n",
        ", eps = 1e-3", ("N", "C"), _layer,
    ),
    Callee(
        "CalledImage",
        "norm CalledImage(eps = 1e-5) {\n  input  x[N, C = num_c, *S]\n"
        "  output affine(normalize(x over C) per weight[C])\n}\n",
        ", eps = 1e-3", ("N", "C", "*S"), _layer,
    ),
    Callee(
        "CalledSquash",
        "norm CalledSquash(twice = 1) {\n  input  x[V, C]\n  param  gain = 0.7\n"
        "  let    y = tanh(twice * gain * x)\n  output y - mean(y over C)\n}\n",
        ", twice = 2", ("V", "C"), _squash,
    ),
)  # fmt: skip


def drawn(seed: int, narrow: bool) -> DrawnNorm:
    """The norm of a seed."""
    return Writer(seed, narrow, CALLEES).write()
