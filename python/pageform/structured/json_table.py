"""The table "bytes → events": a finite automaton over the bytes of JSON text, and what each transition does.

Both JSON machines run on it, the Python one (`json_machine.py`) and the C++ one (`csrc/json/`), whose header
`ci/generate_json_table.py` writes from this module. What an automaton can't hold, the nesting of containers, is the
machines' stack: they alone know whether a value that ends stands in an object, in an array or alone.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_DEPTH = 200
"""How deep containers may be nested unless a machine is told otherwise. Pydantic's own parser stops at 201."""

EVENTS = (
    "OBJECT_OPENED",
    "OBJECT_CLOSED",
    "ARRAY_OPENED",
    "ARRAY_CLOSED",
    "KEY",
    "STRING_OPENED",
    "STRING_CHUNK",
    "STRING_CLOSED",
    "NUMBER",
    "LITERAL",
)
(
    OBJECT_OPENED,
    OBJECT_CLOSED,
    ARRAY_OPENED,
    ARRAY_CLOSED,
    KEY,
    STRING_OPENED,
    STRING_CHUNK,
    STRING_CLOSED,
    NUMBER,
    LITERAL,
) = range(len(EVENTS))

ACTIONS = (
    "REFUSE",  # the byte can't stand here
    "NONE",
    "OPEN_OBJECT",
    "OPEN_ARRAY",
    "CLOSE_OBJECT",
    "CLOSE_ARRAY",
    "OPEN_KEY",
    "OPEN_STRING",
    "END_STRING",  # the closing quote, of a key too
    "TOLERATE",  # a control character inside a string: part of it, though JSON wants it escaped
    "END_ESCAPE",  # a one-letter escape
    "END_CODE",  # \uXXXX
    "END_PAIR",  # both halves of a surrogate pair
    "OPEN_SCALAR",  # first byte of a number or literal
    "END_NUMBER",  # the byte after a number: the number ends and the byte is read again
    "END_LITERAL",
    "END_NONFINITE",  # NaN and Infinity: Pydantic takes them, JSON does not
)
(
    REFUSE,
    NONE,
    OPEN_OBJECT,
    OPEN_ARRAY,
    CLOSE_OBJECT,
    CLOSE_ARRAY,
    OPEN_KEY,
    OPEN_STRING,
    END_STRING,
    TOLERATE,
    END_ESCAPE,
    END_CODE,
    END_PAIR,
    OPEN_SCALAR,
    END_NUMBER,
    END_LITERAL,
    END_NONFINITE,
) = range(len(ACTIONS))

ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}
"""The one-letter escapes and what they stand for."""

_SPACE = b" \t\n\r"
_DIGITS = b"0123456789"
_HEX = b"0123456789abcdefABCDEF"
_CONTINUATION = bytes(range(0x80, 0xC0))
_AFTER_NUMBER = _SPACE + b",]}"

Rule = tuple[bytes, str, int]
"""Bytes, the state they lead to, the action. `AFTER` stands for the state that the machine's stack says."""

# Where a value may begin.
_VALUE: list[Rule] = [
    (b"{", "OBJECT_FIRST", OPEN_OBJECT),
    (b"[", "ARRAY_FIRST", OPEN_ARRAY),
    (b'"', "STRING", OPEN_STRING),
    (b"-", "MINUS", OPEN_SCALAR),
    (b"0", "ZERO", OPEN_SCALAR),
    (b"123456789", "INTEGER", OPEN_SCALAR),
    *((word[:1].encode(), f"WORD_{word[:1]}", OPEN_SCALAR) for word in ("true", "false", "null", "NaN", "Infinity")),
]

# The words, letter by letter: WORD_tr is the state after "tr".
_WORDS: dict[str, list[Rule]] = {
    f"WORD_{word[:length]}": [
        (word[length : length + 1].encode(), f"WORD_{word[: length + 1]}", NONE)
        if length + 1 < len(word)
        else (word[length:].encode(), "AFTER", END_LITERAL if word.islower() else END_NONFINITE)
    ]
    for word in ("true", "false", "null", "NaN", "Infinity")
    for length in range(1, len(word))
}

