"""Lists item by item: each once, in order, as soon as it is complete, wherever the items stand."""

from __future__ import annotations

import json
import pickle
import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from pageform.structured import Item, ItemFailed, ItemReader, JSONError, Spec, UnexpectedEnd


class User(BaseModel):
    name: str
    age: int = 0
    friends: list[User] = []


@dataclass
class Stone:
    weight: float


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


def read(annotation: Any, text: str, size: int = 1, **options: Any) -> list[Item[Any]]:
    reader: ItemReader[Any] = ItemReader(Spec.of(annotation), **options)
    items = [item for at in range(0, len(text), size) for item in reader.feed(text[at : at + size])]
    items += reader.finish()
    assert reader.complete
    assert reader.count == len(items)
    assert [item.index for item in items] == list(range(len(items)))
    return items


def values(*args: Any, **options: Any) -> list[Any]:
    return [item.result() for item in read(*args, **options)]


A, B = '{"name":"A","age":1}', '{"name":"B","friends":[{"name":"C"}]}'
AB = [User(name="A", age=1), User(name="B", friends=[User(name="C")])]


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("text", "envelope", "paths"),
    [
        (f"[{A},{B}]", None, [(0,), (1,)]),
        (f" [ {A} , {B} ] ", "tasks", [(0,), (1,)]),
        (f'{{"tasks":[{A},{B}]}}', "tasks", [("tasks", 0), ("tasks", 1)]),
        (f'{{"why":{{"tasks":[1]}},"tasks":[{A},{B}],"end":[{A}]}}', "tasks", [("tasks", 0), ("tasks", 1)]),
        (f"{A}\n{B}\n", None, [(0,), (1,)]),
        (f"{A}\n{B}", "tasks", [(0,), (1,)]),
        (f"{A}, {B}", None, [(0,), (1,)]),
        (f"[{A}]\n[{B}]", None, [(0,), (0,)]),
        (f'{{"tasks":[{A}]}}{{"tasks":[]}}{{"tasks":null}}{{"tasks":{B}}}', "tasks", [("tasks", 0), ("tasks",)]),
    ],
)
def test_items_are_found_wherever_they_stand(text: str, envelope: str | None, paths: Any, size: int) -> None:
    items = read(User, text, size, envelope=envelope)
    assert [item.result() for item in items] == AB
    assert [item.path for item in items] == paths
    assert [json.loads(item.text) for item in items] == [json.loads(A), json.loads(B)]


@pytest.mark.parametrize(
    ("annotation", "text", "expected", "options"),
    [
        (int, "[1,-2,3]", [1, -2, 3], {}),
        (int, "1 2\n3", [1, 2, 3], {}),
        (str, '["a","b\\n\\u00e9",""]', ["a", "b\né", ""], {}),
        (int | str | Stone, '{"tasks":[1,"x",{"weight":2}]}', [1, "x", Stone(2.0)], {"envelope": "tasks"}),
        (Annotated[Cat | Dog, Field(discriminator="kind")], '[{"kind":"dog"},{"kind":"cat"}]', "dog cat", {}),
        (list[int], "[[1,2],[],[3]]", [[1, 2], [], [3]], {}),
        (list[int], "[1,2] [] [3]", [[1, 2], [], [3]], {"layout": "lines"}),
        (int | None, "[1,null]", [1, None], {}),
        (bool, "[true,false]", [True, False], {}),
        (User, "[]", [], {}),
        (User, '{"tasks":[]}', [], {"envelope": "tasks"}),
    ],
)
def test_items_of_all_types(annotation: Any, text: str, expected: Any, options: dict[str, Any]) -> None:
    for size in (1, 3, 1000):
        got = values(annotation, text, size, **options)
        assert (" ".join(item.kind for item in got) if isinstance(expected, str) else got) == expected


def test_each_item_comes_with_the_piece_that_closes_it() -> None:
    reader = ItemReader(Spec.of(User), envelope="tasks")
    counts = [len(reader.feed(char)) for char in f'{{"tasks":[{A},{B}]}}']
    assert [at for at, count in enumerate(counts) if count] == [9 + len(A), 10 + len(A) + len(B)]
    numbers: ItemReader[int] = ItemReader(Spec.of(int))
    assert [[item.value for item in numbers.feed(piece)] for piece in ("[1", "2,", "3]")] == [[], [12], [3]]


