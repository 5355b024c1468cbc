"""Norms of language, image and diffusion models and of agents, as their code says, in plain torch.

`tests/interop/test_norms_of_transformers.py` holds some of them against the classes themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from comparing import programs_of, route_of
from conftest import ROOT
from torch import Tensor, nn
from torch.nn import functional as F

from metanorm import loads, runtime

F64 = torch.float64
QUANTIZED = Path(__file__).with_name("quantized_norm.norm")
TARGETS = pytest.mark.parametrize("target", ["torch", "native"])
FILES = (
    "gated_rms_norm", "llm_norm", "qk_norm", "expert_norm", "channel_norm",
    "global_response_norm", "ada_group_norm", "observation_norm", "l2_norm", "residual_scaling",
    "latent_norm", "dynamic_tanh",
)  # fmt: skip


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads("\n".join((ROOT / "specs" / f"{f}.norm").read_text("utf-8") for f in FILES))


def stretched(x: Tensor, eps: float, dim: int = -1) -> Tensor:
    return x * torch.rsqrt(x.square().mean(dim, keepdim=True) + eps)


def gated(m: Any, x: Tensor, gate: Tensor) -> Tensor:
    act = {"silu": F.silu, "sigmoid": torch.sigmoid}[m.activation]
    return m.weight * stretched(x, m.eps) * act(gate)


def mamba_gated(m: Any, x: Tensor, gate: Tensor) -> Tensor:
    h = (x * F.silu(gate)).view(*x.shape[:-1], -1, m.group_size)
    return m.weight * stretched(h, m.eps).view(x.shape)


def one_plus(m: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, m.weight.shape, m.weight + 1, m.bias, m.eps)


def of_heads(m: Any, x: Tensor) -> Tensor:
    y = F.layer_norm(x, x.shape[-1:], None, None, m.eps) * m.weight
    return y if m.bias is None else y + m.bias


def of_experts(m: Any, x: Tensor, expert: Tensor) -> Tensor:
    rows = zip(x.flatten(0, -2), expert.flatten().tolist())
    normed = [F.rms_norm(row, row.shape, m.weight[number], m.eps) for row, number in rows]
    return torch.stack(normed).view(x.shape)


def layer_norm_2d(m: Any, x: Tensor) -> Tensor:
    last = x.movedim(1, -1)
    return F.layer_norm(last, (x.shape[1],), m.weight, m.bias, m.eps).movedim(-1, 1)


def rms_norm_2d(m: Any, x: Tensor) -> Tensor:
    return stretched(x, m.eps, 1) * m.weight.view(-1, *[1] * (x.dim() - 2))


def global_response(m: Any, x: Tensor, last: bool) -> Tensor:
    """As timm's, of whose two layouts one is chosen when the layer is made."""
    space, channel, shape = ((1, 2), -1, (-1,)) if last else ((2, 3), 1, (1, -1, 1, 1))
    energy = x.norm(p=2, dim=space, keepdim=True)
    share = energy / (energy.mean(dim=channel, keepdim=True) + m.eps)
    return x + torch.addcmul(m.bias.view(shape), m.weight.view(shape), x * share)


