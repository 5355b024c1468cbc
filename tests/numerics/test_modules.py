"""What users do with modules besides calling them: every norm of the library has to bear it."""

from __future__ import annotations

import copy
import io
import pickle
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import PROGRAMS
from samples import floats, loss, sample, tensors
from tiers import covering, one_precision
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, vmap

from metanorm import runtime
from metanorm.ir.batch import crosses_samples, holds_pairs, leading_axis
from metanorm.ir.nodes import Detach, Position
from metanorm.ir.program import Divisible, Program
from metanorm.targets import header
from metanorm.verify.cases import quick_settings
from metanorm.verify.norms import verify_norm


def same(a: Any, b: Any, tolerance: float = 1e-12) -> None:
    for left, right in zip(tensors(a), tensors(b)):
        torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


COVERING = covering(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_oracle_agrees(name: str, library: ModuleType) -> None:
    program = PROGRAMS[name]
    chosen = quick_settings if name in COVERING else one_precision
    report = verify_norm(program, library, chosen=chosen)
    assert [f for f in report.findings if f.bad] == []
    assert report.good


@pytest.mark.extended
def test_the_oracle_agrees_under_all_settings(
    program: Program, untouched_library: ModuleType, optimised: None
) -> None:
    report = verify_norm(program, untouched_library)
    assert [f for f in report.findings if f.bad] == []
    assert sum(f.outcome == "ok" for f in report.findings) > 20


# `stop` makes the gradient another one than that of the function, on purpose.
TRUE_GRADIENT = [
    name for name, p in PROGRAMS.items() if not any(isinstance(let.op, Detach) for let in p.body)
]
true_gradient = pytest.mark.parametrize("program", TRUE_GRADIENT, indirect=True)


def test_few_norms_stop_gradients() -> None:
    assert set(PROGRAMS) - set(TRUE_GRADIENT) == {
        "AdaNorm",
        "BatchRenorm",
        "BitRMSNorm",
        "DetachNorm",
        "EstimatedBatchChannelNorm",
        "GPAS",
        "HeteroBatchNorm",
        "MagnitudeNorm",
        "ObservationNorm",
        "PackedRevIN",
        "ReturnNorm",
        "RevIN",
        "SpectralNorm",
        "TernaryWeight",
        "TransNorm",
        "UnifiedNorm",
        "ValueNorm",
    }


@true_gradient
@pytest.mark.parametrize(
    "fast", [True, pytest.param(False, marks=pytest.mark.extended)], ids=["a direction", "all"]
)
def test_gradients_of_gradients(fast: bool, program: Program, library: ModuleType) -> None:
    """Along a random direction, or element by element."""
    module, arguments = sample(program, library, training=False)
    tensors_by_name = floats(arguments)
    names = list(tensors_by_name)

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        return tensors(module(**{**arguments, **dict(zip(names, values))}))

    leaves = tuple(x.clone().requires_grad_() for x in tensors_by_name.values())
    assert torch.autograd.gradcheck(run, leaves, fast_mode=fast)
    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=fast)


@true_gradient
def test_forward_mode_agrees_with_finite_differences(program: Program, library: ModuleType) -> None:
    module, arguments = sample(program, library, training=False)
    name = program.inputs[0].name
    x, step = arguments[name], 1e-6
    tangent = torch.randn(x.shape, dtype=x.dtype)
    with forward_ad.dual_level(), torch.no_grad():
        dual = forward_ad.make_dual(x, tangent)
        result = tensors(module(**{**arguments, name: dual}))
        slopes = [forward_ad.unpack_dual(y).tangent for y in result]
    with torch.no_grad():
        high = tensors(module(**{**arguments, name: x + step * tangent}))
        low = tensors(module(**{**arguments, name: x - step * tangent}))
    for slope, a, b in zip(slopes, high, low):
        slope = torch.zeros_like(a) if slope is None else slope  # of another input alone
        torch.testing.assert_close(slope, (a - b) / (2 * step), rtol=1e-4, atol=1e-6)


def test_copies_and_pickles_are_the_same_module(program: Program, library: ModuleType) -> None:
    module, arguments = sample(program, library)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    others = [
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(file, weights_only=False),
    ]
    expected = module(**arguments)
    for other in others:
        same(other(**arguments), expected)
        assert list(other.state_dict()) == list(module.state_dict())


