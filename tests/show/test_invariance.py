"""What leaves a result unchanged: as theory says, and nothing else."""

from __future__ import annotations

import pytest
from conftest import PROGRAMS
from test_pooled import norm, program_of

from metanorm.show.invariance import ChangedAxes, invariances

EACH: dict[str, tuple[tuple[ChangedAxes, ...], tuple[ChangedAxes, ...]]] = {
    "BatchNorm": ((("C",),), (("C",),)),
    "LayerNorm": ((("*B",),), (("*B",),)),
    "InstanceNorm": ((("N", "C"),), (("N", "C"),)),
    "GroupNorm": ((("N", "C/blocks(num_groups)"),), (("N", "C/blocks(num_groups)"),)),
    "PositionalNorm": ((("N", "*S"),), (("N", "*S"),)),
    "RMSNorm": ((("*B",),), ()),
    "GraphNorm": ((("V/batch", "C"),), ()),  # its centre is only a part of the mean
    "SwitchNorm": (((),), ((),)),
    "BatchChannelNorm": ((("C",),), (("C",),)),
    "IterNorm": ((("G",),), (("C",),)),
    "MeanSubtractionNorm": ((), (("V/batch", "D"),)),
    "WeightNorm": ((("O",),), ()),
    "DynamicTanh": ((), ()),  # saturated or not
    "FrozenBatchNorm": ((), ()),
    "ModeNorm": ((), ()),  # gates follow the input
    "DivisiveNorm": ((), ()),  # for its eps is one
}


@pytest.mark.parametrize("name", EACH)
def test_known_invariances(name: str) -> None:
    scaling, shifting = EACH[name]
    assert invariances(PROGRAMS[name]) == {"scaling": scaling, "shifting": shifting}


def test_two_ways_that_exclude_each_other() -> None:
    """A norm that subtracts what is separable: numbers for rows, or numbers for columns."""
    both = program_of(
        "norm A {\n  input  x[N, C]\n"
        "  output x - mean(x over N) - mean(x over C) + mean(x over N, C)\n}\n"
    )
    assert invariances(both)["shifting"] == (("N",), ("C",))


def test_parts_of_a_split_axis() -> None:
    parts = program_of(
        "norm A(groups: int) {\n  input  x[N, C]\n  axis   C = (G = groups, D)\n"
        "  output x - mean(x over D)\n}\n"
    )
    assert invariances(parts)["shifting"] == (("N", "G"),)


def test_a_result_that_ignores_its_input_is_not_called_invariant() -> None:
    constant = program_of("norm A {\n  input  x[N]\n  output 0 * x\n}\n")
    assert invariances(constant) == {"scaling": (), "shifting": ()}


def test_windows_and_masks() -> None:
    window = norm("x[N, T]", "T: window(3)")
    assert invariances(window)["shifting"] == (("N",),)
    masked = norm("x[N, T], mask: mask[N, T]", "N where mask")
    assert invariances(masked)["shifting"] == (("T",),)
