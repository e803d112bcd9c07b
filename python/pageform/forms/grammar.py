"""Grammars over llguidance: compiled once, cached by content, followed by one matcher a sequence.

llguidance computes masks on the fly from an Earley parser over derivative-based lexemes, so that compiling takes
milliseconds; it refuses what it can't express instead of guessing.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..core.errors import ParameterError, SchemaError
from ..core.params import SamplingParams
from ..core.stopwatch import Stopwatch
from .closing import Vocabulary, shortest_end
from .course import Course, JsonCourse, PlainCourse
from .lru import Lru
from .matcher import LlgMatcher, Mask, Matcher, one_line
from .plan import Plan, PlanLimits, plan
from .shortest import ShortestTexts

if TYPE_CHECKING:
    from llguidance import LLExecutor, LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

    from .form import Form

__all__ = ["Grammar", "GrammarCompiler", "GrammarLimits", "Mask", "Matcher", "fill_masks"]

STYLE: JsonCompileOptions = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "json_allowed_escapes": 'nrbtf\\"',
}
"""One space behind each comma and colon, as in Python's json.dumps: so models have learned to write JSON. No `\\u`
escapes: half of a surrogate pair would make text that JSON parsers refuse."""

STATES = 5000
"""Places that the search for a grammar's shortest text looks at."""


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
    cached_forms: int = 256


class Grammar:
    """A compiled grammar. `matcher()` gives a fresh matcher at its start; any thread may call it."""

    def __init__(self, start: LlgMatcher, planned: Plan | None = None, source: str = "") -> None:
        self._start = start
        self.source = source
        """The grammar as llguidance takes it."""
        self._lock = threading.Lock()
        self.plan = planned
        """The plan it was compiled from; None for regular expressions, choices and Lark."""
        self._shortest: list[int] | None = None
        self._searched = False

    def matcher(self, watch: Stopwatch | None = None) -> Matcher:
        """A matcher that has accepted nothing yet, and counts its time on `watch`."""
        with self._lock:  # llguidance's objects refuse to be borrowed twice at once
            return self._start.fork(watch)

    @cached_property
    def texts(self) -> ShortestTexts | None:
        """How long the parts of its JSON are at least; None where there is no schema."""
        return None if self.plan is None else ShortestTexts(self.plan.schema)

    @property
    def hints(self) -> Sequence[bytes]:
        """Texts that patterns in it may want; see `closing.shortest_end`."""
        return () if self.texts is None else self.texts.examples

    def vocabulary(self, vocabulary: Vocabulary) -> Vocabulary:
        """The vocabulary as texts of the grammar are spelled."""
        return vocabulary

    def course(self) -> Course:
        """Where a text stands that has not begun."""
        return PlainCourse() if self.texts is None else JsonCourse(self.texts)

    def shortest(self, vocabulary: Vocabulary) -> list[int] | None:
        """The fewest tokens of a text that it admits; None if the search, which is made once, finds none."""
        with self._lock:
            if not self._searched:
                self._shortest = self._search(vocabulary)
                self._searched = True
            return self._shortest

    def _search(self, vocabulary: Vocabulary) -> list[int] | None:
        return shortest_end(self._start, self.course().state(), vocabulary, STATES, self.hints)


def _plain(start: LlgMatcher, source: str) -> Grammar:
    return Grammar(start, None, source)


