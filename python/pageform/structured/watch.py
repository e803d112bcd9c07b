"""What is shown of an answer while it streams: its value as it grows, or the items of a list one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from .answer import Answer, Delta, Mode
from .errors import ModelRetry
from .faults import failed
from .items import Item, ItemReader
from .json_text import JSONError
from .judge import AttemptInfo, Judge, Verdict, placed
from .parse_errors import ParseError
from .partial import PartialBuilder
from .spec import Spec

T = TypeVar("T")


class _Calls:
    """Which text an answer's deltas bring, of which number and spec: that of its tool calls, or its own as number 0."""

    def __init__(self, judge: Judge[Any]) -> None:
        self._spec, self._in_tools, self._beside = judge.spec, judge.mode is Mode.TOOLS, judge.tools_beside
        self._names: dict[int, str] = {}

    def read(self, delta: Delta, call: int | None) -> tuple[int, str]:
        """The number and the text of a delta; the text is empty for one that brings none."""
        if not self._in_tools:
            return 0, delta.text
        if call is None:
            return 0, ""
        self._names.setdefault(call, delta.name)
        return call, delta.arguments

    def spec(self, number: int) -> Spec[Any] | None:
        """What the text of that number is to be; None for a tool that was not offered or a call too many."""
        spec = self._spec
        if not self._in_tools:
            return spec
        if spec.members:
            return spec.members.get(self._names[number])
        if self._beside and self._names[number] != spec.tool_name:
            return None
        return spec if number == 0 or spec.item is not None else None


class PartialWatcher:
    """Shows the growing value of one attempt. Text that is no JSON ends the show; judging it is the judge's."""

    gave_up = False

    def __init__(self, judge: Judge[Any], info: AttemptInfo) -> None:
        self._judge, self._info, self._calls = judge, info, _Calls(judge)
        self._builders: dict[int, PartialBuilder | None] = {}
        self._values: dict[int, Any] = {}

    def take(self, delta: Delta, call: int | None) -> Iterable[Any]:
        """See `attempts.Watcher`."""
        number, text = self._calls.read(delta, call)
        if not text:
            return ()
        with self._judge.attempt(self._info) as context:
            if number not in self._builders:
                self._builders[number] = self._builder(number, context)
            builder = self._builders[number]
            try:
                value = None if builder is None else builder.feed(text)
            except JSONError:
                value = self._builders[number] = None
        if value is None:
            return ()
        self._values[number] = value
        return (self._together(),)

    def _builder(self, number: int, context: Any) -> PartialBuilder | None:
        spec, in_text = self._calls.spec(number), self._judge.mode is Mode.TEXT
        if spec is None:
            return None
        envelope = None if in_text else spec.envelope
        return PartialBuilder(spec, envelope=envelope, skip_prose=in_text, context=context, strict=self._judge.strict)

    def _together(self) -> Any:
        values = [self._values[number] for number in sorted(self._values)]
        if self._judge.spec.members and self._judge.mode is Mode.TOOLS:
            return values
        return values[0] if len(values) == 1 else [item for value in values for item in value]


