"""Text: between a user's characters and a model's token ids, in both directions.

A `Tokenizer` is immutable and may be shared by all threads for as long as the engine lives. `render_chat` is a pure
function. An `IncrementalDetokenizer` and a `StopStrings` belong to one output sequence, live as long as it, and are
used by one thread at a time. All of them work on exact bytes, so that streamed text equals the text decoded at once.
"""

from typing import TYPE_CHECKING, Any

from .detokenizer import IncrementalDetokenizer
from .load import load_tokenizer
from .stop import StopStrings
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from .chat import render_chat

__all__ = ["IncrementalDetokenizer", "StopStrings", "Tokenizer", "load_tokenizer", "render_chat"]


def __getattr__(name: str) -> Any:
    """`render_chat` is imported when it is first asked for: text completions need no templates."""
    if name == "render_chat":
        from .chat import render_chat

        return render_chat
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
