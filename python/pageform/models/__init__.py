"""Models: wiring only. A model is a function that records one step's program from a `ModelConfig`.

`record(config, …) -> Program` looks the architecture up in one table. A model file names checkpoint tensors and ops,
and nothing else: no weights are touched, no arrays exist yet. `loader.py` then packs exactly the weights that the
program asked for. Owned by nobody: a program is plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..core.errors import ParameterError
from . import llama

if TYPE_CHECKING:
    from ..runtime.program import Program
    from ..weights.config import ModelConfig

RecordStep = Callable[["ModelConfig", Sequence[float], float], "Program"]

ARCHITECTURES: dict[str, RecordStep] = {
    "llama": llama.record_step,
    "mistral": llama.record_step,
    "mixtral": llama.record_step,
    "qwen2": llama.record_step,
    "qwen3": llama.record_step,
    "qwen3_moe": llama.record_step,
}
"""model_type → recorder. The families share one decoder; their differences are fields of the config."""


def record(config: ModelConfig, inv_freq: Sequence[float], attention_scale: float) -> Program:
    """Records the program of one step of the model that `config` describes.

    `inv_freq` [rot_dim / 2] and `attention_scale` come from `weights.rope`. Raises ParameterError for an architecture
    that has no recorder.
    """
    recorder = ARCHITECTURES.get(config.architecture)
    if recorder is None:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ParameterError("model", config.architecture, "is not a supported architecture", f"Supported: {known}.")
    return recorder(config, inv_freq, attention_scale)
