"""The path of calls through C: when it is taken, what it keeps, and what it leaves alone.

What it computes is compared in `test_call_path_bits.py`, and what else sees a call is in
`test_call_path_seen.py`. Nearly every call of all other tests takes it, too.
"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from conftest import ROOT
from layers import kernels_counted, layer, use
from limited import HANGS
from paths import called, functions, takes_c, through_c, uncalled
from recorded import CC
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from metanorm import runtime
from metanorm.runtime import dispatch
from metanorm.runtime.backends import ALLOWING_CALL_PATH, BACKEND, through_python
from metanorm.runtime.native.call_path import path, plans, symbols
from metanorm.runtime.native.call_path.path import CallPaths

pytestmark = through_c
SYMBOLS = {
    name: symbol for functions in symbols.LIBRARIES.values() for name, symbol in functions.items()
}


def paths() -> CallPaths:
    """As in a process in which no norm was called yet."""
    return CallPaths(BACKEND, ALLOWING_CALL_PATH)


@pytest.fixture
def norm() -> nn.Module:
    return called()


# ---- when it is taken


@pytest.mark.parametrize("name", SYMBOLS)
def test_a_torch_without_a_symbol(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path through Python is taken, says why, and computes the same."""
    hidden, address = SYMBOLS[name], symbols._address

    def without(library: ctypes.CDLL, symbol: str) -> int:
        return address(library, "hidden" if symbol == hidden else symbol)

    monkeypatch.setattr(symbols, "_address", without)
    monkeypatch.setattr(dispatch, "_call_paths", paths())
    chosen_path = runtime.call_path()
    assert (chosen_path.name, chosen_path.reason) == (
        "python",
        f"torch {torch.__version__} has no function hidden",
    )
    module, x = uncalled(), torch.randn(3, 6, requires_grad=True)
    with kernels_counted() as kernels:
        y = module(x)
        y.sum().backward()
    assert len(kernels) == 2 and not takes_c(module)
    torch.testing.assert_close(y, nn.functional.layer_norm(x, (6,)))


OTHERS: dict[str, Any] = {
    "requires_grad": ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)(lambda impl: False),
    "get_num_threads": ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 77),
    "count_modes": ctypes.CFUNCTYPE(ctypes.c_int64)(lambda: 0),
    "bump_version": ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda tensor: None),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_torch_with_another_function_of_that_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, address = ctypes.cast(OTHERS[name], ctypes.c_void_p).value, symbols._address
    monkeypatch.setattr(
        symbols, "_address", lambda lib, s: other if s == SYMBOLS[name] else address(lib, s)
    )
    chosen_path = paths().path()
    assert (
        chosen_path.name == "python"
        and f"torch {torch.__version__} has another function" in chosen_path.reason
    )


