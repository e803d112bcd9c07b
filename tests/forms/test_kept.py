"""What is kept of an answer that was not valid: everything but the values that failed."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, TypeAdapter

from pageform.forms.checks import Check
from pageform.forms.kept import Keeper, KeptText
from pageform.forms.tracker import FieldTracker


class Cat(BaseModel):
    name: str
    lives: int


class Owner(BaseModel):
    name: str
    cats: list[Cat]
    ages: dict[str, int]


CHECK = Check.of(TypeAdapter(Owner))
TEXT = '{"name":"Ann","cats":[{"name":"Tom","lives":9},{"name":"Kit","lives":8}],"ages":{"a":1}}'


@pytest.mark.parametrize(
    ("places", "holes"),
    [
        ([("name",)], ['"Ann"']),
        ([("cats", 1, "lives"), ("name",)], ['"Ann"', "8"]),
        ([("cats", 0), ("cats", 0, "name")], ['{"name":"Tom","lives":9}']),
        ([("cats", 0, "Cat", "name")], ['{"name":"Tom","lives":9}']),
        ([("ages", "a", "[key]")], ['{"a":1}']),
        ([("ages", "a")], ["1"]),
    ],
)
def test_holes_are_where_the_faults_are(places: list[tuple[int | str, ...]], holes: list[str]) -> None:
    kept = KeptText.of(CHECK, TEXT, places)
    assert kept is not None
    pieces = [piece.decode() for piece in kept.pieces]
    assert "".join(a + b for a, b in zip(pieces, [*holes, ""], strict=True)) == TEXT


@pytest.mark.parametrize("places", [[], [()], [("missing",)], [("name",), ()]])
def test_a_fault_of_the_whole_keeps_nothing(places: list[tuple[int | str, ...]]) -> None:
    assert KeptText.of(CHECK, TEXT, places) is None


def always(num_tokens: int) -> bool:
    """There is room for so many tokens."""
    return True


def test_an_answer_that_ended_early_keeps_its_beginning() -> None:
    kept = KeptText.of(CHECK, TEXT[:46], [("cats", 0, "lives")])
    assert kept is not None
    assert kept.pieces == (b'{"name":"Ann","cats":[{"name":"Tom","lives":',)


class Following(Keeper):
    """With a tracker of its own; one byte is one token."""

    def __init__(self, kept: KeptText) -> None:
        self.tracker = FieldTracker(CHECK)
        super().__init__(kept, list, self.tracker)

    def feed(self, data: bytes) -> bool:
        return self.see(self.tracker.feed(data))

    def cut(self, num_tokens: int) -> None:
        self.tracker.truncate(num_tokens)
        super().cut(num_tokens)


def keeper(*places: tuple[int | str, ...]) -> Following:
    kept = KeptText.of(CHECK, TEXT, places)
    assert kept is not None
    return Following(kept)


def run(keeper: Following, decoded: str) -> str:
    """The whole answer, of which the model decodes only `decoded`."""
    text = bytes(keeper.beginning)
    assert all(keeper.feed(bytes([byte])) for byte in text)
    for byte in decoded.encode():
        assert not keeper.feed(bytes([byte]))
        text += bytes([byte])
        kept = bytes(keeper.take(always))
        assert all(keeper.feed(bytes([byte])) for byte in kept)
        text += kept
    return text.decode()


def test_kept_text_follows_each_new_value() -> None:
    made = run(keeper(("name",), ("cats", 1, "lives")), '"Bo"7}')
    assert made == TEXT.replace('"Ann"', '"Bo"').replace('"lives":8', '"lives":7')


def test_what_does_not_go_on_as_before_is_left_to_the_model() -> None:
    assert run(keeper(("cats", 0, "lives")), "7 }").endswith('"lives":7 }')


def test_a_value_may_be_cut_and_decoded_again_but_nothing_before_it() -> None:
    one = keeper(("name",))
    start = len(one.beginning)
    run_to = bytes(one.beginning) + b'"Bo"'
    for byte in run_to:
        one.feed(bytes([byte]))
    one.cut(start)
    assert one.take(always) == []
    for byte in b'"Cy"':
        one.feed(bytes([byte]))
    assert bytes(one.take(always)).startswith(b',"cats"')
    one.cut(3)
    for byte in TEXT[3:].encode():
        one.feed(bytes([byte]))
    assert one.take(always) == []


def test_kept_text_that_does_not_fit_is_given_up() -> None:
    asked: list[int] = []

    def never(num_tokens: int) -> bool:
        asked.append(num_tokens)
        return False

    one = keeper(("name",), ("cats", 1, "lives"))
    for byte in bytes(one.beginning) + b'"Bo"' + TEXT[len('{"name":"Ann"') :].encode():
        one.feed(bytes([byte]))
        assert one.take(never) == []
    assert len(asked) == 1
