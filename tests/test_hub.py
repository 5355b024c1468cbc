"""Kernels for the hub of Hugging Face: what is written, what is refused, and what layers compute.

`interop/test_kernels.py` hands them to the `kernels` package itself.
"""

from __future__ import annotations

import ast
import base64
import functools
import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

import pytest
from commands import in_this as run
from conftest import LIBRARY, PROGRAMS, ROOT, imported
from hub_layers import norm_with_layer, run_here

pytestmark = pytest.mark.needs_torch
torch = pytest.importorskip("torch")

from tiers import covering, one_precision, tiered  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from metanorm.driver import compile_specs  # noqa: E402
from metanorm.frontend import check  # noqa: E402
from metanorm.options import Options  # noqa: E402
from metanorm.targets.torch.hub_layer import why_no_layer  # noqa: E402
from metanorm.verify.norms import verify_norm  # noqa: E402

VARIANT = Path("build/torch-universal")
A = "norm A(eps = 1e-5) {\n  input  x[N, C]\n  reduce C\n}\n"
# Specs of the library of which every norm can be a layer.
ROOTS = {
    norm.program.name: root
    for root, norms in check(LIBRARY.sources, LIBRARY.roots).norms.items()
    if not any(list(why_no_layer(norm.program)) for norm in norms)
    for norm in norms
}
NAMES = [name for name in PROGRAMS if name in ROOTS]


@functools.cache
def layers_of(name: str, *rename: tuple[str, str]) -> dict[str, str]:
    """The files of the layers of the spec that has this norm, run by the runtime at hand."""
    options = Options(hub=True, rename=rename)
    result = compile_specs(LIBRARY.sources, [ROOTS[name]], options)
    assert result.ok, result.diagnostics
    return run_here(result.files)


Layers = Callable[..., Any]


@pytest.fixture
def layer(tmp_path: Path) -> Iterator[Layers]:
    """The layer of a norm of the library."""
    packages = []

    def load(name: str, *rename: tuple[str, str]) -> Any:
        package = f"hub_{len(packages)}_{name.lower()}_{tmp_path.name.replace('-', '_')}"
        context = imported(layers_of(name, *rename), tmp_path, package)
        packages.append(context)
        return getattr(context.__enter__().layers, name)

    yield load
    for context in packages:
        context.__exit__(None, None, None)


def bound(layer: type[nn.Module], module: nn.Module) -> nn.Module:
    """The module with the `forward` of a layer, as `kernelize` does it."""
    module.forward = MethodType(layer.forward, module)
    return module


# ---- what layers are


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the kernel `rms-norm`."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "pyproject.toml").write_text(
        '[tool.metanorm]\nhub_version = 3\nhub_license = "mit"\nrename = {x = "hidden_states"}\n'
    )
    specs = [str(ROOT / "specs" / f"{name}.norm") for name in ("rms_norm", "layer_norm")]
    renaming = ("--rename", "RMSNorm.eps=variance_epsilon")
    done = run("compile", *specs, "--hub", "-o", "rms-norm", *renaming, folder=folder)
    assert done.returncode == 0, done.stderr
    assert run("compile", *specs, "--hub", "-o", "rms-norm", *renaming, "--check",
               folder=folder).returncode == 0  # fmt: skip
    return folder / "rms-norm"


def test_a_kernel_is_where_and_what_the_package_expects(kernel: Path) -> None:
    variant = kernel / VARIANT
    metadata = json.loads((variant / "metadata.json").read_text())
    assert metadata["name"] == "rms-norm" and metadata["id"].startswith("_rms_norm_")
    assert (metadata["version"], metadata["license"]) == (3, "mit")
    files = {p.relative_to(variant).as_posix(): p for p in variant.rglob("*") if p.is_file()}
    digests = {
        name: base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
        for name, path in files.items()
        if name != "metadata.json" and "__pycache__" not in path.parts
    }
    assert metadata["digest"] == {"algorithm": "sha256", "files": digests}
    assert {"__init__.py", "layers.py", "rms_norm.py", "rms_norm.c"} <= set(files)
    assert not [name for name in files if name.endswith("_processes.py") and "/" not in name]


def test_a_kernel_imports_itself_by_relative_imports_and_torch_alone(kernel: Path) -> None:
    """When it is imported: numpy and torch_scatter are asked for inside of functions, and only a
    kernel in Triton, of which there is none, imports `_runtime.triton`."""
    files = [path for path in kernel.rglob("*.py") if path.parent.name != "triton"]
    assert len(files) > 50
    for path in files:
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                assert name.partition(".")[0] in {*sys.stdlib_module_names, "torch"}, path


