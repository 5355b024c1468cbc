"""The table of targets: plain torch, and the targets that print kernels beside the module.

Everything that depends on the target is a field of its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from metanorm.ir.program import Program
from metanorm.nest.eligibility import NoKernels
from metanorm.nest.kernels import NormKernels, kernels_of
from metanorm.nest.nest import Nest
from metanorm.options import Target
from metanorm.targets.kernel_table import PrintedNorm
from metanorm.targets.native import file as native
from metanorm.targets.native.tiling import unsupported_in_c
from metanorm.targets.triton import file as triton
from metanorm.targets.triton.shapes import unsupported_in_triton

PLAIN_TARGET: Target = "torch"


@dataclass(frozen=True)
class KernelTarget:
    """A target that prints kernels into a file beside the module.

    `unsupported` yields the reasons why this target has no kernel for an eligible nest. `text`
    prints the file of the norms of a spec. Compiling for a target also writes the files of all
    targets above it in the table.
    """

    name: Target
    language: str
    device: str  # the type of device, as torch calls it
    ending: str  # what follows the module's name in the name of the file
    comment: str  # what starts a comment in the file
    decorator: str  # of functions that have these kernels
    description: str
    ahead_option: str  # of `compile`, which compiles its kernels; empty where none does
    stands_alone: bool  # whether a package with the runtime inside can have its kernels
    unsupported: Callable[[Nest], Iterator[str]]
    text: Callable[[str, Iterable[PrintedNorm]], str]

    def kernels(self, optimised: Program) -> NormKernels:
        """The kernels of an optimised program in this target. Raises `NoKernels`."""
        kernels = kernels_of(optimised)
        for nest in kernels:
            for reason in self.unsupported(nest):
                raise NoKernels(reason)
        return kernels


KERNEL_TARGETS: Mapping[str, KernelTarget] = {
    row.name: row
    for row in (
        KernelTarget(
            "native",
            "C",
            "cpu",
            ".c",
            "//",
            "runtime.native",
            "kernels in C beside a module, for tensors on the CPU in eager mode",
            "--build",
            True,
            unsupported_in_c,
            native.file_text,
        ),
        KernelTarget(
            "triton",
            "Triton",
            "cuda",
            "_triton.py",
            "#",
            "runtime.gpu",
            "kernels in Triton beside a module, for tensors on a GPU in eager mode",
            "--ptx",
            False,
            unsupported_in_triton,
            triton.file_text,
        ),
    )
}
assert {PLAIN_TARGET, *KERNEL_TARGETS} == {*get_args(Target)}, "a target without a row or an option"
# What `metanorm list targets` says.
TARGET_DESCRIPTIONS: Mapping[str, str] = {
    **{row.name: row.description for row in KERNEL_TARGETS.values()},
    PLAIN_TARGET: "plain torch operations, on any device and under torch.compile",
}


def targets_written_for(target: Target) -> tuple[KernelTarget, ...]:
    """The kernel targets whose files are written when compiling for this target."""
    names = list(KERNEL_TARGETS)
    last = names.index(target) if target in KERNEL_TARGETS else -1
    return tuple(KERNEL_TARGETS[name] for name in names[: last + 1])


def target_for_device(device: str) -> KernelTarget:
    """The kernel target for a type of device."""
    return next(row for row in KERNEL_TARGETS.values() if row.device == device)


def target_compiled_by(option: str) -> KernelTarget:
    """The kernel target whose kernels an option of `compile` compiles ahead of their first use."""
    return next(row for row in KERNEL_TARGETS.values() if row.ahead_option == option)
