"""The cases of a benchmark: the norms of specs, on every workload that fits them."""

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
    workloads_of: Callable[[str], Iterable[Workload]] | None = None,
    targets: Collection[str] = (ACTIVATION,),
) -> Iterator[Case]:
    """A case for each norm and workload whose name contains `only`.

    Workloads are those of the device, or `workloads_of` the equal norm of the library. `targets`
    selects norms for activations, gradients, ...
    """
    library_norms = norms_by_fingerprint(load_library())
    for root in roots:
        module = module_from_files(files, module_name(root))
        for norm in checked.norms[root]:
            if norm.program.target not in targets:
                continue
            optimised = optimize(norm.program)
            library_norm = library_norms.get(fingerprint(optimised), "")
            choices = device.workloads if workloads_of is None else workloads_of(library_norm)
            for workload, example in workloads(norm.program, only, choices):
                rotation = Rotation(example, device.type, copy_count(workload.nbytes, device.cache))
                arguments = example.arguments
                yield Case(
                    norm, optimised, module, library_norm, workload, arguments, rotation, device
                )
