"""Safetensors checkpoints as transformers saves them, for each model family, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from pageform.core.errors import ModelFileError
from pageform.weights import open_checkpoint
from pageform.weights.config_hf import config_from_hf
from pageform.weights.rope import inv_freq
from pageform.weights.safetensors import SafetensorsCheckpoint

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"attention_bias": True, "mlp_bias": True}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 16, "head_dim": 16}),
    "qwen2": (
        Qwen2Config,
        Qwen2ForCausalLM,
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2, "tie_word_embeddings": True},
    ),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 12}),
}


def tiny(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    config, model, extra = FAMILIES[family]
    torch.manual_seed(0)
    return model(config(**SIZES | extra)).to(dtype)


@pytest.fixture(params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def check_same_tensors(checkpoint: SafetensorsCheckpoint, model: PreTrainedModel) -> None:
    kinds = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
    for name, values in model.named_parameters():  # yields tied tensors once
        ref = checkpoint.require(name, tuple(values.shape))
        assert ref.format == kinds[values.dtype]
        np.testing.assert_array_equal(checkpoint.numpy(name), values.detach().float().numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_saved_models_are_read(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    model = tiny(family, dtype)
    model.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert isinstance(checkpoint, SafetensorsCheckpoint)
    check_same_tensors(checkpoint, model)


def test_configs_equal_transformers(tmp_path: Path, family: str) -> None:
    model = tiny(family)
    model.save_pretrained(tmp_path)
    ours, theirs = SafetensorsCheckpoint(tmp_path).config, model.config
    assert ours.architecture == family
    assert ours.vocab_size == theirs.vocab_size
    assert ours.intermediate_size == theirs.intermediate_size
    assert ours.num_layers == theirs.num_hidden_layers
    assert ours.num_kv_heads == theirs.num_key_value_heads
    assert ours.head_dim == getattr(theirs, "head_dim", 8)
    assert ours.rms_norm_eps == theirs.rms_norm_eps
    assert ours.rope.theta == theirs.rope_parameters["rope_theta"]
    assert not ours.rope.interleaved
    assert ours.tie_word_embeddings == theirs.tie_word_embeddings
    assert (ours.bos_id, ours.eos_ids) == (1, (2,))
    names = dict(model.named_parameters())
    prefix = "model.layers.0."
    assert ours.attention_bias == (prefix + "self_attn.q_proj.bias" in names)
    assert ours.output_bias == (prefix + "self_attn.o_proj.bias" in names)
    assert ours.mlp_bias == (prefix + "mlp.down_proj.bias" in names)
    assert ours.qk_norm == (prefix + "self_attn.q_norm.weight" in names)
    windows = {"llama": (0, 0, 0), "mistral": (16, 16, 16), "qwen2": (0, 0, 8), "qwen3": (0, 0, 0)}
    assert ours.windows == windows[family]


def test_sharded_models_are_read(tmp_path: Path) -> None:
    model = tiny("llama")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    check_same_tensors(SafetensorsCheckpoint(tmp_path), model)


def test_a_single_file_is_read_with_its_neighbours(tmp_path: Path) -> None:
    model = tiny("qwen3")
    model.save_pretrained(tmp_path)
    check_same_tensors(open_checkpoint(tmp_path / "model.safetensors"), model)  # type: ignore[arg-type]


def test_eos_ids_of_generation_config_come_first(tmp_path: Path) -> None:
    tiny("llama").save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 2], "bos_token_id": 3}')
    config = SafetensorsCheckpoint(tmp_path).config
    assert (config.bos_id, config.eos_ids) == (3, (7, 2))


def test_mistral_window_default_differs_from_null() -> None:
    raw = SIZES | {"model_type": "mistral"}
    assert config_from_hf("c", raw, {}).windows == (4096, 4096, 4096)
    assert config_from_hf("c", raw | {"sliding_window": None}, {}).windows == (0, 0, 0)


def test_layer_types_of_newer_configs() -> None:
    raw = SIZES | {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 5}
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    assert config_from_hf("c", raw | {"layer_types": kinds}, {}).windows == (5, 0, 5)
    for bad in (kinds[:2], "abc", [*kinds[:2], "linear_attention"], [1, 2, 3]):
        with pytest.raises(ModelFileError, match="layer_types"):
            config_from_hf("c", raw | {"layer_types": bad}, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gemma3"}, "'gemma3' is not supported.*llama, mistral, mixtral, qwen2, qwen3"),
        ({"model_type": None}, "model_type=None is missing"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"hidden_size": "32"}, "hidden_size='32'"),
        ({"num_attention_heads": 0}, "num_attention_heads=0"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers=1000000000"),
        ({"num_key_value_heads": 3}, "can't share 3"),
        ({"vocab_size": True}, "vocab_size=True"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps='small'"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings=1"),
        ({"eos_token_id": [2, 96]}, "eos_token_id"),
        ({"eos_token_id": "2"}, "eos_token_id"),
        ({"model_type": "mixtral", "num_local_experts": 5000}, "num_local_experts=5000"),
        ({"model_type": "mixtral", "num_experts_per_tok": 9}, "can't take 9 of 8 experts"),
        ({"model_type": "qwen2_moe"}, "'qwen2_moe' is not supported"),
        ({"model_type": "qwen3_moe"}, "moe_intermediate_size=None is missing"),
        ({"model_type": "qwen3_moe", "mlp_only_layers": [1]}, r"mlp_only_layers=\[1\] is not supported"),
        ({"model_type": "qwen3_moe", "decoder_sparse_step": 2}, "decoder_sparse_step=2 is not supported"),
    ],
)
def test_bad_configs_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        config_from_hf("config.json", SIZES | {"model_type": "llama"} | change, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
KEYS = [
    *SIZES,
    *("model_type", "rope_scaling", "rope_parameters", "rope_theta", "head_dim", "sliding_window", "layer_types"),
    *(
        "use_sliding_window",
        "max_window_layers",
        "hidden_act",
        "attention_bias",
        "rms_norm_eps",
        "partial_rotary_factor",
    ),
]


@settings(max_examples=300, deadline=None)
@given(family=st.sampled_from(sorted(FAMILIES)), changes=st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4))
def test_any_config_gives_a_config_or_a_typed_error(family: str, changes: dict[str, Any]) -> None:
    try:
        config = config_from_hf("config.json", SIZES | {"model_type": family} | changes, {})
    except ModelFileError:
        return
    assert len(config.windows) == config.num_layers
    assert config.num_heads % config.num_kv_heads == 0
    assert 2 <= config.rope.rot_dim <= config.head_dim
    frequencies, scale = inv_freq(config.rope, 100)
    assert len(frequencies) == config.rope.rot_dim // 2
    assert np.isfinite(frequencies).all()
    assert scale > 0


def folder_with(tmp_path: Path, **files: Any) -> Path:
    """A tiny llama folder; `files` replace (bytes, or JSON) or remove (None) some of its files."""
    tiny("llama").save_pretrained(tmp_path)
    for name, content in files.items():
        file = tmp_path / name.replace("__", ".")
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return tmp_path


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    index = "model.safetensors.index.json"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"config__json": None}, "config.json: it can't be read"),
        ({"config__json": b"{"}, "not valid JSON"),
        ({"config__json": b"[" * 100_000}, "not valid JSON"),
        ({"config__json": b"\xff"}, "not valid JSON"),
        ({"config__json": [1]}, "no JSON object"),
        ({"model__safetensors": None}, "no .safetensors file"),
        ({"model__safetensors": b""}, "the file is empty"),
        ({"model__safetensors": b"12345"}, "ends inside"),
        ({index: {"weight_map": {"a": "../../etc/passwd"}}}, "no plain file name"),
        ({index: {"weight_map": {"a": ".."}}}, "no plain file name|is missing"),
        ({index: {"weight_map": {"a": 3}}}, "no plain file name"),
        ({index: {"weight_map": {"a": "absent.safetensors"}}}, "absent.safetensors is missing"),
        ({index: {"weight_map": {"a": "model.safetensors"}}}, "1 of its tensors, such as a, are in no shard"),
        ({index: {}}, "no weight_map"),
    ]
    for number, (files, message) in enumerate(cases):
        with pytest.raises(ModelFileError, match=message):
            SafetensorsCheckpoint(folder_with(tmp_path / str(number), **files))


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    for length in [0, 7, 8, 9, *range(10, len(whole), len(whole) // 30), len(whole) - 1]:
        (folder / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            SafetensorsCheckpoint(folder)


def test_types_that_no_backend_packs_are_refused_when_used(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    save_file({"ids": np.arange(4), "ok": np.ones(2, np.float32)}, folder / "model.safetensors")
    checkpoint = SafetensorsCheckpoint(folder)
    with pytest.raises(ModelFileError, match="tensor ids is stored as I64"):
        checkpoint.require("ids")
    assert checkpoint.numpy("ok").tolist() == [1, 1]
