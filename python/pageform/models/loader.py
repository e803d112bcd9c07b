"""Loads a model: records its program, packs the weights that the program asks for, and makes its runner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..platform import resolve_device
from ..runtime.program import Program, Recorder
from ..weights.rope import inv_freq
from . import record

if TYPE_CHECKING:
    from ..runtime.inputs import SamplingInputs
    from ..weights.checkpoint import Checkpoint, TensorRef
    from ..weights.config import ModelConfig

_DEQUANTIZE_ROWS = 4096
"""Rows dequantized at a time with dtype="float32": bounds the extra memory of loading."""


@dataclass(slots=True)
class LoadedModel:
    """A model ready to run on one device. Freed with its last reference.

    `runner.run(inputs, gate)` runs one step; see `runtime.inputs.StepInputs`.
    """

    config: ModelConfig
    program: Program
    runner: Any
    sampler: Any
    block_size: int
    num_blocks: int
    kv_bytes: int
    weight_bytes: int
    description: str
    gate_type: Any

    def sample(self, sampling: SamplingInputs, logits: NDArray[np.float32]) -> Any:
        """Samples given logits [rows, vocab] with the same native op that ends a step."""
        self.sampler.feed("logits", logits)
        return self.sampler.run(sampling.as_step(len(logits)), None)

    def mask_gate(self) -> Any:
        """A fresh gate between a mask thread and a step."""
        return self.gate_type()


def kv_block_bytes(config: ModelConfig, block_size: int, kv_dtype: str) -> int:
    """Bytes of one block: keys and values of `block_size` tokens in every layer."""
    element = {"float16": 2, "float32": 4}[kv_dtype]
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * block_size * element


def load_model(
    checkpoint: Checkpoint,
    *,
    device: str = "auto",
    threads: int | None = None,
    dtype: str = "auto",
    kv_dtype: str = "float16",
    num_blocks: int,
    block_size: int = 16,
    max_tokens: int = 512,
    max_seqs: int = 64,
    max_model_len: int | None = None,
) -> LoadedModel:
    """Packs `checkpoint` onto `device` for steps of at most `max_tokens` tokens of `max_seqs` sequences.

    dtype "auto" keeps the file's formats, "float32" dequantizes. Raises ModelFileError for missing or misshapen tensors.
    """
    raise NotImplementedError
