"""What pageform is compared with: transformers' `generate`, one request after another, on the same weights in fp32."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from .job import Job


class Baseline:
    """A GGUF file dequantized to float32 and run by transformers on `threads` threads."""

    def __init__(self, file: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = AutoModelForCausalLM.from_pretrained(
            str(file.parent), gguf_file=file.name, dtype=torch.float32
        ).eval()

    def logits(self, ids: list[int]) -> NDArray[np.float32]:
        """float32 [len(ids), vocabulary]: row i predicts the token after the first i + 1."""
        with torch.inference_mode():
            rows: NDArray[np.float32] = self._model(torch.tensor([ids])).logits[0].numpy()
        return rows

    def seconds(self, job: Job) -> float:
        """Runs one job greedily, to exactly its number of tokens; returns the seconds it took."""
        prompt = torch.tensor([job.prompt])
        start = time.perf_counter()
        with torch.inference_mode():
            output = self._model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                do_sample=False,
                min_new_tokens=job.output_tokens,
                max_new_tokens=job.output_tokens,
                pad_token_id=0,
            )
        taken = time.perf_counter() - start
        decoded = output.shape[1] - prompt.shape[1]
        if decoded != job.output_tokens:
            raise RuntimeError(f"transformers decoded {decoded} tokens instead of {job.output_tokens}")
        return taken
