"""NVIDIA GPUs that releases have code for, and what one multiprocessor of each holds.

Limits are those of the CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
REGISTERS = 65536
"""32-bit registers of a multiprocessor, for all of them."""
RESERVED = 1024
"""Bytes of shared memory that each block takes beside its own."""


@dataclass(frozen=True, slots=True)
class Target:
    """One architecture, by the name that nvcc has for it without "sm_"."""

    name: str
    warps: int
    """Most warps on a multiprocessor."""
    blocks: int
    """Most blocks on a multiprocessor."""
    shared: int
    """KiB of shared memory that blocks share; one block gets 1 KiB less at most."""

    def resident_warps(self, threads: int, registers: int, shared: int) -> int:
        """Warps that a multiprocessor runs at once, of blocks with `shared` bytes each; 0 when not one block fits.

        Registers are given out in 256 a warp, warps in fours.
        """
        warps = -(-threads // WARP)
        bytes_a_block = shared + RESERVED
        by_registers = REGISTERS // (-(-registers // 8) * 8 * WARP) // 4 * 4 // warps
        by_shared = self.shared * 1024 // bytes_a_block
        return min(self.warps // warps, self.blocks, by_registers, by_shared) * warps


TARGETS = {
    target.name: target
    for target in (
        Target("80", 64, 32, 164),
        Target("86", 48, 16, 100),
        Target("89", 48, 24, 100),
        Target("90a", 64, 32, 228),
        Target("100a", 64, 32, 228),
        Target("120a", 48, 24, 100),
    )
}
PTX = "90"
"""What the driver compiles for GPUs that are not in the list. compute_90 and not 120, since sm_103 and sm_110 run only
PTX of lower numbers, and not 80, since that has no mma of e4m3."""


def cmake_list() -> str:
    """All targets and the PTX, as CMAKE_CUDA_ARCHITECTURES wants them."""
    return ";".join([*(f"{name}-real" for name in TARGETS), f"{PTX}-virtual"])
