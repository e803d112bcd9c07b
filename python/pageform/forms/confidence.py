"""From what the model thought of the tokens of an answer to how sure it was of its values.

Sans I/O: `score_fields` is a generator that yields token sequences, wants the logits after each, and returns `Fields`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from ..core.confidence import OTHER, ConfidenceOptions, FieldConfidence, Fields, Place, TokenWeight
from ..structured.diagnose import path as written_path
from .grammar import Grammar
from .matcher import Mask
from .options import Logits, Options, OptionTree, TokenTexts
from .spans import Span, listed_values, value_spans

Ask = Generator[list[list[int]], list["Logits | None"], Fields]


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """An answer: its output tokens with their weights, its text (other text may come before it in the output), the
    paths of values that were rejected, and what it was decoded under. `choices` are the texts of
    `SamplingParams.choice`, `allowed` is the mask of `allowed_token_ids`."""

    token_ids: Sequence[int]
    text: bytes
    weights: Sequence[TokenWeight]
    rejected: Iterable[str]
    grammar: Grammar | None
    eos_ids: frozenset[int]
    choices: Sequence[str] | None = None
    allowed: Mask | None = None
    is_complete: bool = True


def score_fields(answer: ScoredAnswer, vocabulary: TokenTexts, limits: ConfidenceOptions) -> Ask:
    """The confidence in each value that has closed, and in the answer as a whole at the path "".

    Yields lists of beginnings of the output, and is sent the logits of what follows each, None for those that could not
    be had. Where the grammar is not one of JSON, there is the whole alone.
    """
    ids = answer.token_ids
    pieces = [b"" if token in answer.eos_ids else vocabulary.texts[token] for token in ids]
    ends, text = list(accumulate(map(len, pieces))), b"".join(pieces)
    start = max(0, text.rfind(answer.text)) if answer.text else 0
    grammar = answer.grammar
    texts = None if grammar is None else grammar.texts
    found = [] if texts is None else value_spans(text[start:], texts)
    spans = [span._replace(start=span.start + start, end=span.end + start) for span in found]
    rejected = Counter(answer.rejected)
    fields: dict[Place, FieldConfidence] = {}
    for span in spans:
        if span.path:
            weights = answer.weights[_tokens_of(span, text, ends)]
            fields[span.path] = _field(written_path(span.path), weights, rejected)
    fields[()] = _field("", answer.weights[bisect_right(ends, start) if start else 0 :], rejected)
    if grammar is not None and answer.is_complete:
        choices = _choices(answer, start, text, spans)
        trees = _trees(answer, choices, text, ends, vocabulary, limits)
        while wanted := [(place, first, way) for place, first, tree in trees for way in tree.wanted()]:
            logits = yield [[*ids[:first], *way] for _, first, way in wanted]
            by_place = {place: tree for place, _, tree in trees}
            for (place, _, way), values in zip(wanted, logits, strict=True):
                by_place[place].take(way, values)
        for (place, _, tree), choice in zip(trees, choices, strict=True):
            fields[place] = _with_options(fields[place], choice, tree)
    return Fields(sorted(fields.items(), key=lambda item: len(item[0]) > 0), answer.weights)


# --- the tokens of a field --------------------------------------------------------------------------------------------


def _tokens_of(span: Span, text: bytes, ends: Sequence[int]) -> slice:
    """The tokens that hold a byte of a value; of a number also the one whose text ended it."""
    first = bisect_right(ends, span.start)
    last = bisect_left(ends, span.end)
    is_number = text[span.start] in b"-0123456789"
    return slice(first, last + 1 + (is_number and last < len(ends) and ends[last] == span.end))


def _field(path: str, weights: Sequence[TokenWeight], rejected: Mapping[str, int]) -> FieldConfidence:
    free = [one for one in weights if not one.is_forced]
    allowed = [one.log_allowed for one in weights if one.is_scored]
    unscored = sum(not one.is_scored for one in free)
    return FieldConfidence(
        path=path,
        logprob=None if unscored else math.fsum(one.logprob for one in free),
        model_logprob=None if unscored else math.fsum(one.model_logprob for one in free),
        log_allowed=math.fsum(allowed),
        max_removed=-math.expm1(min(allowed, default=0.0)),
        free_tokens=len(free),
        forced_tokens=len(weights) - len(free),
        unscored_tokens=unscored,
        rejected=rejected.get(path, 0),
    )


# --- options ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Choice:
    """A value that is one of several: where it begins, and the values by their texts; OTHER stands for the rest."""

    place: Place
    start: int
    values: Mapping[bytes, Any]
    has_others: bool
    chosen: Any
    ends: bytes = b",]}"


def _choices(answer: ScoredAnswer, start: int, text: bytes, spans: Sequence[Span]) -> list[_Choice]:
    """The choices of an answer that begins at byte `start` of the output's text."""
    if answer.choices is not None:
        values: dict[bytes, Any] = {choice.encode(): choice for choice in answer.choices}
        chosen = text[start:]
        return [_Choice((), start, values, False, values[chosen], ends=b"")] if chosen in values else []
    assert answer.grammar is not None
    schema = answer.grammar.plan.schema if answer.grammar.plan is not None else {}
    found: list[_Choice] = []
    for span in spans:
        listed, has_others = listed_values(span.nodes, schema.get("$defs", {}))
        if not listed:
            continue
        values = _as_keys(listed)
        chosen = values.get(text[span.start : span.end], OTHER)
        if chosen is not OTHER or has_others:
            found.append(_Choice(span.path, span.start, values, has_others, chosen))
    return found


def _as_keys(listed: Mapping[bytes, Any]) -> dict[bytes, Any]:
    """The values as keys of a dict: lists, objects, and values that Python takes for equal, as their JSON."""
    scalars = Counter(value for value in listed.values() if not isinstance(value, (list, dict)))
    return {
        text: text.decode() if isinstance(value, (list, dict)) or scalars[value] > 1 else value
        for text, value in listed.items()
    }


def _trees(
    answer: ScoredAnswer,
    choices: list[_Choice],
    text: bytes,
    ends: Sequence[int],
    vocabulary: TokenTexts,
    limits: ConfidenceOptions,
) -> list[tuple[Place, int, OptionTree]]:
    """The tree of each choice, with the number of tokens before it. Choices are put in the order of the text."""
    assert answer.grammar is not None
    choices.sort(key=lambda choice: choice.start)
    matcher, at = answer.grammar.matcher(), 0
    trees = []
    for choice in choices:
        first = bisect_right(ends, choice.start)
        for token in answer.token_ids[at:first]:
            matcher.accept(token)
        at = first
        lead = text[ends[first - 1] if first else 0 : choice.start]
        options = Options(tuple(choice.values), choice.has_others, choice.ends)
        tree = OptionTree(matcher.fork(), lead, options, vocabulary, answer.eos_ids, limits, answer.allowed)
        trees.append((choice.place, first, tree))
    return trees


def _with_options(field: FieldConfidence, choice: _Choice, tree: OptionTree) -> FieldConfidence:
    inside = tree.inside
    if inside <= tree.unresolved:  # nothing was found out
        return replace(field, unresolved=1.0)
    options = {value: mass / inside for value, mass in zip(choice.values.values(), tree.masses, strict=True)}
    if choice.has_others:
        options[OTHER] = tree.others / inside
    if not tree.unresolved:  # the schema alone doesn't say which branch of a union it is: the grammar does
        options = {value: mass for value, mass in options.items() if mass or value is choice.chosen}
    return replace(field, options=options, chosen=choice.chosen, unresolved=tree.unresolved / inside)
