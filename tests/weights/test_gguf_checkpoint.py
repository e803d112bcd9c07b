"""GGUF checkpoints: what `gguf` writes is what we read, and damaged files are refused."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from model_files import HIDDEN, INTER, KV_HEADS, LAYERS, VOCAB, gguf_tensors, write_gguf

from pageform.core.errors import ModelFileError
from pageform.weights import open_checkpoint
from pageform.weights.gguf import GgufCheckpoint, hf_name
from pageform.weights.rope import FrequencyFactors, LinearScaling, RopeConfig, YarnScaling, inv_freq

Kind = gguf.GGMLQuantizationType


def test_tensors_lie_where_the_file_has_them(tmp_path: Path) -> None:
    tensors = gguf_tensors()
    formats = {
        "token_embd.weight": Kind.Q8_0,
        "blk.0.attn_q.weight": Kind.Q4_0,
        "blk.0.attn_k.weight": Kind.Q4_1,
        "blk.1.ffn_up.weight": Kind.F16,
        "blk.1.ffn_gate.weight": Kind.BF16,
    }
    checkpoint = GgufCheckpoint(write_gguf(tmp_path / "m.gguf", tensors=tensors, formats=formats))
    assert len(checkpoint.tensors) == len(tensors)
    for name, values in tensors.items():
        kind = formats.get(name, Kind.F32)
        ref = checkpoint.require(hf_name(name), values.shape)
        assert (ref.name, ref.format) == (hf_name(name), kind.name)
        stored = bytes(memoryview(ref.buffer)[ref.offset : ref.offset + ref.nbytes])
        assert stored == gguf.quants.quantize(values, kind).tobytes()


def test_vectors_are_read_as_float32(tmp_path: Path) -> None:
    tensors = gguf_tensors()
    formats = {"blk.0.attn_norm.weight": Kind.F16, "blk.1.attn_norm.weight": Kind.BF16, "output.weight": Kind.Q8_0}
    checkpoint = GgufCheckpoint(write_gguf(tmp_path / "m.gguf", tensors=tensors, formats=formats))
    for name, tolerance in (("output_norm", 0), ("blk.0.attn_norm", 2**-11), ("blk.1.attn_norm", 2**-8)):
        values = checkpoint.numpy(hf_name(f"{name}.weight"))
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, tensors[f"{name}.weight"], rtol=tolerance)
    with pytest.raises(ModelFileError, match=r"lm_head.weight is stored as Q8_0.*unquantized"):
        checkpoint.numpy("lm_head.weight")


def test_tensor_names_follow_hugging_face() -> None:
    assert hf_name("token_embd.weight") == "model.embed_tokens.weight"
    assert hf_name("output_norm.weight") == "model.norm.weight"
    assert hf_name("output.weight") == "lm_head.weight"
    assert hf_name("blk.17.attn_q.bias") == "model.layers.17.self_attn.q_proj.bias"
    assert hf_name("blk.0.ffn_norm.weight") == "model.layers.0.post_attention_layernorm.weight"
    assert hf_name("blk.3.attn_q_norm.weight") == "model.layers.3.self_attn.q_norm.weight"
    assert hf_name("rope_freqs.weight") == "rope_freqs.weight"


def test_config_of_each_architecture(tmp_path: Path) -> None:
    tokens = {
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.eot_token_id": 5,
    }
    llama = GgufCheckpoint(write_gguf(tmp_path / "llama.gguf", extra=tokens)).config
    assert llama.architecture == "llama"
    assert (llama.vocab_size, llama.hidden_size, llama.num_layers) == (VOCAB, HIDDEN, LAYERS)
    assert (llama.num_kv_heads, llama.head_dim, llama.rope.rot_dim) == (KV_HEADS, 8, 8)
    assert llama.rms_norm_eps == pytest.approx(1e-5)
    assert llama.rope.interleaved
    assert (llama.bos_id, llama.eos_ids) == (1, (2, 5))
    assert (llama.tie_word_embeddings, llama.attention_bias, llama.qk_norm) == (False, False, False)
    assert llama.window_of(1) == 0

    tensors = gguf_tensors()
    del tensors["output.weight"]
    tensors |= {f"blk.{i}.attn_{x}.bias": np.zeros(32, np.float32) for i in range(LAYERS) for x in "qkv"}
    qwen2 = GgufCheckpoint(write_gguf(tmp_path / "qwen2.gguf", "qwen2", tensors)).config
    assert qwen2.attention_bias
    assert qwen2.tie_word_embeddings
    assert not qwen2.output_bias
    assert not qwen2.rope.interleaved

    tensors = gguf_tensors() | {f"blk.{i}.attn_{x}_norm.weight": np.ones(8, np.float32) for i in range(2) for x in "qk"}
    extra = {"qwen3.attention.key_length": 16, "qwen3.attention.value_length": 16, "qwen3.attention.sliding_window": 9}
    qwen3 = GgufCheckpoint(write_gguf(tmp_path / "qwen3.gguf", "qwen3", tensors, extra=extra)).config
    assert qwen3.qk_norm
    assert qwen3.head_dim == 16
    assert not qwen3.rope.interleaved
    assert qwen3.window_of(0) == 9


def test_vocab_size_falls_back_to_the_token_list(tmp_path: Path) -> None:
    tokens = {"tokenizer.ggml.tokens": [f"t{i}" for i in range(70)]}
    path = write_gguf(tmp_path / "m.gguf", extra=tokens, leave_out=("vocab_size",))
    assert GgufCheckpoint(path).config.vocab_size == 70


def test_rope_scaling(tmp_path: Path) -> None:
    def rope(tensors: dict[str, np.ndarray] | None = None, **extra: object) -> RopeConfig:
        keys = {f"llama.rope.{key.replace('__', '.')}": value for key, value in extra.items()}
        return GgufCheckpoint(write_gguf(tmp_path / "m.gguf", tensors=tensors, extra=keys)).config.rope

    assert rope(scaling__type="none").scaling is None
    assert rope(scaling__type="linear", scaling__factor=4.0).scaling == LinearScaling(4.0)
    yarn = rope(scaling__type="yarn", scaling__factor=4.0, scaling__original_context_length=64).scaling
    assert isinstance(yarn, YarnScaling)
    assert (yarn.factor, yarn.original_context) == (4.0, 64)
    assert yarn.attention_factor == pytest.approx(0.1 * np.log(4) + 1)

    factors = np.array([1, 2, 4, 8], np.float32)
    llama3 = rope(gguf_tensors() | {"rope_freqs.weight": factors})
    assert llama3.scaling == FrequencyFactors((1.0, 2.0, 4.0, 8.0))
    np.testing.assert_allclose(inv_freq(llama3, 128)[0], np.divide(inv_freq(rope(), 128)[0], factors), rtol=1e-6)
    with pytest.raises(ModelFileError, match=r"rope\.scaling\.type='longrope' is not supported"):
        rope(scaling__type="longrope")
    with pytest.raises(ModelFileError, match=r"does not fit 3 values"):
        rope(gguf_tensors() | {"rope_freqs.weight": factors[:3]})
    for bad in (0, np.nan, np.inf, -1):
        with pytest.raises(ModelFileError, match="unusable divisors"):
            rope(gguf_tensors() | {"rope_freqs.weight": np.array([1, bad, 1, 1], np.float32)})


def test_unsupported_quantization_names_tensor_type_and_remedy(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", formats={"blk.0.attn_q.weight": Kind.Q5_0})
    checkpoint = GgufCheckpoint(path)
    with pytest.raises(ModelFileError, match=r"q_proj.weight is stored as Q5_0, which is not supported.*Q4_K"):
        checkpoint.require("model.layers.0.self_attn.q_proj.weight")
    assert checkpoint.require("model.layers.0.self_attn.k_proj.weight")


def test_missing_or_misshapen_tensors(tmp_path: Path) -> None:
    checkpoint = GgufCheckpoint(write_gguf(tmp_path / "m.gguf"))
    with pytest.raises(ModelFileError, match=r"tensor model\.norm\.bias is missing"):
        checkpoint.require("model.norm.bias")
    with pytest.raises(ModelFileError, match=r"has the shape \(32,\), but the config needs \(33,\)"):
        checkpoint.require("model.norm.weight", (33,))


def mixture(path: Path, architecture: str = "llama", experts: int = 3, **changes: np.ndarray) -> GgufCheckpoint:
    tensors = gguf_tensors()
    for i in range(LAYERS):
        for part in ("gate", "up", "down"):
            dense = tensors.pop(f"blk.{i}.ffn_{part}.weight")
            tensors[f"blk.{i}.ffn_{part}_exps.weight"] = np.stack([dense + e for e in range(experts)])
        tensors[f"blk.{i}.ffn_gate_inp.weight"] = np.full((experts, HIDDEN), i, np.float32)
    extra = {f"{architecture}.expert_count": experts, f"{architecture}.expert_used_count": 2}
    return GgufCheckpoint(write_gguf(path, architecture, tensors | changes, extra=extra))


@pytest.mark.parametrize(
    ("architecture", "name", "router", "up"),
    [
        ("llama", "mixtral", "block_sparse_moe.gate", "block_sparse_moe.experts.2.w3"),
        ("qwen3moe", "qwen3_moe", "mlp.gate", "mlp.experts.2.up_proj"),
    ],
)
def test_experts_are_slices_of_one_tensor(tmp_path: Path, architecture: str, name: str, router: str, up: str) -> None:
    checkpoint = mixture(tmp_path / "m.gguf", architecture)
    config = checkpoint.config
    assert (config.architecture, config.num_experts, config.experts_per_token) == (name, 3, 2)
    assert config.renormalize_experts
    assert config.intermediate_size == INTER
    dense = gguf_tensors()["blk.1.ffn_up.weight"]
    np.testing.assert_array_equal(checkpoint.numpy(f"model.layers.1.{up}.weight"), dense + 2)
    assert checkpoint.require(f"model.layers.1.{up}.weight").shape == (INTER, HIDDEN)
    np.testing.assert_array_equal(checkpoint.numpy(f"model.layers.1.{router}.weight"), np.ones((3, HIDDEN)))


def test_experts_that_are_not_what_they_should_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"blk\.0\.ffn_up_exps\.weight has the shape .* but there are 3 experts"):
        mixture(tmp_path / "m.gguf", **{"blk.0.ffn_up_exps.weight": np.zeros((2, INTER, HIDDEN), np.float32)})
    with pytest.raises(ModelFileError, match=r"tensors of its own.*April 2024"):
        mixture(tmp_path / "old.gguf", **{"blk.0.ffn_gate.0.weight": np.zeros((INTER, HIDDEN), np.float32)})


@pytest.mark.parametrize(
    ("extra", "leave_out", "message"),
    [
        ({}, ("block_count",), "llama.block_count=None is missing"),
        ({"llama.block_count": 0}, (), "is not an integer from 1"),
        ({"llama.block_count": 2**31}, (), "is not an integer from 1"),
        ({"llama.block_count": "2"}, (), "is not an integer"),
        ({"llama.attention.head_count_kv": 3}, (), "can't share 3 key-value heads"),
        ({"llama.attention.head_count": [4, 4]}, (), "is not an integer"),
        ({"llama.rope.dimension_count": 7}, (), "7 rotary dimensions"),
        ({"llama.rope.dimension_count": 10}, (), "10 rotary dimensions"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, (), "is not a number above 0"),
        ({"llama.rope.freq_base": 0.0}, (), "is not a number above 1"),
        ({"llama.expert_count": 8}, (), "llama.expert_used_count=None is missing"),
        ({"llama.expert_count": 2, "llama.expert_used_count": 3}, (), "can't take 3 of 2 experts"),
        ({"llama.expert_count": 8, "llama.expert_shared_count": 1}, (), "expert_shared_count=1 is not supported"),
        ({"llama.expert_count": 5000}, (), "expert_count=5000 is not an integer from 0 to 4096"),
        ({"tokenizer.ggml.eos_token_id": VOCAB}, (), "token ids below 64"),
        ({"split.count": 3}, (), "one part of a split GGUF"),
        ({}, ("vocab_size",), "vocab_size=None is missing"),
    ],
)
def test_bad_metadata_is_named(tmp_path: Path, extra: dict, leave_out: tuple, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        GgufCheckpoint(write_gguf(tmp_path / "m.gguf", extra=extra, leave_out=leave_out))


def test_unsupported_architecture_lists_the_supported_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"'gemma3' is not supported.*llama, mistral, mixtral, qwen2, qwen3"):
        GgufCheckpoint(write_gguf(tmp_path / "m.gguf", "gemma3"))


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "m.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [0, 1, 3, 4, 8, 23, 24, 100, *range(200, len(whole), len(whole) // 40), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        with pytest.raises(ModelFileError) as caught:
            open_checkpoint(cut)
        assert caught.value.path == str(cut)
        assert caught.value.remedy


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", extra={"general.name": "NAME-OF-IT"})
    path.write_bytes(path.read_bytes().replace(b"NAME-OF-IT", b"\xff" * 10))
    with pytest.raises(ModelFileError, match="not UTF-8"):
        GgufCheckpoint(path).metadata["general.name"]


def test_metadata_equals_what_gguf_reads(tmp_path: Path) -> None:
    extra = {
        "a.bool": True,
        "a.text": "zwölf 🙂",
        "a.ints": [1, -2, 3],
        "a.floats": [0.5, -1.25],
        "a.texts": ["x", "", "ÿ"],
        "a.flags": [True, False],
    }
    metadata = GgufCheckpoint(write_gguf(tmp_path / "m.gguf", extra=extra)).metadata
    assert {key: metadata[key] for key in extra} == extra
    assert "a.none" not in metadata
    with pytest.raises(KeyError):
        metadata["a.none"]


@pytest.mark.slow
def test_the_packaged_model_is_read_as_gguf_reads_it() -> None:
    checkpoint = open_checkpoint("smollm2")
    theirs = gguf.GGUFReader(checkpoint.path)
    assert len(checkpoint.tensors) == len(theirs.tensors)
    for tensor in theirs.tensors:
        ref = checkpoint.require(hf_name(tensor.name), tuple(int(n) for n in reversed(tensor.shape)))
        place = (tensor.tensor_type.name, tensor.data_offset, tensor.n_bytes)
        assert (ref.format, ref.offset, ref.nbytes) == place
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF."):
            assert checkpoint.metadata[key] == field.contents()


def test_dropping_pages_lowers_resident_memory(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tensors={"output.weight": np.ones((1024, 8192), np.float32)})
    ref = GgufCheckpoint(path).require("lm_head.weight")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    total = np.frombuffer(memoryview(ref.buffer)[ref.offset : ref.offset + ref.nbytes], np.float32).sum()
    read = resident()
    ref.drop()
    assert read - before > 0.8 * ref.nbytes
    assert resident() - before < 0.2 * ref.nbytes
    again = np.frombuffer(memoryview(ref.buffer)[ref.offset : ref.offset + ref.nbytes], np.float32).sum()
    assert again == total == 1024 * 8192


def test_mapped_memory_is_read_only(tmp_path: Path) -> None:
    ref = GgufCheckpoint(write_gguf(tmp_path / "m.gguf")).require("model.norm.weight")
    assert memoryview(ref.buffer).readonly
