"""Running statistics, buffers, bounded parameters, dtypes, and errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metanorm import runtime


def move(running: torch.Tensor, value: torch.Tensor, momentum: float | torch.Tensor) -> None:
    """As generated functions do it."""
    runtime.store_((running, runtime.moved(running, value, momentum)))


def test_a_running_statistic_moves_by_its_momentum() -> None:
    running = torch.zeros(3)
    move(running, torch.ones(3), 0.25)
    move(running, torch.ones(3), 0.25)
    assert running.tolist() == [0.4375] * 3


@pytest.mark.parametrize(("momentum", "left"), [(0.0, 3.0), (1.0, 7.0)])
def test_the_ends_of_momentum(momentum: float, left: float) -> None:
    running = torch.tensor([3.0])
    move(running, torch.tensor([7.0]), momentum)
    assert running.item() == left


def test_without_momentum_it_is_the_average_of_all_batches() -> None:
    batches = torch.randn(10, 3, dtype=torch.float64)
    running, count = torch.zeros(3, dtype=torch.float64), torch.tensor(0)
    for batch in batches:
        move(running, batch, runtime.momentum_of(None, count))
        count += 1
    torch.testing.assert_close(running, batches.mean(0))
    assert runtime.momentum_of(0.1, count) == 0.1
    assert runtime.momentum_of(0.1, None) == 0.1  # the counter was taken away, as torch allows
    assert runtime.momentum_of(None, None) == 0.0


def test_running_statistics_are_those_of_torch() -> None:
    for momentum in (0.1, None):
        layer = nn.BatchNorm1d(3, momentum=momentum, dtype=torch.float64)
        running, count = torch.zeros(3, dtype=torch.float64), torch.tensor(0)
        for _ in range(5):
            x = torch.randn(8, 3, dtype=torch.float64)
            layer(x)
            move(running, x.mean(0), runtime.momentum_of(momentum, count))
            count += 1
        torch.testing.assert_close(running, layer.running_mean)


def test_tracking_has_no_gradient_and_keeps_the_dtype() -> None:
    value = torch.ones(2, dtype=torch.float64, requires_grad=True)
    running = torch.zeros(2, dtype=torch.float32)
    move(running, value, 0.5)
    assert running.dtype == torch.float32
    assert not running.requires_grad


def test_a_stored_value_has_no_gradient_and_a_number_fills_a_buffer() -> None:
    buffer = torch.zeros(2, 3)
    runtime.store_((buffer, torch.ones(2, 3, requires_grad=True)))
    assert buffer.eq(1).all() and not buffer.requires_grad
    runtime.store_((buffer, 7.0))
    assert buffer.eq(7).all()


@pytest.mark.parametrize("shape", [(2,), (2, 3), (1, 3), (1,), ()], ids=str)
def test_a_buffer_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    """Also one that has more room, into which torch's own functions would repeat the value."""
    first, second = torch.zeros(3), torch.zeros(shape)
    with pytest.raises(runtime.ShapeError, match="cannot keep values of shape"):
        runtime.store_((first, torch.ones(3)), (second, torch.ones(3)))
    assert first.eq(0).all() and second.eq(0).all()
    with pytest.raises(runtime.ShapeError, match="cannot keep values of shape"):
        runtime.moved(second, torch.ones(3), 0.5)


def test_half_precision_is_widened_for_statistics() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        assert runtime.widened(torch.zeros(1, dtype=dtype)).dtype == torch.float32
    for dtype in (torch.float32, torch.float64):
        x = torch.zeros(1, dtype=dtype)
        assert runtime.widened(x) is x


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_whole_numbers_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="floating-point type, got torch"):
        runtime.widened(torch.zeros(1, dtype=dtype))


def test_without_elements_every_parameter_has_a_zero_gradient() -> None:
    x = torch.zeros(0, 3, requires_grad=True)
    weight = nn.Parameter(torch.full((3,), 2.0))
    y = runtime.no_elements(x, [weight])
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    y.sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [0, 0, 0]
    assert x.grad is not None


class Bounded(nn.Module):
    """As generated modules do it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.tensor([-1.0, 0.5, 2.0]))

    def project_(self) -> None:
        with torch.no_grad():
            self.gate.clamp_(0, 1)


def test_every_module_inside_is_projected() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(Bounded()), Bounded())
    weight = model[0].weight.clone()
    runtime.project_(model)
    assert [p.tolist() for n, p in model.named_parameters() if "gate" in n] == [[0, 0.5, 1]] * 2
    assert torch.equal(model[0].weight, weight)


def test_shape_errors_name_axes_and_numbers() -> None:
    error = runtime.shape_error("Owner", "x", "N, C, *S", torch.zeros(2, 3), C=4)
    assert str(error) == "Owner: x has shape [2, 3], expected [N, C, *S] with C = 4"
    assert isinstance(error, ValueError) and isinstance(error, RuntimeError)
    bare = runtime.shape_error("Owner", "batch", "V", torch.zeros(()))
    assert str(bare) == "Owner: batch has shape [], expected [V]"
    cut = runtime.not_divisible("GroupNorm", "num_channels", 30, "num_groups", 4)
    assert str(cut) == "GroupNorm: num_channels = 30 is not divisible by num_groups = 4"
    unequal = runtime.not_equal("T", "N", 3, "M", 4)
    assert str(unequal) == "T: N = 3 and M = 4 must be equal"


def test_a_variance_of_one_value_is_refused() -> None:
    with pytest.raises(runtime.ShapeError, match=r"Owner: Expected more than 1 value .* over N"):
        runtime.demand_several("Owner", torch.zeros(1, 3), 1, "N")
    runtime.demand_several("Owner", torch.zeros(2, 3), 2, "N")
    runtime.demand_several("Owner", torch.zeros(0, 3), 0, "N")
    runtime.demand_several("Owner", torch.zeros(1, 0), 1, "N")  # a pool of one for no channel


@pytest.mark.parametrize(
    ("argument", "shape"), [(3, (3,)), ([2, 3], (2, 3)), (torch.Size([4]), (4,)), ((), ())]
)
def test_shapes(argument: int | list[int], shape: tuple[int, ...]) -> None:
    assert runtime.as_shape(argument) == shape


def test_all_that_is_exported_is_there_and_nothing_else() -> None:
    public = {n for n, v in vars(runtime).items() if not n.startswith("_") and callable(v)}
    modules = {n for n, v in vars(runtime).items() if type(v).__name__ == "module"}
    assert {*runtime.__all__} - {"ABI", "Given"} <= public | {"Given"}
    assert public - modules <= {*runtime.__all__, "annotations"}


def test_older_and_newer_modules_are_told_apart() -> None:
    runtime.require(runtime.ABI)
    with pytest.raises(ImportError, match="the module is older"):
        runtime.require(runtime.ABI - 1)
    with pytest.raises(ImportError, match="the installed metanorm is older"):
        runtime.require(runtime.ABI + 1)