RULES: dict[str, list[Rule]] = {
    # Structure. START is before the one value, BETWEEN after a value where more may follow, END after the last one.
    "START": [(_SPACE, "START", NONE), *_VALUE],
    "BETWEEN": [(_SPACE + b",", "BETWEEN", NONE), *_VALUE],
    "END": [(_SPACE, "END", NONE)],
    "VALUE": [(_SPACE, "VALUE", NONE), *_VALUE],
    "ARRAY_FIRST": [(_SPACE, "ARRAY_FIRST", NONE), (b"]", "AFTER", CLOSE_ARRAY), *_VALUE],
    "ARRAY_AFTER": [(_SPACE, "ARRAY_AFTER", NONE), (b",", "VALUE", NONE), (b"]", "AFTER", CLOSE_ARRAY)],
    "OBJECT_FIRST": [
        (_SPACE, "OBJECT_FIRST", NONE),
        (b'"', "STRING", OPEN_KEY),
        (b"}", "AFTER", CLOSE_OBJECT),
    ],
    "OBJECT_KEY": [(_SPACE, "OBJECT_KEY", NONE), (b'"', "STRING", OPEN_KEY)],
    "OBJECT_COLON": [(_SPACE, "OBJECT_COLON", NONE), (b":", "VALUE", NONE)],
    "OBJECT_AFTER": [(_SPACE, "OBJECT_AFTER", NONE), (b",", "OBJECT_KEY", NONE), (b"}", "AFTER", CLOSE_OBJECT)],
    # Strings: well-formed UTF-8 only (Unicode 15, table 3-7), and both halves of a surrogate pair or none.
    "STRING": [
        (bytes(byte for byte in range(0x20, 0x80) if byte not in b'"\\'), "STRING", NONE),
        (bytes(range(0x20)), "STRING", TOLERATE),
        (b'"', "AFTER", END_STRING),
        (b"\\", "ESCAPE", NONE),
        (bytes(range(0xC2, 0xE0)), "UTF8_1", NONE),
        (b"\xe0", "UTF8_E0", NONE),
        (bytes([*range(0xE1, 0xED), 0xEE, 0xEF]), "UTF8_2", NONE),
        (b"\xed", "UTF8_ED", NONE),
        (b"\xf0", "UTF8_F0", NONE),
        (b"\xf1\xf2\xf3", "UTF8_3", NONE),
        (b"\xf4", "UTF8_F4", NONE),
    ],
    "UTF8_1": [(_CONTINUATION, "STRING", NONE)],
    "UTF8_2": [(_CONTINUATION, "UTF8_1", NONE)],
    "UTF8_3": [(_CONTINUATION, "UTF8_2", NONE)],
    "UTF8_E0": [(bytes(range(0xA0, 0xC0)), "UTF8_1", NONE)],
    "UTF8_ED": [(bytes(range(0x80, 0xA0)), "UTF8_1", NONE)],
    "UTF8_F0": [(bytes(range(0x90, 0xC0)), "UTF8_2", NONE)],
    "UTF8_F4": [(bytes(range(0x80, 0x90)), "UTF8_2", NONE)],
    "ESCAPE": [("".join(ESCAPES).encode(), "STRING", END_ESCAPE), (b"u", "CODE_0", NONE)],
    "CODE_0": [(b"dD", "CODE_D", NONE), (bytes(byte for byte in _HEX if byte not in b"dD"), "CODE_1", NONE)],
    "CODE_1": [(_HEX, "CODE_2", NONE)],
    "CODE_2": [(_HEX, "CODE_3", NONE)],
    "CODE_3": [(_HEX, "STRING", END_CODE)],
    "CODE_D": [(b"01234567", "CODE_2", NONE), (b"89abAB", "HIGH_2", NONE)],  # D8 to DB: half of a pair
    "HIGH_2": [(_HEX, "HIGH_3", NONE)],
    "HIGH_3": [(_HEX, "PAIR", NONE)],
    "PAIR": [(b"\\", "PAIR_ESCAPE", NONE)],
    "PAIR_ESCAPE": [(b"u", "LOW_0", NONE)],
    "LOW_0": [(b"dD", "LOW_1", NONE)],
    "LOW_1": [(b"cdefCDEF", "LOW_2", NONE)],
    "LOW_2": [(_HEX, "LOW_3", NONE)],
    "LOW_3": [(_HEX, "STRING", END_PAIR)],
    # Numbers and words.
    "MINUS": [(b"0", "ZERO", NONE), (b"123456789", "INTEGER", NONE), (b"I", "WORD_I", NONE)],
    "ZERO": [(b".", "POINT", NONE), (b"eE", "EXPONENT", NONE), (_AFTER_NUMBER, "AFTER", END_NUMBER)],
    "INTEGER": [
        (_DIGITS, "INTEGER", NONE),
        (b".", "POINT", NONE),
        (b"eE", "EXPONENT", NONE),
        (_AFTER_NUMBER, "AFTER", END_NUMBER),
    ],
    "POINT": [(_DIGITS, "FRACTION", NONE)],
    "FRACTION": [(_DIGITS, "FRACTION", NONE), (b"eE", "EXPONENT", NONE), (_AFTER_NUMBER, "AFTER", END_NUMBER)],
    "EXPONENT": [(b"+-", "EXPONENT_SIGN", NONE), (_DIGITS, "EXPONENT_DIGITS", NONE)],
    "EXPONENT_SIGN": [(_DIGITS, "EXPONENT_DIGITS", NONE)],
    "EXPONENT_DIGITS": [(_DIGITS, "EXPONENT_DIGITS", NONE), (_AFTER_NUMBER, "AFTER", END_NUMBER)],
    **_WORDS,
    "AFTER": [],  # never entered: the machine puts END, BETWEEN, ARRAY_AFTER or OBJECT_AFTER in its place
}