class ItemWatcher:
    """Shows the items of one attempt's list as they close, without those that earlier attempts delivered. Gives up at
    the first that is not valid; `fault` tells why, at its place in the answer. `repairs` and `notes` are as a
    `Verdict`'s."""

    def __init__(self, judge: Judge[Any], info: AttemptInfo, delivered: list[Any]) -> None:
        self.fault: Exception | None = None
        self.count = 0
        self.repairs: list[Any] = []
        self.notes: list[str] = []
        self._judge, self._info, self._calls = judge, info, _Calls(judge)
        self._delivered, self._known = delivered, len(delivered)
        self._readers: dict[int, ItemReader[Any] | None] = {}
        self._counts: dict[int, int] = {}
        self._unreadable = False

    @property
    def gave_up(self) -> bool:
        """See `attempts.Watcher`."""
        return self.fault is not None

    @property
    def read_all(self) -> bool:
        """Whether the answer was read as a list, to its end."""
        whole = all(reader is not None and reader.complete for reader in self._readers.values())
        return self.count > 0 and not self._unreadable and whole

    def take(self, delta: Delta, call: int | None) -> Iterable[Any]:
        """See `attempts.Watcher`."""
        number, text = self._calls.read(delta, call)
        if not text or self._unreadable or self.gave_up:
            return ()
        with self._judge.attempt(self._info) as context:
            if number not in self._readers:
                self._readers[number] = self._reader(number, context)
            reader = self._readers[number]
            values = [] if reader is None else self._taken(number, lambda: reader.feed(text), context)
        self._delivered += values
        return values

    def finish(self) -> list[Any]:
        """The last items, which only the end of the text completes."""
        values: list[Any] = []
        with self._judge.attempt(self._info) as context:
            for number, reader in self._readers.items():
                if reader is not None and not self._unreadable and self.fault is None:
                    values += self._taken(number, reader.finish, context)
        return values

    def _reader(self, number: int, context: Any) -> ItemReader[Any] | None:
        spec, in_text, strict = self._calls.spec(number), self._judge.mode is Mode.TEXT, self._judge.strict
        if spec is None:
            return None
        if spec is not self._judge.spec:  # a tool of its own: each call is an item
            return None if spec.envelope is not None else ItemReader(spec, context=context, strict=strict)
        if spec.item is None:
            return None
        envelope = spec.envelope  # in text, too, some models put lists into objects
        return ItemReader(spec.item, envelope=envelope, skip_prose=in_text, context=context, strict=strict)

    def _taken(self, number: int, read: Callable[[], list[Item[Any]]], context: Any) -> list[Any]:
        """The values of further items, up to the first that is not valid."""
        try:
            items = read()
        except JSONError:  # the judge may be able to mend it, once it has the whole text
            self._unreadable = True
            return []
        values: list[Any] = []
        for item in items:
            place = self._counts[number] = self._counts.get(number, -1) + 1
            self.count += 1
            if self.count <= self._known:
                self._compare(item)
                continue
            try:
                values.append(item.value if item.error is None else self._mended(number, item, context))
            except Exception as error:
                self.fault = self._placed(error, number, place)
                break
        return values

    def _mended(self, number: int, item: Item[Any], context: Any) -> Any:
        spec = self._calls.spec(number)
        assert spec is not None
        verdict = self._judge.read(item.text, spec.item or spec, context, enveloped=False)
        self.repairs += verdict.repairs
        return verdict.value

    def _compare(self, item: Item[Any]) -> None:
        known = self._delivered[self.count - 1]
        if item.error is not None or item.value != known:
            attempt = self._info.number
            self.notes.append(
                f"item {self.count - 1} of attempt {attempt} differs from the one that was delivered before"
            )

    def _placed(self, error: Exception, number: int, place: int) -> Exception:
        """The error with its place in the answer, as `Judge` would tell it."""
        if not isinstance(error, (ValidationError, ParseError)):
            return error
        spec = self._judge.spec
        in_tools = self._judge.mode is Mode.TOOLS
        before = (number,) if in_tools and (spec.members or len(self._readers) > 1) else ()
        inside = () if in_tools and spec.members else (place,)
        return failed(spec.name, placed(error, (*before, *inside)))


class ItemJudge(Generic[T]):
    """Judges lists whose items are delivered while they stream. What was delivered stands: a later attempt gives the
    whole list again, and its items are delivered from the first on that was not delivered yet."""

    EVERY = "Give the whole list again from its first item on, also the items that were valid."
    """What the model is told besides the faults."""

    def __init__(self, judge: Judge[list[T]]) -> None:
        self.spec = judge.spec
        self.delivered: list[T] = []
        self._judge = judge
        self._watcher: ItemWatcher | None = None

    def watch(self, info: AttemptInfo) -> ItemWatcher:
        """The watcher of the next attempt."""
        self._watcher = ItemWatcher(self._judge, info, self.delivered)
        return self._watcher

    def __call__(self, answer: Answer, info: AttemptInfo | None = None) -> Verdict[list[T]]:
        """See `Judge.__call__`."""
        watcher = self._watcher
        assert watcher is not None
        if watcher.fault is None:
            self._judge.check(answer)
        tail = watcher.finish()
        verdict: Verdict[list[T]]
        if watcher.fault is not None:
            raise watcher.fault
        if watcher.read_all:
            verdict, count = Verdict([], tuple(watcher.repairs)), watcher.count
            values = [*self.delivered, *tail]
        else:
            verdict = self._judge(answer, info)
            count = len(verdict.value)
            values = [*self.delivered, *verdict.value[len(self.delivered) :]]
        if count < len(self.delivered):
            raise ModelRetry(f"the list has {count} items, but of an earlier answer {len(self.delivered)} were valid")
        with self._judge.attempt(info or AttemptInfo()) as context:
            value = self.spec.gathered(values, context)
        return Verdict(value, verdict.repairs, (*watcher.notes, *verdict.notes))

    def rest(self, value: list[T]) -> list[T]:
        """What of the list was not delivered yet."""
        return value[len(self.delivered) :]

    def partial(self, answer: Answer) -> list[T]:
        """The items that were delivered."""
        return list(self.delivered)
