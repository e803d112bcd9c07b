"""Text: between a user's characters and a model's token ids, in both directions.

A `Tokenizer` is immutable and may be shared by all threads for as long as the engine lives. `render_chat` is a pure
function. An `IncrementalDetokenizer` and a `StopStrings` belong to one output sequence, live as long as it, and are
used by one thread at a time. All of them work on exact bytes, so that streamed text equals the text decoded at once.
"""

from .chat import render_chat
from .detokenizer import IncrementalDetokenizer
from .load import load_tokenizer
from .stop import StopStrings
from .tokenizer import Tokenizer

__all__ = ["IncrementalDetokenizer", "StopStrings", "Tokenizer", "load_tokenizer", "render_chat"]
