"""Field-level rewind: a value is judged the moment it closes, and only that value is decoded again.

    {"name":"Ann","age":412,          age closes and is not valid: the output is cut back to where its value began
    {"name":"Ann","age":              (bytes that shared a token with it are put back), 412 is banned,
    {"name":"Ann","age":41,           and decoding goes on; `name` has kept its tokens and its place in the cache

`Rewinder` decides, the engine carries out. A value gets some tries, then the object or list around it, and when that is
the answer itself, the answer ends with `validation`, to be asked for again as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from ..core.completion import Rewind
from ..core.errors import ParameterError
from ..structured.diagnose import path as written
from ..structured.faults import failed
from .bans import Bans, TokenPrefixes
from .checks import Check, Verdict
from .matcher import Matcher
from .tracker import Closed, FieldTracker, Path


@dataclass(frozen=True, slots=True)
class RewindOptions:
    """How often a value is decoded again (`tries`), how many tokens of one answer may be thrown away in all, and the
    temperature inside a value that is decoded again, None for the request's own."""

    tries: int = 3
    max_rewound_tokens: int = 1024
    temperature: float | None = None

    def __post_init__(self) -> None:
        for name in ("tries", "max_rewound_tokens"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ParameterError(name, value, "must be an integer of at least 0", "Give 0 for no rewinds.")
        heat = self.temperature
        if heat is not None and not (isinstance(heat, (int, float)) and 0 <= heat < float("inf")):
            raise ParameterError("temperature", heat, "is not a temperature", "Give a number of at least 0, or None.")


@dataclass(slots=True)
class Retry:
    """A value that is being decoded again: where it begins, what it may not be, and how often it was tried."""

    path: Path
    start: int
    bans: Bans = field(default_factory=Bans)
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """What the engine is to do: keep `num_tokens` of the output, then put back the text `again`."""

    num_tokens: int
    again: bytes
    path: str
    value: str


ValueJudge = Callable[[Check, Path, bytes, Mapping[str, bytes]], ValidationError | None]
"""What is wrong with a value, as `FieldJudge` tells it; None if nothing is."""


@dataclass(frozen=True, slots=True)
class FieldJudge:
    """How the values of one answer are validated; `name` is that of its type, as errors show it."""

    name: str
    context: Any = None
    strict: bool | None = None

    def __call__(self, check: Check, path: Path, text: bytes, before: Mapping[str, bytes]) -> ValidationError | None:
        """What is wrong with a value, with places as in the whole answer; None if nothing is."""
        try:
            check.judge(text, before, self.context, self.strict)
        except Verdict as verdict:
            around = path[:-1] if check.is_field else path
            faults = [InitErrorDetails(**{**one, "loc": (*around, *one.get("loc", ()))}) for one in verdict.faults]
            return failed(self.name, faults)
        return None


class GivenUp(Exception):
    """No rewind helps any more. `error` is what was wrong with the value that came last."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(str(error))


class Rewinder:
    """Judges the values of one answer as they close. Used by the engine's thread.

    `judge` gives verdicts on the values of `check`, `matcher` is the request's own, `prefixes` gives the vocabulary in
    order when it is needed first.
    """

    def __init__(
        self,
        check: Check,
        judge: ValueJudge,
        matcher: Matcher,
        prefixes: Callable[[], TokenPrefixes],
        vocab_size: int,
        options: RewindOptions,
    ) -> None:
        self.options = options
        self.rewinds: list[Rewind] = []
        self.num_rewound = 0
        self._judge = judge
        self._tracker = FieldTracker(check)
        self._matcher, self._prefixes, self._vocab_size = matcher, prefixes, vocab_size
        self._retries: list[Retry] = []  # outermost first
        self._error: Exception = ValueError("nothing was wrong")

    @property
    def is_retrying(self) -> bool:
        """Whether a value is being decoded again."""
        return bool(self._retries)

    @property
    def attempt(self) -> int:
        """Tells the noise of this attempt at the current value from that of others; 0 for a first attempt."""
        return sum(retry.tries for retry in self._retries)

    def feed(self, data: bytes, is_kept: bool = False) -> Cut | None:
        """Takes the text of the next token. A `Cut` if a value that it closes must be decoded again.

        What `is_kept` of an earlier answer was judged with that. Raises `GivenUp`.
        """
        for closed in self._tracker.feed(data):
            error = None if is_kept else self._verdict(closed)
            if error is not None:
                self._error = error
                return self._fail(closed, error)
            while self._retries and self._retries[-1].path == closed.path:
                self._retries.pop()
        return None

    def cut(self, num_tokens: int) -> None:
        """The output was cut back."""
        self.num_rewound += self._tracker.num_tokens - num_tokens
        self._tracker.truncate(num_tokens)

    def forbidden(self) -> frozenset[int]:
        """The tokens that would repeat a value that failed."""
        text = self._tracker.text
        tokens: set[int] = set()
        for retry in self._retries:
            if len(text) >= retry.start:
                tokens.update(retry.bans.forbidden(bytes(text[retry.start :]), self._prefixes()))
        return frozenset(tokens)

    def dead_end(self, forbidden: frozenset[int]) -> Cut | None:
        """A `Cut` if nothing may follow that is not forbidden. Raises `GivenUp`."""
        if not forbidden or self._has_other(forbidden):
            return None
        retry = self._retries[-1]
        size = len(self._tracker.text)
        if size <= retry.start:
            return self._exhausted(retry)
        retry.bans.add_dead_end(bytes(self._tracker.text[retry.start :]))
        last = self._tracker.num_tokens - 1
        again = bytes(self._tracker.text[self._tracker.start_of(last) : retry.start])
        return self._cut(Cut(last, again, written(retry.path), ""))

    # --- verdicts ---------------------------------------------------------------------------------------------------

    def _verdict(self, closed: Closed) -> Exception | None:
        if closed.check is None or closed.parent is None:  # the answer as a whole is judged when it has ended
            return None
        text = bytes(self._tracker.text[closed.start : closed.end])
        retry = self._retries[-1] if self._retries else None
        if retry is not None and retry.path == closed.path and text in retry.bans:
            return self._error
        before = self._tracker.before(closed.parent) if closed.check.sees_siblings else {}
        before.pop(str(closed.path[-1]), None)
        return self._judge(closed.check, closed.path, text, before)

    def _fail(self, closed: Closed, error: Exception) -> Cut:
        text = bytes(self._tracker.text[closed.start : closed.end])
        while self._retries and len(self._retries[-1].path) > len(closed.path):
            self._retries.pop()  # of values inside this one
        if not self._retries or self._retries[-1].path != closed.path:
            self._retries.append(Retry(closed.path, closed.start))
        retry = self._retries[-1]
        retry.tries += 1
        retry.bans.add(text)
        self.rewinds.append(Rewind(written(closed.path), text.decode(), error, retry.tries))
        if retry.tries > self.options.tries:
            return self._exhausted(retry)
        return self._back_to(closed.start, closed.first_token, retry, text)

    def _exhausted(self, retry: Retry) -> Cut:
        """A value has no tries left: what is around it is decoded again, and must take another way to this value."""
        self._retries.remove(retry)
        parent = next((one for one in reversed(self._tracker.stack) if one.path == retry.path[:-1]), None)
        if parent is None or not parent.path:
            raise GivenUp(self._error)
        outer = self._retries[-1] if self._retries and self._retries[-1].path == parent.path else None
        if outer is None:
            outer = Retry(parent.path, parent.start)
            self._retries.append(outer)
        outer.tries += 1
        outer.bans.add_dead_end(bytes(self._tracker.text[parent.start : retry.start]))
        if outer.tries > self.options.tries:
            return self._exhausted(outer)
        return self._back_to(parent.start, parent.first_token, outer, b"")

    def _back_to(self, start: int, first_token: int, retry: Retry, text: bytes) -> Cut:
        again = bytes(self._tracker.text[self._tracker.start_of(first_token) : start])
        return self._cut(Cut(first_token, again, written(retry.path), text.decode()))

    def _cut(self, cut: Cut) -> Cut:
        if self.num_rewound + self._tracker.num_tokens - cut.num_tokens > self.options.max_rewound_tokens:
            raise GivenUp(self._error)
        return cut

    def _has_other(self, forbidden: frozenset[int]) -> bool:
        """Whether the grammar allows a token that is not forbidden."""
        import numpy as np

        row = np.zeros((self._vocab_size + 31) // 32, np.uint32)
        self._matcher.fill_mask(row)
        for token in forbidden:
            row[token // 32] &= np.uint32(0xFFFFFFFF ^ (1 << token % 32))
        return bool(row.any())