class GrammarCompiler:
    """Compiles grammars for one tokenizer and keeps the last ones.

    `tokenizer_json` gives the text of a `tokenizer.json`, once a grammar is compiled; `vocab_size` is the width of the
    model's logits, which may exceed the tokenizer's (surplus ids are never allowed); `eos_ids` end a text. All methods
    may be called from any thread. Faults of a grammar raise `SchemaError` naming the caller's parameter.
    """

    def __init__(
        self,
        tokenizer_json: Callable[[], str],
        vocab_size: int,
        eos_ids: Sequence[int],
        limits: GrammarLimits | None = None,
        plan_limits: PlanLimits | None = None,
    ) -> None:
        if not eos_ids or any(not 0 <= token < vocab_size for token in eos_ids):
            raise ParameterError(
                "eos_ids", list(eos_ids), f"a grammar needs tokens below {vocab_size} that end a text", "Name them."
            )
        self.vocab_size = vocab_size
        self.eos_ids = list(eos_ids)
        self.limits = limits or GrammarLimits()
        self.plan_limits = plan_limits or PlanLimits()
        self.forms: Lru[Form[Any]] = Lru(self.limits.cached_forms)
        """The cache of `Form.of`."""
        self._tokenizer_json = tokenizer_json
        self._tokenizer_lock = threading.Lock()
        self._vocabulary: Vocabulary | None = None
        self._grammars: Lru[Grammar] = Lru(self.limits.cached_grammars)

    @property
    def tokenizer(self) -> LLTokenizer:
        """llguidance's view of the vocabulary. Building it takes 0.3 to 0.6 s, once."""
        with self._tokenizer_lock:
            return self._tokenizer

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        from llguidance import LLTokenizer

        text = self._tokenizer_json()
        try:
            slices = LLTokenizer.json_slices()
            return LLTokenizer(text, n_vocab=self.vocab_size, eos_token=self.eos_ids, slices=slices)
        except ValueError as error:
            shown = f"{len(text)} characters of JSON"
            remedy = "Grammars need a tokenizer.json of the tokenizers library."
            raise ParameterError("tokenizer", shown, one_line(str(error)), remedy) from error

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens as bytes, for ending texts. Building it takes 0.1 s, once."""
        tokenizer = self.tokenizer
        with self._tokenizer_lock:
            if self._vocabulary is None:
                self._vocabulary = Vocabulary(tokenizer, self.eos_ids)
            return self._vocabulary

    def warm(self) -> None:
        """Build what the first grammar would otherwise wait for."""
        self.compile_choice(["warm"])

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
        """The grammar of a plan: JSON in the one style that `STYLE` tells."""
        from llguidance import LLMatcher

        text = json.dumps(planned.schema, ensure_ascii=False, separators=(",", ":"))
        shown = planned.schema if planned.source is None else planned.source

        def source() -> str:
            return LLMatcher.grammar_from_json_schema(text, overrides=STYLE)

        remedy = "Simplify the type or schema."
        return self.compile(
            "json", text, planned.parameter, shown, remedy, source, lambda start, text: Grammar(start, planned, text)
        )

    def compile_json_schema(self, schema: Mapping[str, Any] | str | bool) -> Grammar:
        """Plan and compile a JSON schema, given as such or as its text."""
        if isinstance(schema, str):
            self._check_size("json_schema", schema)
            try:
                schema = json.loads(schema)
            except (ValueError, RecursionError) as error:
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
        remedy = "Use the syntax of Rust's regex crate; look-around and back-references are not supported."
        return self.compile("regex", pattern, "regex", pattern, remedy, lambda: LLMatcher.grammar_from_regex(pattern))

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
            reason = f"{len(choices)} choices exceed {self.limits.choices}"
            raise SchemaError("choice", list(choices), reason, "Use a regex.")
        pattern = "|".join(literal_pattern(choice) for choice in dict.fromkeys(choices))
        remedy = "Correct the choices."
        return self.compile(
            "choice", pattern, "choice", list(choices), remedy, lambda: LLMatcher.grammar_from_regex(pattern)
        )

    def compile_lark(self, lark: str) -> Grammar:
        """A context-free grammar in llguidance's dialect of Lark."""
        from llguidance import LLMatcher

        _check_text("grammar", lark)
        remedy = "See https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md for the syntax."
        return self.compile("lark", lark, "grammar", lark, remedy, lambda: LLMatcher.grammar_from_lark(lark))

    def compile(
        self,
        kind: str,
        content: str,
        parameter: str,
        shown: Any,
        remedy: str,
        source: Callable[[], str],
        finish: Callable[[LlgMatcher, str], Grammar] = _plain,
    ) -> Grammar:
        """The grammar of some content, which must prove that a text can begin; `finish` makes it of a matcher and its
        source."""
        from llguidance import LLMatcher

        def make() -> Grammar:
            self._check_size(parameter, content)
            text = source()
            inner = LLMatcher(self.tokenizer, text, log_level=0, limits=self._parser_limits())
            matcher = LlgMatcher(inner, frozenset(self.eos_ids))
            fault = matcher.fault()
            if fault is None:
                first = matcher.mask(self.vocab_size)
                fault = matcher.fault()
                if fault is None and not (matcher.is_accepting() or self._goes_on(first)):
                    raise SchemaError(parameter, shown, "no text satisfies it", "Widen it to allow some text.")
            if fault is not None:
                if "NoExtension" in fault:
                    raise SchemaError(parameter, shown, "no text satisfies it", "Widen it to allow some text.")
                raise SchemaError(parameter, shown, fault, remedy)
            return finish(matcher, text)

        try:
            return self._grammars.get((kind, content), make)
        except ParameterError:
            raise
        except ValueError as error:  # llguidance's own
            raise SchemaError(parameter, shown, one_line(str(error)), remedy) from error

    def _goes_on(self, mask: Mask) -> bool:
        """Whether a mask allows anything but the end of the text."""
        for token in self.eos_ids:
            mask[token // 32] &= 0xFFFFFFFF ^ (1 << token % 32)
        return bool(mask.any())

    def _parser_limits(self) -> Any:
        from llguidance import LLParserLimits

        return LLParserLimits(
            initial_lexer_fuel=self.limits.initial_lexer_fuel,
            step_lexer_fuel=self.limits.step_lexer_fuel,
            step_max_items=self.limits.step_max_items,
            max_lexer_states=self.limits.max_lexer_states,
            max_grammar_size=self.limits.max_grammar_size,
            verbose_errors=False,
        )

    def _check_size(self, parameter: str, text: str) -> None:
        if len(text) > self.limits.source_bytes:
            reason = f"{len(text)} characters exceed {self.limits.source_bytes}"
            raise SchemaError(parameter, text, reason, "Use a smaller grammar.")


MaskRows = tuple[Matcher, int, Sequence[int]]
"""A matcher, the row of the mask of its next token, and tokens it may go on by, which have the masks in the rows after
it: row + i is what may follow the first i of them."""


def fill_masks(rows: Sequence[MaskRows], masks: Mask) -> None:
    """Fill rows of `masks` [n, ceil(vocab_size / 32)] in parallel threads, with the GIL released.

    A matcher may appear once; afterwards it stands where it stood. Each token must be one that `Matcher.advance` would
    take. Meant for a spare thread while a step runs. Raises `SchemaError` if a grammar has become too complex for its
    limits; all other rows are filled then.
    """
    if masks.dtype != "uint32" or masks.ndim != 2 or not masks.flags.c_contiguous:
        raise ValueError(f"masks must be contiguous uint32 [n, words], not {masks.dtype} {list(masks.shape)}")
    single: list[tuple[LLMatcher, int]] = []
    several: list[tuple[LLMatcher, int, list[int]]] = []
    for matcher, row, ahead in rows:
        if not isinstance(matcher, LlgMatcher):
            raise TypeError("fill_masks takes matchers of a GrammarCompiler")
        if not 0 <= row < len(masks) - len(ahead):
            raise IndexError(f"rows {row} to {row + len(ahead)} lie outside the {len(masks)} rows of masks")
        if matcher.ended:
            matcher.fill_mask(masks[row])
        elif ahead:
            several.append((matcher.inner, row, list(ahead)))
        else:
            single.append((matcher.inner, row))
    if len(single) == 1 and not several:
        [(inner, row)] = single
        inner.unsafe_compute_mask_ptr(masks[row].ctypes.data, masks.strides[0])
    elif single:
        _executor().unsafe_compute_mask_ptr(single, masks.ctypes.data, masks.strides[0], len(masks))
    if several:
        _executor().unsafe_compute_mask_ptr_with_draft_token(several, masks.ctypes.data, masks.strides[0], len(masks))
    for running in (*(inner for inner, _ in single), *(inner for inner, _, _ in several)):
        if running.is_error():
            raise SchemaError(
                "grammar",
                "of a running request",
                f"it became too complex ({one_line(running.get_error())})",
                "Simplify the type, schema or grammar: fewer overlapping options, shorter repetitions.",
            )


@functools.cache
def _executor() -> LLExecutor:
    from llguidance import LLExecutor

    return LLExecutor()


def literal_pattern(text: str) -> str:
    """A regular expression for exactly this text; every sign is written as its code point."""
    return "".join(char if char.isalnum() and char.isascii() else f"\\x{{{ord(char):x}}}" for char in text)


def _check_text(parameter: str, text: Any) -> None:
    if not isinstance(text, str):
        raise SchemaError(parameter, text, "must be text", "Give a string.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SchemaError(parameter, text, f"is not valid Unicode ({error.reason})", "Remove it.") from error
