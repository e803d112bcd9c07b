"""What is shown while answers stream: growing values and single items, from deltas as providers give them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator

from pageform.core.completion import FinishReason
from pageform.structured import Assembler, Delta, Judge, Mode, ModelRetry, Spec
from pageform.structured.judge import AttemptInfo
from pageform.structured.watch import ItemJudge, PartialWatcher


class Dog(BaseModel):
    name: str
    age: int = 1

    @field_validator("age")
    @classmethod
    def told_of_the_attempt(cls, value: int, info: ValidationInfo) -> int:
        if value < 0:
            raise ValueError(f"negative in attempt {info.context['attempt']}")
        return value


class Cat(BaseModel):
    lives: int


END = Delta(finish_reason=FinishReason.STOP)


def text(content: str, size: int = 3) -> list[Delta]:
    return [*(Delta(content[at : at + size]) for at in range(0, len(content), size)), END]


def calls(*called: tuple[str, str], size: int = 3) -> list[Delta]:
    deltas = []
    for number, (name, arguments) in enumerate(called):
        deltas.append(Delta(call=number, call_id=str(number), name=name))
        for at in range(0, len(arguments), size):
            deltas.append(Delta(call=number, arguments=arguments[at : at + size]))
    return [*deltas, END]


def grown(response_type: Any, deltas: Sequence[Delta], mode: Mode = Mode.TOOLS) -> list[Any]:
    watcher, assembler = PartialWatcher(Judge(Spec.of(response_type), mode), AttemptInfo()), Assembler()
    return [value for delta in deltas for value in watcher.take(delta, assembler.add(delta))]


class Items:
    """An `ItemJudge` fed with whole attempts."""

    def __init__(self, response_type: Any, mode: Mode = Mode.TOOLS, **options: Any) -> None:
        self.judge: ItemJudge[Any] = ItemJudge(Judge(Spec.of(response_type), mode, **options))
        self.number = 0

    def attempt(self, deltas: Sequence[Delta]) -> tuple[list[Any], Any]:
        """What is shown, and the verdict or the error."""
        self.number += 1
        info = AttemptInfo(self.number)
        watcher, assembler = self.judge.watch(info), Assembler()
        shown = []
        for delta in deltas:
            if watcher.gave_up:
                break
            shown += watcher.take(delta, assembler.add(delta))
        try:
            verdict = self.judge(assembler.answer(), info)
        except Exception as error:
            return shown, error
        return shown + self.judge.rest(verdict.value), verdict


def test_values_grow_in_every_mode() -> None:
    dog = '{"name":"Rex","age":7}'
    for shown in (
        grown(Dog, calls(("Dog", dog))),
        grown(Dog, text(dog), Mode.SCHEMA),
        grown(Dog, text(f"Sure:\n```json\n{dog}\n```\nThat's {{him}}."), Mode.TEXT),
    ):
        assert shown[0].name in (None, "", "R", "Re")
        assert (shown[-1].name, shown[-1].age) == ("Rex", 7)
        assert type(shown[-1]) is Dog
        assert 1 < len(shown) < 10
    assert grown(list[int], calls(("list_int", '{"tasks":[1,2,3]}')))[-1] == [1, 2, 3]
    assert grown(str, text('{"content":"hello"}'), Mode.SCHEMA)[-1] == "hello"


def test_several_calls_grow_together() -> None:
    both: Any = Iterable[Dog | Cat]
    shown = grown(both, calls(("Dog", '{"name":"Rex"}'), ("Cat", '{"lives":9}')))
    assert shown[-1] == [Dog(name="Rex"), Cat(lives=9)]
    assert [type(one) for one in shown[0]] == [Dog]
    split = grown(list[int], calls(("list_int", '{"tasks":[1]}'), ("list_int", '{"tasks":[2,3]}')))
    assert split[-1] == [1, 2, 3]
    assert grown(Dog, calls(("Dog", '{"name":"Rex"}'), ("Dog", '{"name":"Ace"}')))[-1].name == "Rex"


def test_what_is_no_json_is_not_shown_and_is_no_error() -> None:
    assert grown(Dog, text("I'd rather not."), Mode.TEXT) == []
    assert grown(Dog, calls(("Dog", "nonsense"))) == []
    assert grown(Iterable[Dog | Cat], calls(("Cow", '{"name":"Rex"}'))) == []
    assert grown(Dog, calls(("Dog", '{"name":"Rex" "age":7}')))[-1].name == "Rex"


@pytest.mark.parametrize("mode", list(Mode))
def test_items_come_when_they_close(mode: Mode) -> None:
    dogs = [{"name": "Rex"}, {"name": "Ace", "age": 3}]
    content = json.dumps(dogs if mode is Mode.TEXT else {"tasks": dogs})
    deltas = calls(("list_Dog", content)) if mode is Mode.TOOLS else text(content)
    shown, verdict = Items(list[Dog], mode).attempt(deltas)
    assert shown == verdict.value == [Dog(name="Rex"), Dog(name="Ace", age=3)]


def test_an_invalid_item_ends_the_attempt_and_the_next_goes_on_there() -> None:
    items = Items(list[Dog])
    bad = [{"name": "Rex"}, {"name": "Ace", "age": -3}, {"name": "Max"}]
    shown, error = items.attempt(calls(("list_Dog", json.dumps({"tasks": bad}))))
    assert [dog.name for dog in shown] == ["Rex"]
    assert isinstance(error, ValidationError)
    [fault] = error.errors()
    assert (fault["loc"], "attempt 1" in fault["msg"]) == ((1, "age"), True)
    good = [{"name": "Rexy"}, {"name": "Ace", "age": 3}, {"name": "Max"}]
    shown, verdict = items.attempt(calls(("list_Dog", json.dumps({"tasks": good}))))
    assert [dog.name for dog in shown] == ["Ace", "Max"]
    assert [dog.name for dog in verdict.value] == ["Rex", "Ace", "Max"]
    assert any("item 0 of attempt 2 differs" in note for note in verdict.notes)


def test_a_later_list_that_lacks_delivered_items_is_not_taken() -> None:
    items = Items(list[Dog])
    bad = [{"name": "Rex"}, {"name": "Ace"}, {"name": 1}]
    items.attempt(calls(("list_Dog", json.dumps({"tasks": bad}))))
    shown, error = items.attempt(calls(("list_Dog", '{"tasks":[{"name":"Max"}]}')))
    assert shown == []
    assert isinstance(error, ModelRetry)
    assert "2 were valid" in str(error)


def test_parallel_calls_are_items() -> None:
    both: Any = Iterable[Dog | Cat]
    items = Items(both)
    shown, error = items.attempt(calls(("Dog", '{"name":"Rex"}'), ("Cat", '{"lives":"x"}'), ("Dog", '{"name":"Ace"}')))
    assert shown == [Dog(name="Rex")]
    assert [fault["loc"] for fault in error.errors()] == [(1, "lives")]
    shown, verdict = items.attempt(calls(("Dog", '{"name":"Rex"}'), ("Cat", '{"lives":9}')))
    assert shown == [Cat(lives=9)]
    assert verdict.value == [Dog(name="Rex"), Cat(lives=9)]


def test_items_split_over_calls_have_both_places_in_errors() -> None:
    split = calls(("list_Dog", '{"tasks":[{"name":"Rex"}]}'), ("list_Dog", '{"tasks":[{"name":"Ace"},{"name":1}]}'))
    shown, error = Items(list[Dog]).attempt(split)
    assert [dog.name for dog in shown] == ["Rex", "Ace"]
    assert [fault["loc"] for fault in error.errors()] == [(1, 1, "name")]


def test_what_the_reader_can_not_read_is_left_to_the_judge() -> None:
    for deltas in (text("No dogs here."), calls(("list_Dog", '{"tasks":[{"name":"Rex"}')), calls(("list_Dog", "{}"))):
        mode = Mode.TOOLS if deltas[0].call is not None else Mode.TEXT
        shown, error = Items(list[Dog], mode).attempt(deltas)
        assert len(shown) <= 1
        assert isinstance(error, ValidationError)
    assert Items(list[Dog]).attempt(calls(("list_Dog", '{"tasks":[]}')))[1].value == []


def test_numbers_that_only_the_end_completes_are_items_too() -> None:
    shown, verdict = Items(list[int], Mode.TEXT).attempt(text("[1,22,333]"))
    assert shown == verdict.value == [1, 22, 333]


def test_nulls_of_strict_schemas_are_undone_in_items() -> None:
    shown, verdict = Items(list[Dog], restores=True).attempt(
        calls(("list_Dog", '{"tasks":[{"name":"Rex","age":null},{"name":"Ace","age":3}]}'))
    )
    assert shown == verdict.value == [Dog(name="Rex"), Dog(name="Ace", age=3)]