def test_layers_have_no_state(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules of the package: nothing but `forward`, and two class variables."""
    monkeypatch.syspath_prepend(str(kernel / VARIANT.parent))
    layers = importlib.import_module(f"{VARIANT.name}.layers")
    assert sorted(layers.__all__) == ["LayerNorm", "PartialRMSNorm", "RMSNorm"]
    allowed = {name for name, _ in inspect.getmembers(nn.Module)}
    for name in layers.__all__:
        layer = getattr(layers, name)
        assert layer.__init__ is nn.Module.__init__ and layer.can_torch_compile
        members = {name for name, _ in inspect.getmembers(layer)}
        assert members - allowed == {"can_torch_compile", "has_backward"}
        assert list(inspect.signature(layer.forward).parameters) == ["self", "hidden_states"]
    assert list(layers.RMSNorm.__annotations__) == [
        "weight", "normalized_shape", "variance_epsilon"
    ]  # fmt: skip


# ---- what layers compute


@pytest.mark.parametrize("name", tiered(NAMES, covering({n: PROGRAMS[n] for n in NAMES})))
def test_a_layer_agrees_with_the_oracle(name: str, layer: Layers, library: ModuleType) -> None:
    """With the state of a module that the norm itself constructs."""
    of_hub, norm = layer(name), getattr(library, name)
    module = norm_with_layer(name, norm, of_hub)
    verification = verify_norm(PROGRAMS[name], module, chosen=one_precision)
    assert verification.findings and verification.good, [
        f.text() for f in verification.findings if not f.good
    ]


def same(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    results = []
    for module in (ours, theirs):
        inputs = x.clone().requires_grad_()
        y = module(inputs)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        state = [p.grad for p in module.parameters()]
        results.append([y, inputs.grad, *state, *(b.float() for b in module.buffers())])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "make", "shape"),
    [
        ("LayerNorm", lambda: nn.LayerNorm((3, 4), eps=1e-3), (2, 3, 4)),
        ("LayerNorm", lambda: nn.LayerNorm((3, 4), elementwise_affine=False), (2, 3, 4)),
        ("LayerNorm", lambda: nn.LayerNorm(4, bias=False), (2, 3, 4)),
        ("RMSNorm", lambda: nn.RMSNorm(4), (2, 3, 4)),
        ("GroupNorm", lambda: nn.GroupNorm(2, 6), (3, 6, 5)),
        ("GroupNorm", lambda: nn.GroupNorm(3, 6, affine=False), (3, 6, 5)),
        ("BatchNorm", lambda: nn.BatchNorm2d(4, momentum=None), (3, 4, 5, 5)),
        ("BatchNorm", lambda: nn.BatchNorm2d(4).eval(), (3, 4, 5, 5)),
        ("BatchNorm", lambda: nn.BatchNorm1d(4, track_running_stats=False), (6, 4)),
    ],
)
def test_layers_of_torch_with_another_forward(
    name: str, make: Callable[[], nn.Module], shape: tuple[int, ...], layer: Layers
) -> None:
    theirs, ours = make(), make()
    for module in (theirs, ours):
        for number, tensor in enumerate([*module.parameters(), *module.buffers()]):
            if tensor.is_floating_point():
                with torch.no_grad():
                    tensor.copy_(torch.linspace(1, 2 + number, tensor.numel()).view_as(tensor))
    same(bound(layer(name), ours), theirs, torch.randn(shape))


class OtherWords(nn.Module):
    """Layer norm with names of its own, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.offset = nn.Parameter(torch.rand(4)), nn.Parameter(torch.rand(4))
        self.tiny, self.width = 1e-3, 4

    def forward(self, weight: Tensor) -> Tensor:
        centred = weight - weight.mean(-1, keepdim=True)
        root = (centred.square().mean(-1, keepdim=True) + self.tiny).sqrt()
        return self.gain * centred / root + self.offset


OTHER_WORDS = (("LayerNorm.eps", "tiny"), ("bias", "offset"), ("eps", "nothing"),
               ("weight", "gain"), ("x", "weight"))  # fmt: skip


@pytest.mark.parametrize("more", [(), (("normalized_shape", "width"),)])
def test_layers_with_other_names(more: tuple[tuple[str, str], ...], layer: Layers) -> None:
    theirs, ours = OtherWords(), OtherWords()
    ours.load_state_dict(theirs.state_dict())
    of_hub = layer("LayerNorm", *OTHER_WORDS, *more)
    same(bound(of_hub, ours), theirs, torch.randn(2, 3, 4))
    assert ours(weight=torch.randn(2, 4)).shape == (2, 4)
    compiled = torch.compile(bound(of_hub, ours), backend="eager", fullgraph=True)
    same(compiled, theirs, torch.randn(2, 3, 4))


def test_a_layer_says_what_it_cannot_take(layer: Layers) -> None:
    module = bound(layer("RMSNorm"), nn.RMSNorm(4))
    with pytest.raises(ValueError, match=r"RMSNorm: x"):
        module(torch.randn(2, 5))
    lacking = bound(layer("RMSNorm", ("eps", "variance_epsilon")), nn.RMSNorm(4))
    with pytest.raises(
        AttributeError, match="'RMSNorm' object has no attribute 'variance_epsilon'"
    ):
        lacking(torch.randn(2, 4))
    groups = nn.GroupNorm(2, 6)
    groups.num_groups = 4  # which its constructor would refuse
    with pytest.raises(ValueError, match="GroupNorm: num_channels"):
        bound(layer("GroupNorm"), groups)(torch.randn(2, 6, 3))


def test_a_word_that_the_spec_does_not_name_is_refused(layer: Layers, library: ModuleType) -> None:
    module = bound(layer("GraphLayerNorm"), library.GraphLayerNorm(4))
    module.mode = "edge"
    with pytest.raises(ValueError, match="mode"):
        module(torch.randn(3, 4))


# ---- what the command refuses


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rename", "eps"), "is no pair of names"),
        (("--rename", "eps=a", "--rename", "eps=b"), "`eps` becomes `a` already"),
        (("--rename", "eps=class"), "`class` cannot be the name of an attribute"),
        (
            ("--rename", "epz=tiny"),
            "there is no input, parameter or argument `epz`; did you mean `eps`",
        ),
        (("--rename", "B.eps=tiny"), "did you mean `A.eps`"),
        (("--rename", "x=self"), "no argument of `forward` can have the name `self`"),
        (("--rename", "eps=forward"), "every layer has an attribute `forward`"),
        (("--rename", "eps=training"), "every layer has an attribute `training`"),
        (("--target", "triton"), "add --target native"),
        (("-o", "0"), "`0` cannot be one"),
        (("-o", "g"), "`g` cannot be one: it takes two or more"),
    ],
)
def test_what_cannot_be(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text(A)
    done = run("compile", "a.norm", "--hub", *arguments, folder=tmp_path)
    assert done.returncode != 0 and said in done.stderr
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a.norm"]


def test_a_version_below_zero_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text(A)
    (tmp_path / "pyproject.toml").write_text("[tool.metanorm]\nhub_version = -1\n")
    done = run("compile", "a.norm", "--hub", "-o", "kernel", folder=tmp_path)
    assert done.returncode == 2 and "hub_version: a version is 0 or more" in done.stderr
    assert not (tmp_path / "kernel").exists()


def test_names_are_for_the_hub_alone(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text(A)
    done = run("compile", "a.norm", "--rename", "eps=tiny", folder=tmp_path)
    assert done.returncode == 1 and "add --hub" in done.stderr


def test_two_names_cannot_become_one(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text("norm A {\n  input  x[N, C]\n  reduce C\n  affine C\n}\n")
    done = run("compile", "a.norm", "--hub", "--rename", "bias=weight", folder=tmp_path)
    assert (
        done.returncode == 1 and "two of its attributes would have the name `weight`" in done.stderr
    )


def test_a_spec_cannot_take_the_module_of_the_layers(tmp_path: Path) -> None:
    (tmp_path / "layers.norm").write_text(A)
    done = run("compile", "layers.norm", "--hub", folder=tmp_path)
    assert done.returncode == 1 and "MN0804" in done.stderr
    assert run("compile", "layers.norm", folder=tmp_path).returncode == 0


def test_metadata_that_somebody_edited_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text(A)
    command = ("compile", "a.norm", "--hub", "-o", "a-kernel")
    assert run(*command, folder=tmp_path).returncode == 0
    metadata = tmp_path / "a-kernel" / VARIANT / "metadata.json"
    before = metadata.read_text()
    metadata.write_text(before.replace("unknown", "mit"))
    done = run(*command, folder=tmp_path)
    assert done.returncode == 1 and "metadata.json was edited by hand" in done.stderr
    metadata.write_text("{}")
    assert "not generated by metanorm" in run(*command, folder=tmp_path).stderr
    assert run(*command, "--force", folder=tmp_path).returncode == 0
    assert metadata.read_text() == before
    (tmp_path / "a.norm").write_text(A.replace("1e-5", "1e-6"))
    assert run(*command, folder=tmp_path).returncode == 0
    assert json.loads(metadata.read_text())["id"] != json.loads(before)["id"]


def test_a_kernel_has_the_norms_of_one_run(tmp_path: Path) -> None:
    for name in ("A", "B"):
        (tmp_path / f"{name.lower()}.norm").write_text(A.replace("A", name, 1))
    assert run("compile", "a.norm", "--hub", "-o", "one", folder=tmp_path).returncode == 0
    done = run("compile", "b.norm", "--hub", "-o", "one", "--prune", folder=tmp_path)
    assert done.returncode == 0 and "a.py: removed" in done.stderr
    assert "from .b import B\n" in (tmp_path / "one" / VARIANT / "layers.py").read_text()