@pytest.mark.parametrize("what", ["type", "TensorImpl", "dispatch keys"])
def test_a_torch_whose_tensors_lie_otherwise(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    common_offset = symbols._common_offset

    def moved(name: str, words: Any) -> int:
        return common_offset(name, [(a, w + 1) for a, w in words] if what in name else words)

    monkeypatch.setattr(symbols, "_common_offset", moved)
    chosen_path = paths().path()
    assert chosen_path.name == "python" and what in chosen_path.reason


class Replacing(TorchFunctionMode):
    """Makes another tensor of each result, as DTensors do where plain tensors are made."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        return result.as_subclass(Marked) if isinstance(result, Tensor) else result


class Marked(Tensor):
    pass


SURROUNDINGS: dict[str, Callable[[], Any]] = {
    "inference mode": torch.inference_mode,
    "a mode of functions": Replacing,
    "a mode of operations": symbols._IdleMode,
    "another device": lambda: torch.device("meta"),
    "no gradients": torch.no_grad,
    "a level of vmap": symbols._vmap,
}


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_what_surrounds_the_first_call_of_a_process(surrounding: str) -> None:
    with SURROUNDINGS[surrounding]():
        chosen_path = paths().path()
    assert (chosen_path.name, chosen_path.reason) == ("c", "")


def test_a_python_without_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    assert paths().path().reason == "Python runs without its global interpreter lock"


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METANORM_CC", "no-such-compiler")
    assert "no-such-compiler" in paths().path().reason


def test_the_variable_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(path.VARIABLE, "python")
    assert paths().path().reason == "METANORM_CALL_PATH says so"
    monkeypatch.setenv(path.VARIABLE, "rust")
    assert paths().path().reason == "METANORM_CALL_PATH is 'rust', which is none of auto, python"


def test_version_says_so() -> None:
    run = [sys.executable, "-m", "metanorm", "version"]
    environment = {**os.environ, path.VARIABLE: "python"}
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("calls through Python: METANORM_CALL_PATH says so\n")


# ---- what it keeps, and for how long


def counted_in_python(norm: nn.Module) -> list[Any]:
    """The last arguments of calls that Python runs from now on; no plan is known any more."""
    (function,) = functions(norm)
    in_python: list[Any] = []

    def slow(*args: Any) -> Any:
        in_python.append(args[-1])
        return function._in_python(*args)

    function._entry = dispatch._call_paths.entry(slow)
    assert function._entry is not None
    function._enter = function._entry.function
    return in_python


def test_more_kinds_of_calls_than_it_keeps_plans(norm: nn.Module) -> None:
    x = torch.randn(3, 6, requires_grad=True)
    in_python = counted_in_python(norm)
    kinds = [eps / 10 for eps in range(1, 300)]
    for eps in [*kinds, 0.1, 0.2, 29.9]:
        norm.eps = eps
        y = norm(x)
        torch.testing.assert_close(y, nn.functional.layer_norm(x, (6,), eps=eps))
        y.sum().backward()
    # The last one is still there; those that were forgotten come back, and stay.
    assert in_python == [*kinds, 0.1, 0.2]
    for eps in (0.1, 0.2, 29.9):
        norm.eps = eps
        norm(x)
    assert in_python == [*kinds, 0.1, 0.2]


@pytest.mark.parametrize("first", [torch.inference_mode, torch.no_grad])
def test_calls_in_and_out_of_inference_mode(first: Any, norm: nn.Module) -> None:
    """Tensors of both kinds have plans of their own, whichever comes first."""
    in_python = counted_in_python(norm)
    modes = [torch.inference_mode, torch.no_grad]
    for mode in [first, *modes, *modes]:
        with mode():
            x = torch.randn(7, 2, 6)
            torch.testing.assert_close(norm(x), nn.functional.layer_norm(x, (6,)))
    assert len(in_python) == 2


class Length(int):
    """A number of a user's own kind, whose comparison is Python code, which may call norms."""

    def __eq__(self, other: object) -> bool:
        return int.__eq__(self, other)

    __hash__ = int.__hash__


class Shape(NamedTuple):
    length: int


SHAPES = {"named": Shape(6), "own": (Length(6),), "size": torch.Size([6]), "plain": (6,)}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_of_another_class(kind: str, norm: nn.Module) -> None:
    """C compares with builtin types alone: other code could change the plans it looks through."""
    in_python = counted_in_python(norm)
    (function,) = functions(norm)
    x = torch.randn(7, 2, 6)
    for _ in range(4):
        y = function._enter(x, norm.weight, norm.bias, SHAPES[kind], 1e-5)
        torch.testing.assert_close(y, nn.functional.layer_norm(x, (6,)))
    assert len(in_python) == (1 if kind in ("size", "plain") else 4)


def test_functions_are_freed(norm: nn.Module) -> None:
    """A plan knows the function that it serves, and the function its plans."""
    function: Any = runtime.native(functions(norm)[0].function)
    for _ in range(2):
        x = torch.randn(3, 6, requires_grad=True)
        function(x, norm.weight, norm.bias, (6,), 1e-5).sum().backward()
    assert function._entry is not None
    seen = weakref.ref(function)
    del function
    gc.collect()
    assert seen() is None


def test_nothing_piles_up(norm: nn.Module) -> None:
    """Neither objects that Python counts, nor memory that it does not see."""
    x = torch.randn(64, 6, requires_grad=True)

    def steps(n: int) -> int:
        for _ in range(n):
            norm(x).sum().backward()
        gc.collect()
        return len(gc.get_objects())

    steps(50)
    before, resident = steps(50), _resident()
    assert steps(3000) <= before + 50
    assert _resident() - resident < 3000 * 1024  # a kilobyte a call would be seen


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_the_function_behind_a_norm_is_not_for_others(norm: nn.Module) -> None:
    node: Any = norm(torch.randn(2, 6)).grad_fn
    with pytest.raises(RuntimeError, match="not to be called by itself"):
        type(node)._forward_cls.forward(node, torch.ones(2))


# ---- what it does not serve


def listening(function: Callable[[], Any]) -> Any:
    with symbols._IdleMode():  # type: ignore[no-untyped-call]
        return function()


def test_what_goes_through_python(norm: nn.Module) -> None:
    """Subclasses, modes, transforms, other choices: the results are the same."""
    x = torch.randn(3, 6)
    right = norm(x)
    (function,) = functions(norm)
    assert function._entry is not None

    for symbol in (
        norm(x.as_subclass(Marked)),
        listening(lambda: norm(x)),
        torch.func.vmap(norm)(x),
        torch.func.jvp(norm, (x,), (x,))[0],
        norm.forward(x=x),
    ):
        torch.testing.assert_close(symbol.as_subclass(Tensor), right)
    with use("torch"), kernels_counted() as kernels:
        torch.testing.assert_close(norm(x), right)
    assert not kernels


def test_freed_memory_is_refused(library: ModuleType) -> None:
    """With plans for its layout, in either direction."""
    module = layer("batch_norm", library, torch.float32)
    x = torch.randn(3, 4, 5, 3, requires_grad=True)
    module(x).sum().backward()
    y = module(x)
    with torch.no_grad():
        module.weight.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="was freed"):
        module(x)
    with pytest.raises(RuntimeError, match="was freed"):
        y.sum().backward()


