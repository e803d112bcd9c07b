"""Worker of vLLM: its engine in this process, stepped here, with token ids in and out.

vLLM's server puts two more processes between a caller and the model, which wait by spinning; on few cores they take the
time of those that compute.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vllm import EngineArgs, SamplingParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.llm_engine import LLMEngine

from ..job import Answer, Job
from .protocol import serve


class Vllm:
    """`settings` are vLLM's own engine arguments. Threads are set by the environment (OMP_NUM_THREADS)."""

    def __init__(self, model: str, **settings: Any) -> None:
        self._engine = LLMEngine.from_engine_args(EngineArgs(model=model, **settings))
        self._ids = iter(range(10**9))

    def run(self, jobs: list[Job], clock: Callable[[], float]) -> list[Answer]:
        answers = [Answer() for _ in jobs]
        waiting = sorted(range(len(jobs)), key=lambda i: jobs[i].at, reverse=True)
        running: dict[str, Answer] = {}
        while waiting or running:
            while waiting and jobs[waiting[-1]].at <= clock():
                number = waiting.pop()
                running[self._add(jobs[number])] = answers[number]
            if not running:
                time.sleep(max(0.0, jobs[waiting[-1]].at - clock()))
                continue
            for output in self._engine.step():
                running[output.request_id].add(list(output.outputs[0].token_ids), clock())
                if output.finished:
                    del running[output.request_id]
        return answers

    def _add(self, job: Job) -> str:
        params = SamplingParams(
            temperature=0.0,
            max_tokens=job.output_tokens,
            ignore_eos=job.schema is None,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            structured_outputs=None if job.schema is None else StructuredOutputsParams(json=job.schema),
        )
        name = f"job-{next(self._ids)}"
        self._engine.add_request(name, {"prompt_token_ids": job.prompt}, params)
        return name

    def close(self) -> None:
        self._engine.engine_core.shutdown()


if __name__ == "__main__":
    serve(Vllm)
