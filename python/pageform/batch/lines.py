"""What goes into a batch: lines from an iterable or a JSONL file, read and checked before anything is stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ParameterError

_LONGEST_KEY = 200
_REMEDY = (
    'A line is a text, a list of messages, or an object with "messages" or "prompt" and, if wanted, "custom_id" and '
    "further arguments of the request."
)


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a batch. `key` is the caller's name for it, unique in the batch; `kwargs` what it says."""

    key: str
    kwargs: dict[str, Any]


def read_lines(source: str | Path | Iterable[Any], defaults: Mapping[str, Any]) -> Iterator[Line]:
    """The lines of a JSONL file (given by its path) or of an iterable, each with `defaults` below its own arguments.

    An item is a text (one user message), a conversation (a list of messages), or a mapping: `messages` or `prompt`,
    `custom_id` (default: the line's number, counted from 0) and arguments such as `temperature`; a line of OpenAI's own
    batch format (`custom_id`, `body`) is understood too. Raises ParameterError naming the line.
    """
    first: dict[str, int] = {}
    number = -1
    for number, (where, item) in enumerate(_items(source)):
        line = _line(item, number, where, defaults)
        if line.key in first:
            reason = f"stands already in line {first[line.key]}"
            raise ParameterError(f"{where}.custom_id", line.key, reason, "Give each line a name of its own.")
        first[line.key] = number
        yield line
    if number < 0:
        raise ParameterError("lines", source, "holds no line", _REMEDY)


def _items(source: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(source, (str, Path)):
        yield from _file(Path(source))
    elif isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise ParameterError("lines", source, "is neither the path of a file nor a list of lines", _REMEDY)
    else:
        for number, item in enumerate(source):
            yield f"lines[{number}]", item


def _file(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.strip():
                    continue
                try:
                    yield f"{path}:{number}", json.loads(raw)
                except (ValueError, RecursionError) as error:
                    raise ParameterError(
                        f"{path}:{number}", raw[:80], f"is not JSON ({error})", "Write one JSON value a line, in UTF-8."
                    ) from None
    except OSError as error:
        raise ParameterError("lines", str(path), f"can't be read ({error.strerror})", "Give a JSONL file.") from error


def _line(item: Any, number: int, where: str, defaults: Mapping[str, Any]) -> Line:
    given = dict(item) if isinstance(item, Mapping) else {"prompt" if isinstance(item, str) else "messages": item}
    key = given.pop("custom_id", None)
    if key is None:
        key = str(number)
    if not isinstance(key, str) or not 0 < len(key) <= _LONGEST_KEY:
        remedy = f"Give a text of 1 to {_LONGEST_KEY} characters."
        raise ParameterError(f"{where}.custom_id", key, "is no usable name", remedy)
    if isinstance(given.get("body"), Mapping):  # OpenAI's own format; method and url are the job's
        given = dict(given["body"])
    kwargs = {**defaults, **given}
    if "prompt" in kwargs:
        if "messages" in kwargs:
            raise ParameterError(where, sorted(kwargs), 'has both "prompt" and "messages"', "Give one of them.")
        prompt = kwargs.pop("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise ParameterError(f"{where}.prompt", prompt, "is no text", _REMEDY)
        kwargs["messages"] = [{"role": "user", "content": prompt}]
    _check_messages(kwargs.get("messages"), where)
    _check_json(kwargs, where)
    return Line(key, kwargs)


def _check_messages(messages: Any, where: str) -> None:
    if not isinstance(messages, list) or not messages or not all(isinstance(one, Mapping) for one in messages):
        raise ParameterError(f"{where}.messages", messages, "is no list of messages", _REMEDY)


def _check_json(kwargs: Mapping[str, Any], where: str) -> None:
    """A request that waits in a file, and in the provider's queue, is JSON."""
    for name, value in kwargs.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            remedy = "Give plain data; settings of the client (timeout, extra_headers) belong to the client."
            raise ParameterError(f"{where}.{name}", value, f"can't be written as JSON ({error})", remedy) from None
