"""What stays of an answer that was not valid when it is asked for again: all of its text but the values that failed.

    {"name":"Ann","age":412,"town":"Rome"}      the last answer; `age` has failed
    {"name":"Ann","age":▢,"town":"Rome"}        the next one: only what is in the box is decoded

A piece of kept text is put into the next answer as soon as the value before it has closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .checks import Check
from .tracker import Closed, FieldTracker, Path

Spell = Callable[[bytes], list[int]]


@dataclass(frozen=True, slots=True)
class KeptText:
    """`pieces[i]` stands before the value at `holes[i]`, one more piece after the last of them, if that is known."""

    check: Check
    pieces: tuple[bytes, ...]
    holes: tuple[Path, ...]

    @classmethod
    def of(cls, check: Check, text: str, places: Iterable[Sequence[int | str]]) -> KeptText | None:
        """What to keep of an answer with faults at `places`, as Pydantic gives them; None if that is nothing.

        Of an answer that was ended early, that is what stands before the first fault. A place that is no path of the
        text (it names a branch of a union, or a key that isn't there) stands for the innermost value that it surely
        lies in.
        """
        data = text.encode()
        tracker = FieldTracker(check)
        spans = {one.path: (one.start, one.end) for one in tracker.feed(data)}
        is_whole = () in spans
        spans.update({one.path: (one.start, len(data)) for one in tracker.stack})
        failed = {_known(place, spans) for place in places}
        if not failed or () in failed:
            return None
        outermost = (path for path in failed if not any(path[:n] in failed for n in range(len(path))))
        holes = sorted(outermost, key=lambda path: spans[path])
        if not is_whole:
            return cls(check, (data[: spans[holes[0]][0]],), (holes[0],))
        starts = [*(spans[path][0] for path in holes), len(data)]
        ends = [0, *(spans[path][1] for path in holes)]
        pieces = tuple(data[end:start] for end, start in zip(ends, starts, strict=True))
        return cls(check, pieces, tuple(holes))


class Keeper:
    """Puts kept text into one answer. Used by the engine's thread.

    The first piece is there at once, as `beginning`. Where the answer goes another way (it was cut back to before a
    hole, or what follows a value is not what was kept), nothing more is put in. `tracker` follows the answer.
    """

    def __init__(self, kept: KeptText, spell: Spell, tracker: FieldTracker) -> None:
        self.beginning = spell(kept.pieces[0])
        self._kept, self._spell = kept, spell
        self._tracker = tracker
        self._hole = 0
        self._hole_token = len(self.beginning)
        self._queue: list[int] = []
        self._coming = len(self.beginning)  # tokens that were handed out and have not come yet

    def see(self, closed: Sequence[Closed]) -> bool:
        """The next token has come, and `closed` values. Whether it was kept text."""
        if self._coming:
            self._coming -= 1
            return True
        if self._hole < len(self._kept.holes):
            hole = self._kept.holes[self._hole]
            for one in closed:  # one token may close several values, and going on may end in no hole at all
                if one.path == hole:
                    self._go_on(bytes(self._tracker.text[one.end :]))
        return False

    def take(self, fits: Callable[[int], bool]) -> list[int]:
        """The tokens to put in now, once. Where so many don't fit, the answer has to go another way."""
        queue, self._queue = self._queue, []
        if queue and not fits(len(queue)):
            self._hole = len(self._kept.holes)
            return []
        if queue:
            self._coming = len(queue)
            self._hole += 1
            self._hole_token = self._tracker.num_tokens + len(queue)
        return queue

    def cut(self, num_tokens: int) -> None:
        """The output was cut back."""
        self._queue = []
        if num_tokens < self._hole_token:
            self._hole = len(self._kept.holes)

    def _go_on(self, begun: bytes) -> None:
        piece = self._kept.pieces[self._hole + 1] if self._hole + 1 < len(self._kept.pieces) else None
        if piece is not None and piece.startswith(begun):
            self._queue = self._spell(piece[len(begun) :])
        else:
            self._hole = len(self._kept.holes)


def _known(place: Sequence[int | str], spans: dict[Path, tuple[int, int]]) -> Path:
    """As much of a place as there are values for. A fault of a key is one of the object that has it."""
    if "[key]" in place:
        place = place[: max(0, list(place).index("[key]") - 1)]
    path: Path = ()
    for step in place:
        if (*path, step) not in spans:
            break
        path = (*path, step)
    return path
