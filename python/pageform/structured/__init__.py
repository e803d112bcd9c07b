"""Typed answers from any source of text: response types, prompts, validation, retries, partial objects, errors, hooks.

Owns the meaning of a response type: `Spec.of(T)` is built once for a type and may be shared by all threads; everything
else lives for one call. Pure Python over Pydantic and `core`: no engine, no torch, no native module, so that any client
may use it. `loop.retry` says what to send next and never sends anything itself.
"""

from .answer import Answer, Assembler, Delta, Mode, ToolCall
from .codecs import Codec, Codecs
from .errors import (
    BatchFailed,
    BrokeOff,
    ClientError,
    ConfigurationError,
    EmptyAnswer,
    IncompleteOutput,
    ManyToolCalls,
    ModeError,
    ModelRetry,
    NoToolCall,
    ProviderError,
    Refused,
    Rejected,
    StructuredError,
    TokenBudgetExceeded,
    UsageUnavailable,
    ValidationFailed,
    WrongTool,
)
from .events import CallAbandoned, Event, EventName, HookName
from .hooks import Hooks
from .items import Item, ItemFailed, ItemReader
from .json_text import JSONError, NestingTooDeep, UnexpectedEnd
from .json_tree import Repair
from .judge import AttemptInfo, Judge, current_attempt
from .leniency import Leniency
from .logs import JsonFormatter
from .loop import Ask, Outcome, Rejection, retry
from .markers import Partial
from .maybe import Maybe
from .observe import Observer
from .parse import Report, parse, parse_report, read
from .parse_errors import ParseError
from .partial import PartFault, PartialBuilder
from .policy import Backoff, CountedPolicy, Limits, Policy, TenacityPolicy, policy_of
from .prompt import add_to_messages, add_to_prompt, complaint, instructions, reask_messages, reask_suffix
from .spec import Spec
from .stream_options import Stream
from .telemetry import on_error, opentelemetry_hooks

__all__ = [
    "Answer",
    "Ask",
    "Assembler",
    "AttemptInfo",
    "Backoff",
    "BatchFailed",
    "BrokeOff",
    "CallAbandoned",
    "ClientError",
    "Codec",
    "Codecs",
    "ConfigurationError",
    "CountedPolicy",
    "Delta",
    "EmptyAnswer",
    "Event",
    "EventName",
    "HookName",
    "Hooks",
    "IncompleteOutput",
    "Item",
    "ItemFailed",
    "ItemReader",
    "JSONError",
    "JsonFormatter",
    "Judge",
    "Leniency",
    "Limits",
    "ManyToolCalls",
    "Maybe",
    "Mode",
    "ModeError",
    "ModelRetry",
    "NestingTooDeep",
    "NoToolCall",
    "Observer",
    "Outcome",
    "ParseError",
    "PartFault",
    "Partial",
    "PartialBuilder",
    "Policy",
    "ProviderError",
    "Refused",
    "Rejected",
    "Rejection",
    "Repair",
    "Report",
    "Spec",
    "Stream",
    "StructuredError",
    "TenacityPolicy",
    "TokenBudgetExceeded",
    "ToolCall",
    "UnexpectedEnd",
    "UsageUnavailable",
    "ValidationFailed",
    "WrongTool",
    "add_to_messages",
    "add_to_prompt",
    "complaint",
    "current_attempt",
    "instructions",
    "on_error",
    "opentelemetry_hooks",
    "parse",
    "parse_report",
    "policy_of",
    "read",
    "reask_messages",
    "reask_suffix",
    "retry",
]
