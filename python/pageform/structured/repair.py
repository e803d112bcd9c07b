"""REPAIR: the value that begins at a place in a text, read as JSON, as nearly-JSON, or with json-repair as last resort.

json-repair reads almost anything, but it drops what it can't place, invents what it misses, and its time grows with the
square of the text. It is asked only for short texts, only under "lenient", and believed only if every word of the text
is in its result and no other.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .json_tree import DECODER, Duplicate, Number, Repair, dump, repair
from .leniency import Leniency
from .tolerant import Reader
from .tolerant_cursor import MEMBERS_FOLLOW, Unreadable

GUESS_CHARACTERS = 8_000
"""json-repair needs up to 0.8 s for so many (unquoted words in nested lists; two cores of 2024, version 0.64)."""

_WORD = re.compile(r"\w+")
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape that Python's decoder takes for half of a pair without looking for the other half."""


@dataclass(frozen=True, slots=True)
class ReadValue:
    """A value that was read from `text[start:end]`; `cut` if data is missing at its end."""

    value: Any
    start: int
    end: int
    log: tuple[Repair, ...] = ()
    cut: bool = False


class Meter:
    """Counts what reading costs, so that no text takes more than a fixed number of steps a character.

    Python's decoder counts lines when it fails, from the beginning of the text each time. It therefore may fail only so
    often; after that everything is read by the tolerant reader, which is slower, but not slower in long texts.
    """

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.decoder_failures = 32

    def spend(self, steps: int) -> None:
        """Count steps."""
        self.left -= max(steps, 1)

    @property
    def spent(self) -> bool:
        """Whether more was spent than there was."""
        return self.left < 0


def read_value(text: str, start: int, end: int, leniency: Leniency, meter: Meter) -> ReadValue:
    """The value whose bracket or quote is at `start`. Raises `Unreadable`."""
    read = _exactly(text, start, end, leniency, meter) if meter.decoder_failures > 0 else None
    return read or _tolerantly(text, start, end, leniency, meter, members=False)


def read_members(text: str, start: int, end: int, leniency: Leniency, meter: Meter) -> ReadValue:
    """The object whose first key is at `start` and whose opening brace is missing. Raises `Unreadable`."""
    return _tolerantly(text, start, end, leniency, meter, members=True)


def guess(text: str, start: int, end: int, leniency: Leniency) -> ReadValue | None:
    """What json-repair makes of `text[start:end]`; None if it loses or invents a word, or the text is too long."""
    if "guess" not in leniency.names or end - start > GUESS_CHARACTERS:
        return None
    import json_repair

    piece = text[start:end]
    try:
        value = DECODER.decode(json.dumps(json_repair.loads(piece, skip_json_loads=True)))
    except (
        ValueError,
        RecursionError,
        AssertionError,
        IndexError,
        TypeError,
    ):  # what its parser has been seen to raise
        return None
    if not isinstance(value, (dict, list)) or deeper_than(value, leniency.max_depth):
        return None
    words = _tree_words(value)
    if Counter(_words(piece)) != Counter(words) or _empty_texts(value) > piece.count('""') + piece.count("''"):
        return None
    return ReadValue(value, start, end, (repair("guess", (), piece[:200], dump(value)[:200]),))


def deeper_than(value: Any, limit: int) -> bool:
    """Whether lists and objects are nested more than `limit` deep. Needs no recursion."""
    level = [value]
    depth = 0
    while level:
        level = [item for item in level if isinstance(item, (dict, list)) and item]
        if level:
            depth += 1
            if depth > limit:
                return True
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return False


def _exactly(text: str, start: int, end: int, leniency: Leniency, meter: Meter) -> ReadValue | None:
    """A value in correct JSON, None if it is none."""
    try:
        value, stop = DECODER.raw_decode(text, start)
    except Duplicate:  # the tolerant reader says which key
        return None
    except json.JSONDecodeError as error:
        meter.decoder_failures -= 1
        meter.spend(error.pos - start)
        return None
    except RecursionError:
        raise Unreadable(start, f"more than {leniency.max_depth} levels deep", "deep") from None
    if stop > end or _goes_on(text, stop, end) or _SURROGATE.search(text, start, stop):
        return None
    meter.spend(stop - start)
    if deeper_than(value, leniency.max_depth):
        raise Unreadable(start, f"more than {leniency.max_depth} levels deep", "deep")
    return ReadValue(value, start, stop)


def _tolerantly(text: str, start: int, end: int, leniency: Leniency, meter: Meter, members: bool) -> ReadValue:
    reader = Reader(text, start, end, leniency.names, leniency.max_depth)
    try:
        value = reader.read_members() if members else reader.read()
    except Unreadable:
        meter.spend(reader.at - start)
        raise
    except RecursionError:  # the caller's stack was nearly full already
        raise Unreadable(reader.at, "nested too deep for the stack that is left", "deep") from None
    meter.spend(reader.at - start)
    return ReadValue(value, start, reader.at, tuple(reader.log), reader.cut)


def _goes_on(text: str, stop: int, end: int) -> bool:
    """Whether what follows a complete value suggests that its last bracket was one too many."""
    return text[stop : stop + 1] in ("}", "]") or MEMBERS_FOLLOW.match(text, stop, end) is not None


def _words(text: str) -> list[str]:
    return _WORD.findall(_ESCAPE.sub(" ", text).lower())


def _tree_words(value: Any) -> list[str]:
    words: list[str] = []
    for item in _scalars(value):
        shown = item.text if isinstance(item, Number) else json.dumps(item) if not isinstance(item, str) else item
        words += _WORD.findall(shown.lower())
    return words


def _empty_texts(value: Any) -> int:
    return sum(item == "" for item in _scalars(value))


def _scalars(value: Any) -> Iterator[Any]:
    """All keys and values that hold no others."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            todo += item.keys()
            todo += item.values()
        elif isinstance(item, list):
            todo += item
        else:
            yield item
