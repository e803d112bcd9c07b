"""Worker of pageform itself: the engine in this process, its own thread taking the time of each token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pageform import Engine, SamplingParams
from pageform.engine.base import outcome

from ..job import Answer, Job
from .protocol import serve, wait_until


class Pageform:
    """`settings` are parameters of `Engine`."""

    def __init__(self, model: str, **settings: Any) -> None:
        self._engine = Engine(model, **settings)

    def run(self, jobs: list[Job], clock: Callable[[], float]) -> list[Answer]:
        answers = [Answer() for _ in jobs]
        tickets = []
        for job, answer in zip(jobs, answers, strict=True):
            wait_until(job.at, clock)
            params = SamplingParams(
                temperature=0.0,
                max_tokens=job.output_tokens,
                ignore_eos=job.schema is None,
                json_schema=job.schema,
            )
            ticket = self._engine.ticket(job.prompt, params, on_delta=_taker(answer, clock))
            self._engine.submit(ticket)
            tickets.append(ticket)
        for ticket, answer in zip(tickets, answers, strict=True):
            answer.text = outcome(ticket).text
        return answers

    def close(self) -> None:
        self._engine.close()


def _taker(answer: Answer, clock: Callable[[], float]) -> Callable[[str, int], None]:
    return lambda _text, token: answer.add([token], clock())


if __name__ == "__main__":
    serve(Pageform)
