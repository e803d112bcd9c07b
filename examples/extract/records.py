"""What is extracted: one Pydantic model a kind of document, and the instruction that goes with it.

The models are sized for a small language model: few fields, short lists, bounded text. Bounds are more than taste: they
become part of the grammar, so an answer can neither run on nor leave the range.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, Field

Name = Annotated[str, Field(min_length=1, max_length=60)]
Phrase = Annotated[str, Field(min_length=3, max_length=100)]
Wish = Literal["refund", "replacement", "repair", "correction", "information", "call back", "closure"]
Clock = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class Urgency(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class Customer(BaseModel):
    name: Name
    email: Annotated[str, Field(max_length=60)] | None
    phone: Annotated[str, Field(max_length=24)] | None


class SupportMail(BaseModel):
    """A customer's mail to the support team."""

    customer: Customer
    product: Name
    topic: Literal["delivery", "billing", "defect", "account", "question"]
    wants: Annotated[list[Wish], Field(min_length=1, max_length=2)]
    urgency: Urgency


class Item(BaseModel):
    name: Name
    quantity: Annotated[int, Field(ge=1, le=500)]
    price: Annotated[float, Field(ge=0, le=10_000)]


class Receipt(BaseModel):
    """A shop's receipt."""

    shop: Name
    date: datetime.date
    items: Annotated[list[Item], Field(min_length=1, max_length=6)]
    currency: Literal["EUR", "GBP", "USD", "CHF", "CAD", "AUD"]
    total: Annotated[float, Field(ge=0, le=100_000)]
    payment: Literal["cash", "card", "transfer"]


class Window(BaseModel):
    date: datetime.date
    start: Clock
    end: Clock


class Notice(BaseModel):
    """An announcement of a delivery, or of work that interrupts something."""

    sender: Name
    subject: Phrase
    kind: Literal["delivery", "maintenance"]
    window: Window
    to_do: Annotated[list[Phrase], Field(max_length=2)]


class Note(BaseModel):
    """Any other text."""

    title: Phrase
    language: Literal["English", "German", "French", "Spanish", "Italian", "other"]
    people: Annotated[list[Name], Field(max_length=4)]
    key_points: Annotated[list[Phrase], Field(min_length=1, max_length=3)]


@dataclass(frozen=True, slots=True)
class Kind:
    """A response type, its instruction and one worked example: what the prompts of all texts of a kind share.

    One example, because the demo's small model answers at random without any and copies from the last of several.
    """

    instruction: str
    example_text: str
    example: BaseModel

    @property
    def model(self) -> type[BaseModel]:
        return type(self.example)


KINDS: dict[str, Kind] = {
    "support": Kind(
        "You read mails to a support team and take down who writes, about what, and what is wanted.",
        "Hi, the kettle Vapora 2 that I got from you last week does not switch off any more. It boils until it is"
        " empty! I need a working one before my guests come on Sunday. Please send another. You reach me at"
        " o.hansen@example.org. Ole Hansen",
        SupportMail(
            customer=Customer(name="Ole Hansen", email="o.hansen@example.org", phone=None),
            product="kettle Vapora 2",
            topic="defect",
            wants=["replacement"],
            urgency=Urgency.HIGH,
        ),
    ),
    "receipt": Kind(
        "You read receipts and take down the shop, the date, every item, the total and the payment.",
        "OLD TOWN BAKERY\n3 Feb 2023 09:12\n2 x Rye bread   2.40   4.80\nButter croissant   1.90\nTOTAL EUR   6.70\n"
        "Paid in cash. See you soon!",
        Receipt(
            shop="OLD TOWN BAKERY",
            date=datetime.date(2023, 2, 3),
            items=[
                Item(name="Rye bread", quantity=2, price=2.40),
                Item(name="Butter croissant", quantity=1, price=1.90),
            ],
            currency="EUR",
            total=6.70,
            payment="cash",
        ),
    ),
    "notice": Kind(
        "You read announcements and take down who announces what, when it happens, and what one has to do.",
        "Dear residents, on 7 May 2023 from 10:00 to 12:30 the company Lux Windows cleans the windows of the stairwell."
        " Please move your bicycles to the yard. The house management",
        Notice(
            sender="Lux Windows",
            subject="cleaning of the windows",
            kind="maintenance",
            window=Window(date=datetime.date(2023, 5, 7), start="10:00", end="12:30"),
            to_do=["move your bicycles to the yard"],
        ),
    ),
    "note": Kind(
        "You read short texts and take down a title, the language, the people and the key points.",
        "Maria met Paul at the station. They took the late train home, because the last bus had gone at eleven.",
        Note(
            title="A late train home",
            language="English",
            people=["Maria", "Paul"],
            key_points=["Maria and Paul took the late train", "the last bus had gone"],
        ),
    ),
}
