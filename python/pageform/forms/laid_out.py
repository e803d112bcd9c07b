"""Grammars of answers that are more than one thing: thoughts first, then a form; or text that turns into tool calls.

One grammar holds all of it, so that masks, drafts, rewinds and ends work across the seams. Thoughts and text are free
but for control tokens; the tag that ends them is found by a lazy lexeme, wherever tokens are cut.

    start: thoughts gap answer          thoughts[lazy]: /(.|\\n)*<\\/think>/     answer: @form
    start: text | lead first more{0,31}     lead[lazy]: /(.|\\n)*<tool_call>/    one: "weather…" @tool0 "}…" | …
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .closing import TextState, Vocabulary, shortest_end, split
from .course import Course, JsonCourse, PlainCourse
from .grammar import STATES, STYLE, Grammar, GrammarCompiler, literal_pattern
from .layout import Kind, Layout, Mode, scan
from .open_path import OpenPath
from .plan import Plan
from .shortest import ShortestTexts

if TYPE_CHECKING:
    from .matcher import LlgMatcher

MAX_CALLS = 32
"""Calls in one answer at most."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a laid-out answer consists of. `form` is the grammar of what comes after the thoughts; with `tools`, by name
    the plan of each one's arguments, it is text or calls instead."""

    layout: Layout
    form: Grammar | None = None
    tools: Mapping[str, Plan] | None = None
    must_call: bool = False
    parallel: bool = True


def compile_answer(compiler: GrammarCompiler, answer: Answer) -> LaidOutGrammar:
    """The grammar of an answer with a form, or with tools. Raises SchemaError."""
    specials = _specials(compiler, answer.layout)
    rules, parts = _Writer(answer, specials).write()
    source = json.dumps({"grammars": [{"lark_grammar": rules}, *parts]}, ensure_ascii=False)
    shown: Any = list(answer.tools) if answer.tools else answer.layout
    made = compiler.compile(
        f"answer {answer.layout!r}",
        source,
        "tools" if answer.tools else "reasoning",
        shown,
        "Simplify the types of the arguments.",
        lambda: source,
        lambda start, text: LaidOutGrammar(start, text, answer, specials),
    )
    assert isinstance(made, LaidOutGrammar)
    return made


class LaidOutGrammar(Grammar):
    """The grammar of an `Answer`. `specials` are the control tokens in its tags."""

    def __init__(self, start: LlgMatcher, source: str, answer: Answer, specials: Mapping[bytes, int]) -> None:
        super().__init__(start, None if answer.form is None else answer.form.plan, source)
        self.answer = answer
        self._specials = specials

    @cached_property
    def texts_of(self) -> dict[str, ShortestTexts]:
        """How long the arguments of each tool are at least."""
        return {name: ShortestTexts(plan.schema) for name, plan in (self.answer.tools or {}).items()}

    @cached_property
    def longest_call(self) -> float:
        """Bytes of the shortest call of whichever tool, at most."""
        form = self.answer.layout.calls
        assert form is not None
        written = len((form.begin or form.between) + form.before_name + form.after_name + form.tail + form.close)
        return written + max(len(name) + texts.of(texts.schema) for name, texts in self.texts_of.items())

    @property
    def hints(self) -> Sequence[bytes]:
        if self.answer.form is not None:
            return self.answer.form.hints
        return tuple(hint for texts in self.texts_of.values() for hint in texts.examples)

    @property
    def known(self) -> Sequence[int] | None:
        """Its shortest text, once that was searched."""
        return self._shortest

    def course(self) -> Course:
        return LayoutCourse(self)

    def vocabulary(self, vocabulary: Vocabulary) -> Vocabulary:
        return vocabulary.with_specials(self._specials)

    def spell(self, tag: bytes, vocabulary: Vocabulary) -> list[int]:
        """Tokens of a tag, the control tokens in it among them. Raises ValueError if there are none."""
        tokens = self.vocabulary(vocabulary).spell(tag)
        if tokens is None:
            raise ValueError(f"the vocabulary can't spell {tag!r}")
        return tokens

    def _search(self, vocabulary: Vocabulary) -> list[int] | None:
        """Thoughts end with their tag, and calls begin with their head."""
        layout, course = self.answer.layout, self.course()
        tokens = self.spell(layout.end, vocabulary) if layout.end else []
        if self.answer.tools and not self.answer.must_call:
            return tokens
        if self.answer.tools:
            tokens += self.spell(layout.head(0), vocabulary)
        at = self._start.fork()
        if not all(at.accept(token) for token in tokens):
            return None
        course.feed(vocabulary.text(tokens))
        rest = shortest_end(at, course.state(), self.vocabulary(vocabulary), STATES, self.hints)
        return None if rest is None else tokens + rest


