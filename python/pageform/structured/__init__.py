"""Typed answers from any source of text: response types, prompts, validation, retries, partial objects, errors, hooks.

Owns the meaning of a response type: `Spec.of(T)` is built once for a type and may be shared by all threads; everything
else lives for one call. Pure Python over Pydantic and `core`: no engine, no torch, no native module, so that any client
may use it. `loop.retry` says what to send next and never sends anything itself.
"""

from .codecs import Codec, Codecs
from .errors import BatchFailed, IncompleteOutput, StructuredError, ValidationFailed
from .hooks import Hooks
from .leniency import Leniency
from .loop import Answer, Ask, Outcome, retry
from .parse import Report, parse, parse_report, read
from .parse_errors import ParseError
from .partial import PartialBuilder
from .prompt import add_to_messages, add_to_prompt, instructions, reask
from .spec import Spec

__all__ = [
    "Answer",
    "Ask",
    "BatchFailed",
    "Codec",
    "Codecs",
    "Hooks",
    "IncompleteOutput",
    "Leniency",
    "Outcome",
    "ParseError",
    "PartialBuilder",
    "Report",
    "Spec",
    "StructuredError",
    "ValidationFailed",
    "add_to_messages",
    "add_to_prompt",
    "instructions",
    "parse",
    "parse_report",
    "read",
    "reask",
    "retry",
]
