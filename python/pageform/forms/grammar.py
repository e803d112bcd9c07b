"""Grammars over llguidance: compiled once, cached by content, followed by a matcher a sequence.

llguidance computes masks on the fly from an Earley parser over derivative-based lexemes, so that compiling takes
milliseconds; it refuses what it can't express instead of guessing.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ParameterError, SchemaError
from ..core.params import SamplingParams
from .plan import Plan, PlanLimits, plan

if TYPE_CHECKING:
    from llguidance import LLExecutor, LLMatcher, LLTokenizer

Mask = NDArray[np.uint32]
"""One bit a token, `[ceil(vocab_size / 32)]` or a batch of such rows; token t is bit t % 32 of word t // 32."""

_COMPACT = {"whitespace_flexible": False, "json_allowed_escapes": 'nrbtf\\"'}
"""No whitespace, and no `\\u` escapes: half of a surrogate pair would make text that JSON parsers refuse."""


class Matcher(Protocol):
    """Where one sequence stands in its grammar. Used by one thread at a time."""

    def fill_mask(self, row: Mask) -> None:
        """Write the tokens that may come next. Once the text is complete these include the end-of-sequence tokens."""

    def accept(self, token_id: int) -> bool:
        """Go on by one token; False, and no change, if the grammar doesn't allow it."""

    def rollback(self, count: int) -> None:
        """Take back the last `count` accepted tokens."""

    def forced(self) -> list[int]:
        """The tokens that must come next whatever the model says, in their canonical form; often none."""

    def is_accepting(self) -> bool:
        """Whether the text so far is complete (it may yet be allowed to go on)."""

    def is_stopped(self) -> bool:
        """Whether nothing but an end-of-sequence token may follow."""

    def fork(self) -> Matcher:
        """An independent copy that stands at the same place."""


@dataclass(frozen=True, slots=True)
class GrammarLimits:
    """How large and how hard a grammar may be. Fuel bounds time: llguidance spends about 50,000 units of initial and
    14,000 of step fuel a millisecond."""

    source_bytes: int = 1 << 20
    initial_lexer_fuel: int = 2_000_000
    step_lexer_fuel: int = 500_000
    step_max_items: int = 100_000
    max_lexer_states: int = 250_000
    max_grammar_size: int = 500_000
    choices: int = 10_000
    cached_grammars: int = 256


class Grammar:
    """A compiled grammar. `matcher()` gives a fresh matcher at its start; any thread may call it."""

    def __init__(self, start: _LlgMatcher, plan: Plan | None = None) -> None:
        self._start = start
        self._lock = threading.Lock()
        self.plan = plan
        """The plan it was compiled from; None for regular expressions, choices and Lark."""

    def matcher(self) -> Matcher:
        """A matcher that has accepted nothing yet."""
        with self._lock:
            return self._start.fork()


