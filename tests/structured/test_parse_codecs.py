"""Codecs: classes that Pydantic does not know are read from answers and written into them."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel, ConfigDict

from pageform.core.errors import ParameterError
from pageform.structured.codecs import Codec, Codecs
from pageform.structured.parse import parse, parse_report
from pageform.structured.parse_errors import Invalid


class Money:
    def __init__(self, amount: int, currency: str) -> None:
        self.amount, self.currency = amount, currency

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def from_text(text: str) -> Money:
        amount, currency = text.split()
        return Money(int(amount), currency)

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"


class Size(NamedTuple):
    width: int
    height: int


class Bill(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    total: Money
    parts: list[Money] = []
    by_name: dict[str, Money | None] = {}


@dataclasses.dataclass
class Plain:
    x: int


class Holder(BaseModel):
    plain: Plain
    note: str = ""


MONEY = Codecs({Money: Codec(read=Money.from_text, write=str)})


def test_values_are_read_wherever_the_class_appears() -> None:
    bill = parse('{total: "5 EUR", parts: ["1 EUR", "4 EUR"], by_name: {a: null, b: "2 EUR"}}', Bill, codecs=MONEY)
    assert type(bill) is Bill
    assert bill.total == Money(5, "EUR")
    assert bill.parts == [Money(1, "EUR"), Money(4, "EUR")]
    assert bill.by_name == {"a": None, "b": Money(2, "EUR")}
    assert parse('["1 USD"]', list[Money], "strict", codecs=MONEY) == [Money(1, "USD")]
    assert parse("3 USD", Money, codecs=MONEY) == Money(3, "USD")


def test_values_are_written_back() -> None:
    bill = Bill(total=Money(5, "EUR"), parts=[Money(1, "EUR")], by_name={"b": Money(2, "EUR")})
    text = MONEY.dump(bill)
    assert text == '{"total":"5 EUR","parts":["1 EUR"],"by_name":{"b":"2 EUR"}}'
    assert vars(parse(text, Bill, "strict", codecs=MONEY)) == vars(bill)
    assert MONEY.dump([Money(1, "EUR")], list[Money]) == '["1 EUR"]'


def test_the_schema_asks_for_what_the_codec_reads() -> None:
    spec = MONEY.spec(Bill)
    assert spec.json_schema["properties"]["total"]["type"] == "string"
    report = parse_report('{"total": 7}', Bill, codecs=Codecs({Money: Codec(lambda text: Money(int(text), "?"))}))
    assert report.value.total == Money(7, "?")  # a number is made text before the codec sees it
    assert [entry.rule for entry in report.repairs] == ["to_text"]


def test_errors_of_the_reader_are_validation_errors_with_a_path() -> None:
    for bad in ("five EUR", "5"):
        with pytest.raises(Invalid) as caught:
            parse(f'{{"total": "1 EUR", "parts": ["{bad}"]}}', Bill, codecs=MONEY)
        assert caught.value.errors()[0]["loc"] == ("parts", 0)

    def careless(value: Any) -> Money:
        return Money(value["amount"], value["currency"])

    with pytest.raises(Invalid, match="not a Money: KeyError"):
        parse('{"total": {"sum": 1}}', Bill, codecs=Codecs({Money: Codec(careless, json="object")}))


def test_codecs_are_scoped_to_their_object() -> None:
    doubled = Codecs({Money: Codec(lambda text: Money(2 * Money.from_text(text).amount, "x"))})
    assert parse('{"total": "5 EUR"}', Bill, codecs=doubled).total == Money(10, "x")
    assert parse('{"total": "5 EUR"}', Bill, codecs=MONEY).total == Money(5, "EUR")
    with pytest.raises(Invalid, match="isinstance"):
        parse('{"total": "5 EUR"}', Bill)


def test_classes_that_pydantic_knows_can_be_read_differently_too() -> None:
    codecs = Codecs({Plain: Codec(lambda text: Plain(int(text[1:])), lambda plain: f"#{plain.x}")})
    holder = parse('{"plain": "#7"}', Holder, codecs=codecs)
    assert holder == Holder(plain=Plain(7))
    assert codecs.dump(holder) == '{"plain":"#7","note":""}'
    assert parse('{"plain": {"x": 7}}', Holder) == holder


def test_a_tuple_default_survives() -> None:
    class Box(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        price: Money
        size: Size = Size(1, 2)

    box = parse('{"price": "1 EUR"}', Box, codecs=MONEY)
    assert type(box.size) is Size


def test_items_members_and_envelopes_keep_the_codecs() -> None:
    spec = MONEY.spec(list[Bill])
    assert spec.item is not None
    assert spec.item.validate('{"total": "5 EUR"}').total == Money(5, "EUR")
    assert spec.validate('{"tasks": [{"total": "5 EUR"}]}', envelope=True)[0].total == Money(5, "EUR")
    either = MONEY.spec(Iterable[Bill | Holder])
    assert either.members["Bill"].validate('{"total": "5 EUR"}').total == Money(5, "EUR")


def test_specs_with_codecs_can_be_pickled_if_the_codecs_can() -> None:
    spec = pickle.loads(pickle.dumps(MONEY.spec(Bill)))
    assert parse('{"total": "5 EUR"}', spec).total == Money(5, "EUR")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Codec(read="no function"),  # type: ignore[arg-type]
        lambda: Codec(read=int, write=5),  # type: ignore[arg-type]
        lambda: Codec(read=int, json="text"),
        lambda: Codecs({"Money": Codec(int)}),  # type: ignore[dict-item]
        lambda: Codecs({Money: int}),  # type: ignore[dict-item]
    ],
)
def test_wrong_codecs_are_refused(make: Any) -> None:
    with pytest.raises(ParameterError):
        make()
