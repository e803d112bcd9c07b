"""What a checkpoint says about its model, independent of the file format."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.errors import ModelFileError
from .rope import DynamicNtkScaling, RopeConfig

SUPPORTED_ARCHITECTURES = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe")
"""Hugging Face `model_type`s; GGUF architectures map to the same names."""

MAX_LAYERS = 4096
"""More is taken for damage; it bounds what a hostile config can make us allocate."""

MAX_EXPERTS = 4096
"""Of a layer, likewise."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shape of a decoder-only model. Counts are whole numbers, ids index the vocabulary.

    `attention_bias` concerns the query, key and value projections, `output_bias` the attention output projection,
    `mlp_bias` the gate, up and down projections. `qk_norm`: each query and key head has its RMS norm. `windows[l]` is
    the attention window of layer l in tokens, 0 for full attention. With `num_experts` > 0 every layer's MLP is a
    mixture of so many experts of `intermediate_size` each, of which a token takes `experts_per_token`; their weights
    sum to one where `renormalize_experts`.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    max_position_embeddings: int
    rope: RopeConfig
    windows: tuple[int, ...]
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    num_experts: int = 0
    experts_per_token: int = 0
    renormalize_experts: bool = True
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = field(default=())

    def window_of(self, layer: int) -> int:
        """Attention window of a layer in tokens; 0 means full attention."""
        return self.windows[layer]

    def check(self, path: str) -> ModelConfig:
        """Self, after checking what relates several fields. Raises ModelFileError."""
        remedy = "Get an undamaged copy of the model."
        if self.num_heads % self.num_kv_heads != 0:
            reason = f"{self.num_heads} attention heads can't share {self.num_kv_heads} key-value heads evenly"
            raise ModelFileError(path, reason, remedy)
        if self.experts_per_token > self.num_experts:
            reason = f"a token can't take {self.experts_per_token} of {self.num_experts} experts"
            raise ModelFileError(path, reason, remedy)
        if self.rope.rot_dim % 2 != 0 or not 2 <= self.rope.rot_dim <= self.head_dim:
            reason = f"{self.rope.rot_dim} rotary dimensions are odd or exceed the head's {self.head_dim}"
            raise ModelFileError(path, reason, remedy)
        if isinstance(self.rope.scaling, DynamicNtkScaling) and self.rope.rot_dim == 2:
            raise ModelFileError(path, "dynamic RoPE scaling needs more than 2 rotary dimensions", remedy)
        return self


def unsupported_architecture(path: str, name: object) -> ModelFileError:
    known = ", ".join(SUPPORTED_ARCHITECTURES)
    return ModelFileError(path, f"model architecture {name!r} is not supported", f"Supported are {known}.")
