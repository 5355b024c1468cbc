"""What goes wrong on a machine with a GPU ends in one warning and on torch, not in a traceback."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import triton
from layers import everything, layer, weighted
from recorder import SHARED, Recorder, compiled, recording
from torch import Tensor, nn
from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources, PTXASError

from metanorm.runtime import use
from metanorm.runtime.kernels import errors
from metanorm.runtime.kernels.errors import CannotBuild, MissingKernels
from metanorm.runtime.targets import KERNEL_TARGETS, TARGET_OF_DEVICE
from metanorm.runtime.triton.prepared import LaunchSequence

X = torch.randn(3, 4, 5, 3)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Calls take kernels by themselves, and nobody has been warned yet."""
    monkeypatch.setitem(TARGET_OF_DEVICE, "cpu", KERNEL_TARGETS["triton"])
    monkeypatch.setattr(errors, "_warned", False)
    with recording() as recorder:
        yield recorder


@pytest.fixture
def module() -> nn.Module:
    return fresh()


def fresh() -> nn.Module:
    """A layer that no GPU has seen."""
    return layer("batch_norm", compiled("batch_norm"), torch.float32)


def warnings_of_fallback(module: nn.Module, x: Tensor = X) -> list[str]:
    """Calls end as on plain torch, gradients and running statistics included; what was warned
    of."""
    expected = everything("torch", module, x, {}, weighted)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(2):
            results = everything("auto", module, x, {}, weighted)
            for name, tensor in results.items():
                torch.testing.assert_close(tensor, expected[name], msg=name)
    assert all(issubclass(warning.category, MissingKernels) for warning in warned)
    return [str(warning.message) for warning in warned]


# What comes while a kernel is loaded, and what is said.
LOADING: dict[str, tuple[Exception, str]] = {
    "threads": (OutOfResources(512, 256, "threads"), "takes 512 of threads, and this GPU has 256"),
    "image": (
        RuntimeError("Triton Error [CUDA]: device kernel image is invalid"),
        "RuntimeError: Triton Error [CUDA]: device kernel image is invalid",
    ),
    "no compiler": (
        RuntimeError("Failed to find C compiler. Please specify via CC environment variable."),
        "install gcc and the headers of Python",
    ),
    "no Python.h": (
        subprocess.CalledProcessError(1, ["/usr/bin/gcc", "main.c"]),
        "Triton's call of /usr/bin/gcc failed",
    ),
    "no libcuda": (AssertionError("libcuda.so cannot found!\n"), "no driver of a GPU"),
}


@pytest.mark.parametrize("case", LOADING)
def test_kernels_that_cannot_be_loaded(recorder: Recorder, module: nn.Module, case: str) -> None:
    recorder.failure, expected = LOADING[case]
    (said,) = warnings_of_fallback(module)
    assert expected in said and "Norms work, but slower" in said
    assert not recorder.launches


def test_too_much_shared_memory(
    recorder: Recorder, module: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHARED, 90, -1)
    (said,) = warnings_of_fallback(module)
    assert "shared memory, and this GPU has -1; try METANORM_TRITON_TILE=2048" in said


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CompilationError("a\nb", None, "no such thing"), "Triton cannot compile batch_norm"),
        (PTXASError("`ptxas` failed with error code 255\nand more"), "failed with error code 255"),
    ],
)
def test_kernels_that_cannot_be_compiled(
    recorder: Recorder, module: nn.Module, monkeypatch: pytest.MonkeyPatch,
    error: Exception, expected: str,
) -> None:  # fmt: skip
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(triton.compiler, "compile", fail)
    (said,) = warnings_of_fallback(module)
    assert expected in said and "please report it" in said


def test_only_the_layout_that_fails_is_left_to_torch(recorder: Recorder, module: nn.Module) -> None:
    recorder.failure = LOADING["image"][0]
    warnings_of_fallback(module)
    recorder.failure = None
    with use("triton"):
        module(torch.randn(2, 4, 6))
        assert recorder.launches
        with pytest.raises(RuntimeError, match="kernels that cannot be had here"):
            module(X.clone().requires_grad_())


def test_a_backward_kernel_that_fails(recorder: Recorder, module: nn.Module) -> None:
    """The forward kernels have run by then; torch differentiates what it computes itself."""
    expected = everything("torch", module, X, {}, weighted)
    original = LaunchSequence._compile

    def fails_later(self: LaunchSequence, inputs: Any) -> Any:
        if not self.prepared.momenta:
            raise CannotBuild("no such kernel", "none")
        return original(self, inputs)

    with pytest.MonkeyPatch.context() as patch, pytest.warns(MissingKernels, match="no such"):
        patch.setattr(LaunchSequence, "_compile", fails_later)
        results = everything("auto", module, X, {}, weighted)
    assert recorder.launches
    for name in ("gradient of x", "gradient of weight", "gradient of bias"):
        torch.testing.assert_close(results[name], expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "dtype", "expected"),
    [
        (75, torch.bfloat16, "compute capability 7.5, and bfloat16 needs 8.0"),
        (61, torch.float32, "compute capability 6.1, and Triton needs 7.0"),
    ],
)
def test_gpus_that_are_too_old(
    recorder: Recorder, architecture: int, dtype: torch.dtype, expected: str
) -> None:
    recorder.architecture = architecture
    (said,) = warnings_of_fallback(fresh().to(dtype), X.to(dtype))
    assert expected in said


def test_without_a_driver(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: Recorder) -> None:
        raise RuntimeError("0 active drivers ([]). There should only be one.")

    monkeypatch.setattr(Recorder, "get_current_target", none)
    (said,) = warnings_of_fallback(fresh())
    assert "Triton finds no driver of a GPU: 0 active drivers" in said


def test_a_tile_that_is_no_number(
    recorder: Recorder, module: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METANORM_TRITON_TILE", "large")
    (said,) = warnings_of_fallback(module)
    assert "METANORM_TRITON_TILE is 'large', no number of elements; unset it" in said


def test_what_a_launch_raises_is_not_hidden(recorder: Recorder, module: nn.Module) -> None:
    """A device that fails while it computes is no matter of kernels."""
    module(X)
    recorder.broken = RuntimeError("Triton Error [CUDA]: an illegal memory access")
    with pytest.raises(RuntimeError, match="illegal memory access"):
        module(X)
