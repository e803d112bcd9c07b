"""What a kernel has to do at one shape: the bytes and operations that it cannot do without, and how it is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .library import Kernels

TYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}
"""Of activations, and what torch calls them."""
BYTES = {"bf16": 2, "f16": 2, "f32": 4, "e4m3": 1, "int8": 1}
ROUNDING = {"bf16": 2.0**-7, "f16": 2.0**-10, "f32": 2.0**-17}
"""Of one rounding, relative to the value, with as much again for a sum in another order."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """What a GPU can do at most, by its maker's data sheet, without sparsity."""

    name: str
    bandwidth: float
    """Bytes a second."""
    rates: dict[str, float]
    """Operations a second, a multiplication and an addition counting as two."""


H100 = Peaks(
    "H100 SXM5 80 GB",
    3.35e12,
    {"bf16": 989.4e12, "f16": 989.4e12, "fp8": 1978.9e12, "int8": 1978.9e12, "fp32": 66.9e12, "fp64": 33.5e12},
)


@dataclass(slots=True)
class Trial:
    """A case with its inputs on the device. Outputs hold NaNs, or what cannot come out, until it is launched."""

    launch: Callable[[], None]
    check: Callable[[], str]
    """How the output differs from the reference; empty where it does not."""
    peers: dict[str, Callable[[], object]] = field(default_factory=dict)
    """What others do instead, by name. Taken where a GPU is there."""


@dataclass(frozen=True, slots=True)
class Case:
    kernel: str
    shape: str
    bytes: int
    """Read and written in the device's memory, each thing once."""
    flops: int
    rate: str
    """Which of Peaks.rates holds for the operations."""
    prepare: Callable[[Setup], Trial]
    needs_mma: bool = False
    needs_fp8: bool = False
    type: str = "bf16"
    """Of activations."""

    def seconds(self, peaks: Peaks) -> float:
        """The least that the case can take: its bytes or its operations alone, whichever is slower."""
        return max(self.bytes / peaks.bandwidth, self.flops / peaks.rates[self.rate])

    def bound(self, peaks: Peaks) -> str:
        by_memory = self.bytes / peaks.bandwidth >= self.flops / peaks.rates[self.rate]
        return "memory" if by_memory else self.rate

    def lacks(self, kernels: Kernels) -> str:
        """Why the device has no such kernel; empty where it has."""
        if self.needs_mma and not kernels.have_mma:
            return "no tensor-core tiles for this device"
        if self.needs_fp8 and not kernels.have_fp8_mma:
            return "no tensor cores for e4m3 on this device"
        return ""


def of_type(kernel: str, type: str) -> str:
    """A kernel's name, with the type of activations where that is not bf16."""
    return kernel if type == "bf16" else f"{kernel}, {type}"


class Setup:
    """Makes inputs, the same for the same seed on every device."""

    def __init__(self, kernels: Kernels, seed: int = 0, type: str = "bf16") -> None:
        import torch

        self.torch: Any = torch
        self.kernels = kernels
        self.type = type
        self.dtype = TYPES[type]
        self._generator = torch.Generator(device="cpu").manual_seed(seed)

    def normal(self, *shape: int, scale: float = 1.0, dtype: str = "") -> Any:
        """Random numbers of a normal distribution, of the activations' type if none is given."""
        if self.kernels.device == "cpu":
            values = self.torch.randn(shape, generator=self._generator)
        else:  # made where they are wanted: weights of a mixture are gigabytes
            seed = int(self.torch.randint(2**31, (1,), generator=self._generator))
            generator = self.torch.Generator(device=self.kernels.device).manual_seed(seed)
            values = self.torch.randn(shape, generator=generator, device=self.kernels.device)
        return (values * scale).to(getattr(self.torch, dtype or self.dtype))

    def rounded(self, values: Any) -> Any:
        """As the type of activations."""
        return values.to(getattr(self.torch, self.dtype))

    def whole(self, low: int, high: int, *shape: int, dtype: str = "int32") -> Any:
        """Random whole numbers of low ... high - 1."""
        values = self.torch.randint(low, high, shape, generator=self._generator)
        return values.to(getattr(self.torch, dtype)).to(self.kernels.device)

    def shuffled(self, count: int) -> Any:
        """0 ... count - 1 in any order."""
        order = self.torch.randperm(count, generator=self._generator)
        return order.to(self.torch.int32).to(self.kernels.device)

    def numbers(self, values: list[int] | list[list[int]]) -> Any:
        return self.torch.tensor(values, dtype=self.torch.int32, device=self.kernels.device)

    def output(self, *shape: int, dtype: str = "") -> Any:
        """An output that nobody wrote yet: NaNs, or the largest number of a whole type."""
        kind = getattr(self.torch, dtype or self.dtype)
        tensor = self.torch.empty(shape, dtype=kind, device=self.kernels.device)
        if kind.is_floating_point:
            return tensor.copy_(self.torch.full((), float("nan"), device=self.kernels.device).expand(shape))
        return tensor.fill_(self.torch.iinfo(kind).max)

    def difference(
        self,
        name: str,
        got: Any,
        wanted: Any,
        relative: float | None = None,
        absolute: float = 1e-3,
        units: float = 0.0,
    ) -> str:
        """Empty if each value is within `relative` of its size, `absolute` of the root mean square, and `units`.

        Without `relative` it is a rounding of the activations' type.
        """
        relative = ROUNDING[self.type] if relative is None else relative
        got, wanted = got.double(), wanted.double()
        allowed = relative * wanted.abs() + absolute * wanted.square().mean().sqrt() + units
        wrong = ~((got - wanted).abs() <= allowed)  # NaN is wrong
        count = int(wrong.sum())
        if count == 0:
            return ""
        place = tuple(int(i) for i in wrong.nonzero()[0])
        at = f"{name}{list(place)} is {float(got[place]):.6g}, not {float(wanted[place]):.6g}"
        return f"{at}; {count} of {wrong.numel()} differ"

    def unequal(self, name: str, got: Any, wanted: Any) -> str:
        """Empty if all are the same."""
        return self.difference(name, got, wanted, relative=0.0, absolute=0.0)
