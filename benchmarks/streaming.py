"""What showing an answer while it arrives costs: partial objects, items, the bare machines; lists of 500 to 50,000; and
an engine's own path from tokens to partial objects, for objects of 500 and 5,000 fields."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable

from pydantic import BaseModel

from pageform import _native
from pageform.structured import ItemReader, PartialBuilder, Spec
from pageform.structured.json_machine import JsonMachine

from . import wide
from .options import Options
from .report import Report

SIZES = (500, 5_000, 50_000)
PIECE = 4
"""Bytes of a piece: about a token."""
GROWTH = 1.5
"""How much more an item may cost in the longest list than in the shortest. A square would make it a hundred times."""
RUNS = 3


class Product(BaseModel):
    """One item of the list: 86 bytes of JSON."""

    sku: str
    count: int
    price: float
    tags: list[str]
    name: str | None = None


class Catalogue(BaseModel):
    """The answer."""

    title: str
    items: list[Product]


def run(options: Options) -> Report:
    """Processor time by byte and by item, each the best of a few runs."""
    sizes = SIZES[:1] if options.smoke else SIZES
    report = Report("streaming", {"bytes a piece": PIECE, "items": ", ".join(f"{size:,}" for size in sizes)})
    for name, read in WAYS.items():
        by_item = []
        for size in sizes:
            data = catalogue(size)
            seconds = min(timed(read, data) for _ in range(1 if options.smoke else RUNS))
            by_item.append(seconds / size)
            report.add(f"{name}, {size:,} items", "µs a byte", seconds / len(data) * 1e6)
            report.add(f"{name}, {size:,} items", "µs an item", seconds / size * 1e6)
        if not options.smoke:
            growth = by_item[-1] / by_item[0]
            report.check(f"{name}: the longest list costs at most {GROWTH} times as much an item", growth <= GROWTH)
    if importlib.util.find_spec("tokenizers") is not None:
        wide.measure(report, options.smoke)
    report.note("an item holds four values and a list of two; it is validated when it closes")
    report.note(
        "kept: the reader keeps every snapshot, so that none can be made from an earlier one; some are left out"
    )
    return report


def catalogue(size: int) -> bytes:
    """An answer of so many items."""
    item = {"sku": "abc", "count": 3, "price": 1.5, "tags": ["x", "y"], "name": "hello world"}
    return json.dumps({"title": "all", "items": [item] * size}).encode()


def timed(read: Callable[[bytes], int], data: bytes) -> float:
    """Seconds of processor time."""
    start = time.process_time()
    shown = read(data)
    seconds = time.process_time() - start
    assert shown > 0
    return seconds


def partials(data: bytes, live: bool = False) -> int:
    """Looks at one partial after the other."""
    builder = PartialBuilder(Spec.of(Catalogue), live=live)
    return sum(builder.feed(data[at : at + PIECE]) is not None for at in range(0, len(data), PIECE))


def kept(data: bytes) -> int:
    """Keeps all partials."""
    builder = PartialBuilder(Spec.of(Catalogue))
    return len([p for at in range(0, len(data), PIECE) if (p := builder.feed(data[at : at + PIECE])) is not None])


def items(data: bytes) -> int:
    """Takes the items of the list."""
    reader = ItemReader(Spec.of(Product), envelope="items")
    return sum(len(reader.feed(data[at : at + PIECE])) for at in range(0, len(data), PIECE))


def events(machine: JsonMachine | _native.JsonMachine, data: bytes) -> int:
    """Reads with a bare machine."""
    return sum(len(machine.feed(data[at : at + PIECE])) for at in range(0, len(data), PIECE))


WAYS: dict[str, Callable[[bytes], int]] = {
    "partial objects": partials,
    "partial objects, kept": kept,
    "partial objects, live": lambda data: partials(data, live=True),
    "items": items,
    "events in Python": lambda data: events(JsonMachine(), data),
    "events in C++": lambda data: events(_native.JsonMachine(), data),
}
