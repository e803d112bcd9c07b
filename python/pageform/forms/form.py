"""A response type made ready for decoding with one tokenizer."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, TypeVar

from ..structured.spec import Spec
from .checks import Check
from .grammar import Grammar, GrammarCompiler
from .plan import Guarantee, Plan, plan

T = TypeVar("T")


class Form(Generic[T]):
    """A plan and its compiled grammar. Immutable; may be shared by requests and threads."""

    def __init__(self, planned: Plan, grammar: Grammar, compiler: GrammarCompiler) -> None:
        self.plan = planned
        self.grammar = grammar
        self._compiler = compiler

    @classmethod
    def of(cls, source: Any, compiler: GrammarCompiler, guarantee: Guarantee | None = None) -> Form[Any]:
        """The form of a response type, a `Spec` or a `Plan`; the last ones are kept.

        Raises `SchemaError`; with `guarantee="full"` also, and before anything is compiled, where the plan is not all
        that validation checks.
        """
        form: Form[Any]

        def make() -> Form[Any]:
            planned = source if isinstance(source, Plan) else plan(Spec.of(source), compiler.plan_limits)
            planned.promise(guarantee)
            return cls(planned, compiler.compile_schema(planned), compiler)

        key = source.response_type if isinstance(source, Spec) else source
        try:
            hash(key)
        except TypeError:  # a plan, whose grammar is kept by content; metadata in Annotated need not be hashable
            return make()
        # Equal types need not be one type: Literal[1] == Literal[True].
        form = compiler.forms.get((key, repr(key)), make)
        form.plan.promise(guarantee)
        return form

    @cached_property
    def spec(self) -> Spec[T]:
        """The response type, which validates answers. Raises `SchemaError` for a plan of a schema that is no dict."""
        return Spec.of(self.plan.source)

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
        """Whether the grammar admits exactly this text (JSON as `json.dumps` spaces it, properties in order)."""
        matcher = self.grammar.matcher()
        tokens = self._compiler.tokenizer.tokenize_str(json_text)
        return all(matcher.accept(token) for token in tokens) and matcher.is_accepting()
