"""Checkpoints in a GGUF file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Checkpoint, TensorRef, TensorTable, read_float32
from .config_gguf import config_from_gguf
from .mapping import map_file, reading

if TYPE_CHECKING:
    from .._native import GgufFile

_GLOBAL_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LAYER_TENSOR = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")


def hf_name(gguf_name: str) -> str:
    """The Hugging Face name of a GGUF tensor; a name that has none is returned as it is."""
    stem, _, kind = gguf_name.rpartition(".")
    if stem in _GLOBAL_NAMES:
        return f"{_GLOBAL_NAMES[stem]}.{kind}"
    match = _LAYER_TENSOR.fullmatch(gguf_name)
    if match and match[2] in _LAYER_NAMES:
        return f"model.layers.{int(match[1])}.{_LAYER_NAMES[match[2]]}.{match[3]}"
    return gguf_name


class GgufMetadata(Mapping[str, Any]):
    """Metadata of a GGUF file. Values are decoded at each access, so a long array costs nothing until it is read."""

    def __init__(self, path: str, file: GgufFile) -> None:
        self._path = path
        self._file = file
        self._keys = dict.fromkeys(file.keys())

    def __getitem__(self, key: str) -> Any:
        with reading(self._path):
            return self._file.value(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys


class GgufCheckpoint(Checkpoint):
    """A model in one GGUF file: config, weights and tokenizer together."""

    def __init__(self, path: str | Path) -> None:
        from .._native import GgufFile

        self.path = Path(path)
        shown = str(path)
        mapped = map_file(self.path)
        with reading(shown):
            file = GgufFile(mapped)
            self.metadata = GgufMetadata(shown, file)
            rows = file.tensors()
        refs = {row[0]: TensorRef(hf_name(row[0]), row[2], row[1], mapped, row[3], row[4]) for row in rows}
        factors = refs.get("rope_freqs.weight")
        rope_factors = tuple(read_float32(shown, factors).ravel().tolist()) if factors is not None else None
        self.config = config_from_gguf(shown, self.metadata, refs.keys(), rope_factors)
        self.tensors = TensorTable(shown, {ref.name: ref for ref in refs.values()})

    @property
    def kind(self) -> str:
        return "gguf"
