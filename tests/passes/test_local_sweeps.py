"""The sweeps of norms among processes, and the programs between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from conftest import PROGRAMS
from programs import lowered

import metanorm
from metanorm.ir.division import exchanges, message_depths
from metanorm.ir.dump import program_text
from metanorm.ir.nodes import Input, Near, Swept, ToSum
from metanorm.ir.program import Program
from metanorm.ir.verify import IllegalProgram, verify
from metanorm.nest.eligibility import NoKernels
from metanorm.passes.divided import DividedVariant, divided, divided_variant
from metanorm.passes.local_sweeps import LocalSweeps, local_sweeps
from metanorm.passes.pipeline import optimize
from metanorm.passes.sweep_programs import NotInSweeps
from metanorm.targets.process_kernels import sweeps_with_kernels

BATCH = "input x[N, C, *S]\noutput (x - mean(x over N, *S)) / std(x over N, *S)"


def swept(text: str, *axes: str) -> LocalSweeps:
    return local_sweeps(divided_variant(optimize(lowered(text)), axes or ("N",)).program)


def variants() -> Iterator[tuple[str, DividedVariant]]:
    """The norms of the library, for pieces of some axes."""
    for name, program in PROGRAMS.items():
        division = divided(optimize(program))
        for variant in division.variants if division else ():
            yield name, variant


def test_a_sweep_measures_moments_from_which_sums_follow() -> None:
    swept_norm = swept(BATCH)
    measured, written = swept_norm.sweeps
    assert "exact_mean(x over N, S)" in program_text(measured.program)
    assert "as float64" in program_text(measured.program)
    assert not measured.narrow_inputs and not measured.writes
    assert written.writes and len(written.narrow_inputs) == 2
    between = program_text(swept_norm.program)
    assert "gaps of" in between and "squares of" in between
    wide = {"N", "C", "S"}
    assert not any(wide <= {*let.type.axes} and not isinstance(let.op, (Swept, Input))
                   for let in swept_norm.program.body)  # fmt: skip


# One statistic waits for a message, and another does not.
WAITING = """
input x[N, C]
let n = size(N)
let largest = max(l1((n - x) over C), mode(train: size(C), eval: n))
output x * var((largest - x) over N, C, about = 0.5) + n
"""


def measured_depths(swept_norm: LocalSweeps) -> list[set[int]]:
    """For each sweep that measures, how many messages its results wait for."""
    depths = message_depths(swept_norm.program)
    results = [(let.name, let.op) for let in swept_norm.program.body]
    return [
        {depths[ref] for ref, op in results if isinstance(op, Swept) and op.sweep == number}
        for number, sweep in enumerate(swept_norm.sweeps, 1)
        if not sweep.writes
    ]


@pytest.mark.parametrize("axes", [("N",), ("C",), ("N", "C")], ids=str)
def test_what_one_sweep_measures_waits_for_as_many_messages(axes: tuple[str, ...]) -> None:
    """Else one message could wait for another that waits for it."""
    assert all(len(depths) == 1 for depths in measured_depths(swept(WAITING, *axes)))


def test_a_norm_whose_statistics_wait_for_different_messages_compiles() -> None:
    text = f"norm Waiting {{\n{WAITING}}}\n"
    assert metanorm.loads(text).Waiting()


def test_sweeps_change_no_message() -> None:
    """What is sent, in which order and over which axes, is that of the program without sweeps."""

    def messages(program: Program) -> list[tuple[tuple[str, ...], tuple[str, ...], int]]:
        depths, types = message_depths(program), program.index.types
        return [(types[ref].axes, op.axes, depths[ref]) for ref, op in exchanges(program).items()]

    def near(program: Program) -> list[Near]:
        return [let.op for let in program.body if isinstance(let.op, Near)]

    compared = 0
    for name, variant in variants():
        try:
            between = local_sweeps(variant.program).program
        except NotInSweeps:
            continue
        assert messages(between) == messages(variant.program), name
        assert near(between) == near(variant.program), name
        compared += 1
    assert compared > 120


def test_programs_of_sweeps_and_between_them_are_legal() -> None:
    for _, variant in variants():
        try:
            swept_norm = local_sweeps(variant.program)
        except NotInSweeps:
            continue
        verify(swept_norm.program)
        for sweep in swept_norm.sweeps:
            verify(sweep.program)


def test_the_verifier_wants_local_moments_to_be_sent() -> None:
    swept_norm = swept(BATCH).program
    body = [
        replace(let, op=replace(let.op, part_of=())) if isinstance(let.op, Swept) else let
        for let in swept_norm.body
    ]
    with pytest.raises(IllegalProgram, match="several pieces"):
        verify(replace(swept_norm, body=tuple(body)))
    sums = {let.name: let.op.parts[1] for let in swept_norm.body if isinstance(let.op, ToSum)}
    mean = next(iter(sums.values()))
    with pytest.raises(IllegalProgram, match="a part of a sum over N"):
        verify(replace(swept_norm, outputs=(("output", mean),)))


def test_most_norms_that_pool_over_samples_have_kernels_between_messages() -> None:
    with_kernels: set[str] = set()
    without: dict[str, str] = {}
    for name, variant in variants():
        if "N" in variant.exchanged or "V" in variant.exchanged:
            try:
                sweeps_with_kernels(variant)
                with_kernels.add(name)
            except NoKernels as reason:
                without[name] = str(reason)
    assert {"BatchNorm", "SwitchNorm", "MaskedBatchNorm", "EvoNormB0", "Spade"} <= with_kernels
    everywhere = [v for name, v in variants() if name == "ModeNorm"][-1]
    first = sweeps_with_kernels(everywhere).sweeps[0].program  # a mean, about a number
    assert [name for name, _ in first.outputs] == ["x_mean"] and "about" not in program_text(first)
    assert without["IterNorm"] == "a pool as large as the input"
    assert without["DomainBatchNorm"] == "pools of groups of positions"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "input x[N, C], domain: index[N] of K = 3\noutput x - mean(x over N: domain)",
            "pools of groups of positions",
        ),
        (
            "input x[N, C], y[N, C]\noutput x - std(x * y over N)",
            "a mul of all data between sweeps",
        ),
    ],
)
def test_what_has_no_sweeps_says_why(text: str, reason: str) -> None:
    with pytest.raises(NotInSweeps, match=reason):
        swept(text)


def test_an_input_that_is_an_output_is_in_no_sweep() -> None:
    swept_norm = swept("input x[N, C]\noutput x, y = normalize(x over N)")
    assert {name for sweep in swept_norm.sweeps for name, _ in sweep.program.outputs} >= {"y"}
    assert "x" not in {name for sweep in swept_norm.sweeps for name, _ in sweep.program.outputs}


def test_the_length_of_an_axis_that_a_sweep_has_nothing_on_may_be_an_argument() -> None:
    """Here of an index that chooses other samples."""
    text = (
        "norm A {\n  input x[N, C, *S], other: index[N] of M\n"
        "  let m = mean(x over *S)\n  output x - m + m[N -> M][other]\n}"
    )
    module = metanorm.loads(text)
    assert module.A is not None
