"""What an untrusted template may spend: iterations, seconds, and the size of what it makes.

Sizes are estimated before a value is made where one step could make it huge (`'a' * 10 ** 12`), and charged afterwards
everywhere else, so that repeated doubling runs into the limit. Containers count with all they hold, shared parts as
often as they are reached, since that is what printing or comparing them would cost.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_SECONDS = 5.0
MAX_ITERATIONS = 1_000_000
MAX_SIZE = 1 << 24
"""Of one value: characters of a text, or of all texts in a container."""
MAX_ITEMS = 1 << 20
"""Of one container."""
MAX_NUMBER_BITS = 1 << 14
MAX_WORK = 1 << 28
"""Of all values together."""
MAX_TOKENS = 50_000
"""Of a template's code. Compiling takes 40 µs for each (`{{ a ~ a ~ … }}`, Python 3.11), and a large chat template has
5,000."""


class Exhausted(Exception):
    """A template spent more than it may."""


class Budget:
    """What one rendering may still spend. Its methods raise Exhausted."""

    def __init__(self) -> None:
        self._iterations = MAX_ITERATIONS
        self._work = MAX_WORK
        self._deadline = time.monotonic() + MAX_SECONDS
        # Sizes of containers by identity; keeps them alive, so that no other object gets the same identity.
        self._sizes: dict[int, tuple[Any, int]] = {}

    def tick(self) -> None:
        """Counts one iteration of a loop or one call of a macro."""
        self._iterations -= 1
        if self._iterations < 0:
            raise Exhausted(f"it runs through more than {MAX_ITERATIONS} iterations")
        self.spend(1)

    def spend(self, work: int) -> None:
        """Counts work in units of a character or an item."""
        self._work -= work
        if self._work < 0:
            raise Exhausted("it makes too much text or data")
        if time.monotonic() > self._deadline:
            raise Exhausted(f"it takes longer than {MAX_SECONDS:g} s")

    def charge(self, value: Any) -> Any:
        """Counts a value that was made, and returns it."""
        size = self.size(value)
        check_size(size)
        self.spend(size)
        return value

    def size(self, value: Any) -> int:
        """Size of a value with all that it holds. Anything but text, numbers and containers counts as one."""
        if isinstance(value, (str, bytes)):
            return len(value)
        if not isinstance(value, (list, tuple, dict, set, frozenset)):
            return 1
        if len(value) > MAX_ITEMS:
            raise Exhausted(f"it makes a list of more than {MAX_ITEMS} items")
        known = self._sizes.get(id(value))
        if known is not None:
            return known[1]
        size = 1 + sum(map(self.size, value))
        if isinstance(value, dict):
            size += sum(map(self.size, value.values()))
        self._sizes[id(value)] = (value, size)
        return size


def check_size(size: int) -> None:
    """Raises Exhausted for a value that is or would be too large."""
    if size > MAX_SIZE:
        raise Exhausted(f"it makes something larger than {MAX_SIZE} characters or items")


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Raises Exhausted when `left operator right` would be too large, for the operators that make much of little."""
    if operator == "%" and isinstance(left, (str, bytes)):
        pattern = left if isinstance(left, str) else left.decode("latin-1")
        check_size(_format_size(pattern, right if isinstance(right, tuple) else (right,)))
    elif isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * max(right, 1) if operator == "**" else left.bit_length() + right.bit_length()
        if bits > MAX_NUMBER_BITS:
            raise Exhausted(f"it makes a number of more than {MAX_NUMBER_BITS} bits")
    elif operator == "*":
        for value, count in ((left, right), (right, left)):
            if isinstance(value, (str, bytes, list, tuple)) and isinstance(count, int):
                check_size(len(value) * count)


