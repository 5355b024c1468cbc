"""`metanorm bench --processes` times norms over several processes, and says what they send.

No time is ever asserted.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import in_a_child, in_this

SPECS = """
norm OfSamples() {
  input x[N, C]
  reduce N
}

norm OfFeatures() {
  input x[N, C]
  reduce C
}
"""


@pytest.mark.needs_torch
def test_norms_over_two_processes_and_their_messages(tmp_path: Path) -> None:
    (tmp_path / "two.norm").write_text(SPECS)
    result = in_a_child(
        "bench", "two.norm", "--processes", "2", "--rounds", "1", "--json", "times.json",
        folder=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "times.json").read_text())
    of_features, of_samples = sorted(report["entries"], key=lambda entry: entry["norm"])
    assert (report["processes"], of_samples["workload"]) == (2, "1024x256")
    # A header of two numbers, the count of samples, and two sums for each of 256 features; the
    # backward pass sends their gradients.
    length = 2 + 1 + 2 * 256
    assert of_samples["messages"] == {"forward": [length], "both": [length, length]}
    timed = {(time["candidate"], time["phase"]) for time in of_samples["times"]}
    assert len(timed) == 10 and all(time["median"] > 0 for time in of_samples["times"])
    assert of_features["times"] == []
    assert "left out: OfFeatures, 1024x256: it does not pool over samples" in result.stdout


def test_flags_that_exclude_each_other() -> None:
    for further in (["--calls"], ["--chart", "times.png"], ["--device", "cuda"]):
        result = in_this("bench", "--processes", "2", *further)
        assert result.returncode == 2 and "--processes" in result.stderr, further
    assert in_this("bench", "--processes", "1").returncode == 2
