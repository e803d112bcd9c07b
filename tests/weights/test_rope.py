"""Inverse frequencies against transformers' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from pageform.core.errors import ModelFileError
from pageform.weights.config_hf import config_from_hf
from pageform.weights.rope import DynamicNtkScaling, RopeConfig, inv_freq

BASE: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 256,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
}

SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"factor": 4.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 1024},
    "yarn with betas": {"factor": 16.0, "original_max_position_embeddings": 512, "beta_fast": 20.0, "beta_slow": 2.0},
    "yarn with mscale": {
        "factor": 16.0,
        "original_max_position_embeddings": 512,
        "mscale": 0.7,
        "mscale_all_dim": 1.1,
    },
    "yarn with attention factor": {
        "factor": 4.0,
        "original_max_position_embeddings": 1024,
        "attention_factor": 0.8,
    },
    "yarn untruncated": {"factor": 4.0, "original_max_position_embeddings": 1024, "truncate": False},
    "longrope": {
        "factor": 4.0,
        "original_max_position_embeddings": 1024,
        "short_factor": [1.0 + i / 50 for i in range(32)],
        "long_factor": [2.0 + i / 5 for i in range(32)],
    },
}


def scaling_cases() -> list[Any]:
    return [
        pytest.param(name.split()[0], extra, theta, id=f"{name}-{theta:g}")
        for name, extra in SCALINGS.items()
        for theta in (10000.0, 500000.0)
    ]


def raw_config(kind: str, extra: dict[str, Any], theta: float, style: int) -> dict[str, Any]:
    """The same config as transformers 4 and as transformers 5 write it."""
    if style == 4:
        return BASE | {"rope_theta": theta, "rope_scaling": {"rope_type": kind, **extra}}
    return BASE | {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **extra}}


@pytest.mark.parametrize(("kind", "extra", "theta"), scaling_cases())
@pytest.mark.parametrize("style", [4, 5])
@pytest.mark.parametrize("length", [512, 4096])
def test_scalings_equal_transformers(kind: str, extra: dict[str, Any], theta: float, style: int, length: int) -> None:
    raw = raw_config(kind, extra, theta, style)
    theirs = LlamaConfig(
        **{key: value for key, value in raw_config(kind, extra, theta, 5).items() if key != "model_type"}
    )
    expected, expected_scale = ROPE_INIT_FUNCTIONS[kind](theirs, torch.device("cpu"), seq_len=length)
    got, scale = inv_freq(config_from_hf("config.json", raw, {}).rope, length)
    assert got.typecode == "f"
    np.testing.assert_allclose(got, expected.numpy(), rtol=2e-6)
    assert scale == pytest.approx(expected_scale, rel=1e-6)


@pytest.mark.parametrize("theta", [10000.0, 1e6])
@pytest.mark.parametrize("style", [4, 5])
def test_plain_rope_equals_transformers(theta: float, style: int) -> None:
    raw = raw_config("default", {}, theta, style)
    if style == 4:
        raw["rope_scaling"] = None
    theirs = LlamaConfig(**{k: v for k, v in BASE.items() if k != "model_type"}, rope_parameters={"rope_theta": theta})
    got, scale = inv_freq(config_from_hf("config.json", raw, {}).rope, 4096)
    np.testing.assert_allclose(got, LlamaRotaryEmbedding(theirs).inv_freq.numpy(), rtol=2e-6)
    assert scale == 1.0


def test_partial_rotation() -> None:
    rope = config_from_hf("config.json", BASE | {"partial_rotary_factor": 0.5}, {}).rope
    assert rope.rot_dim == 32
    assert len(inv_freq(rope, 100)[0]) == 16


def test_dynamic_scaling_is_transformers_at_the_longest_context() -> None:
    raw = raw_config("dynamic", {"factor": 2.0}, 10000.0, 5)
    rope = config_from_hf("config.json", raw, {}).rope
    assert rope.scaling == DynamicNtkScaling(2.0, 4096)
    theirs = LlamaConfig(**{key: value for key, value in raw.items() if key != "model_type"})
    for max_model_len, longest in ((100, 8192), (8192, 8192), (20000, 20000)):
        expected, _ = ROPE_INIT_FUNCTIONS["dynamic"](theirs, torch.device("cpu"), seq_len=longest)
        np.testing.assert_allclose(inv_freq(rope, max_model_len)[0], expected.numpy(), rtol=2e-6)


def test_type_key_of_old_configs() -> None:
    raw = BASE | {"rope_scaling": {"type": "linear", "factor": 2.0}}
    got, _ = inv_freq(config_from_hf("config.json", raw, {}).rope, 100)
    plain, _ = inv_freq(RopeConfig(10000.0, 64), 100)
    np.testing.assert_allclose(np.multiply(got, 2), plain, rtol=1e-6)


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"rope_type": "proportional", "factor": 2.0}, "'proportional' is not a supported RoPE scaling"),
        ({"rope_type": "linear"}, "factor=None is missing"),
        ({"rope_type": "linear", "factor": 0}, "factor=0 is not a number above"),
        ({"rope_type": "linear", "factor": "x"}, "factor='x' is not"),
        ({"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}, "short_factor=.* list of 32 numbers"),
        (SCALINGS["llama3"] | {"rope_type": "llama3", "high_freq_factor": 1.0}, "high_freq_factor=1.0 is not"),
        ([1], "is not an object"),
    ],
)
def test_bad_scalings_are_named(scaling: Any, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        config_from_hf("config.json", BASE | {"rope_scaling": scaling}, {})
