"""The exact bytes that a token stands for, in the two spellings that vocabularies use."""

from __future__ import annotations

import re
from collections.abc import Callable

SPACE_MARK = "\u2581"
"""How SentencePiece vocabularies spell a space."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_alphabet() -> dict[int, str]:
    """Byte → the character that spells it in a byte-level BPE vocabulary (Radford et al. 2019, GPT-2).

    Bytes that are visible Latin-1 characters spell themselves, the other 68 take the characters from U+0100 on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {byte: chr(byte) for byte in visible}
    hidden = (byte for byte in range(256) if byte not in alphabet)
    alphabet.update({byte: chr(0x100 + i) for i, byte in enumerate(hidden)})
    return alphabet


_TO_LATIN1 = {ord(char): byte for byte, char in byte_alphabet().items()}
_ALPHABET = frozenset(byte_alphabet().values())


def byte_level_bytes(token: str) -> bytes:
    """Bytes of a byte-level token. One with a character outside the alphabet is plain text (as `tokenizers` has it)."""
    if _ALPHABET.issuperset(token):
        return token.translate(_TO_LATIN1).encode("latin-1")
    return token.encode()


def sentencepiece_bytes(token: str) -> bytes:
    """Bytes of a SentencePiece token: a byte token `<0xXX>`, or text with marked spaces."""
    match = _BYTE_TOKEN.fullmatch(token)
    if match:
        return bytes((int(match[1], 16),))
    return token.replace(SPACE_MARK, " ").encode()


Spelling = Callable[[str], bytes]
