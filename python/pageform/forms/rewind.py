"""Field-level rewind: a value is judged the moment it closes, and only that value is decoded again.

    {"name":"Ann","age":412,          age closes and is not valid: the output is cut back to where its value began
    {"name":"Ann","age":              (bytes that shared a token with it are put back), 412 is banned,
    {"name":"Ann","age":41,           and decoding goes on; `name` has kept its tokens and its place in the cache

`Rewinder` decides, the engine carries out. A value gets some tries, then the object or list around it, and when that is
the answer itself, the answer ends with `validation`, to be asked for again as a whole.

Slow validators answer later. Until then their values count as valid and wait in line; verdicts take effect in the order
in which values closed, whatever the order in which they come. So a late rewind leads to the answer that the same
validator would have led to at once: what was decoded meanwhile is gone, with its bans and tries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from ..core.completion import Rewind
from ..core.errors import ParameterError
from ..structured.diagnose import path as written
from ..structured.faults import failed
from .bans import Bans, TokenPrefixes
from .checks import NOT_JUDGED, Check, Verdict
from .matcher import Matcher
from .tracker import Closed, FieldTracker, Open, Path
from .verdicts import Board, Job


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
    error: Exception
    """What was wrong with it last."""
    parent: Open | None
    bans: Bans = field(default_factory=Bans)
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Cut:
    """What the engine is to do: keep `num_tokens` of the output, then put back the text `again`, which makes `size`
    bytes."""

    num_tokens: int
    again: bytes
    size: int
    path: str
    value: str


class Judged(NamedTuple):
    """What is wrong with a value, or what validation made of it; both only mean something once all `jobs` are done."""

    error: ValidationError | None
    value: Any = NOT_JUDGED
    jobs: Sequence[Job] = ()


class ValueJudge(Protocol):
    """Who gives verdicts on the values of one answer."""

    def __call__(self, check: Check, path: Path, text: bytes, before: Mapping[str, bytes]) -> Judged:
        """Judges a value that has closed, as `FieldJudge` does. The answer itself, with the empty path, is never
        found wrong: only its slow validators are started."""

    def again(
        self, check: Check, path: Path, text: bytes, before: Mapping[str, bytes], jobs: Sequence[Job]
    ) -> Judged | None:
        """Judges a value that was waiting for `jobs`; None if its verdict has not come."""

    def start(self, check: Check, path: Path, text: bytes, before: Mapping[str, bytes]) -> Sequence[Job]:
        """Starts the slow validators of a value that waits for them, and did so elsewhere before."""


@dataclass(slots=True)
class Awaited:
    """A value in line for its verdict: what it was judged from, and the error, once it is known to be not valid."""

    closed: Closed
    text: bytes
    before: Mapping[str, bytes]
    jobs: Sequence[Job] = ()
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class FieldJudge:
    """How the values of one answer are validated; `name` is that of its type, as errors show it."""

    name: str
    board: Board
    context: Any = None
    strict: bool | None = None

    def __call__(self, check: Check, path: Path, text: bytes, before: Mapping[str, bytes]) -> Judged:
        """Judges a value; errors have places as in the whole answer. Whatever else validators raise goes through."""
        with self.board.asking() as jobs:
            try:
                value = check.judge(text, before, self.context, self.strict)
            except Verdict as verdict:
                if not path:
                    return Judged(None)  # the final validation tells
                around = path[:-1] if check.is_field else path
                faults = [InitErrorDetails(**{**one, "loc": (*around, *one.get("loc", ()))}) for one in verdict.faults]
                return Judged(failed(self.name, faults))
        return Judged(None, value, jobs)


class GivenUp(Exception):
    """No rewind helps any more. `error` is what was wrong with the value that came last."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(str(error))


