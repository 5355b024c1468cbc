"""The frontend of torch.compile takes the function of a norm for one node, as it takes torch's."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch's own compiler warns of is not ours


def functions_of_graph(module: nn.Module, *args: Any) -> list[str]:
    """The names of all functions in the one graph of a call."""
    names = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        names.extend(n.target.__name__ for n in graph.graph.nodes if n.op == "call_function")
        return graph.forward

    torch.compiler.reset()
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(*args), module(*args))
    return names


@pytest.mark.parametrize(
    ("cls", "arguments", "shape"),
    [
        ("LayerNorm", (4,), (3, 4)),
        ("GroupNorm", (2, 4), (3, 4, 5)),
        ("LocalResponseNorm", (3,), (3, 4, 5)),  # on torch alone
    ],
)
def test_one_node(
    cls: str, arguments: tuple[int, ...], shape: tuple[int, ...], library: ModuleType
) -> None:
    module = getattr(library, cls)(*arguments)
    (name,) = functions_of_graph(module, torch.randn(shape))
    assert name.replace("_", "") == cls.lower()


def test_what_is_read_from_data_is_followed(library: ModuleType) -> None:
    module, x, batch = library.GraphNorm(4), torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 1, 2])
    assert functions_of_graph(module, x, batch, 3) == ["graph_norm"]
    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        assert len(functions_of_graph(module, x, batch)) > 1


def test_norms_do_not_import_the_frontend() -> None:
    code = "import sys, metanorm.runtime; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
