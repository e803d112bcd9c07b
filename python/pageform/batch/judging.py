"""Judging the answers of a batch: by the retry loop of `structured`, which serves every other client too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..clients.base import Kwargs
from ..core.completion import Attempt
from ..core.errors import PageformError
from ..structured.answer import Answer
from ..structured.errors import StructuredError
from ..structured.hooks import Hooks
from ..structured.judge import AttemptInfo, Judge
from ..structured.loop import Earlier, Rejection, retry
from ..structured.observe import Observer
from ..structured.policy import CountedPolicy
from ..structured.spec import Spec
from .records import LineRow, Recorded


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that answers of a job are judged with."""

    spec: Spec[Any]
    provider: str
    read: Callable[[Mapping[str, Any]], Answer]
    reask: Callable[[Kwargs, Answer, Rejection], Kwargs]
    context: Any = None
    strict: bool | None = None
    hooks: Hooks | None = None

    def judge_of(self, line: LineRow) -> Judge[Any]:
        """What reads a line's answers."""
        return Judge(self.spec, line.mode, self.context, self.strict, restores=line.restores)

    def rule(self, line: LineRow, earlier: Sequence[Attempt], response: dict[str, Any]) -> Recorded:
        """What a response makes of a line that had these attempts before: done, to be asked again, or failed."""
        try:
            answer = self.read(response)
        except PageformError as error:  # no response at all, though the provider calls it one
            return Recorded(line.number, "failed", error=error)
        observer = Observer(self.hooks, provider=self.provider)
        loop = retry(
            line.payload,
            judge=self.judge_of(line),
            reask=self.reask,
            policy=CountedPolicy(line.allowed - 1),
            hooks=observer,
            kwargs=dict,
            earlier=Earlier(line.original, earlier),
        )
        next(loop)
        try:
            ask = loop.send(answer)
        except StopIteration:
            return Recorded(line.number, "done", observer.attempts[-1:], response)
        except StructuredError as error:
            return Recorded(line.number, "failed", observer.attempts[-1:], response, error=error)
        observer.suspend()
        loop.close()
        return Recorded(line.number, "pending", observer.attempts[-1:], response, ask.payload)

    def value(self, line: LineRow, response: Mapping[str, Any]) -> Any:
        """The value of an answer that was accepted. Raises what validators raise now."""
        return self.judge_of(line)(self.read(response), AttemptInfo(line.attempts, line.allowed)).value

    def ask_again(self, line: LineRow, attempts: Sequence[Attempt], response: Mapping[str, Any]) -> Kwargs | None:
        """The request that tells the model what was wrong with its last answer; None if nothing is now."""
        earlier = Earlier(line.original, attempts[:-1])
        observer = Observer()
        loop = retry(
            line.payload,
            judge=self.judge_of(line),
            reask=self.reask,
            policy=CountedPolicy(line.attempts),
            hooks=observer,
            earlier=earlier,
        )
        next(loop)
        try:
            payload = loop.send(self.read(response)).payload
        except (StopIteration, StructuredError):
            return None
        observer.suspend()
        loop.close()
        return payload
