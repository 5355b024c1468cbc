"""The norms and inputs to time on several processes."""

from __future__ import annotations

from metanorm.bench.workload import Workload

# Norms of the library to measure without specs: statistics of one axis, of several, with a mask.
NORMS = ("BatchNorm", "SwitchNorm", "MaskedBatchNorm")
# Inputs of each process: images, small images, rows of features, sequences.
WORKLOADS = (
    Workload((8, 64, 28, 28)),
    Workload((8, 16, 4, 4)),
    Workload((1024, 256)),
    Workload((8, 64, 200)),
)
