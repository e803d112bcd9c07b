"""Helpers of the end-to-end tests: logits of every position of a text, from our runner and from transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pageform.core.plan import RowPlan, RowSampling, SeqPlan, StepPlan
from pageform.executor.arrays import KeptArrays, build_inputs
from pageform.models.loader import LoadedModel


def our_logits(model: LoadedModel, ids: list[int], chunk: int = 64) -> NDArray[np.float32]:
    """Logits [len(ids), vocab] of one sequence computed in chunks, in blocks 0, 1, … of the model's own cache."""
    blocks = list(range((len(ids) + model.block_size - 1) // model.block_size))
    parts = []
    for start in range(0, len(ids), chunk):
        tokens = ids[start : start + chunk]
        rows = [RowPlan(0, i, RowSampling()) for i in range(len(tokens))]
        inputs = build_inputs(
            StepPlan(0, [SeqPlan(0, start, tokens, blocks, rows)]), model.block_size, None, KeptArrays()
        )
        inputs.copy_logits = True
        parts.append(np.array(model.runner.run(inputs, None).logits))
    return np.concatenate(parts)


def hf_logits(model: Any, ids: list[int]) -> NDArray[np.float32]:
    """transformers' logits [len(ids), vocab] of one sequence in one pass."""
    import torch

    with torch.no_grad():
        out: NDArray[np.float32] = model(torch.tensor([ids])).logits[0].float().numpy()
    return out
