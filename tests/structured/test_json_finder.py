"""Finding JSON among words, fences and thoughts while it arrives."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from pageform.structured import ItemReader, PartialBuilder, Spec
from pageform.structured.json_finder import RESTARTED, JsonFinder
from pageform.structured.json_table import KEY, OBJECT_OPENED
from pageform.structured.json_text import JSONError, UnexpectedEnd


class User(BaseModel):
    name: str
    age: int = 0


ANNA = User(name="Anna", age=3)
JSON = '{"name": "Anna", "age": 3}'


def found(annotation: Any, text: str, size: int, **options: Any) -> tuple[list[Any], PartialBuilder]:
    builder = PartialBuilder(Spec.of(annotation), skip_prose=True, **options)
    data = text.encode()
    seen = [builder.feed(data[at : at + size]) for at in range(0, len(data), size)]
    return [partial for partial in seen if partial is not None], builder


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1000])
@pytest.mark.parametrize(
    "text",
    [
        JSON,
        f"  {JSON}  ",
        f"Sure! Here is the user:\n{JSON}\nAnything else?",
        f"```json\n{JSON}\n```",
        f"```\n{JSON}\n``` and {{more}} ```{{}}```",
        f"```{JSON}```",
        f"Inline `code`, then ```JSON5 \r\n{JSON}```",
        f"Words [in brackets] and {{braces}} {{ 'x' }} [[links]] {{\"quoted\"}} [, {JSON}",
        f'<think>{{"name": "No"}} or ```json\n{{"name": "Neither"}}```?</think>{JSON}',
        f"An empty {{}} first. {JSON}",
        f'Such as {{"name": "Zoe"}}. In fact:\n```json\n{JSON}\n```\n{{"name": "Late"}}',
        f'{JSON} unlike {{"name": "Late"}}',
        f"é漢字😀 {JSON} é",
        f'1 2 3 true "text" {JSON}',
    ],
)
def test_the_object_is_found(text: str, size: int) -> None:
    seen, builder = found(User, text, size)
    assert builder.finish() == ANNA
    assert builder.complete
    names = [partial.name for partial in seen]
    assert names[-1] == "Anna" or "Late" in text


def test_partials_come_while_the_object_grows_and_start_anew_at_a_better_one() -> None:
    seen, _ = found(User, f'E.g. {{"name": "Zoe"}}: ```\n{JSON}```', 1)
    names = [partial.name for partial in seen]
    assert names[:4] == ["", "Z", "Zo", "Zoe"]
    assert names[-6:] == ["", "A", "An", "Ann", "Anna", "Anna"] or "Anna" in names[-1]
    assert names.index("A") > names.index("Zoe")
    assert all(partial.age == 0 for partial in seen[: names.index("A")])


def test_what_nothing_stands_before_is_shown_at_once_and_taken_back_if_it_was_none() -> None:
    seen, _ = found(User, f"  {JSON}", 1)
    assert seen[0] == User.model_construct(name=None)
    assert len(seen) == len(found(User, JSON, 1)[0])
    seen, builder = found(User, f"{{name}} is {JSON}", 1)
    assert [partial.name for partial in seen][:3] == [None, "", "A"]
    assert builder.finish() == ANNA
    seen, builder = found(list[User], f"[1] is [{JSON}]", 1)
    assert builder.finish() == [ANNA]
    assert builder.faults == []


def test_a_long_key_or_space_does_not_cost_its_square() -> None:
    for text in ("words {" + " " * 300_000, 'words {"' + "k" * 300_000, "words [" + "\n" * 300_000):
        finder = JsonFinder()
        data = text.encode()
        start = time.process_time()
        for at in range(0, len(data), 3):
            finder.feed(data[at : at + 3])
        assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (list[int], "The list [see below] is [1, 2].", [1, 2]),
        (list[User], f"{{not this}} but [{JSON}]", [ANNA]),
        (list[User], f'As [1] and ["two"] say: [{JSON}]', [ANNA]),
        (list[User | None], f"As [1] says: [null, {JSON}]", [None, ANNA]),
        (list[list[int]], "As [1] says: [[], [2]]", [[], [2]]),
        (list[str], 'As [1] says: ["a"]', ["a"]),
        (dict[str, int], '[1] {"a": 1}', {"a": 1}),
        (int, "```\n42\n```", 42),
        (int, " 42", 42),
        (str, '```json\n"text"\n```', "text"),
        (bool, "true", True),
    ],
)
def test_values_of_other_kinds_are_found(annotation: Any, text: str, value: Any) -> None:
    for size in (1, 4, 100):
        assert found(annotation, text, size)[1].finish() == value


def test_an_envelope_is_found() -> None:
    assert found(list[int], 'So [a]: {"tasks": [1, 2]} .', 3, envelope="tasks")[1].finish() == [1, 2]


def test_items_are_found_one_after_another() -> None:
    text = f'First [1] {JSON}, then [one]\n```\n{{"name": "B"}}\n{{"name": "C"}}\n``` {{x}} [{{"name": "D"}}] done'
    for size in (1, 7, 1000):
        reader = ItemReader(Spec.of(User), skip_prose=True)
        items = [item for at in range(0, len(text), size) for item in reader.feed(text[at : at + size])]
        items += reader.finish()
        assert [item.result().name for item in items] == ["Anna", "B", "C", "D"]
        assert [item.index for item in items] == [0, 1, 2, 3]


def test_control_characters_are_kept_over_several_values() -> None:
    text = 'a {"x\ny" {"name": "a\nb"} b {"name": "c\td"}'
    for size in (1, 1000):
        reader = ItemReader(Spec.of(User), skip_prose=True)
        items = [item for at in range(0, len(text), size) for item in reader.feed(text[at : at + size])]
        assert [item.result().name for item in items] == ["a\nb", "c\td"]


@pytest.mark.parametrize("text", ["", "no JSON at all", "{braces} [only", "``", '{"name"', "<think>" + JSON])
def test_text_without_json_says_so_at_the_end(text: str) -> None:
    for size in (1, 1000):
        finder = JsonFinder("{")
        for at in range(0, len(text), size):
            told = finder.feed(text[at : at + size].encode())
            assert {event[0] for event in told} <= {OBJECT_OPENED, KEY, RESTARTED}  # nothing that is complete
        assert not finder.complete
        with pytest.raises(UnexpectedEnd):
            finder.finish()


def test_json_that_breaks_after_it_was_believed_is_an_error_with_its_place() -> None:
    for size in (1, 1000):
        with pytest.raises(JSONError) as caught:
            found(User, 'See: {"name": "Anna", age: 3}', size)
        assert caught.value.position == 22


_WORDS = [
    "{",
    "}",
    "[",
    "]",
    '"',
    ":",
    "```",
    "`",
    "\n",
    "a",
    "1",
    " ",
    "<think>",
    "</think>",
    '{"name": "A"}',
    "{}",
    "\\",
]


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(_WORDS), max_size=14), st.lists(st.integers(0, 60), max_size=12))
@example(["[", "[", "1", "]", "]"], [2])
@example(["{", '"', "{", '"', '{"name": "A"}'], [4])
def test_the_same_is_found_however_the_text_is_cut(words: list[str], cuts: list[int]) -> None:
    data = "".join(words).encode()
    ends = sorted(min(at, len(data)) for at in cuts)

    def read(pieces: list[bytes]) -> tuple[Any, str | None, int]:
        builder = PartialBuilder(Spec.of(User), skip_prose=True)
        fault = None
        try:
            for piece in pieces:
                builder.feed(piece)
        except JSONError as error:
            fault = f"{error.position} {error}"
        return builder.finish(), fault, len(builder.faults)

    whole = read([data])
    assert read([data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]) == whole
    assert read([bytes([byte]) for byte in data]) == whole


@pytest.mark.parametrize(
    "text",
    [
        *(
            "[" * 20_000,
            "{" * 20_000,
            '{"' * 10_000,
            '[{"a":' * 4_000,
            "`" * 20_000,
            "<think" * 4_000,
            "{x [y " * 8_000,
        ),
        *("words [" + "[" * 150 + "x " * 20_000, JSON * 800),
    ],
    ids=lambda text: text[:12],
)
@pytest.mark.parametrize("size", [5, 1 << 30])
@pytest.mark.parametrize("then", ["anything", "values"])
def test_hostile_and_long_text_takes_bounded_time(text: str, size: int, then: Any) -> None:
    finder = JsonFinder(then=then)
    data = text.encode()
    start = time.process_time()
    with contextlib.suppress(JSONError):
        for at in range(0, len(data), size):
            finder.feed(data[at : at + size])
    assert time.process_time() - start < 20e-6 * len(data)
