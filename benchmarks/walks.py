"""Random texts of a grammar: walks over its masks with the real vocabulary."""

from __future__ import annotations

import functools
import random
import time

import numpy as np

from pageform.forms.grammar import Grammar, GrammarCompiler

_CLOSERS = ('"', "}", "]", '"}', '"]', '",', '","', "]}", "null", "0", "}}", '"}}', "]}}", '"]}', "},", "1")
LIMIT = 1200


def allowed(row: np.ndarray) -> np.ndarray:
    """Ids of the tokens that a mask row allows."""
    return np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little"))


@functools.cache
def _openers(compiler: GrammarCompiler) -> np.ndarray:
    """Ids of the tokens that open an object or a list."""
    texts = [bytes(compiler.tokenizer.decode_bytes([token])) for token in range(compiler.tokenizer.vocab_size)]
    return np.array([token for token, text in enumerate(texts) if b"{" in text or b"[" in text])


def walk(grammar: Grammar, compiler: GrammarCompiler, rng: random.Random, seconds: list[float] | None = None) -> str:
    """A text that the grammar admits, drawn token by token from its masks; after a while it hurries to its end.

    `seconds` gets the time of the processor that each mask took.
    """
    tokenizer = compiler.tokenizer
    closers = np.array(sorted({tokenizer.tokenize_str(text)[0] for text in _CLOSERS}))
    null = tokenizer.tokenize_str("null")[0]
    openers = _openers(compiler)
    matcher = grammar.matcher()
    row = np.zeros((compiler.vocab_size + 31) // 32, np.uint32)
    tokens: list[int] = []
    while len(tokens) < LIMIT:
        start = time.thread_time()
        matcher.fill_mask(row)
        if seconds is not None:
            seconds.append(time.thread_time() - start)
        ids = allowed(row)
        assert len(ids), f"nothing may follow {tokenizer.decode_str(tokens)!r}"
        ending = matcher.is_accepting()
        assert ending == bool(np.isin(compiler.eos_ids, ids).any()), "the end is allowed when the text is complete"
        if ending and (len(ids) == len(compiler.eos_ids) or rng.random() < 0.5):
            return bytes(tokenizer.decode_bytes(tokens)).decode()
        likely = closers[np.isin(closers, ids)]
        hurry = 0.2 if len(tokens) < 40 else 0.95
        if len(tokens) > 100:  # else a tree grows as fast as its branches are closed
            plain = ids[~np.isin(ids, openers)]
            ids = plain if len(plain) else ids
            likely = np.array([null]) if null in ids else likely[np.isin(likely, ids)]
        token = int(rng.choice(likely if len(likely) and rng.random() < hurry else ids))
        if token in compiler.eos_ids:
            continue
        assert matcher.accept(token)
        tokens.append(token)
    raise AssertionError(f"no end after {LIMIT} tokens: {tokenizer.decode_str(tokens)[:300]!r}")
