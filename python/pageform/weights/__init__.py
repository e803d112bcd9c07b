"""Model files: what they hold and where, never what to do with it.

A `Checkpoint` owns its mapped files from `open_checkpoint` until nobody refers to it; the tensors that it lists are
views into them and keep them mapped. The loader of `models` and the tokenizer of `text` read it; nothing writes.
The bytes of a file are untrusted: whatever they are, the outcome is a checkpoint or a typed error.
"""

from .base import Checkpoint, TensorRef
from .config import ModelConfig
from .resolve import open_checkpoint

__all__ = ["Checkpoint", "ModelConfig", "TensorRef", "open_checkpoint"]