class LayoutCourse:
    """Follows one answer of a laid-out grammar; see `Course`."""

    is_bounded = False

    def __init__(self, grammar: LaidOutGrammar) -> None:
        self._grammar = grammar
        self._answer = grammar.answer
        self._at = grammar.answer.layout.start
        self._form = self._new_form()
        self._path: OpenPath | None = None
        self._call = bytearray()  # the text of the current call

    def _new_form(self) -> Course | None:
        form = self._answer.form
        return None if form is None else PlainCourse() if form.texts is None else JsonCourse(form.texts)

    @property
    def is_endless(self) -> bool:
        return self._answer.tools is not None and self._at.mode in (Mode.TEXT, Mode.PLAIN)

    def feed(self, data: bytes) -> None:
        before = self._at
        self._at, pieces = scan(self._answer.layout, before, data)
        for piece in pieces:
            if piece.kind is Kind.TEXT and self._form is not None:
                self._form.feed(piece.data)
            elif piece.kind is Kind.CALL:
                self._path = OpenPath(self._grammar.texts_of[piece.data.decode()])
                form = self._answer.layout.calls
                assert form is not None
                self._call = bytearray((form.before_name + piece.data.decode() + form.after_name).encode())
            elif piece.kind is Kind.ARGUMENTS and self._path is not None:
                self._path.feed(piece.data)
                self._call += piece.data
            elif piece.kind is Kind.CALLED:
                self._path = None

    def lacks(self) -> float:
        mode, form = self._at.mode, self._answer.layout.calls
        if mode is Mode.THOUGHTS:
            return float(len(self._grammar.known or ()))
        if self._form is not None:
            return self._form.lacks()
        if form is None or mode is Mode.PLAIN:
            return 0.0
        end = float(len(form.tail + form.close))
        if self._path is not None:
            return self._path.lacks() + end
        if mode is Mode.TAIL:
            return end
        if mode is Mode.HEAD:
            return self._grammar.longest_call if self._at.held or not self._at.calls else float(len(form.close))
        return self._grammar.longest_call if self._answer.must_call else 0.0

    def doubt(self) -> float:
        if self._at.mode is Mode.THOUGHTS:
            return 3.0  # an incomplete character
        if self._form is not None:
            return self._form.doubt()
        if self._path is not None:
            return self._path.doubt()
        undecided = self._at.mode is Mode.HEAD or (self._answer.must_call and self._at.mode is not Mode.TAIL)
        return self._grammar.longest_call if undecided else 0.0

    def way(self) -> Sequence[int] | None:
        if self._at.mode is Mode.THOUGHTS:
            return self._grammar.known
        return () if self.is_endless and not self._answer.must_call else None

    def state(self) -> TextState:
        if self._form is not None:
            return self._form.state()
        if self._path is not None or self._at.mode is Mode.TAIL:
            return TextState().after(bytes(self._call))
        form = self._answer.layout.calls
        assert form is not None
        between = form.between if self._at.calls else form.begin
        return TextState().after(self._at.held[len(between.encode()) :])


class _Writer:
    """Writes the rules of an answer in llguidance's dialect of Lark, and the grammars that they refer to."""

    def __init__(self, answer: Answer, specials: Mapping[bytes, int]) -> None:
        self._answer, self._specials = answer, specials
        self._rules: list[str] = []
        self._parts: list[dict[str, Any]] = []

    def write(self) -> tuple[str, list[dict[str, Any]]]:
        answer = self._answer
        start = self._calls() if answer.tools else self._form(answer.form)
        if answer.layout.end is not None:
            self._until("thoughts", answer.layout.end.decode())
            self._rules.append("gap: /\\n{0,2}/")
            self._rules.append(f"answer: {start}")
            start = "thoughts gap answer"
        return "\n".join([f"start: {start}", *self._rules, "text: /(.|\\n)*/"]), self._parts

    def _form(self, form: Grammar | None) -> str:
        assert form is not None
        if form.source.startswith("{"):
            [grammar] = json.loads(form.source)["grammars"]
        else:
            grammar = {"lark_grammar": form.source}
        self._parts.append({**grammar, "name": "form"})
        return "@form"

    def _calls(self) -> str:
        layout = self._answer.layout
        form = layout.calls
        assert form is not None
        assert self._answer.tools is not None
        options = []
        for i, (name, plan) in enumerate(self._answer.tools.items()):
            self._parts.append({"name": f"tool{i}", "json_schema": {**plan.schema, "x-guidance": STYLE}})
            options.append(f"{self._literal(name + form.after_name)} @tool{i} {self._literal(form.tail)}")
        self._rules.append(f"one: {' | '.join(options)}")
        rest = "one"
        if self._answer.parallel:
            self._rules.append(f"more: {self._literal(form.between + form.before_name)} one")
            rest = f"one more{{0,{MAX_CALLS - 1}}}"
        rest = f"{rest} {self._literal(form.close)}"
        head = layout.head(0).decode()
        if self._answer.must_call:
            return f"{self._literal(head)} {rest}"
        if form.at_start:
            self._rules.append("plain: /([^{](.|\\n)*)?/")
            return f"plain | {self._literal(head)} {rest}"
        self._until("lead", form.trigger)
        return f"text | lead {self._literal(head.removeprefix(form.trigger))} {rest}"

    def _until(self, rule: str, tag: str) -> None:
        """A rule for any text up to a tag, the tag included."""
        if tag.encode() in self._specials:
            self._rules.append(f"{rule}: text <[{self._specials[tag.encode()]}]>")
        else:
            self._rules.append(f"{rule}[lazy]: /(.|\\n)*{literal_pattern(tag)}/")

    def _literal(self, text: str) -> str:
        pieces = split(text.encode(), self._specials)
        return " ".join(
            f"<[{one}]>" if isinstance(one, int) else json.dumps(one.decode(), ensure_ascii=False) for one in pieces
        )


def _specials(compiler: GrammarCompiler, layout: Layout) -> dict[bytes, int]:
    """The control tokens in the tags of a layout."""
    tokenizer = compiler.tokenizer
    tags = [layout.end.decode()] if layout.end else []
    if layout.calls is not None:
        form = layout.calls
        tags += [form.begin, form.before_name, form.after_name, form.tail, form.between, form.close, form.trigger]
    found = {token for tag in tags for token in tokenizer.tokenize_str(tag, parse_special=True)}
    return {bytes(tokenizer.decode_bytes([token])): token for token in found if tokenizer.is_special_token(token)}
