"""Which norms have kernels: asked without printing, and right about what is printed then."""

from __future__ import annotations

from collections.abc import Callable

import printed
import pytest
from conftest import PROGRAMS

from metanorm.frontend import check
from metanorm.ir.program import Program
from metanorm.nest.eligibility import NoKernels, unsupported
from metanorm.nest.kernels import kernels_of
from metanorm.passes.pipeline import optimize
from metanorm.plan.sweeps import plan_sweeps
from metanorm.source import Source
from metanorm.targets.kernel_table import PrintedNorm
from metanorm.targets.registry import KERNEL_TARGETS, KernelTarget, target_for_device
from metanorm.workspace import load


def optimized(text: str) -> Program:
    """The program of a norm with these lines, after all passes."""
    whole = text if text.startswith("norm") else f"norm T(eps = 1e-5) {{\n{text}\n}}\n"
    checked = check({"t.norm": Source.of("t.norm", whole)}, ["t.norm"])
    assert checked.ok, checked.diagnostics
    return optimize(checked.norms["t.norm"][0].program)


UNSUPPORTED = {
    "x - mean(x over C: window(3))": "a pool as large as the input",
    "x - mean(x over V: a) - mean(x over V: b)": "groups of two kinds",
    "x - mean(x over V: a) - mean(mean(x over C) over V: b)": "a pool of narrow values by blocks",
    "max(x over C, V: causal within o) + x": "max of the past, which overlaps",
    "x - mean(x over C: chunks(4)) - mean(x over C: blocks(4))": "blocks of several sizes",
    "softmax(x over C)": "a softmax as large as the input",
    "x + mean(x * z over M)": "a value larger than the input",
    "x * sum(x over C weight mean(x over C))": "a weight that depends on the data",
    "x - mode(train: mean(x over V), eval: 0)": "mode",
}


@pytest.mark.parametrize("output", UNSUPPORTED)
def test_what_no_plan_can_do_is_told(output: str) -> None:
    inputs = "input x[V, C], a: index[V], b: index[V], z[M, V, C], o: offsets[V]"
    program = optimized(f"{inputs}\noutput {output}")
    assert any(UNSUPPORTED[output] in reason for reason in unsupported(plan_sweeps(program)))


def test_products_that_are_only_summed_are_left_to_torch() -> None:
    text = "input x[V, C]\nparam w[C, D = 4] = 1\noutput x + sum({}(sum(x * w over C)) over D) + {}"
    with pytest.raises(NoKernels, match="matrix products"):
        kernels_of(optimized(text.format("tanh", 0)))
    assert kernels_of(optimized(text.format("tanh", "sum(exp(x * w) over D)"))).variants


def test_windows_beside_groups_of_their_axis_are_left_to_torch() -> None:
    text = "input x[V, C], o: offsets[V]\noutput x - mean(x over C, V: causal within o){}"
    with pytest.raises(NoKernels, match="windows of rows that are in groups"):
        kernels_of(optimized(text.format(" - mean(x over V: o)")))
    assert kernels_of(optimized(text.format(""))).variants


EDGES = {
    "x - mean(x over V: e)": "neighbours in a graph, whose pools overlap",
    "x / rms(x over V: e, C)": "neighbours in a graph, whose pools overlap",
    "x - mean(x over V: e, C where k)": "neighbours in a graph, whose pools overlap",
    "x - mean(max(x over V: e, C) over V: f)": "",
    "x - mean(x over V: e, C) * var(x over V: e with self, C) + mean(w over V: f)": "",
}


@pytest.mark.parametrize("output", EDGES)
def test_which_pools_of_neighbours_have_kernels(output: str) -> None:
    inputs = "input x[V, C], e: edges[V], f: edges[V], w[V], k: mask[V, C]"
    program, reason = optimized(f"{inputs}\noutput {output}"), ""
    try:
        kernels_of(program)
    except NoKernels as error:
        reason = str(error)
    assert reason == EDGES[output]


