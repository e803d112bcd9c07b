"""The incremental JSON machine: bytes in, events out, in any pieces, O(1) a byte.

    machine = JsonMachine()
    machine.feed(b'{"name": "A')    # [(OBJECT_OPENED, 0, 1, ""), (KEY, 1, 7, "name"), (STRING_OPENED, 9, 10, ""), …]

An event is (kind, start, end, text): the bytes from `start` to before `end` of the stream, and the text that the event
stands for. Closing events span the whole container or string. The content of strings comes unescaped, at most one
`STRING_CHUNK` a string and piece; keys, numbers and literals come when they are complete. `json_table` holds the
automaton that decides everything; the regular expressions here only take runs of bytes that it would take one by one.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from .json_table import (
    ARRAY_CLOSED,
    ARRAY_OPENED,
    CLOSE_ARRAY,
    CLOSE_OBJECT,
    END_CODE,
    END_ESCAPE,
    END_LITERAL,
    END_NONFINITE,
    END_NUMBER,
    END_PAIR,
    END_STRING,
    ENDS_NUMBER,
    ESCAPES,
    EXPECTED,
    IN_SCALAR,
    IN_UNIT,
    KEY,
    LITERAL,
    MAX_DEPTH,
    NONE,
    NUMBER,
    OBJECT_CLOSED,
    OBJECT_OPENED,
    OPEN_ARRAY,
    OPEN_KEY,
    OPEN_OBJECT,
    OPEN_SCALAR,
    OPEN_STRING,
    RULES,
    STATE,
    STRING_CHUNK,
    STRING_CLOSED,
    STRING_OPENED,
    TABLE,
    TOLERATE,
)
from .json_text import JSONError, NestingTooDeep, UnexpectedEnd

Event = tuple[int, int, int, str]

_STRING: Final = STATE["STRING"]
_END: Final = STATE["END"]
_COLON: Final = STATE["OBJECT_COLON"]
_VALUE: Final = STATE["VALUE"]
_ARRAY_AFTER: Final = STATE["ARRAY_AFTER"]
_OBJECT_AFTER: Final = STATE["OBJECT_AFTER"]
_IDLE: Final = frozenset({STATE["BETWEEN"], _END})
# Runs that the automaton would take byte by byte. All of them end in a state that they began in or can name.
_SPACE = rb"[ \t\n\r]*+"
_ASCII = rb"[ !#-\[\]-\x7f]"
_PLAIN = re.compile(
    rb"(?:" + _ASCII + rb"++"
    rb"|[\xc2-\xdf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xe0[\xa0-\xbf][\x80-\xbf]|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|[\xf1-\xf3][\x80-\xbf]{3}|\xf0[\x90-\xbf][\x80-\xbf]{2}|\xf4[\x80-\x8f][\x80-\xbf]{2})*+"
).match
_WHOLE_KEY = re.compile(_SPACE + rb'("(' + _ASCII + rb'*+)")' + _SPACE + rb":" + _SPACE).match
_WHOLE_SCALAR = re.compile(
    _SPACE + rb'(?:"(' + _ASCII + rb'*+)"'
    rb"|(-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+)(?=[,\]} \t\n\r])|(true|false|null))"
).match
_SHORTCUTS: Final = [0] * len(RULES)
for _name, _number in (("VALUE", 1), ("ARRAY_FIRST", 1), ("OBJECT_FIRST", 2), ("OBJECT_KEY", 2), ("STRING", 3)):
    _SHORTCUTS[STATE[_name]] = _number


class JsonMachine:
    """Reads JSON text in pieces of any size, also ones that end inside a character, an escape or a number.

    `then` says what may follow the value: nothing, anything (which is ignored), or more values, separated by space or
    commas. `strict` refuses what JSON forbids and Pydantic or a reader would still understand: raw control characters
    in strings (`tolerated` lists their offsets) and the words NaN and Infinity. The work for a byte is bounded, the
    memory is that of the nesting, of the current key or number and of `tolerated`.
    """

    def __init__(
        self,
        *,
        then: Literal["nothing", "anything", "values"] = "nothing",
        strict: bool = False,
        max_depth: int = MAX_DEPTH,
        offset: int = 0,
    ) -> None:
        self.tolerated: list[int] = []
        self._strict, self._max_depth = strict, max_depth
        self._ignore_rest = then == "anything"
        self._last = STATE["BETWEEN"] if then == "values" else _END
        self._after = self._last  # the state after a value that ends now
        self._state = STATE["BETWEEN"] if then == "values" else STATE["START"]
        self._reached = self._state  # the same, but inside of an escape or character that was cut
        self._stack: list[tuple[int, int]] = []  # of each open container: its start, and the state after its values
        self._offset = offset  # of the next byte
        self._mark = 0  # where the current string, key, number or word began
        self._chunk = 0  # where the text began that no chunk has told yet
        self._in_key = False
        self._pieces: list[bytes] = []
        self._rest = b""  # of an escape or character that was cut
        self._error: JSONError | None = None

    @property
    def complete(self) -> bool:
        """Whether no value is open. A number at the top ends only with the byte after it, or with `finish`."""
        return self._state in _IDLE

    @property
    def depth(self) -> int:
        """How many containers are open."""
        return len(self._stack)

    @property
    def held(self) -> int | None:
        """The offset from which on bytes may be read again: none are."""
        return None

    @property
    def offset(self) -> int:
        """How many bytes were fed (beside the offset that the machine was made with)."""
        return self._offset

    def feed(self, data: bytes) -> list[Event]:
        """The events of the next bytes. Raises `JSONError`, which holds the events up to the fault; then ever again."""
        if self._error is not None:
            raise self._error
        events: list[Event] = []
        try:
            self._run(data, events)
        except JSONError as error:
            error.events = events
            self._error = error
            raise
        return events

    def finish(self) -> list[Event]:
        """The last events: a number at the top ends here. Raises `UnexpectedEnd` if a value is open or none came."""
        if self._error is not None:
            raise self._error
        if ENDS_NUMBER[self._state] and not self._stack:
            text = b"".join(self._pieces).decode()
            self._pieces.clear()
            self._state = self._last
            return [(NUMBER, self._mark, self._offset, text)]
        if self._state not in _IDLE:
            wanted = EXPECTED[self._reached]
            raise UnexpectedEnd(f"the text ends at byte {self._offset}, where {wanted} is expected", self._offset)
        return []

    def _run(self, data: bytes, events: list[Event]) -> None:
        rows, transitions = TABLE
        base = self._offset - len(self._rest)  # offset of data[0]
        self._offset += len(data)
        if self._rest:
            data = self._rest + data
            self._rest = b""
        state, after, pieces = self._state, self._after, self._pieces
        at = 0
        run = 0  # data[run:at] belongs to the current string, key, number or word and is not in `pieces` yet
        unit = 0  # where the current escape or character began
        size = len(data)
        while at < size:
            shortcut = _SHORTCUTS[state]
            if shortcut == 3:
                at = unit = _PLAIN(data, at).end()  # type: ignore[union-attr]
                if at == size:
                    break
            elif shortcut == 1:
                match = _WHOLE_SCALAR(data, at)
                if match is not None:
                    group = match.lastindex or 0
                    start, end = base + match.start(group), base + match.end(group)
                    text = match[group].decode()
                    if group == 1:
                        events.append((STRING_OPENED, start - 1, start, ""))
                        if text:
                            events.append((STRING_CHUNK, start, end, text))
                        events.append((STRING_CLOSED, start - 1, end + 1, ""))
                    else:
                        events.append((NUMBER if group == 2 else LITERAL, start, end, text))
                    state, at = after, match.end()
                    continue
            elif shortcut == 2:
                match = _WHOLE_KEY(data, at)
                if match is not None:
                    events.append((KEY, base + match.start(1), base + match.end(1), match[2].decode()))
                    state, at = _VALUE, match.end()
                    continue
            next_state, action = transitions[rows[state][data[at]]]
            if action == NONE:
                state = next_state
            elif action == END_STRING:
                pieces.append(data[run:at])
                end = base + at + 1
                if self._in_key:
                    events.append((KEY, self._mark, end, b"".join(pieces).decode()))
                    pieces.clear()
                    state = _COLON
                else:
                    self._end_chunk(end - 1, events)
                    events.append((STRING_CLOSED, self._mark, end, ""))
                    state = after
            elif action in (OPEN_STRING, OPEN_KEY):
                self._in_key = action == OPEN_KEY
                self._mark = base + at
                self._chunk = self._mark + 1
                if action == OPEN_STRING:
                    events.append((STRING_OPENED, self._mark, self._chunk, ""))
                run = at + 1
                state = next_state
            elif action in (OPEN_OBJECT, OPEN_ARRAY):
                if len(self._stack) >= self._max_depth:
                    raise NestingTooDeep(
                        f"more than {self._max_depth} containers are open at byte {base + at}", base + at
                    )
                self._stack.append((base + at, after))
                opened = action == OPEN_OBJECT
                events.append((OBJECT_OPENED if opened else ARRAY_OPENED, base + at, base + at + 1, ""))
                after = _OBJECT_AFTER if opened else _ARRAY_AFTER
                state = next_state
            elif action in (CLOSE_OBJECT, CLOSE_ARRAY):
                start, after = self._stack.pop()
                closed = OBJECT_CLOSED if action == CLOSE_OBJECT else ARRAY_CLOSED
                events.append((closed, start, base + at + 1, ""))
                state = after
            elif action == OPEN_SCALAR:
                self._mark = base + at
                run = at
                state = next_state
            elif action == END_NUMBER:
                pieces.append(data[run:at])
                events.append((NUMBER, self._mark, base + at, b"".join(pieces).decode()))
                pieces.clear()
                state = after
                continue  # the byte that ended it is read again
            elif action == END_LITERAL or (action == END_NONFINITE and not self._strict):
                pieces.append(data[run : at + 1])
                events.append((LITERAL, self._mark, base + at + 1, b"".join(pieces).decode()))
                pieces.clear()
                state = after
            elif action in (END_ESCAPE, END_CODE, END_PAIR):
                pieces += [data[run:unit], _unescaped(data[unit : at + 1], action).encode()]
                run = at + 1
                state = next_state
            elif action == TOLERATE and not self._strict:
                self.tolerated.append(base + at)
            elif state == _END and self._ignore_rest:
                break
            else:
                if (state == _STRING or IN_UNIT[state]) and not self._in_key:
                    pieces.append(data[run:unit])
                    self._end_chunk(base + unit, events)
                raise _unexpected(data[at], base + at, state)
            at += 1

        self._reached = state
        if IN_UNIT[state]:
            self._rest = data[unit:]
            size = unit
            state = _STRING
        if state == _STRING:
            pieces.append(data[run:size])
            if not self._in_key:
                self._end_chunk(base + size, events)
        elif IN_SCALAR[state]:
            pieces.append(data[run:size])
        self._state, self._after = state, after

    def _end_chunk(self, end: int, events: list[Event]) -> None:
        """Tell the text of the current string that came before `end`, if there is any untold."""
        text = b"".join(self._pieces).decode()
        self._pieces.clear()
        if text:
            events.append((STRING_CHUNK, self._chunk, end, text))
        self._chunk = end


def _unescaped(escape: bytes, action: int) -> str:
    if action == END_ESCAPE:
        return ESCAPES[chr(escape[1])]
    if action == END_CODE:
        return chr(int(escape[2:], 16))
    return chr(0x10000 + (int(escape[2:6], 16) - 0xD800) * 0x400 + int(escape[8:], 16) - 0xDC00)


def _unexpected(byte: int, position: int, state: int) -> JSONError:
    shown = repr(chr(byte)) if 0x20 <= byte < 0x7F else f"the byte 0x{byte:02X}"
    return JSONError(f"unexpected {shown} at byte {position} of the answer: expected {EXPECTED[state]}", position)
