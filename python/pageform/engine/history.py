"""What happened to an answer, moment by moment, from its log: for whoever wants to know why it came out as it did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.completion import Completion
from ..core.log import LogEntry, RewindEntry, TokenEntry
from ..core.snapshot import decode
from ..text.detokenizer import IncrementalDetokenizer

if TYPE_CHECKING:
    from ..text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Moment:
    """An entry of a log, and the output as it stood after it."""

    entry: LogEntry
    token_ids: tuple[int, ...]
    text: str


def moments(answer: Completion | bytes | Sequence[LogEntry], tokenizer: Tokenizer) -> Iterator[Moment]:
    """The moments of an answer, of a suspended request (its first sample), or of a log.

    Text of a character that is not complete yet comes with the token that completes it.
    """
    if isinstance(answer, Completion):
        log: Sequence[LogEntry] = answer.log
    else:
        log = decode(answer).samples[0].log if isinstance(answer, bytes) else answer
    detokenizer = IncrementalDetokenizer(tokenizer)
    token_ids: list[int] = []
    texts: list[str] = []
    for entry in log:
        if isinstance(entry, TokenEntry):
            token_ids.append(entry.id)
            texts.append(detokenizer.push(entry.id))
        elif isinstance(entry, RewindEntry):
            del token_ids[entry.to :], texts[entry.to :]
            detokenizer.truncate(entry.to)
        yield Moment(entry, tuple(token_ids), "".join(texts))
