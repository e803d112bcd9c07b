"""The texts: those that come with the demo (written for it; every name and address is invented), or a file of yours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .records import KINDS

SAMPLES = Path(__file__).with_name("texts.jsonl")


@dataclass(frozen=True, slots=True)
class Document:
    """One text and the kind of record to take from it (a key of `KINDS`)."""

    number: int
    kind: str
    text: str


class DataError(ValueError):
    """A data file can't be used; says where and why."""


def load(path: Path = SAMPLES, default_kind: str = "note", limit: int | None = None) -> list[Document]:
    """Reads documents, at most `limit`.

    A line is either a JSON object with "text" and, if wanted, "kind", or plain text; what has no kind gets
    `default_kind`. Empty lines are skipped. Raises DataError.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read: {error}") from error
    documents: list[Document] = []
    for line_number, line in enumerate(lines, start=1):
        if limit is not None and len(documents) >= limit:
            break
        if line.strip():
            kind, text = _parse(line, default_kind, f"{path}:{line_number}")
            documents.append(Document(len(documents) + 1, kind, text))
    if not documents:
        raise DataError(f"{path}: holds no text")
    return documents


def conversation(document: Document) -> list[Any]:
    """The messages that ask for a document's record: instruction, worked example, text.

    All but the last, with the outline of the record that the engine adds to the first, are the same for all documents
    of a kind: that is the prefix which the cache holds.
    """
    kind = KINDS[document.kind]
    return [
        {"role": "system", "content": kind.instruction},
        {"role": "user", "content": kind.example_text},
        {"role": "assistant", "content": kind.example.model_dump_json()},
        {"role": "user", "content": document.text},
    ]


def _parse(line: str, default_kind: str, where: str) -> tuple[str, str]:
    """Kind and text of one line."""
    if not line.lstrip().startswith("{"):
        return default_kind, line.strip()
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: looks like JSON but is not: {error}") from error
    kind, text = entry.get("kind", default_kind), entry.get("text")
    if kind not in KINDS:
        raise DataError(f"{where}: kind {kind!r} is unknown; use one of {', '.join(KINDS)}")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f'{where}: "text" is missing or empty')
    return kind, text
