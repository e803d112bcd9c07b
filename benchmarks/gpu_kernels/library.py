"""The kernels behind C functions (launch.cu), called with tensors."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pageform.platform.backends import BACKEND_PATH

DEVICES = ("cuda", "hip", "simt")
WHOLE_NUMBERS = {"pf_all_reduce_flags", "pf_attention_partials", "pf_packed_bytes", "pf_moe_scratch"}
"""Functions that return a size instead of whether they failed."""


class Unavailable(Exception):
    """Why the kernels of a device cannot be run here."""


class KernelFailure(Exception):
    """A kernel refused its arguments, or the device failed."""


class Struct:
    """A struct that a kernel takes by address; its fields may be tensors."""

    def __init__(self, kind: type[ctypes.Structure], **fields: Any) -> None:
        self.kind = kind
        self.fields = fields


class _Cache(ctypes.Structure):
    """The struct Cache of launch.cu."""

    _fields_ = (
        ("k", ctypes.c_void_p),
        ("v", ctypes.c_void_p),
        ("k_scales", ctypes.c_void_p),
        ("v_scales", ctypes.c_void_p),
        ("block_size", ctypes.c_int),
        ("kv_heads", ctypes.c_int),
        ("head_dim", ctypes.c_int),
    )


def cache_struct(k: Any, v: Any, scales: tuple[Any, Any] | None = None) -> Struct:
    """One layer: k and v [blocks, kv heads, block size, head dim], and their scales, which have no last dimension."""
    _, kv_heads, block_size, head_dim = k.shape
    k_scales, v_scales = scales or (None, None)
    sizes = {"block_size": block_size, "kv_heads": kv_heads, "head_dim": head_dim}
    return Struct(_Cache, k=k, v=v, k_scales=k_scales, v_scales=v_scales, **sizes)


def find(device: str) -> Path:
    """The library of a device, in the folders of PAGEFORM_BACKEND_PATH. Unavailable where there is none."""
    folders = [folder for folder in os.environ.get(BACKEND_PATH, "").split(os.pathsep) if folder]
    for folder in folders:
        if (path := Path(folder) / f"libgpu_kernels_{device}.so").exists():
            return path
    raise Unavailable(
        f"libgpu_kernels_{device}.so is not in the folders that {BACKEND_PATH} names ({', '.join(folders) or 'none'}). "
        f"Build it: cmake -S . -B build/{device} -DPAGEFORM_PYTHON=OFF -DPAGEFORM_BENCHMARKS=ON "
        f"-DPAGEFORM_{device.upper()}=ON && cmake --build build/{device} --target gpu_kernels_{device}, "
        f"then {BACKEND_PATH}=build/{device}/backends"
    )


class Kernels:
    """One device's kernels. Tensors live on `device` of torch: "cuda" for CUDA and HIP, "cpu" for the emulator.

    Unavailable where the library, or the device, is missing.
    """

    def __init__(self, name: str, index: int = 0) -> None:
        import torch

        if name != "simt" and not torch.cuda.is_available():
            raise Unavailable(f"torch {torch.__version__} sees no GPU, and the reference runs on it")
        self.name = name
        self.device = "cpu" if name == "simt" else f"cuda:{index}"
        self._library = ctypes.CDLL(str(find(name)))
        for text in ("pf_kernels_error", "pf_kernels_describe"):
            getattr(self._library, text).restype = ctypes.c_char_p
        self._library.pf_kernels_stream.restype = ctypes.c_void_p
        self._bench = ctypes.c_void_p()
        if self._library.pf_kernels_open(index, ctypes.byref(self._bench)):
            raise Unavailable(self._error())

    def close(self) -> None:
        """Gives the device back. Nothing may be called afterwards."""
        self._library.pf_kernels_close(self._bench)

    def _error(self) -> str:
        text: bytes = self._library.pf_kernels_error()
        return text.decode()

    def describe(self) -> str:
        text: bytes = self._library.pf_kernels_describe(self._bench)
        return text.decode()

    @property
    def stream(self) -> int:
        """The handle of the stream that everything is launched in."""
        return int(self._library.pf_kernels_stream(self._bench) or 0)

    @property
    def have_mma(self) -> bool:
        return bool(self._library.pf_kernels_have_mma())

    @property
    def have_fp8_mma(self) -> bool:
        return bool(self._library.pf_kernels_have_fp8_mma())

    def launch(self, function: str, *arguments: Any) -> None:
        """Launches a kernel in the stream; KernelFailure with its words when it refuses."""
        with _Addresses(self) as addresses:
            self.call(function, *[_converted(argument, addresses) for argument in arguments])

    def call(self, function: str, *arguments: Any) -> None:
        """Calls a function with the device and C values; KernelFailure when it fails."""
        if getattr(self._library, function)(self._bench, *arguments):
            raise KernelFailure(f"{function}: {self._error()}")

    def ask(self, function: str, *arguments: Any) -> int:
        """What a function of the host returns; its tensors are the host's."""
        call = getattr(self._library, function)
        call.restype = ctypes.c_int64 if function in WHOLE_NUMBERS else ctypes.c_int
        answer = int(call(*[_converted(argument, _address) for argument in arguments]))
        if function not in WHOLE_NUMBERS and answer:
            raise KernelFailure(f"{function}: {self._error()}")
        return answer

    def wait_for_torch(self) -> None:
        """Waits for torch's own streams, in which inputs are made."""
        import torch

        if self.device != "cpu":
            torch.cuda.synchronize()

    def synchronize(self) -> None:
        """Waits for everything that was launched; KernelFailure with the driver's words when some of it failed."""
        if self._library.pf_kernels_synchronize(self._bench):
            raise KernelFailure(self._error())


class _Addresses:
    """Where tensors lie on the device. The emulator can't read the host's memory: it gets copies, which come back."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self._copies: dict[int, tuple[Any, ctypes.c_void_p]] = {}

    def __enter__(self) -> _Addresses:
        return self

    def __call__(self, tensor: Any) -> int | None:
        host = _address(tensor)
        if self._kernels.name != "simt" or host is None:
            return host
        if host not in self._copies:
            memory = ctypes.c_void_p()
            self._kernels.call("pf_kernels_allocate", ctypes.c_int64(tensor.nbytes), ctypes.byref(memory))
            self._copies[host] = tensor, memory
            self._copy("pf_kernels_copy_in", memory, ctypes.c_void_p(host), tensor)
        return self._copies[host][1].value

    def _copy(self, function: str, to: ctypes.c_void_p, source: ctypes.c_void_p, tensor: Any) -> None:
        self._kernels.call(function, to, source, ctypes.c_int64(tensor.nbytes))

    def __exit__(self, *failure: object) -> None:
        for host, (tensor, memory) in self._copies.items():
            self._copy("pf_kernels_copy_out", ctypes.c_void_p(host), memory, tensor)
            self._kernels.call("pf_kernels_release", memory)


def _address(tensor: Any) -> int | None:
    if not tensor.is_contiguous():
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} is not contiguous")
    return int(tensor.data_ptr()) or None  # an empty tensor has none


def _converted(argument: Any, address: Callable[[Any], int | None]) -> Any:
    """As C wants it; a whole number has 64 bits, of which a function takes what it needs."""
    if argument is None:
        return ctypes.c_void_p()
    if isinstance(argument, str):
        return argument.encode()
    if isinstance(argument, bool):
        return ctypes.c_bool(argument)
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    if isinstance(argument, Struct):
        fields = {name: address(part) if hasattr(part, "data_ptr") else part for name, part in argument.fields.items()}
        return ctypes.byref(argument.kind(**fields))
    return ctypes.c_void_p(address(argument))
