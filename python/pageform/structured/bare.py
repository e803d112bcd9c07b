"""Plain values that a text holds without any JSON: `Positive`, `Answer: 42`, a sentence that names one option."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from .align import Outline
from .align.words import bullets, mentioned
from .find import Candidate
from .json_tree import Repair, repair
from .leniency import Leniency
from .tolerant_text import read_bare

SCALARS = frozenset(("string", "number", "integer", "boolean", "null", "any"))
_LABEL = re.compile(
    r"(?:the |my |final )*(?:\w+[ _-]){0,2}\w+\s*(?::|=|->|→)\s*(.+)"
    r"|(?:the |my )?(?:final |correct )?(?:answer|result|value|total|output|category|label|class|sentiment)\s+is:?\s+"
    r"(.+)",
    re.IGNORECASE,
)
_MEMBER = re.compile(r"""\s*(?:[-*•]\s+)?[*_"'`]{0,3}([^\W\d_][\w -]{0,60})["'`]?[*_]{0,2}:[*_]{0,2}\s*(\S.*)""")
_MOST_MEMBERS = 200
_NUMBER = re.compile(r"(?<![\w.,])[-+]?\d[\d.,]*(?:[eE][-+]?\d+)?")
_NEGATION = re.compile(
    r"\b(?:not|no|nor|neither|never|without|isn't|rather than|instead of|but)\b|n't\b", re.IGNORECASE
)
_YES_OR_NO = re.compile(r"\s*(yes|no|true|false)\s*[,.;:!—–-]", re.IGNORECASE)


def bare_values(
    pieces: Sequence[Candidate], kinds: frozenset[str], outline: Outline, leniency: Leniency
) -> Iterator[Candidate]:
    """What could be the value, the likeliest first. Text is taken whole; anything else may have words around it."""
    if "object" in kinds and "members" in leniency.names:
        for piece in pieces:
            members = _members(piece.read.value)
            if members:
                log = (*piece.log, repair("members", (), piece.read.value[:200], members))
                yield replace(piece, read=replace(piece.read, value=members), log=log)
    if "bare" not in leniency.names:
        return
    if "array" in kinds:
        yield from (_bare(piece, piece.read.value, "bare") for piece in pieces if bullets(piece.read.value))
    if not kinds & SCALARS:
        return
    plain_text = bool(kinds & {"string", "any"}) and not _closed(outline)
    for piece in pieces:
        whole = piece is pieces[-1]
        if not plain_text or piece.tagged or whole or _covers(piece, pieces[-1]):
            yield _bare(piece, piece.read.value, "bare")
    if plain_text:
        return
    for piece in pieces:
        text = piece.read.value.strip("*_ \t")
        match = _LABEL.fullmatch(text) if "label" in leniency.names and len(text) < 300 else None
        if match:
            yield _bare(piece, (match.group(1) or match.group(2)).strip("*_ \t"), "label")
    if "mention" in leniency.names:
        for piece in pieces:
            found = list(dict.fromkeys(_mentions(piece.read.value, kinds, outline)))
            if len(found) == 1:
                yield _bare(piece, found[0], "mention")


def _members(text: str) -> dict[str, Any]:
    """The members of a text that has one on each line; none if a line is no member or a key comes twice."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    matches = [_MEMBER.fullmatch(line) for line in lines] if len(lines) <= _MOST_MEMBERS else []
    members = {match.group(1).strip(): read_bare(match.group(2).strip("*\"'` ,"))[0] for match in matches if match}
    return members if len(members) == len(lines) else {}


def _mentions(text: str, kinds: frozenset[str], outline: Outline) -> Iterator[str]:
    if len(text) > 20_000 or not kinds & {"number", "integer", "string", "boolean"}:
        return
    for option in _options(outline):
        if not _NEGATION.search(text):
            yield from mentioned(text, option)
    if kinds & {"number", "integer"}:
        yield from (match.rstrip(".,") for match in _NUMBER.findall(text))
    if "boolean" in kinds:
        match = _YES_OR_NO.match(text)
        if match:
            yield match.group(1)


def _options(outline: Outline, node: Any = None, depth: int = 4) -> Iterator[Any]:
    """The enums and literals that the root may be."""
    node = outline.resolve(outline.root if node is None else node)
    if "enum" in node or "const" in node:
        yield node
    if depth:
        for member in node.get("anyOf") or node.get("oneOf") or ():
            yield from _options(outline, member, depth - 1)


def _closed(outline: Outline) -> bool:
    """Whether all text that the root accepts is named or has a format, so that a sentence is none."""
    texts = list(_texts(outline))
    return all("enum" in node or "const" in node or "format" in node for node in texts)


def _texts(outline: Outline, node: Any = None, depth: int = 4) -> Iterator[Any]:
    node = outline.resolve(outline.root if node is None else node)
    members = node.get("anyOf") or node.get("oneOf")
    if members and depth:
        for member in members:
            yield from _texts(outline, member, depth - 1)
    elif outline.kinds(node) & {"string", "any"}:
        yield node


def _covers(piece: Candidate, whole: Candidate) -> bool:
    """Whether a fence holds all there is."""
    return (
        len(whole.read.value.strip("`~ \n")) - len(piece.read.value.strip("`~ \n")) < 20
        and whole.read.value[:1] in "`~"
    )


def _bare(piece: Candidate, text: str, rule: str) -> Candidate:
    entries: tuple[Repair, ...] = (repair(rule, (), piece.read.value[:200], text[:200]),)
    return replace(piece, read=replace(piece.read, value=text), log=piece.log + entries)
