"""From what a caller gives to requests that can run: prompts, parameters and grammars are all checked here, in the
caller's thread, before a request exists."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from ..core.completion import Completion
from ..core.confidence import ConfidenceOptions
from ..core.drafts import DRAFT_MODES, DraftKind, DraftSettings
from ..core.errors import ParameterError
from ..core.params import SamplingParams
from ..core.request import Request
from ..core.stopwatch import Stopwatch
from ..forms.segmenter import Segmenter
from ..sampling import ModelLimits, Odds, RequestDrafter, RowState, check_against_model, resolve, token_bitmask
from ..sampling.rows import bad_word_ids, derive_seed
from ..text.detokenizer import IncrementalDetokenizer
from .layouts import after_thoughts, layout_of, limit_of, opened, segmenter_of, tags_of
from .sink import OnDelta, OnPart, OutputSink
from .ticket import Ticket

if TYPE_CHECKING:
    from ..forms.bans import TokenPrefixes
    from ..forms.finisher import Finisher
    from ..forms.form import Form
    from ..forms.grammar import Grammar, GrammarCompiler, Mask, Matcher
    from ..forms.kept import Keeper, KeptText
    from ..forms.layout import Layout
    from ..forms.options import TokenTexts
    from ..forms.plan import Guarantee
    from ..forms.thinking import ThinkingLimit
    from ..forms.tracker import FieldTracker
    from ..text.tokenizer import Tokenizer
    from .calls_guard import CallOptions
    from .confidence import Scorer, Submit
    from .feed import FeedOptions, FieldFeed
    from .guard import FieldGuard, GuardOptions

Messages = Sequence[Mapping[str, Any]]
Prompt = str | Sequence[int] | Messages
"""Text, token ids, or a conversation."""


def is_messages(prompt: Any) -> TypeGuard[Messages]:
    """Whether a prompt is one conversation: a list of messages."""
    return isinstance(prompt, Sequence) and len(prompt) > 0 and isinstance(prompt[0], Mapping)


def is_single_prompt(prompts: Any) -> TypeGuard[Prompt]:
    """One prompt is text, token ids or a conversation; a list of those is many. Raises ParameterError for others."""
    if isinstance(prompts, str):
        return True
    if not isinstance(prompts, Sequence) or isinstance(prompts, (bytes, bytearray)):
        raise ParameterError(
            "prompts", prompts, "is neither text nor token ids nor a list of those", "Pass str or list."
        )
    if len(prompts) == 0:
        return False
    if is_messages(prompts) or all(isinstance(item, int) and not isinstance(item, bool) for item in prompts):
        return True
    for item in prompts:
        if not isinstance(item, str) and not (isinstance(item, Sequence) and not isinstance(item, (bytes, bytearray))):
            raise ParameterError(
                "prompts", item, "is neither text nor a list of token ids", "Mix only those two kinds."
            )
    return False


@dataclass(slots=True)
class Preparer:
    """Makes tickets for one engine. Thread-safe: its only state is a counter and the grammar compiler's own cache."""

    tokenizer: Tokenizer | None
    limits: ModelLimits
    eos_ids: frozenset[int]
    compiler: GrammarCompiler | None
    engine_seed: int
    count: Callable[[Request], None]
    """Hears of every finished sample, in the engine's thread."""
    grammar_time: Stopwatch
    """What the matchers of requests count their time on."""
    drafts: DraftSettings = field(default_factory=DraftSettings)
    submit: Submit | None = None
    """Where requests go that a finished one needs; set once the engine's loop runs."""
    _prefixes: TokenPrefixes | None = None
    _texts: TokenTexts | None = None
    _odds: dict[bool, Odds] = field(default_factory=lambda: {True: Odds(), False: Odds()})
    """What drafts were worth so far, under a grammar and without one. Only the engine's thread changes it."""
    _indices: itertools.count[int] = field(default_factory=itertools.count)

    def encode(self, prompt: Prompt, thinks: bool | None = None) -> list[int]:
        """Token ids of a prompt.

        Text gets the tokenizer's special tokens (BOS where the model wants one), a conversation the chat template.
        `thinks` tells the template whether the model is to think first.
        """
        if is_messages(prompt):
            return self.encode_chat(prompt, thinks=thinks)
        if not isinstance(prompt, str):
            return list(prompt)  # type: ignore[arg-type]
        if prompt == "":
            raise ParameterError("prompt", prompt, "is empty", "Give at least one character of text.")
        if self.tokenizer is None:
            raise ParameterError(
                "prompt",
                prompt,
                "is text, but the engine was made with tokenizer=None",
                "Pass token ids, or a tokenizer.",
            )
        return self.tokenizer.encode(prompt)

    def encode_chat(self, messages: Messages, tools: Any = None, thinks: bool | None = None) -> list[int]:
        """Token ids of a conversation under the model's chat template, ending where the answer begins."""
        if self.tokenizer is None:
            raise ParameterError(
                "messages", messages, "need a tokenizer, but tokenizer=None", "Make the engine with one."
            )
        return self.tokenizer.encode(self.render_chat(messages, tools, thinks), add_special_tokens=False)

    def render_chat(self, messages: Messages, tools: Any = None, thinks: bool | None = None) -> str:
        """The text of a conversation under the model's chat template, ending where the answer begins."""
        from ..text.chat import render_chat
        from ..text.tool_prompt import readable

        assert self.tokenizer is not None
        variables: dict[str, Any] = dict(self.tokenizer.special_tokens)
        if thinks is not None:  # what Qwen and DeepSeek call it
            variables.update(enable_thinking=thinks, thinking=thinks)
        template = self.tokenizer.chat_template
        return render_chat(readable(messages, template), template, tools, **variables)

    def ticket(
        self,
        prompt: Prompt,
        params: SamplingParams,
        grammar: Grammar | None = None,
        on_delta: OnDelta | None = None,
        request_id: str | None = None,
        now: float = 0.0,
        guard: GuardOptions | None = None,
        kept: KeptText | None = None,
        feed: FeedOptions | None = None,
        calls: CallOptions | None = None,
        on_part: OnPart | None = None,
    ) -> Ticket:
        """Checks everything and builds the requests of one prompt (`params.n` samples). Raises ParameterError.

        With a `guard` the values of the answer are judged as they close, with `calls` those of the arguments of tools.
        What is `kept` of an earlier answer is put in without asking the model. `feed` hears of the answer's fields,
        `on_part` of thoughts and calls.
        """
        tags = tags_of(params, self.tokenizer)
        thinks = None if params.reasoning is None else bool(params.reasoning)
        prompt_ids = opened(self.encode(prompt, thinks), tags, self.tokenizer)
        max_tokens = check_against_model(params, prompt_ids, self.limits)
        grammar = grammar if grammar is not None else self._grammar(params)
        layout = layout_of(grammar, tags)
        grammar = after_thoughts(grammar, layout, self.compiler)
        self._needs_text(params)
        allowed = None
        if params.allowed_token_ids is not None:
            allowed = token_bitmask(params.allowed_token_ids, self.limits.vocab_size)
        words = bad_word_ids(params.bad_words, self.tokenizer) if params.bad_words and self.tokenizer else []
        stop_ids = frozenset(params.stop_token_ids)
        base = next(self._indices)
        ticket = Ticket(request_id if request_id is not None else f"req-{base}")
        sampling = resolve(params, derive_seed(self.engine_seed, base))

        def finish(request: Request, completion: Completion) -> None:
            self.count(request)
            ticket.finish(request, completion)

        for sample in range(params.n):
            scorer = self._scorer(params, grammar, allowed, finish, ticket)
            matcher = grammar.matcher(self.grammar_time) if grammar is not None else None
            finisher = self._finisher(grammar, matcher, params, max_tokens)
            detokenizer = self._detokenizer(params, layout)
            tracker, judge, keeper, teller = self._followers(guard, kept, feed, matcher)
            sink = OutputSink(
                params=params,
                rows=RowState(params, prompt_ids, self.eos_ids | stop_ids, words),
                stop_ids=stop_ids,
                eos_ids=self.eos_ids,
                detokenizer=detokenizer,
                matcher=matcher,
                finisher=finisher,
                allowed=allowed,
                on_delta=on_delta if sample == 0 else None,
                on_finish=finish if scorer is None else scorer.finish,
                tracker=tracker,
                guard=judge,
                keeper=keeper,
                feed=teller,
                thinking=self._thinking(params, detokenizer, grammar, matcher),
                calls=None if calls is None else calls.follower(matcher, self),
                on_part=on_part if sample == 0 else None,
                weights=None if scorer is None else scorer.weights,
            )
            ticket.requests.append(
                Request(
                    index=base if sample == 0 else next(self._indices),
                    request_id=ticket.request_id,
                    prompt_ids=prompt_ids,
                    params=params,
                    sampling=sampling,
                    max_tokens=max_tokens,
                    arrival=now,
                    sink=sink,
                    sample=sample,
                    drafter=self._drafter(params, matcher, stop_ids),
                    cache_keys=() if params.cache_salt is None else (("salt", params.cache_salt),),
                )
            )
        ticket.requests[0].siblings = ticket.requests[1:]
        return ticket

    def _finisher(
        self, grammar: Grammar | None, matcher: Matcher | None, params: SamplingParams, max_tokens: int
    ) -> Finisher | None:
        """Who ends a text in time. Nobody where the caller forbids tokens that its end may need."""
        if grammar is None or self.compiler is None:
            return None
        from ..forms.finisher import Finisher
        from ..forms.matcher import LlgMatcher

        if not isinstance(matcher, LlgMatcher):
            return None
        banned = any(bias == -math.inf for bias in (params.logit_bias or {}).values())
        if banned or params.allowed_token_ids is not None or params.bad_words:
            return None
        return Finisher(grammar, matcher, self.compiler, max_tokens)

    def _scorer(
        self,
        params: SamplingParams,
        grammar: Grammar | None,
        allowed: Mask | None,
        deliver: Callable[[Request, Completion], None],
        ticket: Ticket,
    ) -> Scorer | None:
        """Who adds to the completion how sure the model was, if the caller wants to know."""
        if params.confidence is False:
            return None
        if self.tokenizer is None or self.submit is None:
            raise ParameterError("confidence", params.confidence, "needs a tokenizer", "Make the engine with one.")
        from .confidence import Scorer, Weights

        if self._texts is None:
            from ..forms.options import token_texts

            self._texts = token_texts(self.tokenizer, self.limits.vocab_size)
        return Scorer(
            weights=Weights(self._texts, self.eos_ids),
            vocabulary=self._texts,
            limits=params.confidence if isinstance(params.confidence, ConfidenceOptions) else ConfidenceOptions(),
            grammar=grammar,
            eos_ids=self.eos_ids,
            choices=params.choice,
            allowed=allowed,
            submit=self.submit,
            deliver=deliver,
            fail=ticket.fail,
        )

    def _followers(
        self, guard: GuardOptions | None, kept: KeptText | None, feed: FeedOptions | None, matcher: Matcher | None
    ) -> tuple[FieldTracker | None, FieldGuard | None, Keeper | None, FieldFeed | None]:
        """Who follows the fields of an answer, through one tracker."""
        check = guard.form.check if guard is not None else kept.check if kept is not None else None
        check = feed.form.check if feed is not None else check
        if check is None or matcher is None:
            return None, None, None, None
        from ..forms.kept import Keeper
        from ..forms.tracker import FieldTracker
        from .feed import FieldFeed

        tracker = FieldTracker(check, keeps_log=feed is not None)
        judge = (
            None if guard is None else guard.guard(tracker, matcher, self.prefixes, self.limits.vocab_size, self.spell)
        )
        keeper = None if kept is None else Keeper(kept, self.spell, tracker)
        rewinder = None if judge is None else judge.rewinder
        return tracker, judge, keeper, None if feed is None else FieldFeed(feed, tracker, rewinder)

    def prefixes(self) -> TokenPrefixes:
        """The vocabulary in order. Making it takes some tenths of a second, once."""
        from ..forms.bans import TokenPrefixes

        assert self.tokenizer is not None
        if self._prefixes is None:
            self._prefixes = TokenPrefixes(self.tokenizer)
        return self._prefixes

    def spell(self, text: bytes) -> list[int]:
        """Tokens whose bytes are exactly `text`."""
        return self.prefixes().spell(text)

    def _drafter(
        self, params: SamplingParams, matcher: Matcher | None, stop_ids: frozenset[int]
    ) -> RequestDrafter | None:
        """Who guesses a request's tokens. Nobody for Python logits processors, which would see guesses as output."""
        kinds = DRAFT_MODES[params.drafts if params.drafts is not None else self.drafts.mode]
        forced = DraftKind.FORCED in kinds and matcher is not None and params.forced == "verify"
        ngram = DraftKind.NGRAM in kinds
        if params.logits_processors or not (forced or ngram):
            return None
        return RequestDrafter(
            self.drafts,
            self._odds[matcher is not None],
            grammar=matcher,
            forced=forced,
            ngram=ngram,
            never=self.eos_ids | stop_ids,
            normal=None if self.tokenizer is None else self.tokenizer.bare,
        )

    def form(self, response_type: Any, guarantee: Guarantee | None = None) -> Form[Any]:
        """The response type or plan compiled for this engine. Raises SchemaError."""
        from ..forms.form import Form

        return Form.of(response_type, self._require_compiler("response_model"), guarantee)

    def promise(self, params: SamplingParams, guarantee: Guarantee | None) -> None:
        """Raises SchemaError if the grammar that the parameters ask for holds less than `guarantee` demands."""
        if guarantee is None:
            return
        grammar = self._grammar(params)
        if grammar is None:
            reason, remedy = "needs a response_model or a json_schema", "Name the type of the answer, or leave it out."
            raise ParameterError("guarantee", guarantee, reason, remedy)
        if grammar.plan is not None:
            grammar.plan.promise(guarantee)

    def _grammar(self, params: SamplingParams) -> Grammar | None:
        given = [n for n in ("json_schema", "regex", "choice", "grammar") if getattr(params, n) is not None]
        if not given:
            return None
        return self._require_compiler(given[0]).compile_params(params)

    def _require_compiler(self, field_name: str) -> GrammarCompiler:
        if self.compiler is None:
            raise ParameterError(
                field_name, "…", "needs a tokenizer, but the engine was made with tokenizer=None", "Make it with one."
            )
        return self.compiler

    def _needs_text(self, params: SamplingParams) -> None:
        if self.tokenizer is not None:
            return
        for name in ("stop", "bad_words"):
            if getattr(params, name):
                raise ParameterError(name, getattr(params, name), "needs a tokenizer", "Make the engine with one.")

    def _thinking(
        self, params: SamplingParams, detokenizer: Any, grammar: Grammar | None, matcher: Any
    ) -> ThinkingLimit | None:
        if self.tokenizer is None or not isinstance(detokenizer, Segmenter):
            return None
        return limit_of(params.thinking_token_budget, detokenizer, grammar, matcher, self.compiler, self.tokenizer)

    def _detokenizer(self, params: SamplingParams, layout: Layout | None) -> IncrementalDetokenizer | Segmenter | None:
        if self.tokenizer is None:
            return None
        if layout is not None:
            return segmenter_of(layout, self.tokenizer, params.skip_special_tokens)
        return IncrementalDetokenizer(self.tokenizer, skip_special_tokens=params.skip_special_tokens)