def test_kernels_do_not_round_to_eight_bits() -> None:
    text = "input x[V, C]\noutput cast(x as {}) - mean(x over C)"
    with pytest.raises(NoKernels, match="eight bits"):
        kernels_of(optimized(text.format("float8_e5m2")))
    assert kernels_of(optimized(text.format("float16"))).variants
    text = "input x[V, C]\noutput y = x - mean(x over C), q = x as {}"
    with pytest.raises(NoKernels, match="eight bits"):
        kernels_of(optimized(text.format("float8_e4m3fn")))
    assert kernels_of(optimized(text.format("bfloat16"))).variants


def test_windows_do_not_go_along_rows_in_groups() -> None:
    text = """
        input x[V, C], a: index[V] of K = 3
        param table[K] = 1
        output x * table[a] - mean(x over C, V: window(3))
    """
    with pytest.raises(NoKernels, match="windows of rows that are in groups"):
        kernels_of(optimized(text))


MATRIX_PRODUCTS_REASON = {
    "of the data": "input x[N, C]\noutput x * sum(x * x[C -> D] over N, D)",
    "of values made of it": "input x[N, C]\noutput x * mean(exp(x) * exp(x)[C -> D] over D)",
    "by a vector, in a loop": """input x[N, M]
        let d[N] = 1
        repeat 3 { d = d / sum(x * d[N -> M] over M) }
        output x * d""",
}


@pytest.mark.parametrize("text", MATRIX_PRODUCTS_REASON.values(), ids=MATRIX_PRODUCTS_REASON)
def test_matrix_products_are_left_to_torch(text: str) -> None:
    assert "matrix products" in _outcome(kernels_of, optimized(text))


def test_products_of_cells_are_not() -> None:
    text = "input x[N, C, *S]\nlet m = mean(x over N, *S)\noutput x * sum(m * m[C -> D] over D)"
    assert _outcome(kernels_of, optimized(text)) == "kernels"


ONE_TARGET = {
    "input x[N, C, T]\nreduce C, T: causal": {},
    "input x[N, C, *S]\nlet m = var(x over N)\nlet v = var(x over C)\noutput x * m + v": {
        "native": "statistics that pool crosswise"
    },
    "input x[C, V], batch: index[V]\nreduce V: batch": dict.fromkeys(
        KERNEL_TARGETS, "groups of the axis along which memory is contiguous"
    ),
    "input x[V, C], batch: index[V]\nreduce V: batch": {},
    "input x[V, C], e: edges[V]\nreduce V: e, C": {},
}


@pytest.mark.parametrize("text", ONE_TARGET)
def test_what_a_single_target_cannot_do(text: str) -> None:
    program, reasons = optimized(text), {}
    for target in KERNEL_TARGETS.values():
        try:
            target.kernels(program)
        except NoKernels as error:
            reasons[target.name] = str(error)
    assert reasons == ONE_TARGET[text]


def demand_text(target: KernelTarget, program: Program) -> None:
    """What is eligible is printed, and nothing is raised on the way."""
    try:
        kernels = target.kernels(program)
    except NoKernels:
        return
    text = target.text("t.norm", [PrintedNorm("t", kernels, None)])
    assert all(variant.name in text for variant in kernels.variants)


def test_every_eligible_norm_of_the_corpus_is_printed_for_a_gpu() -> None:
    """In C, the tests of the corpus print all."""
    for file in printed.spec_files():
        if "good" in file.parts:
            specs = load([str(file)])
            for root in specs.roots:
                for norm in check(specs.sources, [root]).norms[root]:
                    demand_text(target_for_device("cuda"), optimize(norm.program))


def test_reasons_are_found_without_any_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a norm is eligible does not depend on printers: there need not be any."""

    def refuse(*_: object) -> str:
        raise AssertionError("printed")

    for module in ("native.source", "triton.source"):
        name = "sections" if module.startswith("native") else "kernel_source"
        monkeypatch.setattr(f"metanorm.targets.{module}.{name}", refuse)
    kernels_of.cache_clear()
    outcomes = {name: _outcome(kernels_of, program) for name, program in PROGRAMS.items()}
    assert outcomes["LayerNorm"] == "kernels" and "matrix products" in outcomes["IterNorm"]


def _outcome(ask: Callable[[Program], object], program: Program) -> str:
    try:
        ask(optimize(program))
    except NoKernels as reason:
        return str(reason)
    return "kernels"
