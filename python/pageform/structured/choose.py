"""Which of the values in a text is the answer: the one that fits the type clearly better than all others.

Two values that fit about equally well and differ are an error, unless the text itself marks one as the answer: by a tag
such as <answer>, or by being the last one and alone in a code fence. So an example in the text, or a value somebody
smuggled into it, can't pass for the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from ..core.completion import Fault
from .align import Aligner, Fit, Mismatch, Outline, TooManySteps, outline_of
from .align.words import squeezed
from .bare import SCALARS, bare_values
from .bounded import shorten
from .diagnose import path
from .find import Candidate, Failure, Found, find
from .json_tree import Repair, dump, plain, repair, told
from .leniency import Leniency
from .parse_errors import Ambiguous, Invalid, Malformed, NotFound, ParseError, TooComplex, TooDeep, Truncated
from .repair import ReadValue
from .spec import Spec
from .tolerant_cursor import Unreadable, where

MARGIN = 2.0
"""How much better a later value must fit than an earlier one, in costs of structure, to be the answer."""
_STRUCTURE = frozenset(
    (
        "extra",
        "wrapper",
        "single_value",
        "single_item",
        "sole_field",
        "pairs",
        "indexed",
        "lines",
        "collect",
        "null_default",
    )
)
"""Rules that tell how like the type a value is. How its numbers or keys are spelt says nothing of what it is for."""
_MOST_VALUES = 50
"""Different fitting values among which the answer is looked for."""
_KEY_END = re.compile(r"[:=]")
_KEY_CHARACTERS = 90
_AROUND = re.compile(r"```[\w+.-]*|~~~[\w+.-]*|</?[A-Za-z_][\w-]*>")
_BETWEEN = re.compile(r"[\s,;]*(?:(?:\d{1,4}[.)]|[-*•])\s*)?")
_ERRORS: dict[str, type[ParseError]] = {
    "malformed": Malformed,
    "unclear": Ambiguous,
    "truncated": Truncated,
    "deep": TooDeep,
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The JSON of the answer, and what it took."""

    json: str
    repairs: tuple[Repair, ...]
    truncated: bool
    faults: tuple[Mismatch, ...]

    def refusal(self, error: ValidationError, spec: Spec[Any], text: str) -> ParseError:
        """What to say when Pydantic refuses the answer."""
        unclear = [
            Fault(fault.path, path(fault.path), "ambiguous", fault.reason, plain(fault.value))
            for fault in self.faults
            if fault.ambiguous
        ]
        return Ambiguous.of(unclear, error, spec, text) if unclear else Invalid.by(error, spec, text)


@dataclass(frozen=True, slots=True)
class _Option:
    """A value that was found, and how it fits. Values of one `group` stand one after the other."""

    candidate: Candidate
    fit: Fit
    group: int = 0

    @property
    def structure(self) -> float:
        """How unlike the type the value is: what its structure costs, with optional properties that are not there."""
        return self.fit.cost - sum(entry.cost for entry in self.fit.log if entry.rule not in _STRUCTURE)

    @property
    def is_bad_guess(self) -> bool:
        """Whether json-repair read something that does not fit well: then it read it wrongly."""
        guessed = any(entry.rule == "guess" for entry in self.candidate.read.log)
        return guessed and not (self.fit.fits and all(entry.rule not in _STRUCTURE for entry in self.fit.log))

    def beats(self, other: _Option) -> bool:
        """Whether this is clearly the answer rather than another value that fits too."""
        if _outranks(self.candidate, other.candidate):
            return True
        later = self.place > other.place and not (self.group and self.group == other.group)
        return later and self.structure + MARGIN <= other.structure and not _outranks(other.candidate, self.candidate)

    @property
    def place(self) -> int:
        return self.candidate.read.start


def choose(text: str, spec: Spec[Any], leniency: Leniency) -> Choice:
    """The answer in a text. Raises a `ParseError` if there is none, or none that is clearly meant."""
    return _Choosing(text, spec, leniency).run()


