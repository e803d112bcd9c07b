"""Checkpoints in a GGUF file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelFileError
from .base import Checkpoint, TensorRef, TensorTable, read_float32
from .config_gguf import config_from_gguf
from .experts import EXPERT_NAMES, ExpertNames
from .mapping import map_file, reading

if TYPE_CHECKING:
    from .._native import GgufFile, StringTable

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
_EXPERT_TENSOR = re.compile(r"blk\.(\d+)\.ffn_(gate_inp|gate_exps|up_exps|down_exps)\.weight")
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


def _with_experts(
    refs: Mapping[str, TensorRef], names: ExpertNames, num_experts: int, path: str
) -> Iterator[TensorRef]:
    """`refs` by GGUF name; one tensor for all experts of a layer, [experts, rows, columns], becomes one for each."""
    for gguf_name, ref in refs.items():
        match = _EXPERT_TENSOR.fullmatch(gguf_name)
        if match is None:
            yield ref
        elif match[2] == "gate_inp":
            yield replace(ref, name=names.router(int(match[1])))
        elif len(ref.shape) != 3 or ref.shape[0] != num_experts:
            reason = f"tensor {gguf_name} has the shape {ref.shape}, but there are {num_experts} experts"
            raise ModelFileError(path, reason, "Get an undamaged copy of the model.")
        else:
            size = ref.nbytes // num_experts
            part = match[2].removesuffix("_exps")
            for expert in range(num_experts):
                name = names.projection(int(match[1]), expert, part)
                yield replace(ref, name=name, shape=ref.shape[1:], offset=ref.offset + expert * size, nbytes=size)


class GgufMetadata(Mapping[str, Any]):
    """Metadata of a GGUF file. Values are decoded at each access, so a long array costs nothing until it is read."""

    def __init__(self, path: str, file: GgufFile) -> None:
        self._path = path
        self._file = file
        self._keys = dict.fromkeys(file.keys())

    def __getitem__(self, key: str) -> Any:
        with reading(self._path):
            return self._file.value(key)

    def strings(self, key: str) -> StringTable | None:
        """An array of strings that become Python's one by one, when asked for; None if the value is no such array."""
        with reading(self._path):
            return self._file.strings(key) if key in self._keys else None

    def unlike(self, key: str, usual: int) -> tuple[int, dict[int, int]] | None:
        """Of an array of 32-bit integers its length and the {index: value} that are not `usual`; None as above."""
        with reading(self._path):
            return self._file.unlike(key, usual) if key in self._keys else None

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
        rope_factors = tuple(read_float32(shown, factors)) if factors is not None else None
        self.config = config_from_gguf(shown, self.metadata, refs.keys(), rope_factors)
        names = EXPERT_NAMES.get(self.config.architecture) if self.config.num_experts else None
        named = refs.values() if names is None else _with_experts(refs, names, self.config.num_experts, shown)
        self.tensors = TensorTable(shown, {ref.name: ref for ref in named})

    @property
    def kind(self) -> str:
        return "gguf"
