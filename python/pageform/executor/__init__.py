"""Executors: where steps run. `InProcessExecutor` calls the native runner directly.

An executor owns its worker (device, packed weights, KV cache) from construction to `stop`. Only the engine's step loop
calls it.
"""

from .base import Executor, MaskGate
from .in_process import InProcessExecutor

__all__ = ["Executor", "InProcessExecutor", "MaskGate"]
