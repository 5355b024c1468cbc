"""The `kernels` package of Hugging Face: it loads kernels that `compile --hub` writes, holds their
layers against its rules, and puts them into a model of transformers, which computes the same."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from commands import in_this as run
from conftest import LIBRARY, PROGRAMS, ROOT
from torch import Tensor, nn

from metanorm.frontend import check
from metanorm.targets.torch.hub_layer import why_no_layer

pytestmark = pytest.mark.extended

kernels = pytest.importorskip("kernels", reason="the kernels package is not installed")

VARIANT = Path("build/torch-universal")
FOR_LLAMA = ("--rename", "RMSNorm.eps=variance_epsilon", "--rename", "x=hidden_states")


def compiled(folder: Path, *arguments: str) -> Path:
    done = run("compile", *arguments, "--hub", "-o", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def rms_norm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = str(ROOT / "specs" / "rms_norm.norm")
    return compiled(tmp_path_factory.mktemp("hub") / "rms-norm", spec, *FOR_LLAMA)


def test_the_package_reads_what_the_kernel_is(rms_norm: Path) -> None:
    rust = importlib.import_module("kernels._rust")
    metadata = rust.Metadata.read_from_file(rms_norm / VARIANT / "metadata.json")
    digest = rust.Digest.hash_variant(rust.DigestAlgorithm.SHA256, rms_norm / VARIANT)
    metadata.digest.validate(digest)  # which raises
    assert (str(metadata.name), metadata.license) == ("rms-norm", "unknown")
    variants = importlib.import_module("kernels.variants")
    (variant,) = variants.get_variants_local(rms_norm / VARIANT.parent)
    for backend in ("cpu", None):
        assert variants.resolve_variant([variant], backend)[0] == variant


@pytest.fixture
def llama(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module of Llama, whose norm can be replaced, as with another version of `kernels` it
    could be from the start."""
    module = pytest.importorskip("transformers.models.llama.modeling_llama")
    monkeypatch.setattr(module.LlamaRMSNorm, "kernel_layer_name", "RMSNorm", raising=False)
    monkeypatch.setattr(
        module.LlamaRMSNorm, "kernel_condition", staticmethod(lambda layer: True), raising=False
    )
    yield module


def small_model(llama: ModuleType) -> Any:
    config = llama.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=1e-3,
    )
    model = llama.LlamaForCausalLM(config)
    for module in model.modules():
        if isinstance(module, llama.LlamaRMSNorm):
            nn.init.normal_(module.weight, 1, 0.3)
    return model


def kernelized(model: nn.Module, folder: Path, mode: Any) -> None:
    repository = kernels.LocalLayerRepository(folder, layer_name="RMSNorm")
    with kernels.use_kernel_mapping({"RMSNorm": {"cpu": repository}}, inherit_mapping=False):
        kernels.kernelize(model, mode=mode, device="cpu", use_fallback=False)


def is_ours(module: Any) -> bool:
    return module.forward.__func__.__module__.startswith("_rms_norm_")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_kernelized_model_computes_and_learns_the_same(
    dtype: torch.dtype, rms_norm: Path, llama: ModuleType
) -> None:
    theirs = small_model(llama).to(dtype)
    ours = copy.deepcopy(theirs)
    kernelized(ours, rms_norm, kernels.Mode.TRAINING)
    norms = [module for module in ours.modules() if isinstance(module, llama.LlamaRMSNorm)]
    assert len(norms) == 5 and all(map(is_ours, norms))
    tokens = torch.randint(0, 50, (2, 7))
    results: list[list[Tensor]] = []
    for model in (ours, theirs):
        output = model(input_ids=tokens, labels=tokens)
        output.loss.backward()
        results.append([output.loss, output.logits, *(p.grad for p in model.parameters())])
    close = {"rtol": 1e-4, "atol": 1e-5} if dtype is torch.float32 else {"rtol": 0.1, "atol": 0.03}
    torch.testing.assert_close(*results, **close)


def test_a_kernelized_model_is_one_graph(rms_norm: Path, llama: ModuleType) -> None:
    theirs = small_model(llama).eval()
    ours = copy.deepcopy(theirs)
    kernelized(ours, rms_norm, kernels.Mode.INFERENCE | kernels.Mode.TORCH_COMPILE)
    x = torch.randn(2, 7, 32)
    compiled_norm = torch.compile(ours.model.norm, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled_norm(x), theirs.model.norm(x))
    tokens = torch.randint(0, 50, (2, 7))
    with torch.no_grad():
        torch.testing.assert_close(
            ours(input_ids=tokens).logits, theirs(input_ids=tokens).logits, rtol=1e-4, atol=1e-5
        )


def test_two_builds_are_in_one_process(rms_norm: Path, tmp_path: Path) -> None:
    spec = tmp_path / "rms_norm.norm"
    text = (ROOT / "specs" / "rms_norm.norm").read_text()
    spec.write_text(text.replace("shift  none", "shift  mean"))
    other = compiled(tmp_path / "rms-norm", str(spec), *FOR_LLAMA)
    first, second = kernels.get_local_kernel(rms_norm), kernels.get_local_kernel(other)
    assert first.__name__ != second.__name__
    layer = nn.RMSNorm(8)
    layer.variance_epsilon = 1e-3  # type: ignore[assignment]
    x = torch.randn(3, 8) + 1
    results = [k.layers.RMSNorm.forward(layer, x) for k in (first, second)]
    torch.testing.assert_close(results[0], nn.functional.rms_norm(x, (8,), eps=1e-3))
    torch.testing.assert_close(results[1], nn.functional.layer_norm(x, (8,), eps=1e-3))


def test_every_norm_that_is_not_refused_passes_the_rules_of_layers(
    tmp_path: Path, library: ModuleType
) -> None:
    norms = check(LIBRARY.sources, LIBRARY.roots).norms
    roots = [
        root
        for root in LIBRARY.roots
        if not any(list(why_no_layer(norm.program)) for norm in norms[root])
    ]
    specs = [str(ROOT / "specs" / root.rpartition(":")[2]) for root in roots]
    kernel = kernels.get_local_kernel(compiled(tmp_path / "library", *specs))
    validate = importlib.import_module("kernels.layer.layer")._validate_layer
    names = [norm.program.name for root in roots for norm in norms[root]]
    assert len(names) > 90 and set(names) == set(kernel.layers.__all__) <= set(PROGRAMS)
    for name in names:
        layer = getattr(kernel.layers, name)
        validate(check_cls=getattr(library, name), cls=layer, repo=name)
    with pytest.raises(TypeError, match=r"override nn\.Module constructor"):
        validate(check_cls=nn.RMSNorm, cls=library.RMSNorm, repo="a norm as it is otherwise")
