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
    topic: Literal["delivery", "billing", "defect", "account", "question"]
    product: Name
    urgency: Urgency
    requests: Annotated[list[Phrase], Field(min_length=1, max_length=3)]


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

    kind: Literal["delivery", "maintenance"]
    sender: Name
    subject: Phrase
    window: Window
    to_do: Annotated[list[Phrase], Field(max_length=3)]


class Note(BaseModel):
    """Any other text."""

    title: Phrase
    language: Literal["English", "German", "French", "Spanish", "Italian", "other"]
    people: Annotated[list[Name], Field(max_length=4)]
    key_points: Annotated[list[Phrase], Field(min_length=1, max_length=3)]


@dataclass(frozen=True, slots=True)
class Kind:
    """A response type with its instruction: the part of the prompt that all texts of a kind share."""

    model: type[BaseModel]
    instruction: str


KINDS: dict[str, Kind] = {
    "support": Kind(
        SupportMail,
        "You read mails to a support team. Take the customer's name, e-mail address and telephone number (null if not"
        " given), the topic, the product or service it is about, how urgent it is, and what the customer asks for.",
    ),
    "receipt": Kind(
        Receipt,
        "You read receipts. Take the shop's name, the date of purchase, every item with its quantity and price, the"
        " currency, the total that was paid, and how it was paid.",
    ),
    "notice": Kind(
        Notice,
        "You read announcements of deliveries and maintenance. Take which of the two it is, who sends it, its subject,"
        " on which date and between which times (24-hour clock) it happens, and what the reader has to do.",
    ),
    "note": Kind(
        Note,
        "You read short texts. Give each a title, name its language and the people in it, and sum up its key points.",
    ),
}
