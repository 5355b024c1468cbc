"""What outputs depend on, in which mode, and whether samples meet."""

from __future__ import annotations

import pytest
from conftest import PROGRAMS
from from_text import from_lines

from metanorm.ir.batch import crosses_samples, holds_pairs
from metanorm.ir.mode_placement import ModeBranch, dependencies, mode_placement
from metanorm.ir.nodes import Input
from metanorm.ir.reachable import reachable
from metanorm.ir.rename import rename_bindings, role_of
from metanorm.ir.verify import IllegalProgram, verify

TRACKED = from_lines(
    """
    input x[N, C], label: index[N]
    let m = moments(x over N track 0.1)
    let unused = tanh(x)
    let both = x - m.mean
    output mode(train: both, eval: exp(both)) + mean(x over N: label)
    """
)


def test_reachable_is_what_outputs_and_updates_need() -> None:
    actual = reachable(TRACKED)
    assert "unused" not in actual
    assert {"both", "m_mean", "label", "running_mean"} <= actual
    variances = [let.name for let in TRACKED.body if "unbiased" in str(let.op)]
    assert variances[0] in actual
    assert variances[0] not in reachable(TRACKED, updates=False)


def test_in_evaluation_only_one_arm_is_needed() -> None:
    means = [let.name for let in TRACKED.body if "statistic='mean'" in str(let.op)]
    batch, by_label = means
    assert batch in reachable(TRACKED, updates=False)
    actual = reachable(TRACKED, updates=False, evaluating=True)
    assert batch not in actual
    assert {by_label, "running_mean"} <= actual


def test_places_are_the_arms_that_need_a_value() -> None:
    actual = mode_placement(TRACKED)
    assert actual["x"] is None
    assert actual["both"] is None
    assert actual["running_mean"] == ModeBranch("track", "eval")
    (exponential,) = [let.name for let in TRACKED.body if "'exp'" in str(let.op)]
    assert actual[exponential] == ModeBranch("mode", "eval")
    statistics = [let for let in TRACKED.body if "statistic='var'" in str(let.op)]
    assert actual[statistics[0].name] == ModeBranch("track", "train")


def test_what_values_need_includes_the_index_of_a_pool() -> None:
    lets = {let.name: let for let in TRACKED.body}
    (by_label,) = [let.name for let in TRACKED.body if "ByIndex" in str(let.op)]
    assert set(dependencies([by_label], lets)) == {by_label, "x", "label"}


CROSSES = {  # in training, in evaluation
    "reduce N": (True, True),
    "reduce N\ntrack 0.1": (True, False),
    "reduce C": (False, False),
    "reduce N: label": (False, False),
    "reduce N: chunks(2)": (True, True),
    "output x - mode(train: mean(x over N), eval: 0)": (True, False),
    "output x - mean(mean(x over C) over N)": (True, True),
    "output x * softmax(x over N)": (True, True),
    "output x * softmax(x over C)": (False, False),
    "output x - x[N = 0]": (True, True),
    "output x - x[C = 0]": (False, False),
    "output x - sum(x[N -> M] * exp(x) over M)": (True, True),
    "output mode(train: x[permutation(per N)], eval: x)": (True, False),
    "output mode(train: x[permutation(per C)], eval: x)": (False, False),
}


@pytest.mark.parametrize("lines", CROSSES)
def test_samples_meet(lines: str) -> None:
    program = from_lines(f"input x[N, C], label: index[N]\n{lines}")
    actual = tuple(bool(crosses_samples(program, evaluating)) for evaluating in (False, True))
    assert actual == CROSSES[lines]


def test_an_index_with_a_table_does_not_separate_samples() -> None:
    """Samples of one domain still meet."""
    program = from_lines("input x[N, C], domain: index[N] of K = 3\nreduce N: domain")
    assert crosses_samples(program, evaluating=True)


def test_a_matrix_of_pairs_is_one_sample() -> None:
    assert not holds_pairs(from_lines("input x[N, M]\noutput x - mean(x over M)"))
    square = from_lines("input x[N, M]\nlet d = mean(x over M)\noutput x * d * d[N -> M]")
    assert holds_pairs(square)
    assert not crosses_samples(square, evaluating=True)


@pytest.mark.parametrize(
    ("ref", "role"), [("%7", ""), ("%between.7", "between"), ("mean", ""), ("%rstd", "rstd")]
)
def test_roles_of_names(ref: str, role: str) -> None:
    assert role_of(ref) == role


@pytest.mark.parametrize("name", PROGRAMS)
def test_renaming_all_values_changes_nothing_else(name: str) -> None:
    program = PROGRAMS[name]
    # Pools name their index input in the matrix, which is no operand.
    kept = {let.name for let in program.body if isinstance(let.op, Input)}
    names = {let.name: f"new_{let.name}" for let in program.body if let.name not in kept}
    other = rename_bindings(program, names)
    verify(other)
    assert [let.type for let in other.body] == [let.type for let in program.body]
    assert rename_bindings(other, {new: old for old, new in names.items()}) == program


def test_a_name_that_is_taken_is_noticed() -> None:
    with pytest.raises(IllegalProgram, match="defined twice"):
        verify(rename_bindings(TRACKED, {"both": "x"}))