def test_a_state_dict_restores_a_module(program: Program, library: ModuleType) -> None:
    module, arguments = sample(program, library, training=False)
    other = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.zero_()
    other.load_state_dict(module.state_dict(), strict=True)
    same(other(**arguments), module(**arguments))


def test_a_call_leaves_its_inputs_alone(program: Program, library: ModuleType) -> None:
    module, arguments = sample(program, library)
    before = {n: x.clone() for n, x in arguments.items() if isinstance(x, Tensor)}
    name = program.inputs[0].name
    loss(module(**{**arguments, name: arguments[name].requires_grad_()})).backward()
    for name, x in before.items():
        assert torch.equal(arguments[name], x)


def test_evaluation_changes_no_buffer(program: Program, library: ModuleType) -> None:
    module, arguments = sample(program, library, training=False)
    before = {n: b.clone() for n, b in module.named_buffers()}
    module(**arguments)
    for name, buffer in module.named_buffers():
        assert torch.equal(buffer, before[name])


def test_module_moves_through_meta_device(program: Program, library: ModuleType) -> None:
    module, _ = sample(program, library)
    moved = copy.deepcopy(module).to("meta")
    assert all(p.device.type == "meta" for p in moved.parameters())
    moved.to_empty(device="cpu").reset_parameters() if hasattr(module, "reset_parameters") else None