def test_extreme_labels(library: ModuleType) -> None:
    """Both paths refuse them alike, and no number of groups overflows."""
    module, x = layer("graph_norm", library, torch.float32), torch.randn(6, 4)
    batch = torch.tensor([0, 0, 1, 1, 2, 2])
    module(x, batch)
    for label in (2**63 - 1, 2**62, -1, -(2**63)):
        batch[-1] = label
        with pytest.raises(IndexError) as in_c:
            module(x, batch)
        with through_python(), pytest.raises(IndexError) as in_python:
            module(x, batch)
        assert str(in_c.value) == str(in_python.value)


def test_calls_that_fail_keep_nothing(library: ModuleType) -> None:
    """A backward pass whose labels were changed behind autograd's back lets go of its inputs."""
    module, seen = library.GraphNorm(4), []
    for way in (nullcontext, through_python):
        for _ in range(3):
            x, batch = torch.randn(6, 4, requires_grad=True), torch.arange(6) // 3
            seen.append(weakref.ref(x))
            with way():
                y = module(x, batch)
                batch.numpy()[-1] = 50
                with pytest.raises(RuntimeError, match="labels of groups were changed"):
                    y.sum().backward()
            del x, y
    gc.collect()
    assert not any(x() is not None for x in seen)


def test_a_count_of_batches_below_zero(library: ModuleType) -> None:
    module, x = library.BatchNorm(4, momentum=None), torch.randn(3, 4)
    module(x)
    module.num_batches_tracked.fill_(-1)
    before = module.running_mean.clone()
    with pytest.raises(ZeroDivisionError):
        module(x)
    assert torch.equal(module.running_mean, before)


def test_calls_within_calls(norm: nn.Module) -> None:
    """The garbage collector may run Python code in the middle of a call, and that call the norm."""
    x = torch.randn(4, 6, requires_grad=True)
    norm(x)
    inner: list[Tensor] = []

    class Calling:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            inner.append(norm(x).sum())

    thresholds = gc.get_threshold()
    gc.freeze()  # a collection looks at what this test makes, not at all that the process has
    try:
        for count in range(1, 60):
            gc.collect()
            Calling()
            gc.set_threshold(count, 1000, 1000)
            norm(x)
        gc.set_threshold(*thresholds)
        gc.collect()
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    assert len(inner) == 59


