"""Stop strings, found while text streams by."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Finds the first stop string in a streamed text, and holds back text that may turn out to be one.

    The match that ends earliest wins; of those that end at the same character, the longest. With `include` the stop
    string is the last of the text, otherwise the text ends before it. One Knuth-Morris-Pratt automaton a string: O(1) a
    character however long the strings are.
    """

    def __init__(self, stop: Sequence[str], include: bool = False) -> None:
        """`stop` must hold no empty string (`SamplingParams` checks that)."""
        # Longest first, so that the first match found at a character is the longest.
        self._patterns = [_Pattern(text) for text in sorted(stop, key=len, reverse=True)]
        self._include = include
        self._states = [0] * len(self._patterns)
        self._held = ""
        self._matched: str | None = None
        # The three above at the start and after each push, to return to.
        self._history: list[tuple[list[int], str, str | None]] = [(self._states, "", None)]

    @property
    def hit(self) -> bool:
        """Whether a stop string was found."""
        return self._matched is not None

    def push(self, text: str, armed: bool = True) -> tuple[str, str | None]:
        """Takes the text of one token (may be empty): (text to emit now, stop string found or None).

        While not `armed` (before `min_tokens`) no match counts, but one that begins then may end later. After a match,
        the rest of `text` is dropped and so are further pushes.
        """
        emitted = "" if self._matched is not None else self._advance(text, armed)
        self._history.append((self._states, self._held, self._matched))
        return emitted, self._matched

    def _advance(self, text: str, armed: bool) -> str:
        states = self._states = list(self._states)
        text = self._held + text
        for i in range(len(self._held), len(text)):
            for k, pattern in enumerate(self._patterns):
                states[k] = pattern.advance(states[k], text[i])
            if not armed:
                continue
            for k, pattern in enumerate(self._patterns):
                if states[k] == len(pattern.text):
                    self._matched = pattern.text
                    self._held = ""
                    end = i + 1 if self._include else i + 1 - len(pattern.text)
                    return text[:end]
        partial = max((p.pending(s) for p, s in zip(self._patterns, states, strict=True)), default=0)
        self._held = text[len(text) - partial :]
        return text[: len(text) - partial]

    def flush(self) -> str:
        """Ends the text: returns what is held back."""
        held, self._held = self._held, ""
        return held

    def truncate(self, n_pushes: int) -> None:
        """Forgets all but the first `n_pushes` pushes."""
        del self._history[n_pushes + 1 :]
        self._states, self._held, self._matched = self._history[-1]


class _Pattern:
    """Knuth-Morris-Pratt automaton of one string: the state is how much of it the text so far ends in."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._fallback = [0] * (len(text) + 1)
        for i in range(1, len(text)):
            self._fallback[i + 1] = self.advance(self._fallback[i], text[i])

    def advance(self, state: int, char: str) -> int:
        while state == len(self.text) or self.text[state] != char:
            if state == 0:
                return 0
            state = self._fallback[state]
        return state + 1

    def pending(self, state: int) -> int:
        """Characters at the text's end that may still begin a match. A completed one that didn't count is past."""
        return self._fallback[state] if state == len(self.text) else state
