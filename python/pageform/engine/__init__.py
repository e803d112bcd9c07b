"""The user's door: `Engine` and `AsyncEngine`.

An engine owns a model, its KV cache and one thread that runs steps, from construction to `close`. `core.py` is the step
without threads, `loop.py` the thread, `prepare.py` checks what callers give, `sink.py` takes tokens as they come,
`typed.py` drives attempts at validated answers.
"""

from typing import TYPE_CHECKING, Any

from .base import EngineStats
from .sync import Engine

if TYPE_CHECKING:
    from .aio import AsyncEngine

__all__ = ["AsyncEngine", "Engine", "EngineStats"]


def __getattr__(name: str) -> Any:
    """`AsyncEngine` is imported when it is first asked for: asyncio and what it needs take longer than the rest."""
    if name == "AsyncEngine":
        from .aio import AsyncEngine

        return AsyncEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
