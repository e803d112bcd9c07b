"""A response type made ready for decoding with one tokenizer."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cached_property
from typing import Any

from ..core.errors import ParameterError
from ..structured.spec import Spec
from .grammar import Grammar, GrammarCompiler
from .lower_bound import TokenCounter, min_tokens
from .plan import Plan, plan

_CACHED_FORMS = 256


class Form:
    """A spec, its plan and its compiled grammar. Immutable; may be shared by requests and threads."""

    def __init__(self, spec: Spec[Any], planned: Plan, grammar: Grammar, forms: FormCompiler) -> None:
        self.spec = spec
        self.plan = planned
        self.grammar = grammar
        self._forms = forms

    @cached_property
    def min_tokens(self) -> int:
        """No valid answer has fewer tokens (not counting an end-of-sequence token). A lower bound, not always reached."""
        return min_tokens(self.plan.schema, self._forms.counter)

    def check_max_tokens(self, max_tokens: int | None) -> None:
        """Raise `ParameterError` if not even the shortest answer fits into `max_tokens`."""
        if max_tokens is not None and max_tokens < self.min_tokens:
            raise ParameterError(
                "max_tokens",
                max_tokens,
                f"any valid {self.spec.name} takes at least {self.min_tokens} tokens",
                f"Give at least {self.min_tokens}, rather several times as many.",
            )

    def accepts(self, json_text: str) -> bool:
        """Whether the grammar admits exactly this text (compact JSON, properties in order)."""
        matcher = self.grammar.matcher()
        tokens = self._forms.compiler.tokenizer.tokenize_str(json_text)
        return all(matcher.accept(token) for token in tokens) and matcher.is_accepting()


class FormCompiler:
    """Makes forms for one tokenizer and keeps the last ones by response type. Any thread may call it."""

    def __init__(self, compiler: GrammarCompiler) -> None:
        self.compiler = compiler
        self._cache: OrderedDict[Any, Form] = OrderedDict()
        self._lock = threading.Lock()

    def form(self, response_type: Any) -> Form:
        """The form of a response type or `Spec`. Raises `SchemaError` for what can't be decoded."""
        key = response_type.response_type if isinstance(response_type, Spec) else response_type
        try:
            hash(key)
        except TypeError:  # Annotated metadata need not be hashable; such types are compiled each time
            return self._make(response_type)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        form = self._make(response_type)
        with self._lock:
            self._cache[key] = form
            while len(self._cache) > _CACHED_FORMS:
                self._cache.popitem(last=False)
        return form

    def _make(self, response_type: Any) -> Form:
        spec = Spec.of(response_type)
        planned = plan(spec, self.compiler.plan_limits)
        return Form(spec, planned, self.compiler.compile_schema(planned), self)

    @cached_property
    def counter(self) -> TokenCounter:
        """The vocabulary as bytes, for lower bounds; made on first use."""
        tokenizer = self.compiler.tokenizer
        return TokenCounter([tokenizer.decode_bytes([token]) for token in range(tokenizer.vocab_size)])
