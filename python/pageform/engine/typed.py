"""Typed answers: one prompt's way through attempts to a validated value, for blocking and async drivers alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..core.completion import Completion, FinishReason
from ..core.confidence import Fields
from ..core.errors import ParameterError, RequestSuspended
from ..core.params import SamplingParams
from ..forms.form import Form
from ..forms.kept import KeptText
from ..forms.rewind import RewindOptions
from ..forms.verdicts import Board
from ..structured.answer import Answer
from ..structured.judge import AttemptInfo, Judge
from ..structured.loop import Ask, Earlier, Outcome, Rejection, retry
from ..structured.observe import Observer
from ..structured.policy import policy_of
from ..structured.prompt import add_to_messages, add_to_prompt, instructions, reask_messages, reask_suffix
from ..structured.spec import Spec
from .base import BaseEngine, checked
from .child import Child, child_of
from .feed import FeedOptions
from .guard import GuardOptions
from .options import TypedOptions
from .prepare import Prompt, is_messages
from .sink import OnPart
from .suspend import typed_snapshot
from .ticket import Ticket

if TYPE_CHECKING:
    from ..core.snapshot import TypedSnapshot
    from ..forms.grammar import Grammar

T = TypeVar("T")


class TypedCall(Generic[T]):
    """One prompt, one response type. A driver submits `next_ticket()` and hands its completion to `take`; an async one
    says so in the options and awaits `settle_hooks` after each step. With `earlier` the call goes on after attempts
    that another engine made, and `prompt` is what was sent after those.

    `value` and `completion` are set once `take` returns True. `take` raises the error that ended the attempts.
    """

    def __init__(
        self,
        engine: BaseEngine,
        form: Form[T],
        prompt: Prompt,
        params: SamplingParams,
        options: TypedOptions,
        request_id: str | None = None,
        earlier: Earlier[Prompt | Child] | None = None,
    ) -> None:
        refuse_second_grammar(params)
        self.form = form
        judge = Judge(form.spec, context=options.context, strict=options.strict)
        self._begin(engine, params, options, request_id, judge)
        payload: Prompt | Child = self._instruct(prompt) if earlier is None else prompt
        self._original = payload if earlier is None else earlier.original
        self._loop: Generator[Ask[Prompt | Child], Answer, Outcome[T]] = retry(
            payload,
            judge=judge,
            reask=self._reask,
            policy=self._policy,
            hooks=self._observer,
            kwargs=self._shown,
            earlier=earlier,
        )
        self._ask: Ask[Prompt | Child] = next(self._loop)

    def _begin(
        self,
        engine: BaseEngine,
        params: SamplingParams,
        options: TypedOptions,
        request_id: str | None,
        judge: Judge[Any],
    ) -> None:
        """What all calls have."""
        if params.n != 1:
            raise ParameterError("n", params.n, "a typed answer is one sample", "Set n=1, or give the prompt n times.")
        self.value: T
        self.completion: Completion
        self.board = Board(_running_loop() if options.asynchronous else engine.background)
        """Where slow validators run, for all attempts."""
        self._engine, self._params, self._request_id = engine, params, request_id
        self._judge = judge
        self._options = options
        self._scores: Fields | None = None  # of the last attempt
        self._policy = policy_of(0 if options.on_invalid == "raise" else options.max_retries)
        self._max_attempts = self._policy.max_attempts
        self._observer = Observer(options.hooks, provider="pageform", asynchronous=options.asynchronous)

    def _shown(self, payload: Prompt | Child) -> dict[str, Any]:
        """What hooks see of an attempt."""
        prompt = payload.shown if isinstance(payload, Child) else payload
        name = "messages" if is_messages(prompt) else "prompt"
        model, response_type = self._engine.config.model, self.form.spec.response_type
        return {"model": str(model), "response_model": response_type, "sampling": self._params, name: prompt}

    def _reask(self, prompt: Prompt | Child, answer: Answer, rejection: Rejection) -> Prompt | Child:
        child = child_of(self._engine, self.form, self._params, self._ask.payload, answer, rejection)
        if child is not None:
            return child
        assert not isinstance(prompt, Child)  # the loop passes the first payload
        if is_messages(prompt):
            return reask_messages(prompt, answer, rejection.text)
        suffix = reask_suffix(answer, rejection.text)
        if isinstance(prompt, str):
            return prompt + suffix
        return self._append(prompt, suffix)

    def _append(self, ids: Prompt, text: str) -> list[int]:
        return [*ids, *self._engine.tokenizer.encode(text, add_special_tokens=False)]

    def _instruct(self, prompt: Prompt) -> Prompt:
        """The prompt with the type's outline."""
        spec = self.form.spec
        if isinstance(prompt, str):
            if prompt == "":
                raise ParameterError("prompt", prompt, "is empty", "Give at least one character of text.")
            return add_to_prompt(spec, prompt)
        if is_messages(prompt):
            return add_to_messages(spec, prompt)
        suffix = f"\n\n{instructions(spec)}\n\nJSON:\n"
        if len(prompt) == 0:
            raise ParameterError("prompt", prompt, "is empty", "Give at least one token id.")
        return self._append(prompt, suffix)

    @property
    def spec(self) -> Spec[T]:
        """The response type."""
        return self.form.spec

    @property
    def context(self) -> Any:
        """The validation context of the current attempt."""
        return self._judge.context_in(AttemptInfo(self._ask.number, self._max_attempts))

    @property
    def strict(self) -> bool | None:
        """Whether Pydantic validates strictly."""
        return self._options.strict

    @property
    def grammar(self) -> Grammar | None:
        """What the answer is held to."""
        return self.form.grammar

    def next_ticket(
        self, feed: FeedOptions | None = None, prefix: bytes = b"", on_part: OnPart | None = None
    ) -> Ticket:
        """The request of the current attempt, checked and not yet submitted. `feed` hears of its fields; its answer
        begins with `prefix`, JSON up to a value. `on_part` hears of its thoughts; one that goes on from what there is
        does not think again."""
        payload = self._ask.payload
        guarding = self.guarding()
        kept = guarding["kept"]
        if prefix and (kept is None or not kept.pieces[0].startswith(prefix)):
            kept = guarding["kept"] = KeptText(self.form.check, (prefix,), ())
        params = self._params
        if kept is not None and params.reasoning:
            params = params.with_(reasoning=False, thinking_token_budget=None)
        ticket = self._engine.ticket(
            payload.ids if isinstance(payload, Child) else payload,
            params,
            self.grammar,
            request_id=self._request_id,
            feed=feed,
            on_part=on_part,
            **guarding,
        )
        ticket.typed = self.snapshot
        return ticket

    def guarding(self) -> dict[str, Any]:
        """What `Preparer.ticket` takes for the current attempt: who judges its values, and what is kept of the last."""
        payload = self._ask.payload
        return {"guard": self._guard(), "kept": payload.kept if isinstance(payload, Child) else None}

    def snapshot(self) -> TypedSnapshot:
        """What the current attempt is judged by, to be resumed elsewhere. Called in the engine's thread."""
        return typed_snapshot(
            self.form, self._params, self._original, self._ask.payload, self._observer.attempts, self._options
        )

    def _guard(self) -> GuardOptions | None:
        """What judges values as they close. Stop strings end a text at places that a rewind can't go back behind; slow
        validators run beside decoding all the same."""
        options = self._options
        mends = options.on_invalid == "rewind" and not self._params.stop
        if not mends and not self.form.check.slow:
            return None
        rewind = options.rewind or RewindOptions()
        return GuardOptions(self.form, rewind, self.board, self.context, options.strict, mends)

    def take(self, completion: Completion) -> bool:
        """Takes an attempt's completion: True when it validated, False when another attempt is to be made."""
        if completion.scores is not None:
            if self._scores is not None and isinstance(self._ask.payload, Child):
                completion = replace(completion, scores=completion.scores.completed_by(self._scores))
            self._scores = completion.scores
        try:
            with self.board.answering(run=completion.finish_reason is FinishReason.STOP):
                self._ask = self._loop.send(self._answer(completion))
        except StopIteration as stop:
            self._accept(completion, stop.value)
            return True
        return False

    def _answer(self, completion: Completion) -> Answer:
        reason, usage = completion.finish_reason, completion.usage
        return Answer(completion.text, reason, usage, completion, error=verdict_on(completion))

    def _accept(self, completion: Completion, outcome: Outcome[T]) -> None:
        self.value = outcome.value
        self.completion = replace(completion, usage=outcome.usage, attempts=outcome.attempts, parsed=outcome.value)

    def fail(self, error: Exception) -> Exception:
        """Ends the attempts because the engine could not give an answer. Returns the error to raise."""
        try:
            self._loop.throw(error)
        except Exception as raised:
            return raised
        return error

    async def settle_hooks(self) -> None:
        """Awaits the coroutines of async hooks."""
        await self._observer.settle()

    def settle(self, ticket: Ticket) -> bool:
        """`take` for a ticket whose future is done; raises what ended the attempts."""
        try:
            completion = checked(ticket.future.result())
        except RequestSuspended:  # it goes on elsewhere, which is no end
            self._observer.suspend()
            raise
        except Exception as error:
            raise self.fail(error) from error.__cause__
        return self.take(completion)


def _running_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """The loop of now, whoever asks later."""
    loop = asyncio.get_running_loop()
    return lambda: loop


def verdict_on(completion: Completion) -> Exception | None:
    """What ended an answer whose value no rewind could mend."""
    judged = completion.finish_reason is FinishReason.VALIDATION and isinstance(completion.error, Exception)
    return completion.error if judged else None  # type: ignore[return-value]


def refuse_second_grammar(params: SamplingParams, other: str = "response_model") -> None:
    """Raises ParameterError if the parameters bring a grammar of their own beside `other`."""
    for name in ("json_schema", "regex", "choice", "grammar"):
        if getattr(params, name) is not None:
            raise ParameterError(
                name, getattr(params, name), f"can't be combined with {other}", "Give only one of them."
            )
