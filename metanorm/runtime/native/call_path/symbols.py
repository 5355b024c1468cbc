"""The symbols and offsets that the call path in C uses of torch and of Python, each verified.

Most symbols are torch's stable C interface. What is not documented, such as the offset of the
`TensorImpl` in a Python tensor, is compared with what torch reports in Python. If anything differs
or is missing, `Unverified` says what, and calls stay on the path through Python.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.utils._python_dispatch import TorchDispatchMode

from metanorm.runtime.backends import BackendChoice
from metanorm.runtime.native.calls import runs

INT = ctypes.c_int64
POINTER = ctypes.c_void_p
HEADER = 16  # bytes before the fields of a Python object
MAX_OFFSET = 256  # bytes of an object that are searched for a word

# Functions by the library of torch that has them.
CPU = {
    "get_sizes": "aoti_torch_get_sizes",
    "get_strides": "aoti_torch_get_strides",
    "get_dim": "aoti_torch_get_dim",
    "get_dtype": "aoti_torch_get_dtype",
    "get_data_ptr": "aoti_torch_get_data_ptr",
    "get_storage_size": "aoti_torch_get_storage_size",
    "empty_strided": "aoti_torch_empty_strided",
    "delete_tensor": "aoti_torch_delete_tensor_object",
    "grad_mode_is_enabled": "aoti_torch_grad_mode_is_enabled",
    "record_start": "aoti_record_function_start",
    "record_end": "aoti_record_function_end",
    "bump_version": "_ZN5torch8autograd4impl12bump_versionERKN2at6TensorE",
    "get_num_threads": "_ZN2at15get_num_threadsEv",
    "transforms": "_ZN2at9functorch20getDynamicLayerStackEv",
    "tracing": "_ZN5torch3jit6tracer15getTracingStateEv",
    "profiling": "_ZN5torch8profiler4impl15profilerEnabledEv",
}
CORE = {
    "requires_grad": "_ZNK3c1010TensorImpl13requires_gradEv",
    "count_modes": "_ZN3c104impl20TorchDispatchModeTLS9stack_lenEv",
}
PYTHON = {"wrap": "_Z16THPVariable_WrapRKN2at10TensorBaseE"}
LIBRARIES = {"libtorch_cpu": CPU, "libc10": CORE, "libtorch_python": PYTHON}


class Unverified(Exception):
    """Something that the call path in C uses is missing here, or is not as expected."""


class Torch(ctypes.Structure):
    """The structure of this name in `call_path/torch.h`."""

    _fields_ = (
        *((name, INT) for name in ("type_at", "impl_at", "keys_at", "plain_keys")),
        *((name, POINTER) for name in ("tensor", "parameter", "int_", "float_", "tuple", "size")),
        *((name, POINTER) for name in (
            "get_sizes", "get_strides", "get_dim", "get_dtype", "get_data_ptr", "get_storage_size",
            "empty_strided", "delete_tensor", "grad_mode_is_enabled", "record_start", "record_end",
            "wrap", "bump_version", "requires_grad", "get_num_threads", "transforms", "count_modes",
            "tracing", "profiling", "get_context",
        )),
        *((name, POINTER) for name in ("backend", "automatic", "native", "forward_ad", "runs")),
    )  # fmt: skip


def verified(
    backend: ContextVar[BackendChoice], allowing: tuple[BackendChoice, BackendChoice]
) -> Torch:
    """The symbols and offsets of this process; raises `Unverified`.

    `backend` is the variable behind `runtime.use`, and `allowing` has its values that allow this
    path. The checks run in a thread of their own: modes that surround the first call of a process,
    such as inference mode, hold in the thread of that call alone.
    """
    _demand_interpreter()
    if not isinstance(getattr(forward_ad, "_current_level", None), int):
        raise Unverified(f"torch {torch.__version__} counts levels of forward mode elsewhere")
    try:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(_find_and_check, backend, allowing).result()
    except RuntimeError as error:  # no thread can be started any more, or torch refuses something
        raise Unverified(f"torch cannot be tried out: {error}") from error


def _find_and_check(
    backend: ContextVar[BackendChoice], allowing: tuple[BackendChoice, BackendChoice]
) -> Torch:
    torch_ = Torch()
    for library, functions in LIBRARIES.items():
        _look_up(torch_, library, functions)
    torch_.get_context = _address(ctypes.pythonapi, "PyContextVar_Get")
    _find_offsets(torch_)
    _check_functions(torch_)
    torch_.plain_keys = dispatch_keys(torch.empty(1, device="cpu"))
    pointers = {
        "tensor": Tensor, "parameter": Parameter, "int_": int, "float_": float, "tuple": tuple,
        "size": torch.Size, "backend": backend, "automatic": allowing[0], "native": allowing[1],
        "forward_ad": forward_ad.__dict__,
    }  # fmt: skip
    torch_.runs = ctypes.addressof(runs)
    for name, value in pointers.items():  # these objects live as long as the process
        setattr(torch_, name, id(value))
    return torch_


def dispatch_keys(tensor: Tensor) -> int:
    """The dispatch keys of a tensor, as the bits of a signed word."""
    raw: int = torch._C._dispatch_keys(tensor).raw_repr()
    return raw - (1 << 64) if raw >= 1 << 63 else raw


def _demand_interpreter() -> None:
    """Raise `Unverified` for an interpreter whose objects have another layout."""
    if sys.implementation.name != "cpython":
        raise Unverified(f"Python is {sys.implementation.name}, not CPython")
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        raise Unverified("Python runs without its global interpreter lock")
    if object.__basicsize__ != HEADER:
        raise Unverified("the objects of this Python have another header")
    if sys.platform == "win32":
        raise Unverified("C++ functions have other names on Windows")


def _look_up(torch_: Torch, library: str, functions: dict[str, str]) -> None:
    suffix = "dylib" if sys.platform == "darwin" else "so"
    path = Path(torch.__file__).parent / "lib" / f"{library}.{suffix}"
    try:
        handle = ctypes.CDLL(str(path))
    except OSError as error:
        raise Unverified(f"torch's library {library} cannot be loaded: {error}") from None
    for name, symbol in functions.items():
        setattr(torch_, name, _address(handle, symbol))


def _address(library: ctypes.CDLL, symbol: str) -> int:
    try:
        return ctypes.cast(getattr(library, symbol), POINTER).value or 0
    except AttributeError:
        raise Unverified(f"torch {torch.__version__} has no function {symbol}") from None


def _find_offsets(torch_: Torch) -> None:
    """Find the offsets of the words that C reads, each the same in several objects."""
    tensors = [
        torch.empty(3, device="cpu"),
        torch.empty(2, 2, dtype=torch.float64, device="cpu"),
        Parameter(torch.empty(1, device="cpu")),
    ]
    unusual = [
        torch.empty(2, device="meta"),
        torch.empty(2, dtype=torch.complex64, device="cpu").conj(),
        torch.empty(2, device="cpu")._neg_view(),
    ]
    with torch.inference_mode():
        unusual.append(torch.empty(1, device="cpu"))
    keyed = (*tensors, *unusual)
    torch_.type_at = _common_offset(
        "the type of an object", [(id(x), id(type(x))) for x in tensors]
    )
    torch_.impl_at = _common_offset(
        "the TensorImpl of a tensor", [(id(x), x._cdata) for x in keyed]
    )
    torch_.keys_at = _common_offset(
        "the dispatch keys of a tensor", [(x._cdata, dispatch_keys(x)) for x in keyed]
    )


def _common_offset(what: str, words: Sequence[tuple[int, int]]) -> int:
    """The offset from each of these addresses at which its word is. Raises `Unverified`."""
    for offset in range(0, MAX_OFFSET, 8):
        if all(INT.from_address(start + offset).value == word for start, word in words):
            return offset
    raise Unverified(f"{what} is not where torch {torch.__version__} is known to have it")


def _check_functions(torch_: Torch) -> None:
    """Compare undocumented functions with what torch reports in Python. Raises `Unverified`."""

    def function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        # Not CFUNCTYPE, which would let go of the interpreter's lock.
        return ctypes.PYFUNCTYPE(result, *arguments)(getattr(torch_, name))

    def demand(holds: bool, name: str) -> None:
        if not holds:
            raise Unverified(f"torch {torch.__version__} has another function {name}")

    x, parameter = torch.zeros(2, 3, device="cpu"), Parameter(torch.empty(1, device="cpu"))
    handle = id(x) + torch_.impl_at
    demand(function("wrap", ctypes.py_object, POINTER)(handle) is x, "THPVariable_Wrap")
    before = x._version
    function("bump_version", None, POINTER)(handle)
    demand(x._version == before + 1, "bump_version")
    requires_grad = function("requires_grad", ctypes.c_bool, POINTER)
    demand(not requires_grad(x._cdata) and requires_grad(parameter._cdata), "requires_grad")
    threads = function("get_num_threads", ctypes.c_int)
    demand(threads() == torch.get_num_threads(), "get_num_threads")
    transforms = function("transforms", POINTER)
    modes = function("count_modes", INT)
    tracing = function("tracing", POINTER)

    def transformed() -> bool:
        vector = transforms()
        return INT.from_address(vector).value != INT.from_address(vector + 8).value

    demand(transformed() == _is_transformed(), "getDynamicLayerStack")
    with _vmap():
        demand(transformed(), "getDynamicLayerStack")
    demand(modes() == torch._C._len_torch_dispatch_stack(), "stack_len")
    with _IdleMode():  # type: ignore[no-untyped-call]
        demand(modes() == torch._C._len_torch_dispatch_stack(), "stack_len")
    state = INT.from_address(tracing()).value
    demand((state != 0) == (torch._C._get_tracing_state() is not None), "getTracingState")


class _IdleMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode that does nothing."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


def _is_transformed() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None


@contextmanager
def _vmap() -> Iterator[None]:
    """Enter one level of `torch.func.vmap`."""
    torch._C._functorch._vmap_increment_nesting(1, "error")
    try:
        yield
    finally:
        torch._C._functorch._vmap_decrement_nesting()
