"""What the machine offers: backend libraries, devices, usable threads, free memory.

Reads the system when asked and owns nothing. May be called by anyone above; imports `core` only.
"""

from .backends import BackendSpec, builtin_backends, resolve_device
from .gpu_libraries import library_files
from .resources import free_memory, usable_cores, usable_threads

__all__ = [
    "BackendSpec",
    "builtin_backends",
    "free_memory",
    "library_files",
    "resolve_device",
    "usable_cores",
    "usable_threads",
]