def test_autocast_keeps_the_dtype_of_the_input(program: Program, library: ModuleType) -> None:
    module, arguments = sample(program, library, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = tensors(module(**arguments))
    assert all(y.dtype == torch.float32 for y in result)


def sample_of(arguments: dict[str, Any], x: Tensor, at: int) -> Tensor:
    """What may influence a position: its graph, its sequence, what edges lead to it, it."""
    position = torch.arange(len(x))
    if "edge_index" in arguments:
        source, target = arguments["edge_index"]
        near = torch.cat((source[target == position[at]], position[at][None]))
        graph = arguments.get("batch", position)
        return torch.isin(position, near) | (graph == graph[at])
    if "cu_seqlens" in arguments:
        sequence_of = torch.bucketize(torch.arange(len(x)), arguments["cu_seqlens"], right=True)
        return sequence_of == sequence_of[at]
    index = next((n for n in ("batch", "target", "series") if n in arguments), None)
    sample_of = arguments[index] if index else position
    return sample_of == sample_of[at]


# PRepBN pools samples once it has been called often enough.
SHAPE_KEEPING = [name for name, p in PROGRAMS.items() if p.keeps_shape and name != "PRepBN"]


@pytest.mark.parametrize("program", SHAPE_KEEPING, indirect=True)
def test_nothing_of_the_batch_leaks_where_samples_are_independent(
    program: Program, library: ModuleType
) -> None:
    """The analysis behind MN0702, held against what a sample, or its gradient, sees of others.

    Of large values too, since a norm may let small ones be.
    """
    for training in (True, False):
        leaks = any(
            leaks_of(program, library, training, size, at) for size in (1, 1000) for at in (0, -1)
        )
        assert leaks == bool(crosses_samples(program, evaluating=not training))


def leaks_of(program: Program, library: ModuleType, training: bool, size: float, at: int) -> bool:
    """Whether the first sample, or the last one, or its gradient, sees others of such a size."""
    if holds_pairs(program):
        return False
    module, arguments = sample(program, library, training=training)
    x = size * arguments[program.inputs[0].name]
    tables = [i.name for i in program.given_inputs if i.table is not None]
    arguments |= {name: torch.zeros_like(arguments[name]) for name in tables}  # all alike
    first = program.inputs[0]
    dim = first.dims.index(leading_axis(first, program.index.space))  # of samples
    others = ~sample_of(arguments, x.movedim(dim, 0), at)
    changed = x.clone()
    changed.movedim(dim, 0)[others] += torch.rand_like(x.movedim(dim, 0)[others])
    x = x.clone().requires_grad_()
    y, z = (
        tensors(copy.deepcopy(module)(**{**arguments, program.inputs[0].name: v}))[0]
        for v in (x, changed)
    )
    (gradient,) = torch.autograd.grad(y.movedim(dim, 0)[at].square().sum(), x)
    seen = torch.cat(
        [(y - z).movedim(dim, 0)[at].flatten(), gradient.movedim(dim, 0)[others].flatten()]
    )
    return bool((seen.abs() > 1e-9 * size).any())


def takes_single_samples(program: Program) -> bool:
    if program.target != "activation" or len(program.given_inputs) > 1:
        return False
    samples = program.inputs[0].dims[:1]
    has_positions = any(
        isinstance(let.op, Position) and let.op.axis in samples for let in program.body
    )
    cut = any(isinstance(check, Divisible) and check.axis in samples for check in program.checks)
    alone = not (has_positions or cut)
    return alone and not (holds_pairs(program) or crosses_samples(program, evaluating=True))


STEPS_FIRST = ("TemporalEffectiveBatchNorm", "BatchNormThroughTime")  # of a fixed number
ONE_BY_ONE = [
    name
    for name, program in PROGRAMS.items()
    if takes_single_samples(program) and name not in STEPS_FIRST
]


@pytest.mark.parametrize("program", ONE_BY_ONE, indirect=True)
def test_vmap_over_samples_is_a_batch(program: Program, library: ModuleType) -> None:
    module, arguments = sample(program, library, training=False)
    x = arguments[program.inputs[0].name]
    expected = tensors(module(x))[0]
    each = vmap(lambda one: tensors(module(one[None]))[0][0])(x)
    same(each, expected)
    state = dict(module.named_parameters())

    def one_loss(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
        return tensors(functional_call(module, parameters, (one[None],)))[0].square().sum()

    per_sample = vmap(grad(one_loss), in_dims=(None, 0))(state, x)
    for name, gradient in per_sample.items():
        total = tensors(module(x))[0].square().sum()
        (whole,) = torch.autograd.grad(total, [state[name]], materialize_grads=True)
        same(gradient.sum(0), whole, 1e-9)


def test_abi_of_headers_is_that_of_the_runtime() -> None:
    assert header.ABI == runtime.ABI


def test_a_module_of_another_abi_is_refused() -> None:
    with pytest.raises(ImportError, match="compile the spec again"):
        runtime.require(abi=runtime.ABI + 1)


def test_channels_last_stays_channels_last(library: ModuleType) -> None:
    x = torch.randn(2, 4, 5, 3).contiguous(memory_format=torch.channels_last)
    layers: list[nn.Module] = [library.BatchNorm(4), library.GroupNorm(2, 4), library.SwitchNorm(4)]
    for layer in layers:
        assert layer(x).is_contiguous(memory_format=torch.channels_last), layer


def test_torch_converts_what_equals_its_batch_norm(library: ModuleType) -> None:
    """And nothing else: other norms stay as they are."""
    model = nn.Sequential(library.BatchNorm(4), library.SwitchNorm(4), nn.BatchNorm2d(4))
    model[0].running_mean.fill_(3)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    kinds = [nn.SyncBatchNorm, library.SwitchNorm, nn.SyncBatchNorm]
    assert [type(layer) for layer in converted] == kinds
    assert converted[0].running_mean.tolist() == [3.0] * 4


def test_parameters_in_intervals_come_back_to_them(library: ModuleType) -> None:
    model = nn.Sequential(nn.Linear(4, 4), library.BatchInstanceNorm(4))
    with torch.no_grad():
        model[1].gate.copy_(torch.tensor([-1.0, 0.25, 0.5, 3.0]))
    runtime.project_(model)
    assert model[1].gate.tolist() == [0.0, 0.25, 0.5, 1.0]


def test_a_batch_of_any_length_can_be_evaluated(library: ModuleType) -> None:
    """Where running statistics take over, nothing asks how the batch was cut."""
    module = library.GhostBatchNorm(4, 3)
    module(torch.randn(8, 3, 5))
    x = torch.randn(7, 3, 5)
    with pytest.raises(runtime.ShapeError, match="virtual_batch_size"):
        module(x)
    module.eval()
    torch.testing.assert_close(module(x)[:2], module(x[:2]))
    assert module(x[:0]).shape == (0, 3, 5)
    untracked = library.GhostBatchNorm(4, 3, track_running_stats=False).eval()
    with pytest.raises(runtime.ShapeError, match="virtual_batch_size"):
        untracked(x)


def test_running_statistics_in_half_precision_are_added_to_in_single(library: ModuleType) -> None:
    """1e-5 more than a small half is that small half again, or nothing."""
    module = library.BatchNorm(3, eps=1e-8).half().eval()
    module.running_var.fill_(0)
    y = module(torch.full((2, 3), 1e-4, dtype=torch.half))
    torch.testing.assert_close(y, torch.full((2, 3), 1.0, dtype=torch.half), rtol=1e-2, atol=0)
