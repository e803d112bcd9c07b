"""A response type made ready for decoding with one tokenizer."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, TypeVar

from ..core.errors import ParameterError
from ..structured.spec import Spec
from .checks import Check
from .grammar import Grammar, GrammarCompiler
from .lower_bound import min_tokens
from .plan import Plan, plan

T = TypeVar("T")


class Form(Generic[T]):
    """A spec, its plan and its compiled grammar. Immutable; may be shared by requests and threads."""

    def __init__(self, spec: Spec[T], planned: Plan, grammar: Grammar, compiler: GrammarCompiler) -> None:
        self.spec = spec
        self.plan = planned
        self.grammar = grammar
        self._compiler = compiler

    @classmethod
    def of(cls, response_type: Any, compiler: GrammarCompiler) -> Form[Any]:
        """The form of a response type or `Spec`; the last ones are kept. Raises `SchemaError`."""

        def make() -> Form[Any]:
            spec = Spec.of(response_type)
            planned = plan(spec, compiler.plan_limits)
            return cls(spec, planned, compiler.compile_schema(planned), compiler)

        key = response_type.response_type if isinstance(response_type, Spec) else response_type
        try:
            hash(key)
        except TypeError:  # metadata in Annotated need not be hashable
            return make()
        # Equal types need not be one type: Literal[1] == Literal[True].
        return compiler.forms.get((key, repr(key)), make)

    @cached_property
    def min_tokens(self) -> int:
        """No valid answer has fewer tokens, not counting an end-of-sequence token. It may have to have more."""
        return min_tokens(self.plan.schema, self._compiler.token_counter)

    @cached_property
    def check(self) -> Check:
        """Judges the values of an answer one by one."""
        return Check.of(self.spec.adapter)

    def check_max_tokens(self, max_tokens: int) -> None:
        """Raise `ParameterError` if not even the shortest answer fits into `max_tokens`."""
        if max_tokens < self.min_tokens:
            raise ParameterError(
                "max_tokens",
                max_tokens,
                f"any valid {self.spec.name} takes at least {self.min_tokens} tokens",
                f"Give at least {self.min_tokens}, rather several times as many.",
            )

    def accepts(self, json_text: str) -> bool:
        """Whether the grammar admits exactly this text (compact JSON, properties in order)."""
        matcher = self.grammar.matcher()
        tokens = self._compiler.tokenizer.tokenize_str(json_text)
        return all(matcher.accept(token) for token in tokens) and matcher.is_accepting()
