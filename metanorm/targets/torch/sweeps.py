"""Print the sweeps of a norm among processes: a function for each."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from metanorm.ir.program import Program
from metanorm.passes.local_sweeps import LocalSweeps
from metanorm.passes.sweep_programs import LocalSweep
from metanorm.targets.torch.entries import result_type
from metanorm.targets.torch.function import FunctionPrinter
from metanorm.targets.torch.names import NormNames
from metanorm.targets.torch.signature import Signature
from metanorm.targets.torch.sweep_calls import PrintedSweep


class SweepPrinter:
    """Prints the sweeps of all norms of a module. `used` are names that other functions have."""

    def __init__(self, used: Container[str]) -> None:
        self.used = used
        # By program: pieces of other axes are often swept alike.
        self.printed: dict[Program, PrintedSweep] = {}

    def sweeps(self, sweeps: LocalSweeps, function: str) -> list[PrintedSweep]:
        """The sweeps of the norm with this function."""
        statistics = sum(not sweep.writes for sweep in sweeps.sweeps)
        printed = []
        for number, sweep in enumerate(sweeps.sweeps, 1):
            what = "results" if sweep.writes else "sums" if statistics == 1 else f"sums_{number}"
            name = f"{what}_of_{function}"
            while name in self.used:
                name += "_"
            if sweep.program not in self.printed:
                self.printed[sweep.program] = _print_sweep(sweep, name)
            printed.append(replace(self.printed[sweep.program], sweep=sweep))
        return printed


def _print_sweep(sweep: LocalSweep, name: str) -> PrintedSweep:
    program = sweep.program
    result = "".join(word.capitalize() for word in name.split("_"))
    signature = Signature(program, NormNames(result, name, "", result, {}))
    does = "writes" if sweep.writes else "measures"
    doc = (f"What a process {does} of its piece.",)
    function = FunctionPrinter(signature).print(name, program, doc).function
    several = result_type(replace(program, name=name), signature)
    return PrintedSweep(sweep, function, result if several else None, (*several, function))
