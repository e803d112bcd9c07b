"""Random weight matrices in the storage formats of files, with the values that the `gguf` package gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gguf
import numpy as np
import numpy.typing as npt

from pageform import _native

F32 = npt.NDArray[np.float32]

FLOAT_FORMATS = ("f32", "f16", "bf16")
BLOCK_COLS = {"q8_0": 32, "q4_0": 32, "q4_1": 32, "q4_k": 256, "q6_k": 256}
"""Quantized formats and the columns of a block."""
_HALVES = {"q8_0": (0,), "q4_0": (0,), "q4_1": (0, 2), "q4_k": (0, 2), "q6_k": (208,)}
"""Where fp16 scales lie in a block; every other byte is codes or integer scales, of which all patterns are legal."""


@dataclass
class StoredMatrix:
    """Parts of one weight, one after another along rows."""

    parts: list[tuple[bytes, int, int, int, int, str]]
    """As `_native.Device.pack` takes them."""
    values: F32
    """[N, K]"""

    def pack(self, device: _native.Device) -> _native.Weight:
        return device.pack(self.parts)


def stored_matrix(formats_and_rows: Sequence[tuple[str, int]], cols: int, seed: int) -> StoredMatrix:
    """A matrix of random blocks."""
    rng = np.random.default_rng(seed)
    parts, values = [], []
    for name, rows in formats_and_rows:
        qtype = gguf.GGMLQuantizationType[name.upper()]
        if name in FLOAT_FORMATS:
            stored = gguf.quants.quantize(rng.standard_normal((rows, cols), np.float32) * 0.1, qtype)
        else:
            stored = _random_blocks(name, qtype, rows, cols, rng)
        data = stored.tobytes()
        parts.append((data, 0, len(data), rows, cols, name))
        values.append(gguf.quants.dequantize(stored, qtype).astype(np.float32))
    return StoredMatrix(parts, np.concatenate(values))


def _random_blocks(
    name: str, qtype: gguf.GGMLQuantizationType, rows: int, cols: int, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    block_cols, block_bytes = gguf.GGML_QUANT_SIZES[qtype]
    blocks = rng.integers(0, 256, (rows, cols // block_cols, block_bytes), np.uint8)
    for at in _HALVES[name]:
        scales = rng.uniform(-0.01, 0.01, blocks.shape[:2]).astype(np.float16)
        blocks[:, :, at : at + 2] = scales[..., None].view(np.uint8)
    return blocks.reshape(rows, -1)
