"""Norms in `torch.fx`: by themselves, as parts of models, and in what is built on it."""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import PROGRAMS
from torch import Tensor, fx, nn

import metanorm
from metanorm import runtime
from metanorm.ir.program import Program
from metanorm.verify.cases import Setting, make_example
from metanorm.verify.compare import make_module

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch warns of itself is not ours


def call_of(program: Program, library: ModuleType, training: bool) -> tuple[nn.Module, Any]:
    setting = Setting("call", training=training)
    built = make_example(program, setting)
    counts = {f"{name}_size": count for name, count in built.groups.items()}
    module = make_module(program, library, built, setting)
    if program.target == "weight":  # it begins with its first call
        module(**built.inputs)
    return module, {**built.inputs, **counts}


def agree(graph: fx.GraphModule, module: nn.Module, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    actual = graph(**arguments)
    torch.manual_seed(0)
    torch.testing.assert_close(actual, module(**arguments))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_every_norm_is_traced_by_itself(
    program: Program, training: bool, library: ModuleType
) -> None:
    with runtime.use("torch"):
        module, arguments = call_of(program, library, training)
        twin = copy.deepcopy(module)
        graph = fx.symbolic_trace(twin)
        for name, value in twin.state_dict().items():
            assert torch.equal(value, module.state_dict()[name]), "tracing has changed the norm"
        graph.graph.lint()
        agree(graph, module, arguments)
    state = module.state_dict()
    for name, value in graph.state_dict().items():
        if name in state:
            torch.testing.assert_close(value, state[name])


class Block(nn.Module):
    """A norm between two other layers."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), norm

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


@pytest.mark.parametrize(
    "name", ["BatchNorm", "SwitchNorm", "LayerNorm", "GroupNorm", "LocalContextNorm"]
)
def test_a_norm_in_a_model_is_a_leaf(name: str, library: ModuleType) -> None:
    sizes = {"LayerNorm": (6,), "GroupNorm": (2, 4), "LocalContextNorm": (4, 2, 3)}
    model = Block(getattr(library, name)(*sizes.get(name, (4,))))
    graph = fx.symbolic_trace(copy.deepcopy(model))
    assert type(graph.norm) is type(model.norm)
    assert [n.target for n in graph.graph.nodes if n.op == "call_module"] == ["conv", "norm"]
    for training in (True, False):  # the mode is that of the call, not that of the trace
        graph.train(training), model.train(training)
        x = torch.randn(2, 3, 8, 8)
        torch.testing.assert_close(graph(x), model(x))
    torch.testing.assert_close(graph.state_dict(), model.state_dict())


def test_named_inputs_and_several_outputs_of_a_leaf(library: ModuleType) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = library.AdaLayerNormZero(4, 3)

        def forward(self, x: Tensor, condition: Tensor) -> Tensor:
            y, gate = self.norm(x, condition=condition)
            return y * gate[:, None]

    model = Model()
    x, condition = torch.randn(2, 5, 4), torch.randn(2, 3)
    graph = fx.symbolic_trace(model)
    torch.testing.assert_close(graph(x, condition), model(x, condition))


def test_shapes_are_checked_in_graphs(library: ModuleType) -> None:
    for graph in (
        fx.symbolic_trace(library.BatchNorm(4)),
        fx.symbolic_trace(nn.Sequential(library.BatchNorm(4))),
    ):
        with pytest.raises(runtime.ShapeError, match=r"BatchNorm: x has shape \[2, 3, 5\]"):
            graph(torch.randn(2, 3, 5))


def test_dead_code_may_go_and_batches_are_counted(library: ModuleType) -> None:
    norm = library.BatchNorm(4)
    graph = fx.symbolic_trace(norm)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    graph(torch.randn(8, 4))
    assert graph.num_batches_tracked == 1  # which is the buffer of the norm itself


def test_functions_alone_are_leaves() -> None:
    norms = metanorm.loads("norm Centred() {\n  input x[N, C]\n  output x - mean(x over C)\n}\n")
    graph = fx.symbolic_trace(norms.Centred())
    assert any(node.target is norms.centred for node in graph.graph.nodes)


def test_quantization_prepares_models_with_norms(library: ModuleType) -> None:
    quantize_fx = pytest.importorskip("torch.ao.quantization.quantize_fx")
    from torch.ao.quantization import get_default_qconfig_mapping

    example = (torch.randn(2, 3, 8, 8),)
    model = Block(library.GroupNorm(2, 4)).eval()
    prepared = quantize_fx.prepare_fx(model, get_default_qconfig_mapping(), example)
    torch.testing.assert_close(prepared(*example), model(*example))
    quantized = quantize_fx.convert_fx(prepared)
    assert type(quantized.norm) is type(model.norm)
    torch.testing.assert_close(quantized(*example), model(*example), rtol=0.2, atol=0.2)


def test_features_are_extracted_by_names_of_modules(library: ModuleType) -> None:
    """What `create_feature_extractor` of torchvision and timm does: it cuts a graph at a node."""
    model = nn.Sequential(Block(library.BatchNorm(4)), nn.Flatten()).eval()
    graph = fx.symbolic_trace(model)
    node = next(n for n in graph.graph.nodes if n.target == "0.norm")
    output = next(n for n in graph.graph.nodes if n.op == "output")
    output.args = ({"0.norm": node},)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(graph(x)["0.norm"], model[0].norm(model[0].conv(x)))


def test_all_norms_are_here() -> None:
    assert len(PROGRAMS) > 100
