"""Backward programs against autograd: every norm of the library in every arm, and odd ones."""

from __future__ import annotations

import pytest
import torch
from conftest import PROGRAMS
from gradients import Point, point, values
from programs import lowered
from torch import Tensor

from metanorm.ir.nodes import Program
from metanorm.ir.space import Space
from metanorm.ir.verify import verify
from metanorm.passes.arms import arms
from metanorm.passes.backward import GRADIENT, Gradient, NotDerivable, backward
from metanorm.passes.pipeline import BACKWARD, FORWARD, optimize, run

NOT_DERIVABLE = {  # pools that overlap, and what else is torch's to derive
    "MetaNorm": "matrix",
    "MetaNormWithin": "matrix",
    "AdjacencyNorm": "window",
    "CumulativeLayerNorm": "window",
    "DivisiveNorm": "window",
    "LocalContextNorm": "window",
    "LocalResponseNorm": "window",
    "DoublyStochastic": "repeat",
    "SparseSwitchNorm": "sparsestmax",
}


def gradients_of(program: Program, arm: str) -> Gradient:
    """The gradient of an arm of a norm, as kernels are made of it."""
    return backward(run(FORWARD, arms(optimize(program))[arm], check=True))


@pytest.mark.parametrize("name", NOT_DERIVABLE)
def test_what_is_left_to_torch_is_refused(name: str) -> None:
    with pytest.raises(NotDerivable, match=NOT_DERIVABLE[name]):
        gradients_of(PROGRAMS[name], "train")


def arriving(program: Program, here: Point, forward: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random gradients of the outputs; the first is as large as the first input."""
    first, *rest = (name for name, _ in program.outputs)
    shapes = {first: here.leaves[program.inputs[0].name].shape}
    shapes |= {name: forward[name].shape for name in rest}
    return {GRADIENT + name: torch.randn(s, dtype=torch.float64) for name, s in shapes.items()}


def agree(program: Program, arm: str = "train") -> None:
    """Hold the backward program against autograd through the oracle, at each step."""
    gradient = gradients_of(program, arm)
    verify(gradient.forward)
    here = point(program, arm)
    forward = {name: y.detach() for name, y in values(gradient.forward, here.call).items()}
    given = arriving(program, here, forward)
    wanted = here.gradients(given)
    given |= {name: forward[name] for name in gradient.kept}
    body = gradient.program
    for step in (lambda p: p, *(step.run for step in BACKWARD)):
        body = step(body)
        verify(body)
        for name, found in here.derived(body, given).items():
            scale = float(wanted[name].abs().max().clamp_min(1))
            torch.testing.assert_close(found, wanted[name], rtol=0, atol=1e-9 * scale, msg=name)


def test_agrees_with_autograd(program: Program) -> None:
    if program.name not in NOT_DERIVABLE:
        for arm in arms(optimize(program)):
            agree(program, arm)


def test_what_is_kept_is_narrow(program: Program) -> None:
    """As large as the input is nothing but the input; the statistics were measured once."""
    if program.name in NOT_DERIVABLE:
        return
    for arm in arms(optimize(program)):
        gradient = gradients_of(program, arm)
        space = Space(gradient.forward.axes)
        frame = {leaf for dim in program.inputs[0].dims for leaf in space.leaves(dim)}
        types = {let.name: let.type.axes for let in gradient.forward.body}
        last = gradient.forward.outputs[len(program.outputs) :]
        assert tuple(name for name, _ in last) == gradient.kept
        assert not any(frame <= set(types[ref]) for _, ref in last)
        declared = {i.name: i.dims for i in gradient.program.inputs}
        assert all(declared[name] == types[ref] for name, ref in last)


def test_evaluation_keeps_nothing() -> None:
    assert gradients_of(PROGRAMS["BatchNorm"], "eval").kept == ()


TEXTS = {
    "ties of a maximum": "input x[N, C]\nlet top = max(clamp(x, -0.1, 0.1) over C)\noutput x * top",
    "several roots": "input x[N, C]\noutput x / std(tanh(x) over C) + l2(x over N) * rms(x over C)",
    "a mask that varies with x": "input x[N, C]\noutput x - mean(x over N where x > 0)",
    "rows and tables": "input x[N, C]\nparam w[R = 2] = 1\noutput x * w[0] + softmax(w over R)[1]",
    "further outputs": "input x[N, C, *S]\noutput x, a = var(x over *S), b = mean(x over C)",
    "the same for all": "input x[N, C], a[N]\nparam p[C] = 1\noutput x * sum(p + a over N, C)",
    "blocks in all": """input x[N, C]
        let a = mean(x over C: blocks(2))
        output x * var(a * a over C)""",
}


@pytest.mark.parametrize("what", TEXTS)
def test_agrees_for(what: str) -> None:
    agree(lowered(TEXTS[what]))


CELLS = {
    "mean": "input x[V, C], b: index[V]\noutput x * mean(mean(x over V: b) over V)",
    "max": "input x[V, C], b: index[V]\noutput x * max(mean(x over V: b) over V)",
}


@pytest.mark.parametrize("text", CELLS.values(), ids=CELLS)
def test_a_pool_of_positions_of_what_lives_on_cells(text: str) -> None:
    agree(lowered(text))


def test_blocks_of_what_lives_on_other_blocks_are_left_to_torch() -> None:
    text = "input x[N, C]\noutput x * mean(mean(x over C: blocks(2))^2 over C: blocks(4))"
    with pytest.raises(NotDerivable, match="cells of two kinds"):
        agree(lowered(text))
