"""Answers as models really give them, each with the value that it means or the error that it must be.

One row an answer: class of fault, type, text, and what "default" must make of it: a value, or the class of a
`ParseError`. Where "lenient" must do otherwise, its result follows. The rows are data for the tests and for
`python -m benchmarks malformed`; all texts were written for this table.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from malformed_types import (
    ANN,
    BEN,
    Aliased,
    Basket,
    Cat,
    Circle,
    Closed,
    Dog,
    Event,
    Flags,
    Item,
    Label,
    Level,
    Metres,
    Mood,
    Movie,
    Order,
    Pet,
    Point,
    Review,
    Sale,
    Square,
    Text,
    Tree,
    User,
)

from pageform.structured.parse_errors import (
    Ambiguous,
    EmptyText,
    Invalid,
    Malformed,
    NotFound,
    NotText,
    ParseError,
    TooDeep,
    Truncated,
)


class Case(NamedTuple):
    """One answer. `lenient` is the same as `expected` unless given."""

    group: str
    type: Any
    text: str | bytes
    expected: Any
    lenient: Any = ...

    def under(self, leniency: str) -> Any:
        """The value, or the class of error, that a preset must give."""
        return self.expected if leniency == "default" or self.lenient is ... else self.lenient

    @property
    def id(self) -> str:
        text = self.text if isinstance(self.text, str) else repr(self.text)
        return f"{self.group}-{text[:40]}".encode("ascii", "replace").decode().replace("\n", "/")


def is_error(expected: Any) -> bool:
    """Whether a row asks for an error."""
    return isinstance(expected, type) and issubclass(expected, ParseError)


_TABLE: dict[str, list[tuple[Any, ...]]] = {
    "around the JSON": [
        (User, '```json\n{"name": "Ann", "age": 31}\n```', ANN),
        (User, '```\n{"name": "Ann", "age": 31}\n```', ANN),
        (User, 'Here you go:\n\n```json\n{"name": "Ann", "age": 31}\n```\nAnything else?', ANN),
        (User, '```json\n{"name": "Ann", "age": 31}', ANN),
        (User, '```json\n{"name": "Ann", "age": 31\n```\nThe brace is missing.', ANN),
        (User, 'Sure! The user is {"name": "Ann", "age": 31}. Let me know!', ANN),
        (User, '\ufeff{"name": "Ann", "age": 31}', ANN),
        (User, '<answer>{"name": "Ann", "age": 31}</answer>', ANN),
        (User, "<answer>\n```json\n{'name': 'Ann', 'age': 31}\n```\n</answer>", ANN),
        (User, '<tool_call>{"name": "User", "arguments": {"name": "Ann", "age": 31}}</tool_call>', ANN),
        (User, '<think>{"name": "Bob", "age": 1}? No.</think>\n{"name": "Ann", "age": 31}', ANN),
        (User, 'The set {name, age} is small, so {"name": "Bob", "age": 5}?</think>{"name": "Ann", "age": 31}', ANN),
        (User, '<think>Perhaps {"name": "Ann", "age": 31}', NotFound),
        (User, 'In set notation {x | x > 0} and [see note]: {"name": "Ann", "age": 31}', ANN),
        (User, "**Answer:** `{\"name\": \"Ann\", \"age\": 31}`", ANN),
        (Text, '{"text": "use ```json {\\"a\\": 1}``` and </answer>", "more": 1,}',
         Text(text='use ```json {"a": 1}``` and </answer>', more=1)),
        (list[int], "The primes are [2, 3, 5].", [2, 3, 5]),
        (User, "I'm sorry, but I can't help with that.", NotFound),
        (User, "", EmptyText),
        (User, " \n\t", EmptyText),
        (User, b'{"name": "\xff", "age": 1}', NotText),
        (User, "The result is User(name='Ann', age=31).", ANN),
        (User, '{&quot;name&quot;: &quot;Ann&quot;, &quot;age&quot;: 31}', ANN),
        (User, '{"name": "Ann", "age": 31}<|im_end|>', ANN),
        (User, "**Name:** Ann\n**Age:** 31 years", NotFound, ANN),
        (User, "42", Invalid),
    ],
    "several candidates": [
        (User, 'For example {"name": "John", "age": 1}.\n\n```json\n{"name": "Ann", "age": 31}\n```', ANN),
        (User, 'Not {"title": "x"} and not {"name": "Bob"} but {"name": "Ann", "age": 31}', ANN),
        (User, '{"name": "Ann", "age": 31} or {"name": "Ben", "age": 40}', Ambiguous),
        (User, '{"name": "Ann", "age": 31}\n\nAs I said: {"name": "Ann", "age": 31}', ANN),
        (User, '```json\n{"name": "Ben", "age": 40}\n```\nwas the input. Now: {"name": "Ann", "age": 31}', Ambiguous),
        (User, 'You gave {"name": "Ben", "age": 40}. <answer>{"name": "Ann", "age": 31}</answer>', ANN),
        (User, '{"name": "Ben", "age": 40} {"name": "Ann", "age": 31}', Ambiguous),
        (User, 'Schema: {"name": "string", "age": "integer"}. {"name": "Ann", "age": 31}', ANN),
        (User, 'E.g. {"name": "Ben", "age": 40}. Answer: {"name": "Ann", "age" 31 years}', Malformed),
        (User, 'E.g. {"name": "Ben", "age": 40}. Answer: {"name": "Ann", "age": 3', Truncated, Ambiguous),
        (User, 'E.g. {"name": "Ben", "age": 40}. Answer: {"name": "Ann", "age": "unknown"}', Ambiguous),
        (User, '```json\n{"name": "Ann", "age": 31}\n```\nI left out {"name": "Ben"}.', ANN),
        (User, 'E.g. {"name": "Ben", "age": 40}. Answer: {"Name": "Ann", "age": "31 years"}', Ambiguous),
        (list[str], 'As noted [see above], it is ["a", "b"].', ["a", "b"]),
        (list[User], '{"name": "Ann", "age": 31}\n{"name": "Ben", "age": 40}', [ANN, BEN]),
        (list[User], '```json\n{"name": "Ann", "age": 31}\n```\n```json\n{"name": "Ben", "age": 40}\n```', [ANN, BEN]),
        (list[User], '1. {"name": "Ann", "age": 31}\n2. {"name": "Ben", "age": 40}', [ANN, BEN]),
        (list[User], '{"name": "Ann", "age": 31},\n{"name": "Ben", "age": 40},', [ANN, BEN]),
        (list[User], '{"name": "Ann", "age": 31}\n{"name": "Ben"}', Invalid),
        (list[User], 'First {"name": "Ann", "age": 31}, then {"name": "Ben", "age": 40}.', Ambiguous, [ANN, BEN]),
        (list[User], '[{"name": "Ann", "age": 31}, {"name": ?!}, {"name": "Ben", "age": 40}]', Invalid),
        (list[User], '[{"name": "Ann", "age": 31}] or [{"name": "Ben", "age": 40}]', Ambiguous),
    ],
    "quotes": [
        (User, "{'name': 'Ann', 'age': 31}", ANN),
        (User, '{name: "Ann", age: 31}', ANN),
        (User, "{name: Ann, age: 31}", ANN),
        (User, "{“name”: “Ann”, “age”: 31}", ANN),
        (User, '{"name": \'Ann\', `age`: 31}', ANN),
        (Text, "{'text': 'It's Ann's', 'more': 1}", Text(text="It's Ann's", more=1)),
        (Text, '{"text": "She said "hi" to me", "more": 1}', Text(text='She said "hi" to me', more=1)),
        (Text, '{"text": "She said "yes", and left", "more": 1}', Text(text='She said "yes", and left', more=1)),
        (User, '{"name"："Ann"，"age"：31}', ANN),
        (list[str], '["a" "b", c]', ["a", "b", "c"]),
        (list[str], "- a\n- b, c", ["a", "b, c"]),
        (Text, '{"text": "a 5" pipe"}', Text(text='a 5" pipe')),
        (list[str], '["say "a", "b" and c"]', Ambiguous),
        (Text, '{"text": """two "quoted"\nlines"""}', Text(text='two "quoted"\nlines')),
        (Text, '{"text": "one " + "two"}', Text(text="one two")),
        (Text, '{"text": "one"\n"two"}', Ambiguous),
    ],
    "punctuation": [
        (User, '{"name": "Ann", "age": 31,}', ANN),
        (list[int], "[1, 2, 3,]", [1, 2, 3]),
        (User, '{"name": "Ann" "age": 31}', ANN),
        (User, '{"name": "Ann"\n "age": 31}', ANN),
        (User, '{"name": "Ann",, "age": 31}', ANN),
        (list[int], "[1,,3]", Ambiguous),
        (list[User], '[{"name": "Ann", "age": 31} {"name": "Ben", "age": 40}]', [ANN, BEN]),
        (User, '{"name" => "Ann", "age" = 31}', ANN),
        (User, '{"name": "Ann"; "age": 31;}', ANN),
        (User, '{"name": "Ann", /* years */ "age": 31} // done', ANN),
        (User, '{\n  "name": "Ann", # who\n  "age": 31 // how old\n}', ANN),
        (User, '{{"name": "Ann", "age": 31}}', ANN),
        (User, '{"name": "Ann", "age": 31}}', ANN),
        (User, '"name": "Ann", "age": 31}', ANN),
        (User, '{"name": "Ann", "age" 31}', Malformed),
        (User, '{"name" "Ann", "age": 31}', Malformed, ANN),
        (User, '{"name": "Ann, "age": 31}', Malformed, ANN),
        (list[int], "[1, 2, ...]", Malformed, [1, 2]),
        (User, '{"name": "Ann", "age": }', Malformed, Invalid),
        (Text, '{"text": "x", "more": }', Malformed, Text(text="x")),
        (Order, '{"order_id": "7", "items": [{"title": "Pen", "price": 2}, "paid": true}',
         Order(order_id="7", items=[Item(title="Pen", price=2)], paid=True)),
        (Order, '{"order_id": "7", "items": []}, "paid": true}', Order(order_id="7", items=[], paid=True)),
    ],
    "literals and escapes": [
        (Flags, "{'active': True, 'tags': ('a', 'b')}", Flags(active=True, tags=["a", "b"])),
        (Flags, '{"active": TRUE}', Flags(active=True)),
        (Text, '{"text": "x", "more": None}', Text(text="x")),
        (Text, '{"text": "x", "more": undefined}', Text(text="x")),
        (Sale, '{"amount": +1.5, "quantity": 0x10}', Sale(amount=1.5, quantity=16)),
        (Sale, '{"amount": .5}', Sale(amount=0.5)),
        (Sale, "{'amount': 1.0, 'total': Decimal('9.90')}", Sale(amount=1, total=Decimal("9.90"))),
        (Sale, '{"amount": Infinity, "total": "1.10",}', Sale(amount=float("inf"), total=Decimal("1.10"))),
        (Event, "{'day': datetime.date(2024, 1, 5)}", Event(day=dt.date(2024, 1, 5))),
        (Text, '{"text": "two\nlines\tand tab"}', Text(text="two\nlines\tand tab")),
        (Text, '{"text": "it\\\'s \\d+"}', Text(text="it's \\d+")),
        (Text, '{"text": "half \\ud83d of a pair"}', Text(text="half \ufffd of a pair")),
        (Text, '{"text": "\\ud83d\\ude00",}', Text(text="😀")),
        (User, '{\\"name\\": \\"Ann\\", \\"age\\": 31}', ANN),
        (User, '{\\n  \\"name\\": \\"Ann\\",\\n  \\"age\\": 31\\n}', ANN),
        (User, '"{\\"name\\": \\"Ann\\", \\"age\\": 31}"', ANN),
        (Order, '{"order_id": "7", "items": "[{\\"title\\": \\"Pen\\", \\"price\\": 2}]"}',
         Order(order_id="7", items=[Item(title="Pen", price=2)])),
        (User, '{"name": "Ann", "age": 30, "age": 31,}', ANN),
    ],
    "broken off": [
        (Order, '{"order_id": "7", "items": [{"title": "Pen", "price": 2}]',
         Order(order_id="7", items=[Item(title="Pen", price=2)])),
        (list[str], '["a", "b"', ["a", "b"]),
        (list[str], '["a", "b",', Truncated, ["a", "b"]),
        (Text, '{"text": "It was a dark and', Truncated, Text(text="It was a dark and")),
        (User, '{"name": "Ann", "age": 3', Truncated, User(name="Ann", age=3)),
        (User, '{"name": "Ann", "age":', Truncated),
        (User, '{"name": "Ann", "a', Truncated),
        (Order, '{"order_id": "7", "items": [', Truncated, Order(order_id="7", items=[])),
        (Review, '{"mood": "posit', Truncated),
        (User, '{"answer": {"name": "Ann", "age": 31}, "why": "because', Truncated, ANN),
    ],
    "keys": [
        (Order, '{"orderId": "7", "Items": []}', Order(order_id="7", items=[])),
        (Order, '{"order-id": "7", "ITEMS": []}', Order(order_id="7", items=[])),
        (Order, '{"Order ID": "7", "items": []}', Order(order_id="7", items=[])),
        (Aliased, '{"full_name": "Ann", "postcode": "123"}', Aliased(fullName="Ann", zip="123")),
        (Aliased, '{"Full Name": "Ann", "zip_code": "0123"}', Aliased(fullName="Ann", zip="0123")),
        (User, '{"nmae": "Ann", "age": 31}', Invalid),
        (Order, '{"order_idd": "7", "items": []}', Invalid, Order(order_id="7", items=[])),
        (User, '{"name": "Ann", "Age": 31, "AGE": 32}', Ambiguous),
        (User, '{"name": "Ann", "age": "31", "hobby": "chess",}', ANN),
        (Closed, '{"x": 1, "y": 2,}', Invalid),
        (User, '{"name": "Ann"}', Invalid),
        (Movie, '{"Title": "Heat", "year": "1995",}', {"title": "Heat", "year": 1995}),
        (Point, "{X: 1, Y: 2}", Point(1, 2)),
    ],
    "envelopes": [
        (User, '{"answer": {"name": "Ann", "age": 31}}', ANN),
        (User, '{"User": {"name": "Ann", "age": 31}}', ANN),
        (User, '{"name": "User", "arguments": "{\\"name\\": \\"Ann\\", \\"age\\": 31}"}', ANN),
        (User, '{"type": "function", "function": {"name": "User", "parameters": {"name": "Ann", "age": 31}}}', ANN),
        (User, '{"type": "object", "properties": {"name": "Ann", "age": 31}}', ANN),
        (User, '{"reasoning": "It says so.", "result": {"name": "Ann", "age": 31}}', ANN),
        (User, '{"result": {"name": "Ann", "age": 31}, "answer": {"name": "Ben", "age": 40}}', Ambiguous),
        (User, '[{"name": "Ann", "age": 31}]', ANN),
        (User, '[{"name": "Ann", "age": 31}, {"name": "Ben", "age": 40}]', Invalid),
        (list[User], '{"users": [{"name": "Ann", "age": 31}]}', [ANN]),
        (list[User], '{"name": "Ann", "age": 31}', [ANN]),
        (Flags, '{"active": true, "tags": "urgent"}', Flags(active=True, tags=["urgent"])),
        (Flags, '{"active": true, "tags": "red, green"}', Ambiguous),
        (Flags, '{"active": true, "codes": "1; 2; 3"}', Flags(active=True, codes=[1, 2, 3])),
        (Basket, '[{"title": "Pen", "price": "2"}]', Basket(items=[Item(title="Pen", price=2)])),
        (int, '{"answer": 42}', 42),
        (dict[str, int], '{"a": "1,000", "b": 2}', {"a": 1000, "b": 2}),
        (dict[str, int], '[["a", 1], ["b", 2]]', Invalid, {"a": 1, "b": 2}),
        (list[int], '{"0": 5, "1": 6}', Invalid, [5, 6]),
    ],
    "numbers": [
        (Sale, '{"amount": "1,234.56"}', Sale(amount=1234.56)),
        (Sale, '{"amount": "1.234,56"}', Sale(amount=1234.56)),
        (Sale, '{"amount": "1 234,56 €"}', Sale(amount=1234.56)),
        (Sale, '{"amount": "1\'234.50"}', Sale(amount=1234.5)),
        (Sale, '{"amount": "12,34,567.5"}', Sale(amount=1234567.5)),
        (Sale, '{"amount": "0,5"}', Sale(amount=0.5)),
        (Sale, '{"amount": "1,234"}', Ambiguous),
        (Sale, '{"amount": "$1,234"}', Sale(amount=1234)),
        (Sale, '{"amount": "1,234 €"}', Ambiguous),
        (Sale, '{"amount": 1,234.5}', Sale(amount=1234.5)),
        (Sale, '{"amount": $99.90, "quantity": 3 pieces}', Sale(amount=99.9, quantity=3)),
        (Sale, '{"amount": "1", "quantity": "1,234"}', Sale(amount=1, quantity=1234)),
        (Sale, '{"amount": "(120.00)"}', Sale(amount=-120)),
        (Sale, '{"amount": "−3.5"}', Sale(amount=-3.5)),
        (Sale, '{"amount": "2.5 million"}', Sale(amount=2_500_000)),
        (Sale, '{"amount": "$3.2M"}', Sale(amount=3_200_000)),
        (Sale, '{"amount": "1.5M"}', Sale(amount=1_500_000)),
        (Sale, '{"amount": "5 M"}', Ambiguous),
        (Sale, '{"amount": 1, "discount_percent": "15%"}', Sale(amount=1, discount_percent=15)),
        (Sale, '{"amount": 1, "share": "15%"}', Sale(amount=1, share=0.15)),
        (Sale, '{"amount": "15%"}', Ambiguous),
        (Sale, '{"amount": 1, "weight_kg": "12 kg"}', Sale(amount=1, weight_kg=12)),
        (Sale, '{"amount": 1, "weight_kg": "900 g"}', Ambiguous),
        (Sale, '{"amount": 1, "total": "USD 1,234.50"}', Sale(amount=1, total=Decimal("1234.50"))),
        (Sale, '{"amount": "about 5"}', Invalid, Sale(amount=5)),
        (Sale, '{"amount": "5-6"}', Invalid),
        (Sale, '{"amount": "3 out of 5"}', Invalid),
        (Sale, '{"amount": "2 dozen"}', Invalid),
        (Sale, '{"amount": "five"}', Invalid),
        (Sale, '{"amount": 1, "quantity": "2.5"}', Invalid),
        (Text, '{"text": 12.50}', Text(text="12.50")),
        (Text, '{"text": true}', Invalid, Text(text="true")),
    ],
    "words": [
        (Review, '{"mood": "Positive"}', Review(mood=Mood.POSITIVE)),
        (Review, '{"mood": "MIXED_FEELINGS"}', Review(mood=Mood.MIXED)),
        (Review, '{"mood": "MIXED"}', Review(mood=Mood.MIXED)),
        (Review, '{"mood": "Mood.NEGATIVE"}', Review(mood=Mood.NEGATIVE)),
        (Review, "{'mood': <Mood.NEGATIVE: 'negative'>}", Review(mood=Mood.NEGATIVE)),
        (Review, '{"mood": "postive"}', Review(mood=Mood.POSITIVE)),
        (Review, '{"mood": "not positive"}', Invalid),
        (Review, '{"mood": "positive", "level": "high"}', Review(mood=Mood.POSITIVE, level=Level.HIGH)),
        (Review, '{"mood": "positive", "score": "N/A"}', Review(mood=Mood.POSITIVE)),
        (Review, '{"mood": "positive", "score": "unknown"}', Invalid, Review(mood=Mood.POSITIVE)),
        (Review, '{"mood": "N/A"}', Invalid),
        (Literal["paid", "unpaid"], '"Unpaid"', "unpaid"),
        (Literal["active"], '"inactive"', Invalid),
        (Literal["C", "C++"], '"c++"', "C++"),
        (Flags, '{"active": "✅", "tags": []}', Flags(active=True)),
        (Flags, '{"active": "perhaps"}', Invalid),
        (Flags, '{"active": true, "tags": null}', Invalid, Flags(active=True)),
    ],
    "dates": [
        (Event, '{"day": "January 5, 2024"}', Event(day=dt.date(2024, 1, 5))),
        (Event, '{"day": "5th of Jan 2024"}', Event(day=dt.date(2024, 1, 5))),
        (Event, '{"day": "2024/1/5"}', Event(day=dt.date(2024, 1, 5))),
        (Event, '{"day": "Fri, 05-Jan-2024"}', Event(day=dt.date(2024, 1, 5))),
        (Event, '{"day": "Monday, 5 January 2024"}', Ambiguous),
        (Event, '{"day": "31/01/2024"}', Event(day=dt.date(2024, 1, 31))),
        (Event, '{"day": "01/31/2024"}', Event(day=dt.date(2024, 1, 31))),
        (Event, '{"day": "01/02/2024"}', Ambiguous),
        (Event, '{"day": "02.02.2024"}', Event(day=dt.date(2024, 2, 2))),
        (Event, '{"day": "30 February 2024"}', Invalid),
        (Event, '{"day": "1/13/24"}', Invalid),
        (Event, '{"day": "January 2024"}', Invalid),
        (Event, '{"day": "2024-01-05T09:30:00"}', Invalid, Event(day=dt.date(2024, 1, 5))),
        (Event, '{"day": "2024-01-05", "start": "Jan 5, 2024 2:30 PM"}',
         Event(day=dt.date(2024, 1, 5), start=dt.datetime(2024, 1, 5, 14, 30))),
        (Event, '{"day": "2024-01-05", "start": "2024-01-05 14:30 UTC"}',
         Event(day=dt.date(2024, 1, 5), start=dt.datetime(2024, 1, 5, 14, 30, tzinfo=dt.UTC))),
        (Event, '{"day": "2024-01-05", "at": "2:30 pm", "lasts": "1h 30min"}',
         Event(day=dt.date(2024, 1, 5), at=dt.time(14, 30), lasts=dt.timedelta(minutes=90))),
    ],
    "unions and recursion": [
        (Pet, '{"kind": "Cat", "lives": "9"}', Cat(kind="cat", lives=9)),
        (Pet, '{"kind": "DOG", "name": 5}', Dog(kind="dog", name="5")),
        (Pet, '{"lives": 9}', Invalid),
        (Cat | Dog, "{kind: 'dog', name: 'Rex'}", Dog(kind="dog", name="Rex")),
        (Circle | Square, '{"Side": "2 m"}', Square(side=2)),
        (Circle | Square, '{"name": "Square", "arguments": {"side": 2}}', Square(side=2)),
        (Metres | Label, '{"size": "5 m",}', Label(size="5 m")),
        (Metres | Label, '{"SIZE": "5"}', Label(size="5")),
        (int | str, "'5'", "5"),
        (Tree, "{label: 'a', children: [{label: 'b', children: [{Label: 'c'},]},]}",
         Tree(label="a", children=[Tree(label="b", children=[Tree(label="c")])])),
        (list[list[int]], "[[1, 2,], [3]", [[1, 2], [3]]),
        (Order, '{"items": [{"Title": "Pen", "Price": "$2", "count": "three"}], "order_id": 7}', Invalid),
        (Order, '{"items": [{"Title": "Pen", "Price": "$2", "count": "3 pcs"}], "order_id": 7}',
         Order(order_id="7", items=[Item(title="Pen", price=2, count=3)])),
        (dict[str, Any], "{'a': [1, {'b': None}]}", {"a": [1, {"b": None}]}),
        (list[Any], "[" * 1000, TooDeep),
    ],
    "plain values": [
        (Mood, "Positive", Mood.POSITIVE),
        (Mood, "Sentiment: **negative**.", Mood.NEGATIVE),
        (Mood, "```\npositive\n```", Mood.POSITIVE),
        (Mood, "The review is clearly positive.", NotFound, Mood.POSITIVE),
        (Mood, "It is not positive.", NotFound),
        (Mood, "Both positive and negative.", NotFound),
        (int, "The answer is 42.", 42),
        (int, "<answer>42</answer>", 42),
        (int, "I count 42 apples.", NotFound, 42),
        (int, "Between 40 and 50.", NotFound),
        (bool, "Yes.", True),
        (str, "Hello there", "Hello there"),
        (str, '{"answer": "Hello"}', "Hello"),
        (dt.date, "January 5, 2024", dt.date(2024, 1, 5)),
        (int | None, "N/A", None),
    ],
}  # fmt: skip


def cases() -> Iterator[Case]:
    """All rows."""
    for group, rows in _TABLE.items():
        for row in rows:
            yield Case(group, *row)


CASES_BY_TYPE = [
    (annotation, [case.text for case in cases() if case.type is annotation])
    for annotation in dict.fromkeys(case.type for case in cases() if isinstance(case.type, type))
]
"""The texts of each class that the table has."""
