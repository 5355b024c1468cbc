"""Which norms every commit tests a costly property on, and which wait for `make test-all`.

Most properties hold or fail with a construct, not with a norm. So the quick tier takes norms until
every construct of the library is there once, and the extended tier takes all the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import torch
from _pytest.mark import ParameterSet

from metanorm.explain.kernels import execution_status
from metanorm.ir.nodes import AxisMap, Count, Map, Pool
from metanorm.ir.program import Program
from metanorm.passes.pipeline import optimize
from metanorm.passes.variants import variants
from metanorm.verify.cases import Setting, quick_settings


def constructs(program: Program) -> set[str]:
    """What a norm is made of: operations, statistics, matrices, sorts of inputs, state, checks."""
    names = {f"for {program.target}"}
    names |= {f"input {i.sort}{'' if i.required else ', optional'}" for i in program.inputs}
    names |= {type(check).__name__ for check in program.checks}
    names |= {"running statistics" if b.tracked else "buffer" for b in program.buffers}
    names |= {"several outputs" for _ in program.outputs[1:]}
    names |= {"starts from a weight" for decl in program.state if decl.from_weight}
    for let in program.body:
        names.add(type(let.op).__name__)
        match let.op:
            case Pool() | Count() as pool:
                matrices = {type(matrix).__name__ for _, matrix in pool.over}
                names |= {f"pool by {matrix}" for matrix in matrices}
                names |= {"where" for _ in (pool.where,) if pool.where}
                names |= {"weight" for _ in (pool.weight,) if pool.weight}
                if isinstance(pool, Pool):
                    names.add(pool.statistic)
            case Map() | AxisMap():
                names.add(let.op.function)
    return names


@cache
def served(program: Program, device: str = "cpu") -> bool:
    """Whether a norm has kernels for a type of device; `metanorm explain` says why not."""
    return execution_status(optimize(program), device) == "kernels"


def modes(program: Program) -> tuple[bool, ...]:
    """The values of `training` under which a norm computes something else."""
    return (True, False) if len(variants(program)) > 1 else (True,)


def covering(programs: Mapping[str, Program]) -> list[str]:
    """Few norms that have every construct of all: the one with most new ones first."""
    missing = {name: constructs(program) for name, program in programs.items()}
    chosen: list[str] = []
    while any(missing.values()):
        name = max(sorted(missing), key=lambda n: len(missing[n]))
        chosen.append(name)
        taken = missing[name]
        missing = {other: left - taken for other, left in missing.items()}
    return chosen


def one_precision(program: Program) -> Iterator[Setting]:
    """Settings that ask for one pair of kernels, where all settings ask for twenty."""
    for setting in quick_settings(program):
        if (setting.dtype, setting.memory) == (torch.float64, "contiguous"):
            yield setting


def tiered(values: Iterable[Any], quick: Collection[Any]) -> list[ParameterSet]:
    """Parameters of a test, of which those that are not `quick` are of the extended tier."""
    return [pytest.param(v, marks=() if v in quick else (pytest.mark.extended,)) for v in values]