def test_an_interrupt_while_a_plan_is_made(norm: nn.Module, monkeypatch: Any) -> None:
    """Later calls of the kind take C all the same."""
    x, made = torch.randn(5, 6, dtype=torch.float64), []

    def interrupted(*args: Any) -> Any:
        made.append(args)
        if len(made) == 1:
            raise KeyboardInterrupt
        return plans.encode_forward(*args)

    monkeypatch.setattr(path, "encode_forward", interrupted)
    module = norm.double()
    with pytest.raises(KeyboardInterrupt):
        module(x)
    module(x)
    assert len(made) == 2


def test_whole_numbers_for_momenta(library: ModuleType, monkeypatch: Any) -> None:
    module, x = library.BatchNorm(4, momentum=1), torch.randn(3, 4)
    module(x)
    (function,) = [f for f in functions(module) if f._entry is not None]
    monkeypatch.setattr(function, "_plan_caches", {})  # where Python would fail
    module(x)
    torch.testing.assert_close(module.running_mean, x.mean(0))


@pytest.mark.filterwarnings("ignore")  # what torch's own compiler warns of is not ours
def test_compiled_autograd(norm: nn.Module) -> None:
    """It follows the backward pass of nodes, which has to be in Python for that."""
    from torch._dynamo import compiled_autograd

    x = torch.randn(3, 6, requires_grad=True)
    (right,) = torch.autograd.grad(norm(x).sin().sum(), x)
    with compiled_autograd._enable(torch.compile(backend="eager")):
        norm(x).sin().sum().backward()
    torch.testing.assert_close(x.grad, right)


# ---- sanitizers


def sanitized(
    place: Path, library: str, flags: str, files: Sequence[str], chosen: str, **environment: str
) -> tuple[bool, str]:
    """Whether tests pass in a Python that has a sanitizer from the start, for the libraries that it
    loads, and all that was said.

    With the library of C++, which would come too late for the exceptions of torch otherwise.
    """
    libraries = [
        subprocess.run(
            [CC, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in (library, "libstdc++.so")
    ]
    settings = {
        **os.environ,
        **environment,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python and torch leave much behind
        "METANORM_CACHE": str(place),
        "METANORM_CFLAGS": f"-O1 -g {flags}",
    }
    paths = [str(Path(__file__).with_name(name)) for name in files]
    # Many tests, each several times as slow as elsewhere, beside what else the machine does.
    done = subprocess.run(  # without capture: what a sanitizer says would be lost with the process
        [sys.executable, "-m", "pytest", "-s", "-p", "no:xdist", "-k", chosen, *paths],
        env=settings, capture_output=True, text=True, cwd=ROOT, timeout=6 * HANGS,
    )  # fmt: skip
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.extended
def test_memory_and_arithmetic(tmp_path: Path) -> None:
    passed, said = sanitized(
        tmp_path,
        "libasan.so",
        "-fsanitize=address,undefined -fno-sanitize-recover=undefined",
        ("test_call_path.py", "test_call_path_bits.py"),
        "layers or hooks or checkpoint or freed or kinds or lengths or nobody or needs or labels",
    )
    assert passed and "Sanitizer" not in said and "runtime error" not in said, said


@pytest.mark.extended
def test_threads_of_python_do_not_race(tmp_path: Path) -> None:
    """Kernels run without the lock of the interpreter, plans are added with it."""
    tests = ("test_threads.py",), "threads_of_python or use_holds"
    passed, said = sanitized(
        tmp_path, "libtsan.so", "-fsanitize=thread", *tests, OMP_NUM_THREADS="1"
    )
    assert passed and "ThreadSanitizer" not in said, said
    # The sanitizer sees what they do: barriers of OpenMP, which it does not know, look like races.
    _, said = sanitized(tmp_path, "libtsan.so", "-fsanitize=thread", *tests, OMP_NUM_THREADS="2")
    assert "ThreadSanitizer: data race" in said