def test_a_failed_item_tells_where_it_stands_and_the_others_come() -> None:
    items = read(User, '{"tasks":[{"name":"A"},{"name":2,"age":"x"},{"name":"C"}]}', envelope="tasks")
    assert [item.value and item.value.name for item in items] == ["A", None, "C"]
    error = items[1].error
    assert isinstance(error, ItemFailed)
    with pytest.raises(ItemFailed) as caught:
        items[1].result()
    assert caught.value is error
    assert (error.index, error.path, error.text) == (1, ("tasks", 1), '{"name":2,"age":"x"}')
    assert [fault["path"] for fault in error.errors()] == ["tasks[1].name", "tasks[1].age"]
    assert "item 1" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.index, again.path, again.text) == (str(error), 1, ("tasks", 1), error.text)


def test_validators_get_the_context_and_may_raise_anything() -> None:
    class Odd(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def check(cls, value: str, info: ValidationInfo) -> str:
            if value == "bad":
                raise KeyError("oh")
            return f"{info.context}{value}"

    items = read(Odd, '[{"name":"x"},{"name":"bad"}]', context="c")
    assert items[0].result().name == "cx"
    assert isinstance(items[1].error and items[1].error.__cause__, KeyError)


def test_control_characters_are_kept() -> None:
    assert values(str, '["a\nb","\t"]') == ["a\nb", "\t"]
    assert [user.name for user in values(User, '[{"name":"a\nb"},{"name":"c"}]', 4)] == ["a\nb", "c"]


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("text", "count", "error"),
    [
        (f"[{A},{B},", 2, UnexpectedEnd),
        (f'[{A},{{"name":"B', 1, UnexpectedEnd),
        (f"[{A},{B}x", 2, JSONError),
        (f"[{A}}}", 1, JSONError),
        ("", 0, UnexpectedEnd),
        ("[" * 500, 0, JSONError),
    ],
)
def test_text_that_breaks_gives_all_items_before_and_then_an_error(
    text: str, count: int, error: type[Exception], size: int
) -> None:
    reader = ItemReader(Spec.of(Any if text.startswith("[[") else User))
    items: list[Any] = []

    def drive() -> None:
        for at in range(0, len(text), size):
            items.extend(reader.feed(text[at : at + size]))
        items.extend(reader.finish())

    with pytest.raises(error):
        drive()
    assert len(items) == count
    with pytest.raises(error):
        reader.finish()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers() | st.text(max_size=8) | st.builds(Stone, st.floats(0, 9)) | st.none(), max_size=8),
    st.lists(st.integers(0, 200), max_size=30),
    st.sampled_from([None, "tasks"]),
    st.booleans(),
)
def test_any_chunking_gives_the_items_of_the_whole(
    items: list[Any], cuts: list[int], envelope: Any, lines: bool
) -> None:
    annotation: Any = int | str | Stone | None
    parts = [json.dumps({"weight": i.weight} if isinstance(i, Stone) else i, ensure_ascii=False) for i in items]
    text = "\n".join(parts) if lines else f"[{','.join(parts)}]"
    text = text if envelope is None or lines else f'{{"x":1, "{envelope}":{text}}}'
    if not text:
        return
    data = text.encode()
    ends = sorted(min(at, len(data)) for at in cuts)
    reader: ItemReader[Any] = ItemReader(Spec.of(annotation), envelope=envelope)
    got = [item for a, b in zip([0, *ends], [*ends, len(data)], strict=True) for item in reader.feed(data[a:b])]
    got += reader.finish()
    assert [item.result() for item in got] == items


def _seconds(n: int) -> float:
    text = json.dumps({"tasks": [{"name": "Anna", "age": 3}] * n})
    reader = ItemReader(Spec.of(User), envelope="tasks")
    start = time.process_time()
    count = sum(len(reader.feed(text[at : at + 8])) for at in range(0, len(text), 8))
    assert count == n
    return time.process_time() - start


def test_5000_items_cost_ten_times_500(capsys: pytest.CaptureFixture[str]) -> None:
    small, large = min(_seconds(500) for _ in range(3)), min(_seconds(5000) for _ in range(2))
    with capsys.disabled():
        print(f"\n  {large / 5000 * 1e6:.0f} µs an item, {large / small:.1f} times the time of 500", end="")
    assert large < 20 * small
