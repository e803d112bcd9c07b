"""A response type made ready for decoding with one tokenizer."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, TypeVar

from ..structured.spec import Spec
from .checks import Check
from .grammar import Grammar, GrammarCompiler
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
        """With so many tokens an answer is always complete: those of the shortest one, as far as a search finds it.

        An end-of-sequence token is not counted.
        """
        shortest = self.grammar.shortest(self._compiler.vocabulary)
        return self.plan.min_tokens if shortest is None else len(shortest)

    @cached_property
    def check(self) -> Check:
        """Judges the values of an answer one by one."""
        return Check.of(self.spec.adapter)

    def accepts(self, json_text: str) -> bool:
        """Whether the grammar admits exactly this text (compact JSON, properties in order)."""
        matcher = self.grammar.matcher()
        tokens = self._compiler.tokenizer.tokenize_str(json_text)
        return all(matcher.accept(token) for token in tokens) and matcher.is_accepting()