class GrammarCompiler:
    """Compiles grammars for one tokenizer and keeps the last ones.

    `tokenizer_json` is the text of a `tokenizer.json`; `vocab_size` is the width of the model's logits, which may exceed
    the tokenizer's (surplus ids are never allowed); `eos_ids` end a text. All methods may be called from any thread.
    Faults of a grammar raise `SchemaError` naming the caller's parameter.
    """

    def __init__(
        self,
        tokenizer_json: str,
        vocab_size: int,
        eos_ids: Sequence[int],
        limits: GrammarLimits | None = None,
        plan_limits: PlanLimits | None = None,
    ) -> None:
        if not eos_ids:
            raise ParameterError("eos_ids", [], "a grammar needs a token that ends the text", "Name one.")
        self.vocab_size = vocab_size
        self.eos_ids = list(eos_ids)
        self.limits = limits or GrammarLimits()
        self.plan_limits = plan_limits or PlanLimits()
        self._tokenizer_json: str | None = tokenizer_json
        self._tokenizer: LLTokenizer | None = None
        self._executor: LLExecutor | None = None
        self._cache: OrderedDict[tuple[str, str], Grammar] = OrderedDict()
        self._lock = threading.RLock()

    @property
    def mask_words(self) -> int:
        """Words of a mask row."""
        return (self.vocab_size + 31) // 32

    @property
    def tokenizer(self) -> LLTokenizer:
        """llguidance's view of the vocabulary. Building it takes 0.3 to 0.6 s, once."""
        with self._lock:
            if self._tokenizer is None:
                from llguidance import LLTokenizer

                assert self._tokenizer_json is not None
                try:
                    self._tokenizer = LLTokenizer(
                        self._tokenizer_json,
                        n_vocab=self.vocab_size,
                        eos_token=self.eos_ids,
                        slices=LLTokenizer.json_slices(),
                    )
                except ValueError as error:
                    raise ParameterError(
                        "tokenizer", f"{len(self._tokenizer_json)} characters", str(error), "Use a fast (BPE) tokenizer."
                    ) from error
                self._tokenizer_json = None
            return self._tokenizer

    def warm(self) -> None:
        """Build what the first grammar would otherwise wait for."""
        self.compile_choice(["warm"])

    # --- compiling ---------------------------------------------------------------------------------------------------

    def compile_params(self, params: SamplingParams) -> Grammar | None:
        """The grammar that sampling parameters ask for, None if they ask for none."""
        if params.json_schema is not None:
            return self.compile_json_schema(params.json_schema)
        if params.regex is not None:
            return self.compile_regex(params.regex)
        if params.choice is not None:
            return self.compile_choice(params.choice)
        return None if params.grammar is None else self.compile_lark(params.grammar)

    def compile_schema(self, planned: Plan) -> Grammar:
        """The grammar of a plan: compact JSON."""
        from llguidance import LLMatcher

        text = json.dumps(planned.schema, ensure_ascii=False, separators=(",", ":"))
        shown = planned.source if planned.source is not None else planned.schema
        return self._compile(
            ("json", text),
            planned.parameter,
            shown,
            lambda: LLMatcher.grammar_from_json_schema(text, overrides=_COMPACT),
            "Simplify the type or schema.",
            planned,
        )

    def compile_json_schema(self, schema: Mapping[str, Any] | str | bool) -> Grammar:
        """Plan and compile a JSON schema, given as such or as its text."""
        if isinstance(schema, str):
            self._check_size("json_schema", schema)
            try:
                schema = json.loads(schema)
            except ValueError as error:
                raise SchemaError("json_schema", schema, f"it is not JSON ({error})", "Correct the text.") from error
        if not isinstance(schema, (Mapping, bool)):
            raise SchemaError("json_schema", schema, "a schema must be an object or a bool", "Give a JSON schema.")
        try:
            self._check_size("json_schema", json.dumps(schema))
        except (TypeError, ValueError, RecursionError) as error:
            raise SchemaError("json_schema", schema, f"it can't be written as JSON ({error})", "Correct it.") from error
        return self.compile_schema(plan(schema, self.plan_limits))

    def compile_regex(self, pattern: str) -> Grammar:
        """A regular expression (Rust's syntax, no look-around) that the whole text must match."""
        from llguidance import LLMatcher

        _check_text("regex", pattern)
        return self._compile(
            ("regex", pattern),
            "regex",
            pattern,
            lambda: LLMatcher.grammar_from_regex(pattern),
            "Use the syntax of Rust's regex crate; look-around and back-references are not supported.",
        )

    def compile_choice(self, choices: Sequence[str]) -> Grammar:
        """One of several texts."""
        from llguidance import LLMatcher

        if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
            raise SchemaError("choice", choices, "there is nothing to choose from", "Give a list of texts.")
        for choice in choices:
            _check_text("choice", choice)
            if not choice:
                raise SchemaError("choice", choice, "a choice must not be empty", "Remove it.")
        if len(choices) > self.limits.choices:
            raise SchemaError(
                "choice", list(choices), f"{len(choices)} choices exceed {self.limits.choices}", "Use a regex."
            )
        lark = "start: " + " | ".join(_lark_string(choice) for choice in dict.fromkeys(choices))
        return self._compile(
            ("choice", lark), "choice", list(choices), lambda: LLMatcher.grammar_from_lark(lark), "Correct the choices."
        )

    def compile_lark(self, lark: str) -> Grammar:
        """A context-free grammar in llguidance's dialect of Lark."""
        from llguidance import LLMatcher

        _check_text("grammar", lark)
        return self._compile(
            ("lark", lark),
            "grammar",
            lark,
            lambda: LLMatcher.grammar_from_lark(lark),
            "See https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md for the syntax.",
        )

    def _compile(
        self,
        key: tuple[str, str],
        parameter: str,
        shown: Any,
        source: Callable[[], str],
        remedy: str,
        planned: Plan | None = None,
    ) -> Grammar:
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        self._check_size(parameter, key[1])
        start = self._start(parameter, shown, source, remedy)
        grammar = Grammar(start, planned)
        with self._lock:
            self._cache[key] = grammar
            while len(self._cache) > self.limits.cached_grammars:
                self._cache.popitem(last=False)
        return grammar

    def _start(self, parameter: str, shown: Any, source: Callable[[], str], remedy: str) -> _LlgMatcher:
        """A matcher at the start of a new grammar, after it has proved that a text can begin."""
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(
            initial_lexer_fuel=self.limits.initial_lexer_fuel,
            step_lexer_fuel=self.limits.step_lexer_fuel,
            step_max_items=self.limits.step_max_items,
            max_lexer_states=self.limits.max_lexer_states,
            max_grammar_size=self.limits.max_grammar_size,
            verbose_errors=False,
        )
        try:
            matcher = _LlgMatcher(LLMatcher(self.tokenizer, source(), log_level=0, limits=limits))
        except ValueError as error:
            raise SchemaError(parameter, shown, _one_line(str(error)), remedy) from error
        fault = matcher.fault()
        if fault is None:
            mask: Mask = np.zeros(self.mask_words, np.uint32)
            matcher.fill_mask(mask)
            fault = matcher.fault()
            for token in self.eos_ids:
                mask[token // 32] &= np.uint32(~(1 << token % 32) & 0xFFFFFFFF)
            if not matcher.is_accepting() and not mask.any():
                raise SchemaError(parameter, shown, "no text satisfies it", "Widen it so that some text is allowed.")
        if fault is not None:
            raise SchemaError(parameter, shown, fault, remedy)
        return matcher

    def _check_size(self, parameter: str, text: str) -> None:
        if len(text) > self.limits.source_bytes:
            raise SchemaError(
                parameter, text, f"{len(text)} characters exceed {self.limits.source_bytes}", "Use a smaller grammar."
            )

    # --- masks -------------------------------------------------------------------------------------------------------

    def fill_masks(self, rows: Sequence[tuple[Matcher, int]], masks: Mask) -> dict[int, SchemaError]:
        """Fill rows of `masks` [n, ceil(vocab_size / 32)] in parallel threads, with the GIL released.

        Meant for a spare thread while a step runs. Returns the rows whose grammar became too complex for its limits,
        with the error that must finish their request; such a row allows the end of the text only.
        """
        if masks.dtype != np.uint32 or masks.ndim != 2 or masks.shape[1] != self.mask_words:
            raise ValueError(f"masks must be uint32 [n, {self.mask_words}], not {masks.dtype} {list(masks.shape)}")
        if not masks.flags.c_contiguous:
            raise ValueError("masks must be contiguous")
        if not rows:
            return {}
        matchers = [(_unwrap(matcher), row) for matcher, row in rows]
        if len(matchers) == 1:
            rows[0][0].fill_mask(masks[rows[0][1]])
        else:
            self._threads().unsafe_compute_mask_ptr(matchers, masks.ctypes.data, masks.strides[0], len(masks))
        failed = {}
        for matcher, row in matchers:
            if matcher.is_error():
                masks[row] = 0
                for token in self.eos_ids:
                    masks[row, token // 32] |= np.uint32(1 << token % 32)
                failed[row] = SchemaError(
                    "grammar",
                    "a running request",
                    f"the grammar became too complex ({_one_line(matcher.get_error())})",
                    "Simplify the type, schema or grammar: fewer overlapping options, shorter repetitions.",
                )
        return failed

    def _threads(self) -> LLExecutor:
        with self._lock:
            if self._executor is None:
                from llguidance import LLExecutor

                self._executor = LLExecutor()
            return self._executor


class _LlgMatcher:
    """`Matcher` over llguidance's."""

    def __init__(self, inner: LLMatcher) -> None:
        self.inner = inner

    def fill_mask(self, row: Mask) -> None:
        if row.dtype != np.uint32 or row.ndim != 1 or not row.flags.c_contiguous:
            raise ValueError("a mask row must be contiguous uint32")
        self.inner.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)

    def accept(self, token_id: int) -> bool:
        return int(self.inner.try_consume_tokens([token_id])) == 1

    def rollback(self, count: int) -> None:
        if not self.inner.rollback(count):
            raise ValueError(f"can't take back {count} tokens: {_one_line(self.inner.get_error())}")

    def forced(self) -> list[int]:
        return list(self.inner.compute_ff_tokens())

    def is_accepting(self) -> bool:
        return bool(self.inner.is_accepting())

    def is_stopped(self) -> bool:
        return bool(self.inner.is_stopped())

    def fork(self) -> _LlgMatcher:
        return _LlgMatcher(self.inner.deep_copy())

    def fault(self) -> str | None:
        """What is wrong with the grammar, None if nothing is."""
        return _one_line(self.inner.get_error()) if self.inner.is_error() else None


def _unwrap(matcher: Matcher) -> LLMatcher:
    if not isinstance(matcher, _LlgMatcher):
        raise TypeError(f"{type(matcher).__name__} is not a matcher of this compiler")
    return matcher.inner


def _check_text(parameter: str, text: Any) -> None:
    if not isinstance(text, str):
        raise SchemaError(parameter, text, "must be text", "Give a string.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SchemaError(parameter, text, f"is not valid Unicode ({error.reason})", "Remove it.") from error


def _lark_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    """The first lines of llguidance's message, without its state dump."""
    lines = [line.strip() for line in text.split("<state>")[0].splitlines() if line.strip()]
    return " ".join(lines)[:400]