def size_of_call(budget: Budget, name: str, subject: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Upper bound of what the filter or string method `name` makes of `subject`; 0 for those that never make more."""
    estimate = _GROWING.get(name)
    return 0 if estimate is None else estimate(budget, subject, list(args), dict(kwargs))


def _argument(args: list[Any], kwargs: dict[str, Any], position: int, name: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _replaced(budget: Budget, subject: Any, args: list[Any], kwargs: dict[str, Any]) -> int:
    old = _text(_argument(args, kwargs, 0, "old", "x"))
    new = _text(_argument(args, kwargs, 1, "new", ""))
    text = _text(subject)
    return len(text) + text.count(old) * len(new)


def _joined(budget: Budget, items: Any, separator: Any) -> int:
    return budget.size(items) + (len(items) if isinstance(items, (list, tuple)) else 0) * budget.size(separator)


def _joined_by_method(budget: Budget, subject: Any, args: list[Any], kwargs: dict[str, Any]) -> int:
    """`separator.join(items)`; the filter of this name has them the other way round."""
    if isinstance(subject, (str, bytes)) and args:
        return _joined(budget, args[0], subject)
    return _joined(budget, subject, _argument(args, kwargs, 0, "d", ""))


def _padded(budget: Budget, subject: Any, args: list[Any], kwargs: dict[str, Any]) -> int:
    """A width or a count among the arguments."""
    return max((value for value in [*args, *kwargs.values()] if isinstance(value, int)), default=0)


def _indented(budget: Budget, subject: Any, args: list[Any], kwargs: dict[str, Any]) -> int:
    width = _argument(args, kwargs, 0, "width", 4)
    text = _text(subject)
    return len(text) + (text.count("\n") + 1) * (width if isinstance(width, int) else len(_text(width)))


def _wrapped(budget: Budget, subject: Any, args: list[Any], kwargs: dict[str, Any]) -> int:
    """What is made, and what textwrap copies: it cuts a long word off line by line, moving the rest each time."""
    text, width = _text(subject), _argument(args, kwargs, 0, "width", 79)
    longest = max(map(len, text.split()), default=0)
    copied = longest * longest // max(width if isinstance(width, int) else 1, 1)
    return max(copied, len(text) * max(len(_text(_argument(args, kwargs, 2, "wrapstring", None) or "\n")), 1))


def _translated(budget: Budget, subject: Any, args: list[Any], kwargs: dict[str, Any]) -> int:
    table = args[0] if args and isinstance(args[0], dict) else {}
    return len(_text(subject)) * max((len(to) for to in table.values() if isinstance(to, str)), default=1)


def _encoded(budget: Budget, subject: Any, args: list[Any], kwargs: dict[str, Any]) -> int:
    """Some codecs take time that grows with the square of the text (punycode: a minute for 20,000 characters)."""
    codec = _text(_argument(args, kwargs, 0, "encoding", "utf-8")).lower().replace("_", "-")
    size = len(subject) if isinstance(subject, (str, bytes)) else 1
    return 4 * size if codec in ("utf-8", "utf8", "utf-16", "utf-32", "ascii", "latin-1") else size * size


def _expanded(budget: Budget, subject: Any, args: list[Any], kwargs: dict[str, Any]) -> int:
    size = _argument(args, kwargs, 0, "tabsize", 8)
    return _text(subject).count("\t") * (size if isinstance(size, int) else 1)


def _formatted(budget: Budget, subject: Any, args: list[Any], kwargs: dict[str, Any]) -> int:
    return _format_size(_text(subject), (*args, *kwargs.values()))


def _format_size(pattern: str, values: Sequence[Any]) -> int:
    """Widths are numbers in the pattern, or (`%*d`, `{:{}}`) among the values."""
    widths = [int(digits[:18]) for digits in re.findall(r"\d+", pattern)]
    if "*" in pattern or re.search(r"\{[^{}]*\{", pattern):
        widths += [abs(value) for value in values if isinstance(value, int)]
    return len(pattern) + sum(widths)


def _json(budget: Budget, subject: Any, args: list[Any], kwargs: dict[str, Any]) -> int:
    indents = [value for value in [*args, *kwargs.values()] if isinstance(value, int)]
    texts = [len(value) for value in [*args, *kwargs.values()] if isinstance(value, str)]
    return budget.size(subject) * (1 + max(indents + texts, default=0))


_Estimate = Callable[[Budget, Any, list[Any], dict[str, Any]], int]
_GROWING: dict[str, _Estimate] = {
    "replace": _replaced,
    "join": _joined_by_method,
    "indent": _indented,
    "wordwrap": _wrapped,
    "expandtabs": _expanded,
    "translate": _translated,
    "encode": _encoded,
    "decode": _encoded,
    "to_bytes": _padded,
    "format": _formatted,
    "format_map": _formatted,
    "tojson": _json,
    **dict.fromkeys(("center", "ljust", "rjust", "zfill", "batch", "slice"), _padded),
}
