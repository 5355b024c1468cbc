"""Norms in ONNX: some thirty of them with open lengths, run by ONNX Runtime."""

from __future__ import annotations

import copy
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from calls import calls
from conftest import PROGRAMS, ROOT
from tiers import constructs
from torch import Tensor, nn

sys.path.insert(0, str(ROOT))

from docs.export_routes import ONNX
from metanorm import runtime

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch's exporter warns of is not ours


def run(model: bytes, arguments: dict[str, Any]) -> list[Tensor]:
    import onnxruntime  # of `.[export]`, which `make test-extended` installs

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {i.name: arguments[i.name].numpy() for i in session.get_inputs()}
    return [torch.from_numpy(actual) for actual in session.run(None, feeds)]


@pytest.mark.extended
@pytest.mark.parametrize("name", ONNX)
def test_onnx_runtime_computes_the_same(name: str, library: ModuleType) -> None:
    example = calls(PROGRAMS[name], library, False, dtype=torch.float32)
    module = example.module.float()
    program = torch.onnx.export(
        module, (), kwargs=example.first, dynamic_shapes=example.dynamic, dynamo=True, verbose=False
    )
    assert program is not None
    model = program.model_proto.SerializeToString()
    for arguments in (example.second, example.first):
        with torch.no_grad(), runtime.use("torch"):
            wanted = copy.deepcopy(module)(**arguments)
        results = [wanted] if isinstance(wanted, Tensor) else list(wanted)
        torch.testing.assert_close(run(model, arguments), results, rtol=1e-4, atol=1e-5)


@pytest.mark.extended
def test_the_older_exporter_takes_norms_too(library: ModuleType) -> None:
    """It is built on torch.jit.trace, and has no place for the guards of a trace."""
    import io

    model = nn.Sequential(nn.Conv2d(3, 4, 1), library.GroupNorm(2, 4)).eval()
    file = io.BytesIO()
    torch.onnx.export(
        model, (torch.randn(2, 3, 5, 5),), file, dynamo=False,
        input_names=["x"], dynamic_axes={"x": [0, 2, 3]},
    )  # fmt: skip
    x = torch.randn(3, 3, 6, 7)
    with torch.no_grad():
        torch.testing.assert_close(run(file.getvalue(), {"x": x}), [model(x)], rtol=1e-4, atol=1e-5)


def test_every_construct_is_among_them() -> None:
    activations = {n: p for n, p in PROGRAMS.items() if p.target == "activation"}
    everything = set().union(*(constructs(p) for p in activations.values()))
    assert len(set(ONNX)) == 37
    assert set().union(*(constructs(activations[name]) for name in ONNX)) == everything
