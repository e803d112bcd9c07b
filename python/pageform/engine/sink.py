"""What happens to a request's tokens as they are sampled: grammar, limits, text, stop strings, logprobs.

One `OutputSink` belongs to one sample of one request and lives as long as it. The scheduler calls it from the engine's
thread, in the step that sampled the token, so that a stop takes effect in the same step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..core.completion import Completion, FinishReason, Rewind, Timings, TokenLogprob, Usage
from ..core.errors import RequestError
from ..core.log import TokenOrigin
from ..core.params import SamplingParams
from ..core.plan import RowResult
from ..forms.segmenter import Segmenter
from ..sampling import RowState, ends_in_repetition
from ..text.stop import StopStrings
from .control import RequestControl, Verdict
from .layouts import tool_call

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..core.request import Request
    from ..forms.finisher import Finisher
    from ..forms.grammar import Matcher
    from ..forms.kept import Keeper
    from ..forms.segmenter import Part
    from ..forms.thinking import ThinkingLimit
    from ..forms.tracker import FieldTracker
    from ..text.detokenizer import IncrementalDetokenizer
    from .calls_guard import CallFollower
    from .confidence import Weights
    from .feed import FieldFeed
    from .guard import FieldGuard
    from .verdicts import Verdicts

OnDelta = Callable[[str, int], None]
"""(new text, token id), called for each token in order; the text may be empty while a character is incomplete."""

OnPart = Callable[["Part"], None]
"""Hears of the parts of an answer that has several: of thoughts as they come, and of each complete call."""


class OutputSink:
    """Turns one request's sampled tokens into text and a finish reason. Implements `core.request.TokenSink`."""

    def __init__(
        self,
        params: SamplingParams,
        rows: RowState,
        stop_ids: frozenset[int],
        eos_ids: frozenset[int],
        detokenizer: IncrementalDetokenizer | Segmenter | None,
        matcher: Matcher | None,
        finisher: Finisher | None,
        allowed: NDArray[np.uint32] | None,
        on_delta: OnDelta | None,
        on_finish: Callable[[Request, Completion], None],
        tracker: FieldTracker | None = None,
        guard: FieldGuard | None = None,
        keeper: Keeper | None = None,
        feed: FieldFeed | None = None,
        thinking: ThinkingLimit | None = None,
        calls: CallFollower | None = None,
        on_part: OnPart | None = None,
        weights: Weights | None = None,
    ) -> None:
        self.params = params
        self.rows = rows
        self.matcher = matcher
        self.allowed = allowed
        self.fault: Exception | None = None
        self._stop_ids = stop_ids
        self._eos_ids = eos_ids
        self._finisher = finisher
        self._detail: str | None = None
        self._detokenizer = detokenizer
        self._stops = StopStrings(params.stop, params.include_stop_str_in_output) if params.stop else None
        self._on_delta = on_delta
        self._on_finish = on_finish
        self._tracker = tracker
        self._guard = guard
        self._keeper = keeper
        self._feed = feed
        self._thinking = thinking
        self._on_part = on_part
        self.segmenter = detokenizer if isinstance(detokenizer, Segmenter) else None
        """Takes the answer apart where it is more than text."""
        self._calls = calls
        self._weights = weights
        self._parts: list[str] = []
        self._ids: list[int] = []
        self._stopped_by: str | int | None = None
        self._logprobs: list[TokenLogprob] | None = [] if params.logprobs is not None else None
        self._prompt_logprobs: list[TokenLogprob | None] | None = [None] if params.prompt_logprobs is not None else None

    def start(self, request: Request, control: RequestControl) -> None:
        """Called before the request is scheduled, and before a replay that precedes that."""
        if self._guard is not None:
            self._guard.bind(request, self, control)
        if self._calls is not None:
            self._calls.bind(request, self, control)
        if self._keeper is None or request.log.entries:  # with a log, it has begun before
            return
        for token in self._keeper.beginning:
            request.append(token, TokenOrigin.FORCED)
            self.token(token, None)

    def token(self, token_id: int, row: RowResult | None) -> FinishReason | None:
        """Takes one sampled or, without `row`, forced token.

        Raises RequestError when the grammar refuses it (a defect, not a user's fault).
        """
        self._ids.append(token_id)
        self.rows.push(token_id)
        if self._logprobs is not None:
            self._logprobs.append(_logprob(row) if row is not None else TokenLogprob(token_id, math.nan, 0))
        if self._weights is not None:
            self._weights.note(token_id, row, self.matcher)
        if self.matcher is not None and not self.matcher.accept(token_id):
            raise RequestError(f"the grammar refused token {token_id}, which its own mask had allowed")
        if self._thinking is not None:
            self._thinking.take(token_id)
        if self._finisher is not None:
            self._finisher.take(token_id)
        reason = self._stop_token(token_id)
        if reason is None:
            reason = self._text(token_id)
            if reason is None and self.matcher is not None and self.matcher.is_stopped():
                reason = FinishReason.STOP
            if reason is None and self._finisher is not None and self._finisher.is_over:
                reason = FinishReason.STOP
        if reason is None and self.params.repetition_detection is not None:
            reason = FinishReason.REPETITION if self._repeats() else None
        if self._calls is not None and self.segmenter is not None:
            self._tracker, self._guard = self._calls.follow(self.segmenter)
        return reason if self._tracker is None else self._track(self._tracker, reason)

    def _track(self, tracker: FieldTracker, reason: FinishReason | None) -> FinishReason | None:
        """Follows the form: values that the last token closed are judged, and told."""
        closed = tracker.feed(self._formal_text.encode())
        is_kept = self._keeper is not None and self._keeper.see(closed)
        verdict = Verdict.FINE
        if self._guard is not None and reason in (None, FinishReason.STOP):
            verdict = self._guard.token(closed, is_kept, reason is not None)
        if verdict in (Verdict.FINE, Verdict.WAITING) and self._feed is not None:
            self._feed.see(closed)
            self._feed.tell()
        if verdict is Verdict.GIVEN_UP:
            return FinishReason.VALIDATION
        return reason if verdict is Verdict.FINE else None

    def tell(self) -> None:
        """More of the answer may be shown than at the last token."""
        if self._feed is not None:
            self._feed.tell()

    def choose(self, token_id: int) -> int:
        """The sampled token, or the first of the shortest end of the text if nothing longer fits into max_tokens."""
        if self._thinking is not None:
            token_id = self._thinking.choose(token_id)
        if self._finisher is None:
            return token_id
        chosen = self._finisher.choose(token_id)
        if chosen != token_id:
            self._detail = "max_tokens: the shortest end of the text was forced"
        if self._thinking is not None and self._finisher.rest:
            self._thinking.drop()
        return chosen

    def cut(self, num_tokens: int, size: int) -> None:
        """Forgets all but the first tokens of the output: text, penalties, grammar and log-probabilities with them.

        Text of `size` bytes stands: what these tokens lack of it is put back.
        """
        removed = self._ids[num_tokens:]
        for token in reversed(removed):
            self.rows.pop(token)
        del self._ids[num_tokens:]
        self._stopped_by = self._detail = None
        if self.matcher is not None:
            self.matcher.rollback(len(removed))
        if self._finisher is not None:
            self._finisher.cut(num_tokens)
        if self._detokenizer is not None:
            self._detokenizer.truncate(num_tokens)
        del self._parts[num_tokens:]
        if self._logprobs is not None:
            del self._logprobs[num_tokens:]
        if self._weights is not None:
            self._weights.cut(num_tokens)
        if self._tracker is not None:
            self._tracker.truncate(num_tokens)
        if self._keeper is not None:
            self._keeper.cut(num_tokens)
        if self._guard is not None:
            self._guard.rewinder.cut(size)
        if self._feed is not None:
            self._feed.cut(size)

    def lead(self, token: int) -> bytes:
        """What stands in the token of that index before the text that begins in it."""
        return b"" if self.segmenter is None else self.segmenter.lead(token)

    def listen(self, on_delta: OnDelta | None, on_part: OnPart | None) -> None:
        """From now on, who hears of text, and of the other parts of an answer."""
        self._on_delta, self._on_part = on_delta, on_part

    @property
    def guard(self) -> FieldGuard | None:
        """What judges the values of the answer."""
        return self._guard

    @property
    def verdicts(self) -> Verdicts | None:
        """Who is asked of the values of the answer, whichever guard asks."""
        if self._calls is not None:
            return self._calls.verdicts
        return None if self._guard is None else self._guard.verdicts

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._parts)

    @property
    def prompt_logprobs(self) -> list[TokenLogprob | None] | None:
        """The scores of the prompt so far, where they are wanted."""
        return self._prompt_logprobs

    def restore_prompt_logprobs(self, scores: list[TokenLogprob | None]) -> None:
        """Takes the scores that the prompt got in another engine."""
        self._prompt_logprobs = scores

    @property
    def last_text(self) -> str:
        """What the last token added to the text."""
        return self._parts[-1]

    @property
    def _formal_text(self) -> str:
        """What the last token added to the form, or to the arguments of a call."""
        if self.segmenter is None or self.segmenter.layout.calls is None:
            return self._parts[-1]
        is_end = len(self.segmenter) < len(self._ids)  # a token that ends the answer is no part of it
        return "" if is_end else self.segmenter.last_arguments

    def forced(self) -> Sequence[int]:
        """What comes after the last token without the model being asked: text put back after a rewind, the rest of an
        end (of thoughts, of all) that is forced, what is kept of an earlier answer, and what the grammar forces where
        the caller wants that accepted."""
        if self._guard is not None and (again := self._guard.take_again()):
            return again
        if self._thinking is not None and self._thinking.rest:
            return self._thinking.rest
        if self._finisher is not None and self._finisher.rest:
            return self._finisher.rest
        if self._keeper is not None and (kept := self._keeper.take(self._has_room)):
            return kept
        if self.matcher is None or self.params.forced != "accept":
            return ()
        forced = [token for token in self.matcher.forced() if token not in self._eos_ids]
        return forced if self._has_room(len(forced)) else ()

    def _has_room(self, num_tokens: int) -> bool:
        """Whether so many tokens may be appended without looking for an end of the text."""
        return self._finisher is None or self._finisher.has_room(num_tokens)

    def _stop_token(self, token_id: int) -> FinishReason | None:
        is_eos = token_id in self._eos_ids and not self.params.ignore_eos
        if not is_eos and token_id not in self._stop_ids:
            return None
        if token_id in self._stop_ids:
            self._stopped_by = token_id
            if self.params.include_stop_str_in_output and self._detokenizer is not None:
                self._emit(self._detokenizer.push(token_id), token_id)
                return FinishReason.STOP
        self._emit("", token_id)
        return FinishReason.STOP

    def _text(self, token_id: int) -> FinishReason | None:
        if self._detokenizer is None:
            self._emit("", token_id)
            return None
        text = self._detokenizer.push(token_id)
        self._tell_parts()
        if self._stops is None:
            self._emit(text, token_id)
            return None
        armed = len(self._ids) >= self.params.min_tokens
        text, stop = self._stops.push(text, armed)
        self._emit(text, token_id)
        if stop is None:
            return None
        self._stopped_by = stop
        return FinishReason.STOP

    def _tell_parts(self) -> None:
        parts = self.segmenter.take_parts() if self.segmenter is not None else ()
        for part in parts if self._on_part is not None else ():
            assert self._on_part is not None
            self._on_part(part)

    def _repeats(self) -> bool:
        detection = self.params.repetition_detection
        return detection is not None and ends_in_repetition(self._ids, detection)

    def _emit(self, text: str, token_id: int) -> None:
        self._parts.append(text)
        if self._on_delta is not None:
            self._on_delta(text, token_id)

    def prompt_logprob(self, position: int, row: RowResult) -> None:
        """Takes the score of the prompt token at `position`. A recomputed position replaces what was there."""
        scores = self._prompt_logprobs
        if scores is None:
            return
        if position < len(scores):
            scores[position] = _logprob(row)
        else:
            scores.append(_logprob(row))

    def finished(self, request: Request) -> None:
        """Builds the completion and hands it on. Called once, whatever the reason was."""
        if self._detokenizer is not None and not isinstance(self._stopped_by, str):
            tail = self._detokenizer.flush()
            self._tell_parts()
            if self._stops is not None:
                tail = self._stops.flush() + tail if not self._stops.hit else ""
            if tail:
                self._parts.append(tail)
                if self._on_delta is not None:
                    self._on_delta(tail, -1)
                if self._tracker is not None and self._feed is not None:
                    self._feed.see(self._tracker.feed(tail.encode()))
                    self._feed.tell()
        if self._guard is not None:
            self._guard.release()
        self._on_finish(request, self._completion(request))

    @property
    def _rewinds(self) -> list[Rewind]:
        if self._calls is not None:
            return self._calls.rewinds
        return self._guard.rewinds if self._guard is not None else []

    def _completion(self, request: Request) -> Completion:
        assert request.finish_reason is not None
        assert request.finish_time is not None
        finish = request.finish_time
        first = request.first_token_time
        scheduled = request.first_scheduled_time
        segmenter = self.segmenter
        thinks = segmenter is not None and segmenter.layout.end is not None
        calls = segmenter.calls if segmenter is not None else []
        details = {"reasoning_tokens": segmenter.num_thought_tokens} if segmenter is not None and thinks else {}
        return Completion(
            text="".join(self._parts),
            token_ids=list(self._ids),
            finish_reason=request.finish_reason,
            usage=Usage(
                len(request.prompt_ids), len(self._ids), min(request.num_cached, len(request.prompt_ids)), details
            ),
            logprobs=self._logprobs,
            prompt_logprobs=self._prompt_logprobs,
            timings=Timings(
                queued=(scheduled if scheduled is not None else finish) - request.arrival,
                first_token=None if first is None else first - request.arrival,
                total=finish - request.arrival,
            ),
            request_id=request.request_id,
            prompt_token_ids=list(request.prompt_ids),
            detail=request.detail or self._detail,
            stop=self._stopped_by,
            error=self.fault or request.error or (self._guard.error if self._guard is not None else None),
            rewinds=self._rewinds,
            rewound_tokens=request.num_rewound,
            log=request.log.entries,
            reasoning=segmenter.thoughts if segmenter is not None and thinks else None,
            tool_calls=[tool_call(request.request_id, call) for call in calls if call.is_complete],
        )


def _logprob(row: RowResult) -> TokenLogprob:
    return TokenLogprob(row.token, row.logprob, row.rank, dict(row.top or ()))