class Rewinder:
    """Judges the values of one answer as they close. Used by the engine's thread.

    `judge` gives verdicts on the values of the answer that `tracker` follows, `matcher` is the request's own,
    `prefixes` gives the vocabulary in order when it is needed first, `num_rewound` says how many tokens were thrown
    away so far. With `mends=False` nothing is rewound: only slow validators are started.
    """

    def __init__(
        self,
        judge: ValueJudge,
        tracker: FieldTracker,
        matcher: Matcher,
        prefixes: Callable[[], TokenPrefixes],
        vocab_size: int,
        options: RewindOptions,
        mends: bool = True,
    ) -> None:
        self.options = options
        self.mends = mends
        self.rewinds: list[Rewind] = []
        self.must_wait = False
        """Decoding may not go on before a verdict has come: what is to be done depends on it."""
        self.num_rewound: Callable[[], int] = lambda: 0
        self._judge = judge
        self._tracker = tracker
        self._matcher, self._prefixes, self._vocab_size = matcher, prefixes, vocab_size
        self._retries: list[Retry] = []  # outermost first
        self._parked: list[Retry] = []  # of values that are closed and may still turn out not to be valid
        self._line: deque[Awaited] = deque()  # in the order of closing
        self._error: Exception = ValueError("nothing was wrong")

    @property
    def is_retrying(self) -> bool:
        """Whether a value is being decoded again."""
        return bool(self._retries)

    @property
    def attempt(self) -> int:
        """Tells the noise of this attempt at the current value from that of others; 0 for a first attempt."""
        return sum(retry.tries for retry in self._retries)

    @property
    def awaited(self) -> Closed | None:
        """The first value that awaits a verdict."""
        return self._line[0].closed if self._line else None

    def see(self, closed: Sequence[Closed], is_kept: bool = False) -> Cut | None:
        """A token has come that closes values. A `Cut` if one of them must be decoded again.

        What `is_kept` of an earlier answer, or was put back, has been judged before. Raises `GivenUp`.
        """
        for one in closed:
            if not is_kept and one.check is not None and one.parent is not None and (self.mends or one.check.slow):
                failure = self._judged(one, one.check)
                if failure is not None:
                    if self._may_rewind_now(one):
                        return self._fail(failure)
                    self._line.append(failure)
                    self.must_wait = True
                    return None
            self._pass(one)
        if self._line and self.mends:
            tail = self._tracker.num_tokens - self._line[0].closed.first_token
            # What is put back before a value may share a token with what stands before it.
            self.must_wait = self.num_rewound() + tail + 1 >= self.options.max_rewound_tokens
        return None

    def end(self) -> None:
        """The answer is complete. Starts what slow validators it has at places that are not judged one by one."""
        root, text = self._tracker.root, bytes(self._tracker.text)
        if not root.slow:
            return
        jobs = self._judge(root, (), text, {}).jobs
        if jobs:
            self._line.append(Awaited(Closed((), root, 0, len(text), 0, None), text, {}, jobs))

    def settle(self) -> None:
        """Takes in what has become known; see `late_cut`. Raises what a validator raised that is no verdict."""
        while self._line and self._line[0].error is None:
            head = self._line[0]
            check = head.closed.check
            assert check is not None
            judged = self._judge.again(check, head.closed.path, head.text, head.before, head.jobs)
            if judged is None:
                break
            error, value, head.jobs = judged
            if self.mends:
                head.error = error
            if head.jobs or head.error is not None:
                continue
            if error is None and head.closed.parent is not None:
                self._tracker.put_value(head.closed, value)
            self._line.popleft()
        if not self._line:
            self._parked, self.must_wait = [], False

    def restart(self) -> None:
        """What awaits verdicts did so in another engine, whose slow validators won't answer here."""
        for one in self._line:
            if one.error is None and one.closed.check is not None:
                one.jobs = self._judge.start(one.closed.check, one.closed.path, one.text, one.before)

    def late_cut(self) -> Cut | None:
        """A `Cut` if the value that is next in line turned out not to be valid. Raises `GivenUp`."""
        if not self._line or self._line[0].error is None:
            return None
        head, path = self._line[0], self._line[0].closed.path
        self._line.clear()
        self.must_wait = False
        # Those of what came later are gone, those of what is around it are open again.
        known = [*self._retries, *self._parked]
        self._retries = sorted((one for one in known if one.path == path[: len(one.path)]), key=lambda one: one.start)
        self._parked = []
        return self._fail(head)

    def cut(self, size: int) -> None:
        """The output was cut back to so many bytes."""
        while self._line and self._line[-1].closed.end >= size:
            self._line.pop()
        self._parked = [one for one in self._parked if one.start < size]
        self.must_wait = False

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
            self.must_wait = bool(self._line)
            return None if self.must_wait else self._exhausted(retry)
        retry.bans.add_dead_end(bytes(self._tracker.text[retry.start :]))
        last = self._tracker.num_tokens - 1
        start = self._tracker.start_of(last)
        again = bytes(self._tracker.text[start : retry.start])
        return self._cut(Cut(last, again, start + len(again), written(retry.path), ""))

    # --- verdicts ---------------------------------------------------------------------------------------------------

    def _judged(self, closed: Closed, check: Check) -> Awaited | None:
        """A value that is known to be not valid. One whose slow validators run is put in line."""
        text = bytes(self._tracker.text[closed.start : closed.end])
        retry = self._retries[-1] if self._retries else None
        before = self._tracker.before(closed.parent) if check.sees_siblings and closed.parent is not None else {}
        before.pop(str(closed.path[-1]), None)
        one = Awaited(closed, text, before)
        if retry is not None and retry.path == closed.path and text in retry.bans:
            one.error = retry.error
            return one
        one.error, value, one.jobs = self._judge(check, closed.path, text, before)
        if one.jobs:
            self._line.append(one)
        elif one.error is None:
            self._tracker.put_value(closed, value)
        return one if one.error is not None and self.mends else None

    def _pass(self, closed: Closed) -> None:
        """A value counts as valid. Its bans are kept as long as it, or something inside it, awaits a verdict."""
        while self._retries and self._retries[-1].path == closed.path:
            retry = self._retries.pop()
            if self._line and self._line[-1].closed.start >= closed.start:
                self._parked.append(retry)

    def _may_rewind_now(self, closed: Closed) -> bool:
        """Whether a rewind is sure to leave alone what awaits a verdict."""
        if not self._line:
            return True
        retry = self._retries[-1] if self._retries and self._retries[-1].path == closed.path else None
        tries = 0 if retry is None else retry.tries
        return closed.start >= self._line[-1].closed.end and tries < self.options.tries

    def _fail(self, one: Awaited) -> Cut:
        closed, text, error = one.closed, one.text, one.error
        assert error is not None
        self._error = error
        while self._retries and len(self._retries[-1].path) > len(closed.path):
            self._retries.pop()  # of values inside this one
        if not self._retries or self._retries[-1].path != closed.path:
            self._retries.append(Retry(closed.path, closed.start, error, closed.parent))
        retry = self._retries[-1]
        retry.tries += 1
        retry.error = error
        retry.bans.add(text)
        self.rewinds.append(Rewind(written(closed.path), text.decode(), error, retry.tries))
        if retry.tries > self.options.tries:
            return self._exhausted(retry)
        return self._back_to(closed.start, retry, text)

    def _exhausted(self, retry: Retry) -> Cut:
        """A value has no tries left: what is around it is decoded again, and must take another way to this value."""
        self._retries.remove(retry)
        parent = retry.parent
        if parent is None or not parent.path:
            raise GivenUp(self._error)
        outer = self._retries[-1] if self._retries and self._retries[-1].path == parent.path else None
        if outer is None:
            outer = Retry(parent.path, parent.start, self._error, parent.parent)
            self._retries.append(outer)
        outer.tries += 1
        outer.bans.add_dead_end(bytes(self._tracker.text[parent.start : retry.start]))
        if outer.tries > self.options.tries:
            return self._exhausted(outer)
        return self._back_to(parent.start, outer, b"")

    def _back_to(self, start: int, retry: Retry, text: bytes) -> Cut:
        first_token = self._tracker.token_at(start)
        again = bytes(self._tracker.text[self._tracker.start_of(first_token) : start])
        return self._cut(Cut(first_token, again, start, written(retry.path), text.decode()))

    def _cut(self, cut: Cut) -> Cut:
        if self.num_rewound() + self._tracker.num_tokens - cut.num_tokens > self.options.max_rewound_tokens:
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