class _Choosing:
    def __init__(self, text: str, spec: Spec[Any], leniency: Leniency) -> None:
        self.text, self.leniency = text, leniency
        self.outline: Outline = outline_of(spec)
        self.kinds = self.outline.kinds()
        self.aligner = Aligner(self.outline, leniency, steps=50_000 + len(text))
        self.bad_guesses: list[Failure] = []
        self.found: Found = find(text, leniency, {spec.name, *self.outline.titles()})

    def run(self) -> Choice:
        if self.found.exhausted:
            raise TooComplex("the answer has too many brackets to be searched", self.text)
        try:
            options = self._options()
        except TooManySteps:
            raise TooComplex("the answer has too many ways to fit the type", self.text) from None
        except RecursionError:
            raise TooDeep("the answer and its type are nested too deep for the stack that is left", self.text) from None
        fitting = [option for option in options if option.fit.fits]
        best = self._clear_best(fitting) if fitting else None
        cut = [
            _as_failure(option.candidate, "truncated", "the text breaks off")
            for option in options
            if option.candidate.read.cut and option is not best
        ]
        failures = [*self.found.failures, *self.bad_guesses, *cut]
        broken = [failure for failure in failures if self._resembles(failure.start, failure.end)]
        if best is not None:
            blocking = [failure for failure in broken if not _outranks(best.candidate, failure)]
            if blocking:
                raise self._error(blocking[-1])
            self._see_that_none_is_beside(best, options)
            return self._choice(best, options)
        if broken:
            raise self._error(broken[-1])
        if options:
            nearest = min(options, key=lambda option: (len(option.fit.faults), option.fit.cost, -option.place))
            return self._choice(nearest, options)
        if failures:
            raise self._error(failures[-1])
        hint = "; only its reasoning was" if self.found.thinking else ""
        raise NotFound(f"no JSON was found in the answer{hint}: {shorten(self.text)}", self.text)

    # --- options ------------------------------------------------------------------------------------------------------

    def _options(self) -> list[_Option]:
        options = self._in_lists(self.found.candidates)
        if self._may_be_bare():
            for candidate in bare_values(self.found.pieces, self.kinds, self.outline, self.leniency):
                option = self._option(candidate)
                if option.fit.fits:
                    options.append(option)
                    break
        bad = [option for option in options if option.is_bad_guess]
        self.bad_guesses = [_as_failure(o.candidate, "malformed", "no reading of it fits the type") for o in bad]
        options = [option for option in options if not option.is_bad_guess]
        if {"byte_order_mark", "thinking", "prose"} <= self.leniency.names:
            return options
        return [option for option in options if self._allowed(option)]

    def _option(self, candidate: Candidate) -> _Option:
        return _Option(candidate, self.aligner.fit(candidate.read.value))

    def _may_be_bare(self) -> bool:
        """Whether the text itself may be the value: not if it is JSON as a whole, or should have been."""
        longest = max((c.read for c in self.found.candidates), key=lambda read: read.end - read.start, default=None)
        whole = longest is not None and not self._around(longest)
        return not whole and not (self.found.failures and not self.kinds <= SCALARS)

    def _in_lists(self, candidates: list[Candidate]) -> list[_Option]:
        """The options, those that stand one after the other joined where a list is wanted."""
        made: list[_Option] = []
        for number, run in enumerate(_runs(candidates, self.text), start=1):
            joined = self._joined(run, "lines")
            if joined is not None and not joined.fit.fits and any(isinstance(one.read.value, list) for one in run):
                joined = None  # several lists are not one; several items of which some don't fit are
            group = number if len(run) > 1 else 0
            made += [joined] if joined else [replace(self._option(candidate), group=group) for candidate in run]
        listed = any(isinstance(option.candidate.read.value, list) for option in made)
        collected = None if listed else self._joined([option.candidate for option in made], "collect")
        return [collected] if collected is not None and collected.fit.fits else made

    def _joined(self, candidates: Sequence[Candidate], rule: str) -> _Option | None:
        """Several values as one list, if a list is wanted."""
        if len(candidates) < 2 or rule not in self.leniency.names or "array" not in self.kinds:
            return None
        reads = [candidate.read for candidate in candidates]
        log = [repair(rule, (), f"{len(reads)} values", "a list")]
        for index, candidate in enumerate(candidates):
            entries = (*candidate.log, *candidate.read.log)
            log += [entry._replace(path=(index, *entry.path)) for entry in entries]
        first = candidates[0]
        read = ReadValue([one.value for one in reads], reads[0].start, reads[-1].end, cut=any(one.cut for one in reads))
        return self._option(Candidate(read, first.tagged, first.fenced, tuple(log)))

    def _allowed(self, option: _Option) -> bool:
        return all(entry.rule in self.leniency.names for entry in self._outside(option))

    # --- choosing -----------------------------------------------------------------------------------------------------

    def _clear_best(self, fitting: list[_Option]) -> _Option:
        """The option that is clearly meant. Raises `Ambiguous`."""
        distinct = list({dump(option.fit.value): option for option in reversed(fitting)}.values())
        for option in distinct if len(distinct) <= _MOST_VALUES else ():
            if all(other is option or option.beats(other) for other in distinct):
                return option
        shown = " and ".join(dump(option.fit.value)[:120] for option in distinct[-3:])
        raise Ambiguous(f"the answer holds {len(distinct)} values that fit the type and differ: {shown}", self.text)

    def _see_that_none_is_beside(self, best: _Option, options: Iterable[_Option]) -> None:
        """See that no value after it, or side by side with it, was meant but does not fit. Raises `Ambiguous`."""
        for option in options:
            read, marks = option.candidate.read, option.candidate
            beside = read.start >= best.candidate.read.end or (option.group and option.group == best.group)
            if option.fit.fits or not beside or not self._resembles(read.start, read.end):
                continue
            if (best.candidate.tagged, best.candidate.fenced) > (marks.tagged, marks.fenced):
                continue
            shown = f"{dump(best.fit.value)[:120]} fits, but {dump(read.value)[:120]} beside it does not"
            raise Ambiguous(f"it can't be told which value is the answer: {shown}", self.text)

    def _choice(self, option: _Option, options: Iterable[_Option]) -> Choice:
        read = option.candidate.read
        log = [*self._outside(option), *option.candidate.log, *read.log, *option.fit.log]
        others = {dump(other.fit.value) for other in options} - {dump(option.fit.value)}
        if others and len(self.found.candidates) > 1:
            if "choice" not in self.leniency.names:
                raise Ambiguous("the answer holds several JSON values, and rule 'choice' is off", self.text)
            log.insert(0, repair("choice", (), f"{len(others) + 1} values", dump(option.fit.value)[:200]))
        return Choice(dump(option.fit.value), tuple(map(told, log)), read.cut, option.fit.faults)

    def _outside(self, option: _Option) -> list[Repair]:
        """What stands around a value."""
        log: list[Repair] = []
        if self.text.startswith("\ufeff"):
            log.append(repair("byte_order_mark", (), "\ufeff", ""))
        for begin, end in self.found.thinking:
            log.append(repair("thinking", (), self.text[begin : min(end, begin + 200)], ""))
        around = self._around(option.candidate.read)
        if around:
            log.append(repair("prose", (), around[:200], ""))
        return log

    def _around(self, read: ReadValue) -> str:
        before, start = [], 0
        for begin, end in self.found.thinking:
            if end <= read.start:
                before.append(self.text[start:begin])
                start = end
        outside = " ".join([*before, self.text[start : read.start], self.text[read.end :]])
        return _AROUND.sub(" ", outside).strip("\ufeff \t\r\n`")

    # --- failures -----------------------------------------------------------------------------------------------------

    def _resembles(self, start: int, end: int) -> bool:
        """Whether a piece of the text may have been the answer: it has keys of the type, or its brackets."""
        known = {squeezed(key) for key in self.outline.property_names()}
        piece = self.text[start:end]
        if known:
            return any(key in known for key in _keys(piece))
        return ("array" if piece[:1] == "[" else "object") in self.kinds

    def _error(self, failure: Failure) -> ParseError:
        kind = _ERRORS[failure.error.kind]
        at = where(self.text, min(failure.error.at, len(self.text)))
        return kind(f"the JSON can't be read from {at} on: {failure.error.reason}", self.text)


