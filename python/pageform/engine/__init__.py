"""The user's door: `Engine` and `AsyncEngine`.

An engine owns a model, its KV cache and one thread that runs steps, from construction to `close`. `core.py` is the step
without threads, `loop.py` the thread, `prepare.py` checks what callers give, `sink.py` takes tokens as they come,
`typed.py` drives attempts at validated answers.
"""

from .aio import AsyncEngine
from .base import EngineStats
from .sync import Engine

__all__ = ["AsyncEngine", "Engine", "EngineStats"]