def ada_group(m: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    y = F.group_norm(x, m.num_groups, m.weight, m.bias, m.eps)
    return y * (1 + scale[:, :, None, None]) + shift[:, :, None, None]


def norm_mul(m: Any, x: Tensor, u: Tensor) -> Tensor:
    return u * F.layer_norm(x, x.shape[-1:], m.weight, m.bias, m.eps)


def unit(m: Any, x: Tensor) -> Tensor:
    return x / (x.square().sum(-1, keepdim=True) + m.eps).sqrt()


def scaled_by_depth(m: Any, x: Tensor) -> Tensor:
    return m.weight * stretched(x, m.eps) / m.layer**0.5


def latent(m: Any, x: Tensor) -> Tensor:
    compressed, rotary = x.split([m.kv_lora_rank, x.shape[-1] - m.kv_lora_rank], dim=-1)
    return torch.cat([m.weight * stretched(compressed, m.eps), rotary], dim=-1)


def inverse_square_root(m: Any, x: Tensor) -> Tensor:
    return m.weight * x.shape[-1] ** 0.5 * x * torch.rsqrt(m.beta.abs() + x.square()) + m.bias


@dataclass(frozen=True)
class Case:
    """A norm, its arguments, shapes of its float inputs, and its code as a function of it."""

    norm: str
    arguments: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    reference: Callable[..., Tensor]
    more: tuple[Tensor, ...] = ()

    def __str__(self) -> str:
        return "-".join([self.norm, *map(str, self.arguments.values())])


ROWS, IMAGE = (2, 3, 6), (2, 6, 3, 4)
CASES = (
    Case("GatedRMSNorm", {"hidden_size": 6}, (ROWS, ROWS), gated),
    Case("GatedRMSNorm", {"hidden_size": 6, "activation": "sigmoid"}, (ROWS, ROWS), gated),
    Case("MambaGatedRMSNorm", {"hidden_size": 6, "group_size": 3}, (ROWS, ROWS), mamba_gated),
    Case("MambaGatedRMSNorm", {"hidden_size": 6, "group_size": 6}, (ROWS, ROWS), mamba_gated),
    Case("LayerNorm1P", {"normalized_shape": 6}, (ROWS,), one_plus),
    Case("LayerNorm1P", {"normalized_shape": (3, 6)}, (ROWS,), one_plus),
    Case("HeadLayerNorm", {"num_heads": 3, "head_dim": 6}, ((2, 4, 3, 6),), of_heads),
    Case("HeadLayerNorm", {"num_heads": 3, "head_dim": 6, "bias": False}, (ROWS,), of_heads),
    Case("ExpertRMSNorm", {"num_experts": 4, "hidden_size": 6}, (ROWS,), of_experts,
         (torch.tensor([[3, 0, 3], [1, 1, 0]]),)),
    Case("LayerNorm2d", {"num_channels": 6}, (IMAGE,), layer_norm_2d),
    Case("RMSNorm2d", {"num_channels": 6}, (IMAGE,), rms_norm_2d),
    Case("RMSNorm2d", {"num_channels": 6}, ((2, 6),), rms_norm_2d),
    Case("GlobalResponseNorm", {"dim": 4}, (IMAGE,), lambda m, x: global_response(m, x, True)),
    Case("GlobalResponseNorm2d", {"dim": 6}, (IMAGE,), lambda m, x: global_response(m, x, False)),
    Case("NormMul", {"dim": 6}, (ROWS, ROWS), norm_mul),
    Case("L2Norm", {}, (ROWS,), unit),
    Case("LayerNormScaling", {"hidden_size": 6, "layer": 3}, (ROWS,), scaled_by_depth),
    Case("GPAS", {}, (ROWS,), lambda m, x: x - F.silu(m.alpha) * x.detach()),
    Case("LatentRMSNorm", {"kv_lora_rank": 4}, (ROWS,), latent),
    Case("DyISRU", {"dim": 6}, (ROWS,), inverse_square_root),
    Case("AdaGroupNorm", {"num_groups": 2, "num_channels": 6}, (IMAGE, (2, 6), (2, 6)), ada_group),
    Case("AdaGroupNorm", {"num_groups": 3, "num_channels": 6, "affine": False},
         (IMAGE, (2, 6), (2, 6)), ada_group),
)  # fmt: skip


@TARGETS
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients_are_those_of_the_code(
    case: Case, norms: ModuleType, target: str
) -> None:
    torch.manual_seed(0)
    norm = getattr(norms, case.norm)(**case.arguments).double()
    for name, parameter in norm.named_parameters():
        nn.init.uniform_(parameter, 1, 2) if name == "beta" else nn.init.normal_(parameter)
    inputs = [torch.randn(shape, dtype=F64).requires_grad_() for shape in case.shapes]
    leaves = [*inputs, *norm.parameters()]
    with runtime.use(target):
        y = norm(*inputs, *case.more)
        cotangent = torch.randn_like(y)
        gradients = torch.autograd.grad(y, leaves, cotangent)
    right = case.reference(norm, *inputs, *case.more)
    torch.testing.assert_close(y, right, rtol=1e-10, atol=1e-10)
    wanted = torch.autograd.grad(right, leaves, cotangent)
    torch.testing.assert_close(gradients, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["LayerNorm2d", "GlobalResponseNorm", "GlobalResponseNorm2d"])
def test_names_and_shapes_of_checkpoints_are_those_of_timm(name: str, norms: ModuleType) -> None:
    state = getattr(norms, name)(6).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == {
        "weight": (6,),
        "bias": (6,),
    }


@TARGETS
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("weights", ["half", "float32"])
def test_a_gate_behind_the_norm_rounds_as_transformers_does(
    norms: ModuleType, half: torch.dtype, weights: str, target: str
) -> None:
    """To the bit: a product with a weight in float32 is in float32, and is not rounded."""
    torch.manual_seed(0)
    norm = norms.GatedRMSNorm(64, dtype=half if weights == "half" else torch.float32)
    nn.init.normal_(norm.weight)
    x, gate = torch.randn(5, 64).to(half), torch.randn(5, 64).to(half)
    right = (norm.weight * stretched(x.float(), 1e-6).to(half)) * F.silu(gate.float())
    with runtime.use(target):
        y = norm(x, gate)
    assert y.dtype == half
    eps = torch.finfo(half).eps  # the sum over the row may be taken in another order
    torch.testing.assert_close(y, right.to(half), rtol=2 * eps, atol=eps**2)


def test_unit_rows_behind_unit_weights_are_cosines(norms: ModuleType) -> None:
    """Cosine Normalization, of a layer."""
    from metanorm import load

    layer, x = nn.Linear(6, 4, bias=False, dtype=F64), torch.randn(3, 6, dtype=F64)
    right = F.cosine_similarity(x[:, None], layer.weight.detach()[None], dim=-1)
    units = load(ROOT / "specs" / "ngpt.norm")
    nn.utils.parametrize.register_parametrization(layer, "weight", units.UnitWeight())
    torch.testing.assert_close(layer(norms.L2Norm(eps=0)(x)), right)


class RunningMeanStd:
    """What agents keep of their observations, in NumPy, by the rule for joining two samples."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.mean, self.var, self.count = np.zeros(shape), np.ones(shape), 1e-4

    def update(self, batch: np.ndarray) -> None:
        step, n = batch.mean(0) - self.mean, len(batch)
        total = self.count + n
        squares = self.var * self.count + batch.var(0) * n + step**2 * self.count * n / total
        self.mean, self.var, self.count = self.mean + step * n / total, squares / total, total


@TARGETS
@pytest.mark.parametrize("shape", [(3,), (2, 4)], ids=str)
def test_observations_by_all_that_has_been_seen(
    norms: ModuleType, shape: tuple[int, ...], target: str
) -> None:
    torch.manual_seed(0)
    norm, theirs = norms.ObservationNorm(shape, clip=1.5, dtype=F64), RunningMeanStd(shape)
    seen = []
    with runtime.use(target):
        for n in (4, 1, 7):  # of one observation, too
            x = torch.randn(n, *shape, dtype=F64) * 3 + 2
            seen.append(x)
            theirs.update(x.numpy())
            right = (x.numpy() - theirs.mean) / np.sqrt(theirs.var + 1e-8)
            torch.testing.assert_close(norm(x), torch.from_numpy(right.clip(-1.5, 1.5)))
        norm.eval()
        centre, spread = torch.from_numpy(theirs.mean), torch.from_numpy(theirs.var)
        y = norm(x)
        torch.testing.assert_close(y, ((x - centre) / (spread + 1e-8).sqrt()).clamp(-1.5, 1.5))
        torch.testing.assert_close(norm.denormalize(y), y * (spread + 1e-8).sqrt() + centre)
    assert norm.count.item() == pytest.approx(12.0001)
    var, mean = torch.var_mean(torch.cat(seen), 0, correction=0)
    torch.testing.assert_close(norm.mean, mean, rtol=1e-3, atol=1e-3)  # but for the first 1e-4
    torch.testing.assert_close(norm.var, var, rtol=1e-3, atol=1e-3)


@TARGETS
@pytest.mark.parametrize("block", [None, 4], ids=["a scale for each row", "for each block"])
def test_results_in_eight_bits(block: int | None, target: Any) -> None:
    """`rms_norm_dynamic_per_token_quant` of vLLM, and `act_quant` of DeepSeek-V3 behind RMSNorm."""
    text = QUANTIZED.read_text(encoding="utf-8")
    norms, programs = loads(text), programs_of(text)
    norm = norms.QuantRMSNorm(12) if block is None else norms.BlockQuantRMSNorm(12, block=block)
    with torch.no_grad():
        norm.double().weight.uniform_(0.5, 1.5)
    x = torch.randn(5, 2, 12, dtype=F64) * 30
    x[1] = 0  # a row of zeros stays one
    route = route_of(target, programs[type(norm).__name__], "an output in eight bits")
    with runtime.use(route), torch.no_grad():
        q, scale = norm(x)
    y = norm.weight.detach() * stretched(x, 1e-6)
    if block is None:
        wanted = (y.abs().amax(-1, keepdim=True) / 448).clamp(min=1 / (448 * 512))
        rounded = (y / wanted).to(torch.float8_e4m3fn)
    else:
        blocks = y.unflatten(-1, (-1, block))
        wanted = blocks.abs().amax(-1).clamp(min=1e-4) / 448
        rounded = (blocks / wanted.unsqueeze(-1)).flatten(-2).to(torch.float8_e4m3fn)
    assert q.dtype == torch.float8_e4m3fn and torch.equal(q.float(), rounded.float())
    assert scale.dtype == torch.float32
    torch.testing.assert_close(scale.view(wanted.shape), wanted.float())
    assert not q.float()[1].any() and q.float().abs().amax() == 448