def _runs(candidates: list[Candidate], text: str) -> list[list[Candidate]]:
    """Candidates in runs with nothing but space, commas, fences and numbering between them."""
    runs: list[list[Candidate]] = []
    for candidate in candidates:
        between = text[runs[-1][-1].read.end : candidate.read.start] if runs else "?"
        if _BETWEEN.fullmatch(_AROUND.sub("", between)):
            runs[-1].append(candidate)
        else:
            runs.append([candidate])
    return runs


def _keys(piece: str) -> Iterator[str]:
    """What stands before colons and may be a key."""
    for match in _KEY_END.finditer(piece):
        before = piece[max(match.start() - _KEY_CHARACTERS, 0) : match.start()].rstrip(" \t\"'”")
        yield squeezed(re.split(r"[\"'“,{\[\n(]", before)[-1])


def _as_failure(candidate: Candidate, kind: str, reason: str) -> Failure:
    """A value that was read, but can't be what was meant."""
    read = candidate.read
    return Failure(read.start, read.end, Unreadable(read.end, reason, kind), candidate.tagged, candidate.fenced)


def _outranks(one: Candidate, other: Candidate | Failure) -> bool:
    """Whether the text marks one rather than the other as the answer."""
    start = other.start if isinstance(other, Failure) else other.read.start
    if one.tagged != other.tagged:
        return one.tagged
    return one.fenced and not other.fenced and one.read.start > start
