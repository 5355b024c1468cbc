"""What is timed of specs: their norms, on every workload that fits them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from metanorm.bench.candidates import Case
from metanorm.bench.device import Device
from metanorm.bench.rotation import Rotation, copy_count
from metanorm.bench.workload import Workload, workloads
from metanorm.explain.fingerprints import norms_by_fingerprint
from metanorm.frontend import Checked
from metanorm.ir.fingerprint import fingerprint
from metanorm.module_names import module_name
from metanorm.passes.pipeline import optimize
from metanorm.targets.live import module_from_files
from metanorm.workspace import load_library

ACTIVATION, GRADIENT = "activation", "gradient"


def cases(
    checked: Checked,
    files: Mapping[str, str],
    roots: Sequence[str],
    only: str,
    device: Device,
    among: Callable[[str], Iterable[Workload]] | None = None,
    targets: Collection[str] = (ACTIVATION,),
) -> Iterator[Case]:
    """One case for each norm and input; `only` inputs with this in their names.

    Inputs are those of the device, or `among` what is given for the norm of the library that a norm
    equals. `targets` are what norms are for.
    """
    known = norms_by_fingerprint(load_library())
    for root in roots:
        module = module_from_files(files, module_name(root))
        for norm in checked.norms[root]:
            if norm.program.target not in targets:
                continue
            optimised = optimize(norm.program)
            equal = known.get(fingerprint(optimised), "")
            inputs = device.workloads if among is None else among(equal)
            for workload, built in workloads(norm.program, only, inputs):
                rotation = Rotation(built, device.type, copy_count(workload.nbytes, device.cache))
                arguments = built.arguments
                yield Case(norm, optimised, module, equal, workload, arguments, rotation, device)
