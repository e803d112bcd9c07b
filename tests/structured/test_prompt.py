"""Prompts: what the model is told about the type."""

from __future__ import annotations

import copy
import datetime as dt
import json
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from pageform.structured import Spec, add_to_messages, add_to_prompt, instructions


class Item(BaseModel):
    sku: str = Field(max_length=8)
    count: Annotated[int, Field(ge=1, le=99)]


class Receipt(BaseModel):
    """What was bought."""

    shop: str = Field(description="name of\n the shop")
    day: dt.date | None
    kind: Literal["cash", "card"]
    items: list[Item] = Field(min_length=1)
    rates: dict[str, float]
    pair: tuple[int, bool]


class Node(BaseModel):
    """A node."""

    value: int
    next: Node | None = None


def test_the_outline_looks_like_the_answer() -> None:
    assert instructions(Spec.of(Receipt)) == (
        "Answer only with JSON of this form (What was bought.):\n"
        "{\n"
        '  "shop": string (name of the shop),\n'
        '  "day": date YYYY-MM-DD | null,\n'
        '  "kind": "cash" | "card",\n'
        '  "items": [{\n'
        '    "sku": string (at most 8 characters),\n'
        '    "count": integer (1 to 99)\n'
        "  }, ...] (at least 1 items),\n"
        '  "rates": {"key": number, ...},\n'
        '  "pair": [integer, boolean]\n'
        "}"
    )


def test_a_type_that_refers_to_itself_is_shown_once() -> None:
    text = instructions(Spec.of(Node))
    assert text.startswith("Answer only with JSON of this form, called Node (A node.):\n{\n")
    assert text.count('"value"') == 1
    assert '"next": Node | null' in text
    assert text.count("Node") == 2, "its name, and the reference to it"
    nested = instructions(Spec.of(list[Node]))
    assert "[Node, ...]" in nested
    assert nested.count('"value"') == 1


@pytest.mark.parametrize(
    ("annotation", "outline"),
    [
        (int, "integer"),
        (Literal["a", 1, None], '"a" | 1 | null'),
        (Literal["é"], '"é"'),
        (list[int], "[integer, ...]"),
        (Annotated[list[str], Field(min_length=2, max_length=2)], "[string, ...] (2 items)"),
        (int | str, "integer | string"),
        (dict, "{...}"),
        (object, "any"),
    ],
    ids=str,
)
def test_outlines_of_small_types(annotation: object, outline: str) -> None:
    assert instructions(Spec.of(annotation)).splitlines()[1:] == [outline]


def test_the_outline_is_much_shorter_than_the_schema() -> None:
    assert len(instructions(Spec.of(Receipt))) < 0.5 * len(json.dumps(Spec.of(Receipt).json_schema))


def test_messages_get_it_in_the_system_message_and_stay_unchanged() -> None:
    spec = Spec.of(Item)
    user = {"role": "user", "content": "Read this."}
    system = {"role": "system", "content": "Be brief.\n"}
    for messages in ([user], [system, user], [{"role": "system", "content": [{"type": "text"}]}, user]):
        before = copy.deepcopy(messages)
        added = add_to_messages(spec, messages)
        assert messages == before
        assert added[0]["role"] == "system"
        content = added[0]["content"]
        assert (content if isinstance(content, str) else content[-1]["text"]).endswith(instructions(spec))
        assert added[-1] == user
    assert add_to_messages(spec, [system, user])[0]["content"].startswith("Be brief.\n\nAnswer only")
    assert len(add_to_messages(spec, [system, user])) == 2


def test_a_completion_prompt_ends_where_the_answer_begins() -> None:
    prompt = add_to_prompt(Spec.of(Item), "Read this.  \n")
    assert prompt == f"{instructions(Spec.of(Item))}\n\nRead this.\n\nJSON:\n"