_EXPECTED = {
    "START": "a value",
    "BETWEEN": "another value or the end",
    "END": "nothing more",
    "VALUE": "a value",
    "ARRAY_FIRST": "a value or ']'",
    "ARRAY_AFTER": "',' or ']'",
    "OBJECT_FIRST": "a key or '}'",
    "OBJECT_KEY": "a key",
    "OBJECT_COLON": "':'",
    "OBJECT_AFTER": "',' or '}'",
    "STRING": "text in UTF-8",
    "ESCAPE": "an escape that JSON has",
}
_EXPECTED_BY_PREFIX = {
    "UTF8": "text in UTF-8",
    "CODE": "four hexadecimal digits that are no lone half of a surrogate pair",
    "HIGH": "four hexadecimal digits",
    "PAIR": "the second half of a surrogate pair",
    "LOW": "the second half of a surrogate pair",
    "WORD": "true, false or null",
}

STATES = tuple(RULES)
STATE = {name: number for number, name in enumerate(STATES)}
EXPECTED = tuple(_EXPECTED.get(name) or _EXPECTED_BY_PREFIX.get(name.split("_")[0], "a number") for name in STATES)
"""What each state waits for, in words for error messages."""

IN_UNIT = tuple(name.startswith(("ESCAPE", "CODE", "HIGH", "PAIR", "LOW", "UTF8")) for name in STATES)
"""By state: whether it is inside an escape or a character of several bytes, which is told as a whole or not at all."""
IN_SCALAR = tuple(
    name.startswith(("MINUS", "ZERO", "INTEGER", "POINT", "FRACTION", "EXPONENT", "WORD")) for name in STATES
)
"""By state: whether it is inside a number or word."""
ENDS_NUMBER = tuple(any(rule[2] == END_NUMBER for rule in rules) for rules in RULES.values())
"""By state: whether a number may end here."""


class Table(NamedTuple):
    """`transitions[rows[state][byte]]` is (next state, action)."""

    rows: tuple[bytes, ...]
    transitions: tuple[tuple[int, int], ...]


def _table() -> Table:
    transitions: dict[tuple[int, int], int] = {(STATE["AFTER"], REFUSE): 0}
    rows = []
    for rules in RULES.values():
        row = bytearray(256)
        for chars, state, action in rules:
            number = transitions.setdefault((STATE[state], action), len(transitions))
            for byte in chars:
                row[byte] = number
        rows.append(bytes(row))
    return Table(tuple(rows), tuple(transitions))


TABLE = _table()
