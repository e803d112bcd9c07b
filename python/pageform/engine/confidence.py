"""Confidence in the values of an answer: weights are noted token by token, and when the answer has ended, options are
looked into by small requests of their own, which share its blocks. `forms.confidence` does the reckoning."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..core.completion import Completion, FinishReason
from ..core.confidence import ConfidenceOptions, Fields, TokenWeight
from ..core.errors import EngineClosedError
from ..core.params import SamplingParams
from ..core.plan import RowResult
from ..core.request import Request
from ..sampling import RowState, resolve
from .sink import OutputSink
from .ticket import Ticket

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..forms.confidence import Ask
    from ..forms.grammar import Grammar, Matcher
    from ..forms.options import Logits, TokenTexts

_FIRST_INDEX = 1 << 48
"""Indices of requests that nobody asked for begin here: those of the others decide their seeds."""
_indices: Iterator[int] = itertools.count(_FIRST_INDEX)


class Weights:
    """What the model thought of the tokens of one output so far. Belongs to a sink; used by the engine's thread."""

    def __init__(self, vocabulary: TokenTexts, eos_ids: frozenset[int]) -> None:
        self.tokens: list[TokenWeight] = []
        self._vocabulary, self._eos_ids = vocabulary, eos_ids

    def note(self, token_id: int, row: RowResult | None, matcher: Matcher | None) -> None:
        """Takes the next token, before `matcher` does; without a `row` the model was not asked about it."""
        text = self._vocabulary.texts[token_id]
        forced = matcher is not None and text != b"" and matcher.forced_bytes().startswith(text)
        if row is None:
            self.tokens.append(TokenWeight(math.nan, math.nan, math.nan, forced))
        else:
            self.tokens.append(TokenWeight(row.allowed_logprob, row.logprob, row.log_allowed, forced))

    def cut(self, num_tokens: int) -> None:
        """All but the first tokens were taken back."""
        del self.tokens[num_tokens:]


class Submit(Protocol):
    """Hands a ticket to the engine's loop. Raises EngineClosedError."""

    def __call__(self, ticket: Ticket) -> None: ...


@dataclass(slots=True)
class Scorer:
    """Adds `scores` to the completion of one request; `deliver` gets it, or `fail` what went wrong."""

    weights: Weights
    vocabulary: TokenTexts
    limits: ConfidenceOptions
    grammar: Grammar | None
    eos_ids: frozenset[int]
    choices: Sequence[str] | None
    allowed: NDArray[np.uint32] | None
    submit: Submit
    deliver: Callable[[Request, Completion], None]
    fail: Callable[[BaseException], None]
    _request: Request = field(init=False)
    _completion: Completion = field(init=False)
    _ask: Ask = field(init=False)

    def finish(self, request: Request, completion: Completion) -> None:
        """Called in the engine's thread when the request has ended."""
        from ..forms.confidence import ScoredAnswer, score_fields

        self._request, self._completion = request, completion
        answer = ScoredAnswer(
            token_ids=completion.token_ids,
            text=completion.text.encode(),
            weights=self.weights.tokens,
            rejected=[one.path for one in completion.rewinds],
            grammar=self.grammar,
            eos_ids=self.eos_ids,
            choices=self.choices,
            allowed=self.allowed,
            is_complete=completion.finish_reason is FinishReason.STOP,
        )
        self._ask = score_fields(answer, self.vocabulary, self.limits)
        self._go_on(None)

    def _go_on(self, logits: list[Logits | None] | None) -> None:
        try:
            wanted = next(self._ask) if logits is None else self._ask.send(logits)
            self._look_into(wanted)
        except StopIteration as stop:
            fields: Fields = stop.value
            self.deliver(self._request, replace(self._completion, scores=fields))
        except Exception as error:
            self.fail(error)

    def _look_into(self, outputs: list[list[int]]) -> None:
        """Asks for the logits after each beginning of the output, and goes on when all are there."""
        found: list[Logits | None] = [None] * len(outputs)
        missing = len(outputs)

        def done(number: int, seen: list[Logits], future: Future[Completion]) -> None:
            nonlocal missing
            error = future.exception()
            if isinstance(error, EngineClosedError):
                self.fail(error)
                return
            found[number] = seen[0] if seen else None
            missing -= 1
            if not missing:
                self._go_on(found)

        for number, output in enumerate(outputs):
            seen: list[Logits] = []
            ticket = self._probe(output, seen)
            ticket.future.add_done_callback(partial(done, number, seen))
            self.submit(ticket)

    def _probe(self, output: list[int], seen: list[Logits]) -> Ticket:
        """A request for one row of logits after prompt and `output`, which go to `seen`."""
        parent = self._request

        def look(_: list[int], logits: Any) -> Any:
            seen.append(logits)
            return logits

        params = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            logits_processors=(look,),
            priority=parent.priority,
            timeout=parent.params.timeout,  # the arrival is the same, and so is the deadline
        )
        index = next(_indices)
        ticket = Ticket(f"{parent.request_id}/options-{index - _FIRST_INDEX}")
        sink = OutputSink(
            params=params,
            rows=RowState(params, (), (), []),
            stop_ids=frozenset(),
            eos_ids=frozenset(),
            detokenizer=None,
            matcher=None,
            finisher=None,
            allowed=None,
            on_delta=None,
            on_finish=ticket.finish,
        )
        ticket.requests.append(
            Request(
                index=index,
                request_id=ticket.request_id,
                prompt_ids=[*parent.prompt_ids, *output],
                params=params,
                sampling=resolve(params, 0),
                max_tokens=1,
                arrival=parent.arrival,
                sink=sink,
                is_follow_up=True,
                cache_keys=parent.cache_keys,
            )
        )
        return ticket
