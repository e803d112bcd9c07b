"""Valid answers with one character too many or too few: what is malformed by chance rather than by a model's habits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from malformed_types import Flags, Order, Tree, User
from pydantic import TypeAdapter, ValidationError

_DOCUMENTS: list[tuple[Any, str]] = [
    (User, '{"name": "Ann Lee", "age": 31}'),
    (
        Order,
        '{"order_id": "A-7", "items": [{"title": "Pen, red", "price": 2.5, "count": 3}, {"title": "Ink", "price": 12}],'
        ' "paid": true, "note": "see \\"x\\""}',
    ),
    (list[User], '[{"name": "Ann", "age": 31}, {"name": "Ben", "age": 40}]'),
    (Tree, '{"label": "a", "children": [{"label": "b", "children": []}, {"label": "c"}]}'),
    (Flags, '{"active": true, "tags": ["a", "b c"], "codes": [1, 22]}'),
]
_TAKEN_OUT = '{}[]",:\\ '
_PUT_IN = "{}[]\",:'"


class Damaged(NamedTuple):
    """A text with one wrong character, and the value of the text without it."""

    type: Any
    text: str
    value: Any


def damaged() -> Iterator[Damaged]:
    """All texts with one sign of JSON taken out or put in that are not valid any more."""
    for annotation, text in _DOCUMENTS:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        value = adapter.validate_json(text)
        less = {text[:at] + text[at + 1 :] for at in range(len(text)) if text[at] in _TAKEN_OUT}
        more = {text[:at] + sign + text[at:] for at in range(len(text) + 1) for sign in _PUT_IN}
        for wrong in sorted(less | more):
            try:
                adapter.validate_json(wrong)
            except ValidationError:
                yield Damaged(annotation, wrong, value)
