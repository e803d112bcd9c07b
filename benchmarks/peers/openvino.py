"""Worker of OpenVINO GenAI: its pipeline with continuous batching, stepped here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai

from ..job import Answer, Job
from .protocol import serve


class OpenVino:
    """`cache_gb` of keys and values; up to `requests` at once, `batched_tokens` in a step."""

    def __init__(
        self,
        model: str,
        threads: int,
        requests: int = 64,
        batched_tokens: int = 512,
        cache_gb: int = 1,
        prefix_caching: bool = False,
    ) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = cache_gb
        scheduler.max_num_seqs = requests
        scheduler.max_num_batched_tokens = batched_tokens
        scheduler.enable_prefix_caching = prefix_caching
        self._pipeline = genai.ContinuousBatchingPipeline(
            model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        )
        self._next_id = 0

    def run(self, jobs: list[Job], clock: Callable[[], float]) -> list[Answer]:
        answers = [Answer() for _ in jobs]
        waiting = sorted(range(len(jobs)), key=lambda i: jobs[i].at)
        handles: dict[int, Any] = {}
        while waiting or handles:
            while waiting and jobs[waiting[0]].at <= clock():
                number = waiting.pop(0)
                handles[number] = self._add(jobs[number])
            if not self._pipeline.has_non_finished_requests():
                if waiting:
                    time.sleep(max(0.0, jobs[waiting[0]].at - clock()))
                    continue
                if handles:
                    raise RuntimeError(f"{len(handles)} requests ended without their tokens")
                break
            self._pipeline.step()
            now = clock()
            for number, handle in list(handles.items()):
                while handle.can_read():
                    for output in handle.read().values():
                        answers[number].add(list(output.generated_ids), now)
                if handle.get_status() != genai.GenerationStatus.RUNNING and not handle.can_read():
                    del handles[number]
        return answers

    def _add(self, job: Job) -> Any:
        config = genai.GenerationConfig()
        config.max_new_tokens = job.output_tokens
        config.do_sample = False
        config.ignore_eos = job.schema is None
        if job.schema is not None:
            config.structured_output_config = genai.StructuredOutputConfig(json_schema=json.dumps(job.schema))
        self._next_id += 1
        return self._pipeline.add_request(
            self._next_id, openvino.Tensor(np.array([job.prompt], dtype=np.int64)), config
        )

    def close(self) -> None:
        del self._pipeline


if __name__ == "__main__":
    serve(OpenVino)
