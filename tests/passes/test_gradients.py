"""Backward programs against autograd: every norm of the library in every arm, and odd ones."""

from __future__ import annotations

import pytest
import torch
from conftest import PROGRAMS
from gradients import Point, point, values
from programs import lowered
from torch import Tensor

from metanorm.ir.program import Program
from metanorm.ir.space import Space
from metanorm.ir.verify import verify
from metanorm.passes.backward import GRADIENT, Gradient, NotDerivable, backward
from metanorm.passes.pipeline import BACKWARD_PASSES, FORWARD_PASSES, optimize
from metanorm.passes.variants import variants

NOT_DERIVABLE = {  # what is torch's to derive
    "AdaGO": "repeat",
    "AdaMuon": "repeat",
    "DoublyStochastic": "repeat",
    "IterNorm": "repeat",
    "Muon": "repeat",
    "NewtonSchulz": "repeat",
    "NorMuon": "repeat",
    "RobustScaler": "order of the values",
    "TopKLayerNorm": "order of the values",
    "DecorrelatedBatchNorm": "repeat",
    "SwitchableWhitening": "repeat",
    "SwitchableWhiteningAll": "repeat",
}
DERIVABLE = [name for name in PROGRAMS if name not in NOT_DERIVABLE]


def gradients_of(program: Program, arm: str) -> Gradient:
    """The gradient of an arm of a norm, as kernels are made of it."""
    forward = variants(optimize(program))[arm]
    for step in FORWARD_PASSES:
        forward = step.run(forward)
        verify(forward)
    return backward(forward)


@pytest.mark.parametrize("name", NOT_DERIVABLE)
def test_what_is_left_to_torch_is_refused(name: str) -> None:
    with pytest.raises(NotDerivable, match=NOT_DERIVABLE[name]):
        gradients_of(PROGRAMS[name], "train")


def arriving(program: Program, here: Point, forward: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random gradients of the outputs; the first may be as large as the first input."""
    shapes = {name: forward[name].shape for name, _ in program.outputs}
    if program.keeps_shape:
        shapes[program.outputs[0][0]] = here.leaves[program.inputs[0].name].shape
    return {GRADIENT + name: torch.randn(s, dtype=torch.float64) for name, s in shapes.items()}


def agree(program: Program, arm: str = "train") -> None:
    """Hold the backward program against autograd through the oracle, at random numbers."""
    agree_at(program, point(program, arm), arm)


def agree_at(program: Program, here: Point, arm: str) -> None:
    """The same at these numbers, and at each step on the way to kernels."""
    gradient = gradients_of(program, arm)
    verify(gradient.forward)
    forward = {name: y.detach() for name, y in values(gradient.forward, here.call).items()}
    inputs = arriving(program, here, forward)
    wanted = here.gradients(inputs)
    inputs |= {name: forward[name] for name in gradient.kept}
    body = gradient.program
    for step in (lambda p: p, *(step.run for step in BACKWARD_PASSES)):
        body = step(body)
        verify(body)
        for name, actual in here.derived(body, inputs).items():
            scale = float(wanted[name].abs().max().clamp_min(1))
            torch.testing.assert_close(actual, wanted[name], rtol=0, atol=1e-9 * scale, msg=name)


@pytest.mark.parametrize("program", DERIVABLE, indirect=True)
def test_agrees_with_autograd(program: Program) -> None:
    for arm in variants(optimize(program)):
        agree(program, arm)


@pytest.mark.parametrize("program", DERIVABLE, indirect=True)
def test_what_is_kept_is_narrow(program: Program) -> None:
    """As large as the input is nothing but the input; the statistics were measured once."""
    for arm in variants(optimize(program)):
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
    "weights with gradients": """input x[N, C], w[C], v[N, C]
        output x * mean(x over C weight w) * var(x over N weight v^2) + sum(x over N weight v)""",
    "weights and a mask": """input x[N, C], k: mask[N], w[N]
        output x - mean(x over N where k weight w) + var(x over N where k weight w)""",
    "a learned matrix": """input x[N, C, *S]
        param m[C, C] = 1
        output x * mean(x over C: m, *S) + x / (1 + var(x over C: m, *S))""",
    "matrices that are inputs": """input x[N, C, *S], a: matrix[N, N], b: matrix[C, C]
        output (x - mean(x over N: a, C: b, *S)) / (1 + var(x over N: a, C: b, *S))""",
    "the mean of a mean by one matrix": """input x[N, C, *S]
        param m[C, C] = 1
        output x * mean(mean(mean(x over *S) over C: m)^2 over C: m)""",
    "blocks in all": """input x[N, C]
        let a = mean(x over C: blocks(2))
        output x * var(a * a over C)""",
}


@pytest.mark.parametrize("what", TEXTS)
def test_agrees_for(what: str) -> None:
    agree(lowered(TEXTS[what]))


def test_rows_that_sum_to_zero_give_zero_and_get_nothing() -> None:
    text = "input x[N, C, *S], a: matrix[C, C]\noutput x * mean(x over C: a, *S) + "
    program = lowered(f"{text}x * var(x over C: a, *S)")
    here = point(program)
    with torch.no_grad():
        here.leaves["a"][1] = 0
    agree_at(program, Point(here.call, here.leaves, values(program, here.call)), "train")
    again = Point(here.call, here.leaves, values(program, here.call))
    assert bool((again.outputs["output"][:, 1] == 0).all())
    gradients = again.gradients({"d.output": torch.randn(here.leaves["x"].shape)})
    assert bool((gradients["d.a"][1] == 0).all()) and bool((gradients["d.a"][0] != 0).all())


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
