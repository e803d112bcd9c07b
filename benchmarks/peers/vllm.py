"""Worker of vLLM: its asynchronous engine, with token ids in and out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from vllm import AsyncEngineArgs, SamplingParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM

from ..job import Answer, Job
from .protocol import serve


class Vllm:
    """`settings` are vLLM's own engine arguments. Threads are set by the environment (OMP_NUM_THREADS)."""

    def __init__(self, model: str, **settings: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._engine = self._loop.run_until_complete(self._make(AsyncEngineArgs(model=model, **settings)))
        self._numbers = iter(range(10**9))

    async def _make(self, arguments: Any) -> Any:
        return AsyncLLM.from_engine_args(arguments)  # it wants a running loop

    def run(self, jobs: list[Job], clock: Callable[[], float]) -> list[Answer]:
        return self._loop.run_until_complete(self._run(jobs, clock))

    async def _run(self, jobs: list[Job], clock: Callable[[], float]) -> list[Answer]:
        return await asyncio.gather(*(self._ask(job, clock) for job in jobs))

    async def _ask(self, job: Job, clock: Callable[[], float]) -> Answer:
        await asyncio.sleep(max(0.0, job.at - clock()))
        params = SamplingParams(
            temperature=0.0,
            max_tokens=job.output_tokens,
            ignore_eos=job.schema is None,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            structured_outputs=None if job.schema is None else StructuredOutputsParams(json=job.schema),
        )
        answer = Answer()
        prompt = {"prompt_token_ids": job.prompt}
        async for output in self._engine.generate(prompt, params, f"job-{next(self._numbers)}"):
            answer.add(list(output.outputs[0].token_ids), clock())
        return answer

    def close(self) -> None:
        self._engine.shutdown()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


if __name__ == "__main__":
    serve(Vllm)
