"""Worker of transformers: `generate` on float32 weights, one request after another or in padded batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from ..job import Answer, Job
from .protocol import serve, wait_until


class Transformers:
    """`batch` requests go through together, padded on the left; those of similar output length, so that few tokens are
    decoded for nothing."""

    def __init__(self, model: str, threads: int, batch: int = 1) -> None:
        torch.set_num_threads(threads)
        self._model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self._batch = batch

    def run(self, jobs: list[Job], clock: Callable[[], float]) -> list[Answer]:
        if any(job.schema is not None for job in jobs):
            raise ValueError("transformers has no guided decoding of its own")
        answers = [Answer() for _ in jobs]
        order = sorted(range(len(jobs)), key=lambda i: (jobs[i].at, jobs[i].output_tokens, len(jobs[i].prompt)))
        for first in range(0, len(order), self._batch):
            chosen = order[first : first + self._batch]
            wait_until(max(jobs[i].at for i in chosen), clock)
            self._generate([jobs[i] for i in chosen], [answers[i] for i in chosen], clock)
        return answers

    def _generate(self, jobs: list[Job], answers: list[Answer], clock: Callable[[], float]) -> None:
        width = max(len(job.prompt) for job in jobs)
        ids = torch.tensor([[0] * (width - len(job.prompt)) + job.prompt for job in jobs])
        mask = torch.tensor([[0] * (width - len(job.prompt)) + [1] * len(job.prompt) for job in jobs])
        tokens = max(job.output_tokens for job in jobs)
        times = _Times(clock)
        with torch.inference_mode():
            output = self._model.generate(
                ids,
                attention_mask=mask,
                do_sample=False,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                pad_token_id=0,
                logits_processor=[times],
            )
        for job, answer, row in zip(jobs, answers, output[:, width:].tolist(), strict=True):
            answer.tokens = row[: job.output_tokens]
            answer.count = len(answer.tokens)
            answer.times = times.moments[: job.output_tokens]

    def close(self) -> None:
        del self._model


class _Times:
    """A logits processor that notes when each token's logits are there. (A streamer takes no batch.)"""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.moments: list[float] = []

    def __call__(self, _ids: Any, scores: Any) -> Any:
        self.moments.append(self._clock())
        return scores


if __name__ == "__main__":
    serve(Transformers)
