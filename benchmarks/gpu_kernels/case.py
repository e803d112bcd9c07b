"""What a kernel has to do at one shape: the bytes and operations that it cannot do without, and how it is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .library import Kernels

BF16_ROUNDING = 2.0**-7
"""Of one rounding to bf16, relative to the value, with as much again for a sum in another order."""


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
    {"bf16": 989.4e12, "fp8": 1978.9e12, "int8": 1978.9e12, "fp32": 66.9e12, "fp64": 33.5e12},
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


class Setup:
    """Makes inputs, the same for the same seed on every device."""

    def __init__(self, kernels: Kernels, seed: int = 0) -> None:
        import torch

        self.torch: Any = torch
        self.kernels = kernels
        self._generator = torch.Generator(device="cpu").manual_seed(seed)

    def normal(self, *shape: int, scale: float = 1.0, dtype: str = "bfloat16") -> Any:
        """Random numbers of a normal distribution."""
        if self.kernels.device == "cpu":
            values = self.torch.randn(shape, generator=self._generator)
        else:  # made where they are wanted: weights of a mixture are gigabytes
            seed = int(self.torch.randint(2**31, (1,), generator=self._generator))
            generator = self.torch.Generator(device=self.kernels.device).manual_seed(seed)
            values = self.torch.randn(shape, generator=generator, device=self.kernels.device)
        return (values * scale).to(getattr(self.torch, dtype))

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

    def output(self, *shape: int, dtype: str = "bfloat16") -> Any:
        """An output that nobody wrote yet: NaNs, or the largest number of a whole type."""
        kind = getattr(self.torch, dtype)
        tensor = self.torch.empty(shape, dtype=kind, device=self.kernels.device)
        if kind.is_floating_point:
            return tensor.copy_(self.torch.full((), float("nan"), device=self.kernels.device).expand(shape))
        return tensor.fill_(self.torch.iinfo(kind).max)

    def difference(
        self,
        name: str,
        got: Any,
        wanted: Any,
        relative: float = BF16_ROUNDING,
        absolute: float = 1e-3,
        units: float = 0.0,
    ) -> str:
        """Empty if each value is within `relative` of its size, `absolute` of the root mean square, and `units`."""
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
