"""Finding a quotation in a text although it is not verbatim: other whitespace, a few characters changed.

Edit distance is computed with the bit-parallel algorithm of Myers (J. ACM 46, 1999), in the form for searching. It runs
only where an exact piece of the quotation occurs, since of k + 1 pieces one must have been left alone by k edits; so
the text is scanned by `str.find`, and no character is looked at more than once a quotation by the slow part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Span = tuple[int, int]

_EDITS = 5
_LETTERS_PER_EDIT = 8
"""A quotation of 8 characters may differ in one of them, one of 40 and more in five."""


def find_quote(quote: str, text: str, max_edits: int | None = None) -> Span | None:
    """Start and end of the part of `text` that is most like the quotation, the first of equals; None if there is none.

    `max_edits` bounds how many characters may be inserted, deleted or replaced: by default one for every 8 characters
    of the quotation, at most 5. A run of whitespace counts as one space. The time grows linearly with the text.
    """
    pattern, _ = _squeezed(quote.strip())
    squeezed, places = _squeezed(text)
    if not pattern:
        return None
    at = squeezed.find(pattern)
    if at >= 0:
        return places[at], places[at + len(pattern) - 1] + 1
    allowed = min(_EDITS, len(pattern) // _LETTERS_PER_EDIT) if max_edits is None else max_edits
    found = _similar(pattern, squeezed, min(allowed, len(pattern) - 1))
    return None if found is None else (places[found[0]], places[found[1] - 1] + 1)


def _squeezed(text: str) -> tuple[str, range | list[int]]:
    """The text with runs of whitespace as single spaces, and where each of its characters stood."""
    if not re.search(r"\s\s|[^\S ]", text):
        return text, range(len(text))
    pieces, places = [], []
    for match in re.finditer(r"\s+|\S+", text):
        piece = match.group()
        if piece.isspace():
            pieces.append(" ")
            places.append(match.start())
        else:
            pieces.append(piece)
            places.extend(range(match.start(), match.end()))
    return "".join(pieces), places


def _similar(pattern: str, text: str, allowed: int) -> Span | None:
    """The most similar part of the text within `allowed` edits."""
    if allowed < 1:
        return None
    best: tuple[int, int] | None = None
    for start, end in _windows(pattern, text, allowed):
        for edits, at in _ends(pattern, text[start:end]):
            if edits <= allowed and (best is None or edits < best[0]):
                best = (edits, start + at)
    if best is None:
        return None
    edits, end = best
    before = text[max(0, end - len(pattern) - edits) : end]
    # Backwards from the end, the first place with as few edits is the shortest such part.
    length = next(at for found, at in _ends(pattern[::-1], before[::-1], anchored=True) if found == edits)
    return end - length, end


def _windows(pattern: str, text: str, allowed: int) -> Iterator[Span]:
    """Parts of the text that may hold the pattern: around the occurrences of its pieces, those that overlap joined."""
    size, longer = divmod(len(pattern), allowed + 1)
    places: list[Span] = []
    at = 0
    for number in range(allowed + 1):
        length = size + (number < longer)
        piece = pattern[at : at + length]
        found = text.find(piece)
        while found >= 0:
            start = found - at - allowed
            places.append((max(0, start), min(len(text), start + len(pattern) + 2 * allowed)))
            found = text.find(piece, found + 1)
        at += length
    start, end = 0, 0
    for low, high in sorted(places):
        if low > end:
            if end:
                yield start, end
            start = low
        end = max(end, high)
    if end:
        yield start, end


def _ends(pattern: str, text: str, anchored: bool = False) -> Iterator[tuple[int, int]]:
    """For each position: edits between the pattern and the most similar part that ends there, and the position.

    With `anchored` all parts begin at the start of the text.
    """
    masks: dict[str, int] = {}
    for index, letter in enumerate(pattern):
        masks[letter] = masks.get(letter, 0) | (1 << index)
    full = (1 << len(pattern)) - 1
    last = 1 << (len(pattern) - 1)
    increases, decreases, edits = full, 0, len(pattern)  # down the column, one bit a letter of the pattern
    for position, letter in enumerate(text, 1):
        equal = masks.get(letter, 0)
        vertical = equal | decreases
        horizontal = (((equal & increases) + increases) ^ increases) | equal
        up = decreases | (full & ~(horizontal | increases))
        down = increases & horizontal
        edits += bool(up & last) - bool(down & last)
        up = (up << 1) | anchored
        down <<= 1
        increases = full & (down | ~(vertical | up))
        decreases = full & up & vertical
        yield edits, position
