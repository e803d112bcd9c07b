"""pageform: typed answers from language models, fast.

    from pageform import Engine
    engine = Engine("smollm2")
    invoices = engine.generate(prompts, response_model=Invoice)

The names below are the public interface. They are imported when first used, so that `import pageform` stays light.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .clients.cost import Prices, cost_of
    from .core.completion import Attempt, Completion, FinishReason, Timings, TokenLogprob, ToolCall, Usage
    from .core.confidence import ConfidenceOptions, FieldConfidence, Fields, TokenWeight
    from .core.errors import (
        BackendError,
        CapacityError,
        EngineClosedError,
        ModelFileError,
        ModelNotFoundError,
        NoEngineError,
        NumericsMismatchError,
        PageformError,
        ParameterError,
        ReplayError,
        RequestError,
        RequestSuspended,
        SchemaError,
        SchemaMismatchError,
        SnapshotDamagedError,
        SnapshotError,
        SnapshotVersionError,
    )
    from .core.params import RepetitionDetection, SamplingParams
    from .core.reasoning import Reasoning, ReasoningDelta
    from .engine import AsyncEngine, Engine, EngineStats
    from .forms.events import FieldClosed, FieldDelta, FieldEvent, FieldOpened, FieldRetracted
    from .forms.rewind import RewindOptions
    from .media import PDF, Audio, Image
    from .structured.cache import MemoryCache
    from .structured.cache_disk import DiskCache
    from .structured.citations import CitationMixin
    from .structured.errors import BatchFailed, IncompleteOutput, StructuredError, ValidationFailed
    from .structured.hooks import Hooks
    from .structured.llm_validator import llm_validator, openai_moderation
    from .structured.markers import Partial
    from .structured.maybe import Maybe
    from .structured.slow import SlowValidator

_HOMES = {
    "clients.cost": ("Prices", "cost_of"),
    "core.completion": ("Attempt", "Completion", "FinishReason", "Timings", "TokenLogprob", "ToolCall", "Usage"),
    "core.confidence": ("ConfidenceOptions", "FieldConfidence", "Fields", "TokenWeight"),
    "core.errors": (
        "BackendError",
        "CapacityError",
        "EngineClosedError",
        "ModelFileError",
        "ModelNotFoundError",
        "NoEngineError",
        "NumericsMismatchError",
        "PageformError",
        "ParameterError",
        "ReplayError",
        "RequestError",
        "RequestSuspended",
        "SchemaError",
        "SchemaMismatchError",
        "SnapshotDamagedError",
        "SnapshotError",
        "SnapshotVersionError",
    ),
    "core.params": ("RepetitionDetection", "SamplingParams"),
    "core.reasoning": ("Reasoning", "ReasoningDelta"),
    "engine": ("AsyncEngine", "Engine", "EngineStats"),
    "forms.events": ("FieldClosed", "FieldDelta", "FieldEvent", "FieldOpened", "FieldRetracted"),
    "forms.rewind": ("RewindOptions",),
    "media": ("PDF", "Audio", "Image"),
    "structured.cache": ("MemoryCache",),
    "structured.cache_disk": ("DiskCache",),
    "structured.errors": ("BatchFailed", "IncompleteOutput", "StructuredError", "ValidationFailed"),
    "structured.citations": ("CitationMixin",),
    "structured.hooks": ("Hooks",),
    "structured.llm_validator": ("llm_validator", "openai_moderation"),
    "structured.markers": ("Partial",),
    "structured.maybe": ("Maybe",),
    "structured.slow": ("SlowValidator",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "PDF",
    "AsyncEngine",
    "Attempt",
    "Audio",
    "BackendError",
    "BatchFailed",
    "CapacityError",
    "CitationMixin",
    "Completion",
    "ConfidenceOptions",
    "DiskCache",
    "Engine",
    "EngineClosedError",
    "EngineStats",
    "FieldClosed",
    "FieldConfidence",
    "FieldDelta",
    "FieldEvent",
    "FieldOpened",
    "FieldRetracted",
    "Fields",
    "FinishReason",
    "Hooks",
    "Image",
    "IncompleteOutput",
    "Maybe",
    "MemoryCache",
    "ModelFileError",
    "ModelNotFoundError",
    "NoEngineError",
    "NumericsMismatchError",
    "PageformError",
    "ParameterError",
    "Partial",
    "Prices",
    "Reasoning",
    "ReasoningDelta",
    "RepetitionDetection",
    "ReplayError",
    "RequestError",
    "RequestSuspended",
    "RewindOptions",
    "SamplingParams",
    "SchemaError",
    "SchemaMismatchError",
    "SlowValidator",
    "SnapshotDamagedError",
    "SnapshotError",
    "SnapshotVersionError",
    "StructuredError",
    "Timings",
    "TokenLogprob",
    "TokenWeight",
    "ToolCall",
    "Usage",
    "ValidationFailed",
    "cost_of",
    "llm_validator",
    "openai_moderation",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'pageform' has no attribute {name!r}")
    if home == "engine" and find_spec(f"{__name__}._native") is None:
        raise _no_engine(name)
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def _no_engine(name: str) -> Exception:
    from .core.errors import NoEngineError

    return NoEngineError(
        f"pageform.{name}: this installation of pageform holds no engine, only what works without native parts "
        "(structured answers from other providers' clients). Install the wheel of your platform with "
        "`pip install --force-reinstall --only-binary pageform pageform`, or build one from source with "
        "`pip install .` where a C++20 compiler is, PAGEFORM_BACKENDS not set"
    )


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
